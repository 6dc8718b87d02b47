//! What gateways and connectors write into their own ledgers. Each is a leaf there, synced before its effect, and
//! reaches control in order as the node's report; control turns it into a command.

use crate::ids::{EntitlementName, GrantId, Name, PersonId, RecordingId, SessionId};
use crate::time::Time;
use serde::{Deserialize, Serialize};

use crate::proof::Evidence;

/// One leaf of a node's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLeaf {
    /// Format, 1.
    pub v: u32,
    /// The node that wrote it.
    pub node: Name,
    /// By the node's clock, never below the leaf before.
    pub at: Time,
    /// What happened.
    pub event: NodeEvent,
}

/// What happened at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The node started; `boot` is random.
    NodeStarted { version: String, boot: String },
    /// A lease is held from now on (its payload's SHA-256).
    LeaseHeld { grant: GrantId, fencing: u64, sha256: String, deadline: Time },
    /// A lease ended here; no session of it is left.
    LeaseEnded { grant: GrantId, fencing: u64, reason: String, sessions_ended: u32 },
    /// A session was opened.
    SessionOpened {
        session: SessionId,
        grant: GrantId,
        fencing: u64,
        person: PersonId,
        entitlement: EntitlementName,
        recording: RecordingId,
        client: String,
        login: String,
    },
    /// A channel was opened in a session (`shell`, `exec`, `sftp`); an exec's command stands in `detail`.
    ChannelOpened { session: SessionId, channel: u32, kind: String, detail: String },
    /// It ended.
    ChannelEnded { session: SessionId, channel: u32, outcome: String },
    /// A transfer ended, with what it moved.
    TransferEnded {
        session: SessionId,
        channel: u32,
        path: String,
        direction: String,
        bytes: u64,
        sha256: String,
    },
    /// The session ended, and why.
    SessionEnded { session: SessionId, grant: GrantId, reason: String },
    /// Its recording is finished and will be sent to the store.
    RecordingFinished {
        session: SessionId,
        grant: GrantId,
        recording: RecordingId,
        bytes: u64,
        frames: u64,
        records: u64,
        sha256: String,
        chain_head: String,
        complete: bool,
    },
    /// Somebody tried what they may not.
    Refused { person: Option<PersonId>, what: String, client: String, reason: String },
    /// Connector: the grant may have credentials from now on.
    Activated { grant: GrantId, fencing: u64 },
    /// Connector: it could not be made to work.
    ActivationFailed { grant: GrantId, fencing: u64, reason: String },
    /// Connector: a certificate is about to be used.
    CertificateIssued {
        grant: GrantId,
        session: SessionId,
        serial: u64,
        principal: String,
        key_sha256: String,
        valid_after: Time,
        valid_before: Time,
    },
    /// Connector: a certificate that runs nothing (`force-command`) is about to be shown to a target, as the positive
    /// control of a look or to check a set-up. No gateway ever has it.
    ProbeIssued {
        grant: Option<GrantId>,
        target: String,
        serial: u64,
        principal: String,
        key_sha256: String,
        valid_after: Time,
        valid_before: Time,
    },
    /// Connector: the grant is a tombstone; nothing more is ever issued for it.
    Deactivated { grant: GrantId, fencing: u64, provable_at: Time },
    /// Connector: it looked.
    Looked { grant: GrantId, fencing: u64, evidence: Evidence },
}

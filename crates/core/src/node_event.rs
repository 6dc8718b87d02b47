//! What gateways and connectors write into their own ledgers. Each is a leaf there, synced before its effect, and
//! reaches control in order as the node's report; control turns it into a command.

use crate::catalog::StatementClass;
use crate::ids::{EntitlementName, GrantId, Name, PersonId, RecordingId, SessionId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

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
    /// A statement waits for a second person. Its text and parameters are whole (what is too long is refused, not held),
    /// secrets masked; `sha256` is over both (see [`held_statement_digest`]).
    StatementHeld {
        session: SessionId,
        hold: u32,
        class: StatementClass,
        sha256: String,
        text: String,
        #[serde(default)]
        parameters: Option<String>,
        until: Time,
    },
    /// It may pass or not, and who says so; written before either.
    StatementSettled { session: SessionId, hold: u32, allowed: bool, by: String, reason: String },
    /// A session changed something in a database.
    DatabaseChanged { session: SessionId, channel: u32, what: String },
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
    /// Connector: a database user is about to be made, for one grant at one gateway.
    DatabaseUserMade { grant: GrantId, gateway: Name, user: String, valid_until: Time },
    /// Connector: it ended a database user that had outlived its grant, unasked; or backends of a standing one that no grant
    /// held.
    DatabaseUserEnded { grant: Option<GrantId>, system: Name, user: String, reason: String },
    /// Connector: somebody logged in at a database server while the grant was in force there, and no session explains it.
    LoginUnexplained { grant: GrantId, system: Name, user: String, from: String, why: String, times: u64 },
    /// Connector: the grant is a tombstone; nothing more is ever issued for it.
    Deactivated { grant: GrantId, fencing: u64, provable_at: Time },
    /// Connector: it looked.
    Looked { grant: GrantId, fencing: u64, evidence: Evidence },
}

/// SHA-256, hex, of a statement that waits for a second person: over a domain, the class, the text and the parameters, each
/// with its length, so that nothing can stand for another.
pub fn held_statement_digest(class: StatementClass, text: &str, parameters: Option<&str>) -> String {
    let mut hash = sha2::Sha256::new();
    hash.update(b"halligan-held-statement-v1\0");
    for part in [Some(class.word()), Some(text), parameters].into_iter().flatten() {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// Most bytes of a held statement's text and parameters together. What is longer is not held but refused: nobody allows what
/// they cannot be shown whole.
pub const HELD_STATEMENT_MOST_BYTES: usize = 8 * 1024;

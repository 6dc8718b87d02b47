//! A lease: a grant in a gateway's hand, signed by control, enforced by the gateway alone.
//!
//! The signed bytes are carried as they are and never serialised anew. A gateway checks the signature against the
//! control key in its own root file before it stores or obeys a lease; a connector does the same before it acts.

use halligan_core::catalog::{
    OnPartition, PostgresCapabilities, PostgresTarget, ProofPolicy, RecordingPolicy, SshCapabilities,
    SystemKind,
};
use halligan_core::ids::{EntitlementName, GrantId, IncidentId, Name, PersonId};
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// What a lease says. Serialised as JSON inside [`SignedLease`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Format, 1.
    pub version: u32,
    /// The grant.
    pub grant: GrantId,
    /// Every effect on a grant carries a larger number than the one before; lower ones are refused.
    pub fencing: u64,
    /// Who may use it.
    pub person: PersonId,
    /// Their name as recordings show it.
    pub person_name: String,
    /// What for.
    pub entitlement: EntitlementName,
    /// The emergency, if it is one.
    pub incident: Option<IncidentId>,
    /// Whether it is emergency access.
    pub emergency: bool,
    /// The requester's reason.
    pub reason: String,
    /// Where to.
    pub target: Target,
    /// What a session may do.
    pub ssh: SshCapabilities,
    /// What a session may do in PostgreSQL. Left out where nothing is said, so that older nodes read the lease.
    #[serde(default, skip_serializing_if = "PostgresCapabilities::is_default")]
    pub postgres: PostgresCapabilities,
    /// How it is recorded.
    pub recording: RecordingPolicy,
    /// Public age recipients to whom the data key of recordings is wrapped (auditors always, playback key for `readable`).
    pub recipients: Vec<String>,
    /// What proves its end.
    pub proof: ProofPolicy,
    /// When control is away.
    pub on_partition: OnPartition,
    /// Silence that ends a session.
    pub idle_limit: Option<Span>,
    /// When control signed it, by control's clock.
    pub issued_at: Time,
    /// When access ends, by control's clock.
    pub deadline: Time,
    /// `deadline - issued_at`: what the gateway counts down on its own clock from the moment it received the lease.
    pub remaining: Span,
    /// Most sessions at one time.
    pub most_sessions: u32,
    /// SHA-256 of the policy's text, hex.
    pub policy_digest: String,
    /// Approvals' signatures where the policy demands them, checked by the gateway against its own root file.
    pub approvals: Vec<ApprovalSignature>,
}

/// Where a lease leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The system.
    pub system: Name,
    /// Its protocol.
    pub kind: SystemKind,
    /// `host:port`.
    pub address: String,
    /// Its site.
    pub site: Name,
    /// The account there.
    pub account: String,
    /// Pinned host keys or `@cert-authority ` lines.
    pub host_keys: Vec<String>,
    /// For a PostgreSQL server: its databases and who vouches for its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTarget>,
}

impl Target {
    /// The certificate principal that opens this account on this system and nothing else.
    pub fn principal(&self) -> String {
        format!("halligan:{}:{}", self.system, self.account)
    }
}

/// An approval that the approver's own key signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalSignature {
    /// Who.
    pub person: PersonId,
    /// Kind of signature (`sshsig`, `webauthn`).
    pub kind: String,
    /// SHA-256 of what was signed, hex.
    pub digest: String,
    /// The signature, base64.
    pub signature: String,
}

/// A lease with control's signature over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedLease {
    /// JSON of a [`Lease`].
    pub payload: String,
    /// Ed25519 over [`LEASE_DOMAIN`] and the payload, hex.
    pub signature: String,
}

/// Stands before what is signed, so that the signature means nothing elsewhere.
pub const LEASE_DOMAIN: &[u8] = b"halligan-lease-v1\0";
/// A lease larger than this is refused before it is parsed.
pub const LEASE_MAX_BYTES: usize = 64 * 1024;

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A plausible lease.
    pub(crate) fn lease(issued_at: Time, remaining: Span) -> Lease {
        Lease {
            version: 1,
            grant: GrantId::from_bits(7),
            fencing: 1,
            person: Name::new("ana").unwrap(),
            person_name: "Ana".to_owned(),
            entitlement: "orders-host/root".parse().unwrap(),
            incident: None,
            emergency: true,
            reason: "the pager".to_owned(),
            target: Target {
                system: Name::new("orders-host").unwrap(),
                kind: SystemKind::Ssh,
                address: "127.0.0.1:22".to_owned(),
                site: Name::main(),
                account: "root".to_owned(),
                host_keys: vec![],
                postgres: None,
            },
            ssh: SshCapabilities::default(),
            postgres: PostgresCapabilities::default(),
            recording: RecordingPolicy::default(),
            recipients: vec![],
            proof: ProofPolicy::default(),
            on_partition: OnPartition::Keep,
            idle_limit: None,
            issued_at,
            deadline: issued_at.plus(remaining),
            remaining,
            most_sessions: 4,
            policy_digest: String::new(),
            approvals: vec![],
        }
    }
}

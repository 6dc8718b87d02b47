//! All that control, gateways and connectors say to one another, and what each is answered.
//!
//! A node that is asked something it does not know answers [`Response::Error`] and stays connected, so that nodes one
//! version apart work together. Fields may be added with a default; none may change its meaning.

mod bytes;
mod peer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use halligan_core::catalog::{Entitlement, System};
use halligan_core::ids::{EntitlementName, GrantId, Name, PersonId, RecordingId, SessionId};
use halligan_core::proof::Evidence;
use halligan_core::time::Time;
use halligan_session::lease::SignedLease;
use halligan_session::roster::SignedRoster;
use serde::{Deserialize, Serialize};

pub use bytes::{Blob, Seed};
pub use peer::PeerInfo;

/// Version of this protocol, as [`Hello`] states it.
pub const PROTOCOL: u32 = 1;
/// Most bytes of a recording in one [`Request::RecordingChunk`].
pub const CHUNK_MOST_BYTES: usize = 256 * 1024;
/// Most bytes of leaves, summed, in one [`Request::LedgerEntries`].
pub const ENTRIES_MOST_BYTES: usize = 512 * 1024;

/// What a node is: control, gateway or connector.
pub use halligan_session::roster::NodeRole as Role;

/// The role's word for screens.
pub const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Control => "control",
        Role::Gateway => "gateway",
        Role::Connector => "connector",
    }
}

/// How a node introduces itself on each new link. For display and for catching up only: who it is was settled by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the binary.
    pub version: String,
    /// Its role.
    pub role: Role,
    /// Its name.
    pub name: Name,
    /// Leaves in its own ledger.
    pub ledger_size: u64,
    /// Its clock.
    pub time: Time,
    /// Serial of the roster it holds, 0 for none.
    #[serde(default)]
    pub roster: u64,
    /// Verifier key of its own ledger (signed-note form); control pins the first one that a joined node names.
    #[serde(default)]
    pub ledger_key: String,
    /// Leases it holds as grant and fencing number (gateways), so that control sends only what is missing.
    #[serde(default)]
    pub leases: Vec<(GrantId, u64)>,
    /// Where people's clients come in, by protocol ([`SSH`], `postgres`), if it is a gateway.
    #[serde(default)]
    pub listeners: BTreeMap<String, ClientListener>,
}

/// The protocol of [`Hello::listeners`] for stock SSH clients.
pub const SSH: &str = "ssh";

/// Where a gateway takes people's clients in, and how they know it. Its own word: control checks the form, and that no
/// other node is known at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientListener {
    /// `host:port`, as clients reach it.
    pub address: String,
    /// SSH: lines as in `known_hosts`, without the host: `ssh-ed25519 AAAA…`. Other protocols: what they pin, if anything.
    #[serde(default)]
    pub host_keys: Vec<String>,
}

/// A session that is live at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSession {
    /// The session.
    pub session: SessionId,
    /// Its grant.
    pub grant: GrantId,
    /// Who.
    pub person: PersonId,
    /// Where.
    pub entitlement: EntitlementName,
    /// Its recording.
    pub recording: RecordingId,
    /// The client's address.
    pub client: String,
    /// Since when.
    pub opened_at: Time,
    /// When it ends at the latest.
    pub deadline: Time,
    /// Records written so far.
    pub records: u64,
}

/// One thing that a look at a system found, against the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFinding {
    /// The entitlement that it is about; none = the system itself.
    pub role: Option<Name>,
    /// How grave.
    pub level: FindingLevel,
    /// In a sentence.
    pub say: String,
}

/// See [`TargetFinding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingLevel {
    /// The catalog says what is not so.
    Error,
    /// Somebody should look.
    Warning,
    /// Worth knowing.
    Info,
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $name:literal $variant:ident $(($inner:ty))? $({ $($(#[$fmeta:meta])* $field:ident: $ftype:ty),* $(,)? })?;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum $type {$(
            $(#[$vdoc])*
            #[serde(rename = $name)]
            $variant $(($inner))? $({ $($(#[$fmeta])* $field: $ftype),* })?,
        )*}
        impl $type {
            /// Every name as it stands on the wire.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
            /// The name of this one on the wire.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }
        }
    };
}

named! {
/// What one node asks of another.
Request {
    // --- anybody → anybody -------------------------------------------------------------------
    /// First on each link, from the side that dialled. Answer: [`Response::Welcome`].
    "hello" Hello(Hello);
    /// Is anybody there? The link answers by itself: [`Response::Ok`].
    "ping" Ping;
    /// What time is it there? Answer: [`Response::NodeTime`].
    "node_time" NodeTime;
    /// How is it? Answer: [`Response::Status`].
    "status" Status;
    /// Cosign this checkpoint of the asker's ledger. Answer: [`Response::Cosigned`], [`Response::WitnessedSize`] or
    /// [`Response::OtherHistory`].
    "witness" Witness {
        /// Signed note.
        checkpoint: String,
        /// The size that the asker believes to be witnessed last.
        old_size: u64,
        /// Consistency proof from `old_size`: base64 hashes.
        proof: Vec<String>,
    };
    // --- control → gateway -------------------------------------------------------------------
    /// Hold this lease. Answer: [`Response::Held`].
    "put_lease" PutLease {
        /// The lease.
        lease: SignedLease,
    };
    /// End this lease and its sessions. Answer: [`Response::Revoked`].
    "revoke_lease" RevokeLease {
        /// The grant.
        grant: GrantId,
        /// At least the lease's fencing number.
        fencing: u64,
        /// Shown to the person.
        reason: String,
    };
    /// End one session, not its lease. Answer: [`Response::Ok`], or an error if it is unknown.
    "kill_session" KillSession {
        /// The session.
        session: SessionId,
        /// Shown to the person.
        reason: String,
    };
    /// Hold this list of people, keys and nodes. Answer: [`Response::Ok`]. Also to connectors.
    "put_roster" PutRoster {
        /// The roster; a lower serial than the one held is refused. With its envelope it must fit one frame.
        roster: SignedRoster,
    };
    /// Accept a password once. Answer: [`Response::Ok`].
    "put_one_time_password" PutOneTimePassword {
        /// Whose.
        person: PersonId,
        /// For what.
        entitlement: EntitlementName,
        /// SHA-256 of domain tag and password, hex.
        sha256: String,
        /// When it dies.
        expires: Time,
    };
    /// Accept this connect password, from one client address, for new connections of one grant. Answer: [`Response::Ok`].
    "put_connect_password" PutConnectPassword {
        /// Whose.
        person: PersonId,
        /// For what.
        entitlement: EntitlementName,
        /// On which grant.
        grant: GrantId,
        /// SCRAM's stored key.
        stored_key: Seed,
        /// SCRAM's server key.
        server_key: Seed,
        /// When it takes no new connections any more.
        expires: Time,
        /// The first address that used it, at whichever gateway; none yet if not said.
        #[serde(default)]
        client: Option<IpAddr>,
    };
    /// A cancel request that came to another gateway, for a session there. Answer: [`Response::Ok`], whatever it hit.
    "cancel_statement" CancelStatement {
        /// The number of the key.
        process: u32,
        /// Its secret, at most 256 bytes.
        key: Blob,
        /// Where it came from.
        client: SocketAddr,
        /// The gateway that it came to.
        through: Name,
    };
    /// Somebody answered for a held statement. Answer: [`Response::Ok`], or an error if none waits under that number.
    "release_statement" ReleaseStatement {
        /// The session.
        session: SessionId,
        /// Its number there.
        hold: u32,
        /// It may pass.
        allow: bool,
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
    };
    /// Which sessions are live? In order of id. Answer: [`Response::Sessions`].
    "list_sessions" ListSessions {
        /// Only of this grant.
        #[serde(default)]
        grant: Option<GrantId>,
        /// Only past this one (paging).
        #[serde(default)]
        after: Option<SessionId>,
    };
    /// Records of a live session past `after`; waits up to five seconds for one. Answer: [`Response::Watched`].
    "watch_next" WatchNext {
        /// The session.
        session: SessionId,
        /// Number of the last record seen, 0 for none.
        after: u64,
    };
    // --- gateway or connector → control ------------------------------------------------------
    /// Leaves of the asker's own ledger, exact bytes, in order, at most [`ENTRIES_MOST_BYTES`]. Answer: [`Response::LedgerAck`].
    "ledger_entries" LedgerEntries {
        /// Index of the first.
        from: u64,
        /// The leaves.
        entries: Vec<Blob>,
        /// Signed note that covers at least these.
        checkpoint: String,
    };
    /// A finished recording will follow. Answer: [`Response::RecordingAt`] (where to go on), or [`Response::RecordingStored`].
    "recording_begin" RecordingBegin {
        /// The recording.
        recording: RecordingId,
        /// Its session.
        session: SessionId,
        /// Its length.
        bytes: u64,
        /// SHA-256 of all its bytes, hex.
        sha256: String,
    };
    /// A piece, in order. Answer: [`Response::RecordingAt`].
    "recording_chunk" RecordingChunk {
        /// The recording.
        recording: RecordingId,
        /// Where the piece begins.
        offset: u64,
        /// At most [`CHUNK_MOST_BYTES`].
        data: Blob,
    };
    /// All was sent. Answer: [`Response::RecordingStored`], once it was read back.
    "recording_end" RecordingEnd {
        /// The recording.
        recording: RecordingId,
    };
    /// A connect password was used for the first time here, from this address. Answer: [`Response::Ok`]. From gateways.
    "connect_password_used" ConnectPasswordUsed {
        /// For what.
        entitlement: EntitlementName,
        /// SHA-256 of its stored key, hex.
        password: String,
        /// From where.
        client: IpAddr,
    };
    /// A cancel request whose key another gateway gave out. Answer: [`Response::Ok`], whatever becomes of it. From gateways.
    "pass_cancel" PassCancel {
        /// The number of the key.
        process: u32,
        /// Its secret, at most 256 bytes.
        key: Blob,
        /// Where it came from.
        client: SocketAddr,
    };
    /// Does this grant still stand? Answer: [`Response::GrantState`].
    "is_grant_active" IsGrantActive {
        /// The grant.
        grant: GrantId,
    };
    /// From now on I hold another key. Answer: [`Response::Ok`]. See `rotate.rs`.
    "rotate_key" RotateKey {
        /// The new Ed25519 public key, hex.
        public_key: String,
        /// Signature by the new key, hex.
        proof: String,
    };
    // --- control → connector -----------------------------------------------------------------
    /// This grant may have credentials from now on. Answer: [`Response::Ok`].
    "activate" Activate {
        /// Its lease.
        lease: SignedLease,
    };
    /// It may not any more. Answer: [`Response::Deactivated`].
    "deactivate" Deactivate {
        /// The grant.
        grant: GrantId,
        /// The fencing number of this effect.
        fencing: u64,
    };
    /// Look at the target. Answer: [`Response::Evidence`].
    "look" Look {
        /// The grant.
        grant: GrantId,
        /// The fencing number of this effect.
        fencing: u64,
    };
    /// Look at what the catalog says of a system, at the system itself. Answer: [`Response::TargetChecked`].
    "check_target" CheckTarget {
        /// The system.
        system: Box<System>,
        /// Its roles, also those of profiles.
        entitlements: Vec<(Name, Entitlement)>,
    };
    // --- gateway → connector -----------------------------------------------------------------
    /// Make a key and a certificate for one session. Answer: [`Response::Certificate`].
    "issue_certificate" IssueCertificate {
        /// The lease of its grant.
        lease: SignedLease,
        /// The session.
        session: SessionId,
    };
    /// Make, or make anew, the database user of a grant at the asking gateway. Answer: [`Response::DatabaseUser`].
    "issue_database_user" IssueDatabaseUser {
        /// The lease of its grant.
        lease: SignedLease,
        /// The session that wants it.
        session: SessionId,
        /// The server refused the one that was given.
        renew: bool,
    };
    /// Sign a client certificate that opens a standing role for one session. Answer: [`Response::DatabaseCertificate`].
    "issue_database_certificate" IssueDatabaseCertificate {
        /// The lease of its grant.
        lease: SignedLease,
        /// The session that wants it.
        session: SessionId,
        /// The gateway's key for it, made for this session: a point of P-256, uncompressed (SEC 1, 2.3.3), hex. The
        /// private half never leaves the gateway.
        public_key: String,
    };
    /// Terminate the backends of a session, which ended. Answer: [`Response::Ok`].
    "end_database_session" EndDatabaseSession {
        /// Its grant.
        grant: GrantId,
        /// The session.
        session: SessionId,
        /// Number of its backend at the server, if the gateway knows it: names of applications can be changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<u32>,
    };
}}

named! {
/// What a node answers.
Response {
    /// Done.
    "ok" Ok;
    /// Not done, and why, as a sentence for the person who reads it.
    "error" Error {
        /// The sentence; no secrets.
        say: String,
    };
    /// To [`Request::Hello`].
    "welcome" Welcome {
        /// Who answers.
        hello: Hello,
        /// Leaves of the asker's ledger that the answerer has acknowledged: go on from here.
        acknowledged: u64,
    };
    /// The clock of the node.
    "node_time" NodeTime {
        /// Now, there.
        time: Time,
    };
    /// How a node is.
    "status" Status {
        /// Version of the binary.
        version: String,
        /// Random, new at each start.
        boot: String,
        /// Its clock.
        time: Time,
        /// Leaves in its ledger.
        ledger_size: u64,
        /// Leases held.
        leases: u64,
        /// Live sessions.
        sessions: u64,
        /// Recordings that wait for the store.
        spooled: u64,
        /// Bytes free in its folder.
        disk_free: u64,
        /// What a person should know, as sentences.
        warnings: Vec<String>,
    };
    /// The lease is stored.
    "held" Held;
    /// The lease is ended.
    "revoked" Revoked {
        /// How many sessions that ended.
        sessions_ended: u32,
    };
    /// Live sessions, in order of id.
    "sessions" Sessions {
        /// A page of them.
        sessions: Vec<LiveSession>,
        /// Whether there are more past the last.
        more: bool,
    };
    /// Records of a live session.
    "watched" Watched {
        /// Each as the recording crate encodes it; 700 KiB in all, so a longer record is left out and counted as lost.
        records: Vec<Blob>,
        /// Number of the last one here: the next `after`.
        last: u64,
        /// Records that a slow watcher missed before these.
        lost: u64,
        /// The session is over and these are its last.
        ended: bool,
    };
    /// Leaves are stored.
    "ledger_ack" LedgerAck {
        /// How many of the asker's leaves are held in all.
        size: u64,
    };
    /// A recording is held up to here.
    "recording_at" RecordingAt {
        /// Where the next piece begins.
        offset: u64,
    };
    /// A recording is stored, and was read back.
    "recording_stored" RecordingStored {
        /// SHA-256 of what was read back, hex.
        sha256: String,
    };
    /// Whether a grant stands.
    "grant_state" GrantState {
        /// Whether it is active now.
        active: bool,
        /// Its deadline by control's clock.
        deadline: Time,
    };
    /// The grant is a tombstone.
    "deactivated" Deactivated {
        /// From when on its end can be proved.
        provable_at: Time,
    };
    /// What a look found.
    "evidence" Evidence {
        /// Check by check.
        evidence: Evidence,
    };
    /// A certificate for one session.
    "certificate" Certificate {
        /// Seed of the session's Ed25519 key. The connector makes the key and keeps it until the grant's end is proved,
        /// so that the proof can offer this very certificate, with the gateway gone too.
        seed: Seed,
        /// OpenSSH text.
        openssh: String,
        /// Its serial.
        serial: u64,
    };
    /// A database user.
    "database_user" DatabaseUser {
        /// Its name.
        user: String,
        /// SCRAM's client key.
        client_key: Seed,
        /// SCRAM's server key.
        server_key: Seed,
    };
    /// A certificate that opens a standing database role.
    "database_certificate" DatabaseCertificate {
        /// The role, which is its common name.
        user: String,
        /// PEM.
        certificate: String,
        /// Its serial.
        serial: u64,
        /// Until when it opens.
        valid_before: Time,
    };
    /// What a look at a system found, against the catalog.
    "target_checked" TargetChecked {
        /// One by one.
        findings: Vec<TargetFinding>,
    };
    /// A cosigned checkpoint.
    "cosigned" Cosigned {
        /// The cosignature line of a signed note.
        note: String,
    };
    /// What was shown does not continue what this witness has cosigned.
    "other_history" OtherHistory {
        /// The checkpoint cosigned last, with the asker's own signature: proof that it stood there.
        checkpoint: String,
    };
    /// `old_size` was wrong; this is the size witnessed last.
    "witnessed_size" WitnessedSize {
        /// Leaves.
        size: u64,
    };
}}

impl Request {
    /// How long to wait for an answer unless the caller says otherwise.
    pub const fn time_out(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Look { .. } | Self::RecordingEnd { .. } => 120,
            Self::Activate { .. } | Self::Deactivate { .. } | Self::CheckTarget { .. } => 60,
            Self::IssueDatabaseUser { .. } | Self::IssueDatabaseCertificate { .. } => 20,
            Self::LedgerEntries { .. } => 30,
            _ => 10,
        })
    }
}

impl Response {
    /// An error with its sentence.
    pub fn error(say: impl Into<String>) -> Self {
        Self::Error { say: say.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire_under_its_own_name() {
        let grant: GrantId = GrantId::from_bits(7);
        let request = Request::Look { grant, fencing: 3 };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, format!(r#"{{"look":{{"grant":"{grant}","fencing":3}}}}"#));
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert_eq!(request.name(), "look");
        assert_eq!(serde_json::to_string(&Request::Ping).unwrap(), r#""ping""#);
    }
}

//! Systems and their entitlements, exactly as they stand in the files (YAML). A [`System`] is a document of its own, since
//! there may be a million of them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Who;
use super::postgres::{PostgresCapabilities, PostgresTarget};
use crate::ids::{EntitlementName, Name};
use crate::time::Span;

/// Something one can get into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its name, unique.
    pub name: Name,
    /// Its protocol.
    pub kind: SystemKind,
    /// What it is, in a sentence.
    #[serde(default)]
    pub meaning: String,
    /// `host:port`, an address rather than a name where DNS may be what is down.
    pub address: String,
    /// The site whose connector and gateways reach it.
    #[serde(default = "main_site")]
    pub site: Name,
    /// Labels for selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who owns it.
    #[serde(default)]
    pub owner: Vec<Who>,
    /// Pinned host keys (OpenSSH public key lines), or the keys of host certificate authorities prefixed by `@cert-authority `.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// For a PostgreSQL server: its databases and who vouches for its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTarget>,
    /// Policies for entitlements that name none.
    #[serde(default)]
    pub standard_policy: Option<Name>,
    /// See `standard_policy`.
    #[serde(default)]
    pub emergency_policy: Option<Name>,
    /// Entitlements of its own, by role; they win over those of profiles.
    #[serde(default)]
    pub entitlements: BTreeMap<Name, Entitlement>,
}

fn main_site() -> Name {
    Name::main()
}

/// Protocol families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemKind {
    /// A host reached by SSH.
    Ssh,
    /// A PostgreSQL server.
    Postgres,
}

/// One role on one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entitlement {
    /// What it allows, in a sentence.
    #[serde(default)]
    pub meaning: String,
    /// The account at the target.
    pub account: String,
    /// Is that account used by others too? Then acts are attributed by the gateway only.
    #[serde(default)]
    pub shared_account: bool,
    /// Its class.
    #[serde(default)]
    pub sensitivity: Option<Name>,
    /// Its step.
    pub ladder: LadderStep,
    /// Its plane.
    #[serde(default)]
    pub plane: Plane,
    /// The part of the system that it reaches.
    #[serde(default)]
    pub subsystem: Option<String>,
    /// Who may ask for it at all.
    pub requested_by: Vec<Who>,
    /// Policy for standard requests; none = emergency only (or the system's default).
    #[serde(default)]
    pub standard_policy: Option<Name>,
    /// Policy for emergency requests; none = the system's default.
    #[serde(default)]
    pub emergency_policy: Option<Name>,
    /// May it be asked for in an emergency?
    #[serde(default = "yes")]
    pub emergency: bool,
    /// Can it be asked for only in an emergency?
    #[serde(default)]
    pub emergency_only: bool,
    /// Durations of standard requests.
    #[serde(default)]
    pub durations: Durations,
    /// Durations by severity; a severity that is not named has the standard ones.
    #[serde(default)]
    pub emergency_durations: BTreeMap<Name, Durations>,
    /// Pattern (with `*`) that the outside link must match; none = no link needed.
    #[serde(default)]
    pub link_pattern: Option<String>,
    /// How sessions are recorded.
    #[serde(default)]
    pub recording: RecordingPolicy,
    /// What a session may do over SSH.
    #[serde(default)]
    pub ssh: SshCapabilities,
    /// What a session may do in PostgreSQL.
    #[serde(default, skip_serializing_if = "PostgresCapabilities::is_default")]
    pub postgres: PostgresCapabilities,
    /// What proves that a grant of it has ended.
    #[serde(default)]
    pub proof: ProofPolicy,
    /// What a gateway does with a session when control is away.
    #[serde(default)]
    pub on_partition: OnPartition,
    /// A session with no traffic for this long ends; none = never.
    #[serde(default)]
    pub idle_limit: Option<Span>,
}

const fn yes() -> bool {
    true
}

/// Steps of the ladder, the gentlest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LadderStep {
    /// Look.
    #[default]
    Observe,
    /// Run it.
    Operate,
    /// Change it.
    Administer,
}

/// Planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Where the work is done.
    #[default]
    Data,
    /// What governs it.
    Control,
    /// Both; refused unless waived by name.
    Both,
}

/// How long a grant lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Durations {
    /// When the requester names none.
    pub default: Span,
    /// Longest single grant.
    pub longest: Span,
    /// How many extensions under one approval.
    pub extensions: u8,
    /// Ceiling on the total time, extensions and quick re-grants included.
    pub ceiling: Span,
}

impl Default for Durations {
    fn default() -> Self {
        Self { default: Span::hours(1), longest: Span::hours(4), extensions: 2, ceiling: Span::hours(8) }
    }
}

/// How sessions are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingPolicy {
    /// Who can open the recording.
    pub class: RecordingClass,
    /// When records are synced.
    pub durability: Durability,
    /// Keep typed input too (it may hold passwords).
    pub input: bool,
    /// Keep content of bulk transfers up to this many bytes each; 0 = count and hash only.
    pub keep_content_bytes: u64,
    /// Disk that one session may use on the gateway.
    pub spool_budget_bytes: u64,
}

impl Default for RecordingPolicy {
    fn default() -> Self {
        Self {
            class: RecordingClass::Readable,
            durability: Durability::Ordinary,
            input: false,
            keep_content_bytes: 0,
            spool_budget_bytes: 1 << 30,
        }
    }
}

/// See [`RecordingPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingClass {
    /// The server can play it for those who may; each time is an event.
    Readable,
    /// Only the auditors' offline keys open it.
    Sealed,
}

/// See [`RecordingPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Written before the effect, synced at least every 250 ms or 1 MiB.
    Ordinary,
    /// Synced before each effect.
    Strict,
}

/// What a session may do over SSH. Every other kind of channel is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SshCapabilities {
    /// Interactive shell.
    pub shell: bool,
    /// Single commands (scp -O, rsync, git and Ansible are such).
    pub exec: bool,
    /// Files by sftp (scp since OpenSSH 9.0).
    pub sftp: bool,
}

impl Default for SshCapabilities {
    fn default() -> Self {
        Self { shell: true, exec: true, sftp: true }
    }
}

/// What proves that a grant has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProofPolicy {
    /// Checks that must pass; the others are shown as not asked.
    pub checks: BTreeSet<CheckKind>,
    /// Does the target read a revocation list (KRL) that the connector keeps? Then proof can come at once.
    pub revocation_list: bool,
    /// How long a session certificate opens the door.
    pub login_window: Span,
}

impl Default for ProofPolicy {
    fn default() -> Self {
        Self {
            checks: [CheckKind::Credential, CheckKind::GatewayConnections].into(),
            revocation_list: false,
            login_window: Span::seconds(60),
        }
    }
}

/// Kinds of checks in a revocation proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The old credential is refused, a fresh one accepted beside it. For PostgreSQL: the role is absent on the primary.
    Credential,
    /// No connection of the grant is left in any gateway.
    GatewayConnections,
    /// No process of the session is left at the target.
    Processes,
    /// The account's own keys have not changed.
    AuthorizedKeys,
    /// No backend of the grant is left in the database server.
    Backends,
    /// Nothing that it made is left behind: objects, prepared transactions, replication slots, default privileges.
    Leftovers,
    /// The way past the gateways is shut.
    DirectPath,
}

/// What a gateway does with sessions while it cannot reach control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnPartition {
    /// Keep them to the deadline of the lease.
    #[default]
    Keep,
    /// End them after this long.
    EndAfter(Span),
}

/// Which entitlement a name means, with its system: what rules look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEntitlement {
    /// `system/role`.
    pub name: EntitlementName,
    /// The system.
    pub system: System,
    /// The entitlement, from the system itself or a profile.
    pub entitlement: Entitlement,
}

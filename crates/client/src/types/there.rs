//! What waits for somebody, and what there is.

use super::{RequestView, ReviewView};
use halligan_core::catalog::{Durations, LadderStep, Scenario, System, SystemKind};
use halligan_core::ids::{EntitlementName, IncidentId, Name, PersonId, ReviewId, SessionId};
use halligan_core::incident::Change;
use halligan_core::review::Action;
use halligan_core::session::HeldStatement;
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

bodies! {
// --- what waits, what there is ----------------------------------------------------------------
    /// Everything that waits for the caller.
    Tasks {
        /// Requests to decide.
        decisions: Vec<RequestView>,
        /// Held statements to allow or deny.
        #[serde(default)]
        statements: Vec<StatementView>,
        /// Reviews to judge.
        reviews: Vec<ReviewView>,
        /// Changes to judge.
        changes: Vec<ChangeTask>,
        /// Actions to do.
        actions: Vec<ActionTask>,
    }
    /// A statement that waits for a second person.
    StatementView {
        /// Its session.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        session: SessionId,
        /// Its number there.
        hold: u32,
        /// Who wants to run it.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        person: PersonId,
        /// On what.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
        /// In which emergency, by its number.
        incident_number: Option<u64>,
        /// The statement (halligan_core::session::HeldStatement): text and parameters as they stand, secrets masked.
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        statement: HeldStatement,
        /// The caller may answer.
        may_release: bool,
    }
    /// `POST /catalog/check-live`.
    LiveCheckWish {
        /// A system of the catalog in force; every one that can be looked at if not said.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        system: Option<Name>,
        /// Go on after this system.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        after: Option<Name>,
    }
    /// What a look at systems found, against the catalog in force.
    LiveCheck {
        /// Those that were looked at.
        systems: Vec<LiveChecked>,
        /// Ask again with this as `after`; none at the end.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        next: Option<Name>,
    }
    /// What a look at one system found.
    LiveChecked {
        /// Which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        system: Name,
        /// One by one.
        findings: Vec<LiveFinding>,
    }
    /// One thing that a look found.
    LiveFinding {
        /// The entitlement that it is about; none = the system itself.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        role: Option<Name>,
        /// `error`, `warning` or `info`.
        level: String,
        /// In a sentence.
        say: String,
    }
    /// A change to be judged.
    ChangeTask {
        /// In which incident.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        incident: IncidentId,
        /// Its number.
        number: u64,
        /// Index of the change.
        index: u32,
        /// What (halligan_core::incident::Change).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        change: Change,
    }
    /// An action to be done.
    ActionTask {
        /// Of which review.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        review: ReviewId,
        /// Index of the action.
        index: u32,
        /// What (halligan_core::review::Action).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        action: Action,
    }
    /// An entitlement that the caller may ask for.
    Askable {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
        /// What it is for.
        meaning: String,
        /// What the system is.
        system: String,
        /// The kind of system.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        kind: SystemKind,
        /// Its step on the ladder.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        ladder: LadderStep,
        /// Its sensitivity.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        sensitivity: Option<Name>,
        /// May be asked for every day.
        standard: bool,
        /// May be asked for in an emergency.
        emergency: bool,
        /// How long in the standard mode (halligan_core::catalog::Durations).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        durations: Durations,
        /// The outside ticket has to look like this.
        link_pattern: Option<String>,
    }
    /// A scenario.
    ScenarioView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// What it says (halligan_core::catalog::Scenario).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        scenario: Scenario,
        /// The caller may invoke it.
        may_invoke: bool,
        /// The caller may bypass approval under it.
        may_bypass: bool,
    }
    /// The catalog in force, without its systems.
    CatalogView {
        /// Its version.
        version: u64,
        /// SHA-256 (hex) of its head document.
        sha256: String,
        /// Everything but the systems (halligan_core::catalog::Catalog).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        catalog: halligan_core::catalog::Catalog,
    }
    /// A system of the catalog.
    SystemView {
        /// The entry (halligan_core::catalog::System).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        system: System,
    }
    /// A node.
    NodeView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway`, `connector`, `control`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// Where it listens for links.
        address: Option<String>,
        /// It is connected to the node that answers.
        connected: bool,
        /// When it joined.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        joined_at: Time,
        /// May not speak any more.
        expelled: bool,
        /// Print of its link key.
        key_sha256: String,
        /// Verifier key of its ledger.
        ledger_key: Option<String>,
        /// Leaves of its ledger that control holds.
        mirrored: u64,
    }
    /// `POST /nodes/join-tokens`.
    JoinTokenWish {
        /// The node's name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway` or `connector`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// Where connectors reach a gateway, `host:port`.
        #[serde(default)]
        address: Option<String>,
        /// The token dies after this; at most 24 h.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        lifetime: Span,
        /// A code for this act.
        totp: String,
    }
    /// A gateway, as people's clients find and know it.
    GatewayView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// It is connected to the node that answers.
        connected: bool,
        /// Where it takes clients in, by protocol: `ssh`, `postgres`.
        listeners: BTreeMap<String, Listener>,
    }
    /// Where a gateway takes clients of one protocol in.
    Listener {
        /// `host:port`.
        address: String,
        /// SSH: its host keys, `ssh-ed25519 AAAA…`, or `@cert-authority ssh-ed25519 AAAA…`.
        #[serde(default)]
        host_keys: Vec<String>,
    }
    /// `POST /catalog/systems`: systems that are not in force yet.
    CatalogGeneration {
        /// Names them.
        generation: u64,
    }
    /// `POST /catalog/apply`.
    CatalogApplyWish {
        /// Everything but the systems (halligan_core::catalog::Catalog).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        catalog: halligan_core::catalog::Catalog,
        /// Its systems; those in force if not said.
        #[serde(default)]
        generation: Option<u64>,
        /// A code for this act.
        totp: String,
    }
    /// `POST /catalog/rollback`.
    CatalogRollbackWish {
        /// To which version.
        version: u64,
        /// A code for this act.
        totp: String,
    }
    /// What became of a catalog that was to be applied.
    CatalogApplied {
        /// The change; a second person confirms it by this.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        change: halligan_core::ids::ChangeId,
        /// The version in force; none while a second person is waited for.
        version: Option<u64>,
        /// In force by one person because there is no other.
        single_administrator: bool,
        /// What changes, in lines.
        changes: Vec<String>,
        /// What becomes wider, in lines.
        widening: Vec<String>,
        /// Who could confirm it, while it waits.
        #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
        confirmers: Vec<PersonId>,
    }
    /// `GET /status`.
    StatusView {
        /// Effects and alerts that wait to be done.
        outbox: u64,
        /// Age of the oldest of them; `0s` for none.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        outbox_age: Span,
        /// Leaves that no checkpoint covers yet.
        unsigned_leaves: u64,
        /// Age of the oldest of them; `0s` for none. More than some seconds: the sequencer stands still.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        unsigned_age: Span,
        /// Bytes free in control's folder.
        disk_free: u64,
        /// This node's clock is too far off the database's: it decides nothing.
        clock_is_bad: bool,
        /// Alerts since its start that no route took.
        alerts_unrouted: u64,
        /// What keeps alerts from leaving, in sentences.
        alert_problems: Vec<String>,
        /// Nodes that were not expelled.
        nodes: Vec<NodeStatus>,
    }
    /// How a node is.
    NodeStatus {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway` or `connector`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// It is connected to the node that answers.
        connected: bool,
        /// When it was heard last, since the answering node started.
        #[cfg_attr(feature = "schema", schema(value_type = Option<i64>))]
        last_contact: Option<Time>,
        /// What it said just now; none if it did not answer.
        answer: Option<NodeAnswer>,
    }
    /// What a node says of itself.
    NodeAnswer {
        /// Version of its program.
        version: String,
        /// Its clock minus the server's, in microseconds.
        clock_offset_micros: i64,
        /// Live sessions.
        sessions: u64,
        /// Leases held.
        leases: u64,
        /// Recordings that wait for the server.
        recordings_to_send: u64,
        /// Bytes free in its folder.
        disk_free: u64,
        /// What a person should know, in sentences.
        warnings: Vec<String>,
    }
    /// `POST /alerts/test`.
    AlertTest {
        /// A route of the catalog, or `person:NAME`; all routes if not said.
        #[serde(default)]
        route: Option<String>,
    }
    /// What became of a test alert.
    AlertTested {
        /// Over which route.
        route: String,
        /// To whom; none if the route could not be used at all.
        to: Option<String>,
        /// Why it did not arrive.
        error: Option<String>,
    }
    /// `GET /ready`.
    Ready {
        /// It takes work.
        ready: bool,
        /// Version of the program.
        version: String,
        /// Version of the catalog in force.
        catalog: u64,
        /// Leaves of the ledger.
        ledger_size: u64,
    }
}

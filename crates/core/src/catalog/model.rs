//! The catalog's types, exactly as they stand in the files (YAML), and as they are stored.
//!
//! [`Catalog`] is everything but the systems (`system.rs`): it fits in memory and is one value per version.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::system::{Entitlement, LadderStep};
use crate::ids::{Name, PersonId};
use crate::time::{Span, Time};

/// Everything in the catalog but the systems. Keys of the maps are the names by which entries refer to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Catalog {
    /// The organisation's name, as pages and alerts show it.
    pub organisation: String,
    /// Defaults that rules use.
    pub settings: Settings,
    /// Severities, the gravest first by `rank`.
    pub severities: BTreeMap<Name, Severity>,
    /// Classes of entitlements.
    pub sensitivities: BTreeMap<Name, Sensitivity>,
    /// People by immutable id.
    pub people: BTreeMap<PersonId, Person>,
    /// Groups.
    pub groups: BTreeMap<Name, Group>,
    /// Offices: roles in the organisation with rights in Halligan.
    pub offices: BTreeMap<OfficeName, Office>,
    /// The responsibility chart: who is accountable for which act.
    pub chart: BTreeMap<Act, Responsibility>,
    /// On-call schedules.
    pub schedules: BTreeMap<Name, Schedule>,
    /// Policies.
    pub policies: BTreeMap<Name, Policy>,
    /// Scenarios.
    pub scenarios: BTreeMap<Name, Scenario>,
    /// Where alerts go.
    pub routes: BTreeMap<Name, Route>,
    /// Entitlements shared by many systems, chosen by label.
    pub profiles: BTreeMap<Name, Profile>,
    /// Findings of `check` that somebody has accepted by name.
    pub waivers: Vec<CatalogWaiver>,
    /// When each person, membership and office was first seen; written by `apply`, never by hand.
    /// Keys: `person:anna`, `group:sre:anna`, `office:auditor:anna`, `schedule:sre-primary:anna`, `manager:ben:anna`
    /// (anna is ben's manager). What is not dated counts as old.
    #[schemars(skip)]
    pub since: BTreeMap<String, Time>,
}

/// Durations and counts that the rules use; each has the design's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long an approval stays good before activation.
    pub activate_within: Span,
    /// A person, factor or membership younger than this does not count as approver.
    pub approver_minimum_age: Span,
    /// A pending request lapses after this.
    pub request_lapses_after: Span,
    /// After a denial automatic approval waits this long.
    pub denial_blocks_automatic: Span,
    /// A new grant within this long of the last one counts as its extension.
    pub regrant_window: Span,
    /// The loud wait before another bypass while a bypass review is open.
    pub second_bypass_wait: Span,
    /// Post-use review due after this.
    pub review_post_use: Span,
    /// Review of a bypass or a retroactive approval due after this.
    pub review_bypass: Span,
    /// Review of a second extension due after this.
    pub review_extended_twice: Span,
    /// Longest deferral of a review.
    pub review_deferral: Span,
    /// A revocation is late when it is not proved this long after it could be.
    pub revocation_late_after: Span,
    /// How fresh a second factor must be for one's own request.
    pub factor_fresh_for: Span,
    /// Warn when the emergency catalog grows beyond this many emergency entitlements.
    pub emergency_catalog_limit: u32,
    /// Whether an incident may be closed unproven.
    pub closed_unproven_allowed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            activate_within: Span::minutes(60),
            approver_minimum_age: Span::hours(24),
            request_lapses_after: Span::hours(4),
            denial_blocks_automatic: Span::hours(4),
            regrant_window: Span::hours(4),
            second_bypass_wait: Span::minutes(15),
            review_post_use: Span::days(3),
            review_bypass: Span::days(1),
            review_extended_twice: Span::hours(48),
            review_deferral: Span::days(30),
            revocation_late_after: Span::minutes(15),
            factor_fresh_for: Span::minutes(5),
            emergency_catalog_limit: 200,
            closed_unproven_allowed: true,
        }
    }
}

/// How grave an emergency is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Severity {
    /// 1 is the gravest.
    pub rank: u8,
    /// What it means, in a sentence.
    pub meaning: String,
    /// Examples that help to choose.
    pub examples: Vec<String>,
    /// Who may declare it or raise an incident to it; empty = who may invoke a scenario, is on call, or leads incidents.
    pub declared_by: Vec<Who>,
    /// Outside priorities that map to it (`P1`, `critical`).
    pub maps_from: Vec<String>,
}

/// A class of entitlements by what they touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sensitivity {
    /// What it covers.
    pub meaning: String,
    /// May a policy approve by itself?
    pub automatic_approval: bool,
    /// At least this many distinct approvers, at every severity.
    pub distinct_approvers: u8,
}

impl Default for Sensitivity {
    fn default() -> Self {
        Self { meaning: String::new(), automatic_approval: true, distinct_approvers: 0 }
    }
}

/// A named person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// As pages show it.
    pub name: String,
    /// Where mail goes.
    pub email: Option<String>,
    /// Their manager.
    pub manager: Option<PersonId>,
    /// People who stand in for them; a deputy never approves what they ask for.
    pub deputies: BTreeSet<PersonId>,
    /// Gone, but the id stays taken.
    pub left: bool,
}

/// A set of people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// What it is for.
    pub meaning: String,
    /// Members.
    pub members: BTreeSet<PersonId>,
}

/// The offices that Halligan knows; each carries its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OfficeName {
    /// Sees all emergencies, kills, waives, defers reviews.
    SecurityOfficer,
    /// Administers Halligan: catalog, nodes, people.
    CloudAdministrator,
    /// Leads incidents: mitigates, closes.
    IncidentLead,
    /// Looks after the identity provider.
    IdentityTeam,
    /// Owns platforms.
    PlatformOwner,
    /// Reads everything, changes nothing.
    Auditor,
}

impl std::fmt::Display for OfficeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SecurityOfficer => "security-officer",
            Self::CloudAdministrator => "cloud-administrator",
            Self::IncidentLead => "incident-lead",
            Self::IdentityTeam => "identity-team",
            Self::PlatformOwner => "platform-owner",
            Self::Auditor => "auditor",
        })
    }
}

/// Who holds an office.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Office {
    /// Holders by name.
    pub people: BTreeSet<PersonId>,
    /// Groups whose members hold it.
    pub groups: BTreeSet<Name>,
}

/// The acts of an emergency that need somebody accountable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Declaring an emergency.
    Declare,
    /// Approving emergency access.
    Approve,
    /// Bypassing approval.
    Bypass,
    /// Working on the system.
    Use,
    /// Watching and killing sessions.
    Oversee,
    /// Proving revocation.
    Revoke,
    /// Reviewing afterwards.
    Review,
    /// Closing the incident.
    Close,
    /// Changing the catalog.
    ChangeCatalog,
}

/// A row of the responsibility chart (RACI).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Responsibility {
    /// Who does it.
    pub responsible: Vec<Who>,
    /// The one office that answers for it.
    pub accountable: Option<OfficeName>,
    /// Asked before.
    pub consulted: Vec<Who>,
    /// Told after.
    pub informed: Vec<Who>,
}

/// A way to name people. In files: `person: anna`, `group: sre`, `office: auditor`, `on_call: sre-primary`, `manager: true`, `owner: true`, `anyone: true`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// One person.
    Person(PersonId),
    /// Members of a group.
    Group(Name),
    /// Holders of an office.
    Office(OfficeName),
    /// Who is on call now in that schedule.
    OnCall(Name),
    /// The beneficiary's manager.
    Manager(bool),
    /// The system's owner.
    Owner(bool),
    /// Everybody in the catalog.
    Anyone(bool),
}

/// A rotation of people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// IANA time zone in which turns change.
    pub time_zone: String,
    /// First day and hour of the first turn, local: `2026-01-05T09:00`.
    pub starts: String,
    /// Length of a turn (whole days keep the local hour across daylight saving).
    pub turn: Span,
    /// The rotation, in order.
    pub people: Vec<PersonId>,
    /// Exceptions; a later one wins.
    pub overrides: Vec<ScheduleOverride>,
}

/// One exception of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleOverride {
    /// Local begin, `2026-01-05T09:00`.
    pub from: String,
    /// Local end, not included.
    pub until: String,
    /// Who takes over.
    pub person: PersonId,
}

/// How a request is decided. The first rule that fits the severity counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What it is for.
    pub meaning: String,
    /// Rules in order.
    pub rules: Vec<PolicyRule>,
}

/// One rule of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRule {
    /// Severities for which it holds; empty = all (and standard requests).
    pub severities: BTreeSet<Name>,
    /// Approves by itself, within limits, with a retroactive review.
    pub automatic: Option<Automatic>,
    /// Steps that all have to be met, by distinct people. With `automatic`, they are what is asked for when its limits are passed.
    pub steps: Vec<Step>,
}

/// Automatic approval and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Automatic {
    /// Whose word on the severity it takes.
    pub severity: SeverityWord,
    /// Longest duration it grants.
    pub longest: Span,
    /// Per person and day; past it a person must approve.
    pub per_person_and_day: u32,
}

/// Whose word on the severity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeverityWord {
    /// The requester's.
    Claimed,
    /// A second person's, or that of an alert source that the requester cannot write to.
    Attested,
}

/// One approval step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// As pages show it, unique within the rule.
    pub name: String,
    /// Who may approve: any of these.
    pub approvers: Vec<Who>,
    /// How many of them (at least 1).
    #[serde(default = "one")]
    pub quorum: u8,
    /// Asked instead when none of the approvers is eligible.
    #[serde(default)]
    pub fallback: Vec<Who>,
    /// Kinds of second factor that count; empty = any.
    #[serde(default)]
    pub factors: BTreeSet<FactorKind>,
    /// Must the approver give a reason?
    #[serde(default)]
    pub reason_required: bool,
    /// What happens when nobody decides in time.
    #[serde(default)]
    pub timer: Option<StepTimer>,
}

const fn one() -> u8 {
    1
}

/// What happens to a step when nobody has decided in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepTimer {
    /// Counted from the moment the request was filed or last escalated.
    pub after: Span,
    /// What then.
    pub then: TimerAction,
}

/// See [`StepTimer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimerAction {
    /// These people instead.
    Reassign(Vec<Who>),
    /// These people as well.
    Widen(Vec<Who>),
    /// The request lapses.
    Lapse(bool),
}

/// Kinds of second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FactorKind {
    /// Time-based one-time password.
    Totp,
    /// A passkey that syncs between devices.
    PasskeySynced,
    /// A passkey bound to a device.
    PasskeyDevice,
    /// A security key whose maker attests it.
    SecurityKeyAttested,
    /// A hardware SSH key with presence proved.
    SshSk,
}

/// A defined kind of emergency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// As pages show it.
    pub title: String,
    /// What it covers.
    pub meaning: String,
    /// Each must be confirmed by the requester.
    pub criteria: Vec<String>,
    /// Severities it may have; empty = all.
    pub severities: BTreeSet<Name>,
    /// Who may invoke it.
    pub invoked_by: Vec<Who>,
    /// Who may bypass approval in it.
    pub bypassed_by: Vec<Who>,
    /// Entitlements in scope: any of these selectors.
    pub scope: Vec<Scope>,
    /// Steps of the ladder that may be asked for first; a higher one asks why the lower is not enough.
    pub first_step: LadderStep,
    /// What to do.
    pub runbook: Option<Runbook>,
}

/// Entitlements by system, label and role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Systems by name; empty = any.
    pub systems: BTreeSet<Name>,
    /// Labels that the system must carry; `*` as value = any value.
    pub labels: BTreeMap<String, String>,
    /// Roles; empty = any.
    pub roles: BTreeSet<Name>,
}

/// A runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// Where it is.
    pub link: String,
    /// Who keeps it.
    pub owner: PersonId,
    /// When it was last looked at, `2026-11-01`.
    pub reviewed: String,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which alerts; empty = all.
    #[serde(default)]
    pub alerts: BTreeSet<Name>,
    /// How.
    pub to: RouteTarget,
}

/// A way to deliver an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RouteTarget {
    /// Mail to these people's addresses.
    Mail(Vec<Who>),
    /// A signed webhook (Standard Webhooks). The secret's file stands in the server's configuration under this name.
    Webhook {
        /// Where to post.
        url: String,
        /// Name of the secret in the server's configuration.
        secret: Name,
    },
}

/// Entitlements that many systems share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Which systems get them.
    pub systems: Scope,
    /// The entitlements, by role.
    pub entitlements: BTreeMap<Name, Entitlement>,
}

/// A finding of `check` that somebody has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogWaiver {
    /// The finding's code, as `check` prints it.
    pub finding: String,
    /// The entry it is about.
    pub entry: String,
    /// Who accepts it.
    pub by: PersonId,
    /// Why.
    pub reason: String,
}

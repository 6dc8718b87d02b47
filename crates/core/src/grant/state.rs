//! The grant: an entitlement in force for one person until a deadline.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalog::{CheckKind, Durations};
use crate::ids::{EntitlementName, GrantId, IncidentId, Name, PersonId, RequestId, SessionId};
use crate::proof::{Check, Evidence, Finding};
use crate::request::Mode;
use crate::time::{Span, Time};

/// An entitlement in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// What it came from.
    pub request: RequestId,
    /// Child requests that extended it.
    pub extended_by: Vec<RequestId>,
    /// Who uses it.
    pub person: PersonId,
    /// What it opens.
    pub entitlement: EntitlementName,
    /// Standard or emergency.
    pub mode: Mode,
    /// How grave.
    pub severity: Option<Name>,
    /// Which emergency.
    pub incident: Option<IncidentId>,
    /// The requester's reason, for lease and recording.
    pub reason: String,
    /// Came about without a person's approval.
    pub automatic: bool,
    /// Came about by bypass.
    pub bypassed: bool,
    /// The limits that held when it was made.
    pub durations: Durations,
    /// Checks that a proof needs.
    pub required_checks: BTreeSet<CheckKind>,
    /// Where it stands.
    pub state: GrantState,
    /// Carried by every effect, never used twice.
    pub fencing: u64,
    /// For how long it was asked.
    pub duration: Span,
    /// When it was approved.
    pub scheduled_at: Time,
    /// The approval is good until then.
    pub activate_by: Time,
    /// When access began.
    pub activated_at: Option<Time>,
    /// When access ends; every active grant has one.
    pub deadline: Option<Time>,
    /// Total time spent before this grant in the same total (rule 7).
    pub earlier_total: Span,
    /// A new approver started a new total with it.
    #[serde(default)]
    pub new_total: bool,
    /// Grants whose total it continues or replaces.
    #[serde(default)]
    pub continues: BTreeSet<GrantId>,
    /// A request for more time that waits for a decision.
    #[serde(default)]
    pub pending_extension: Option<RequestId>,
    /// Extensions counted in the running total, quick re-grants included.
    pub extensions: u8,
    /// The nearing deadline has been alerted.
    pub warned: bool,
    /// When access ended.
    pub ended_at: Option<Time>,
    /// Why.
    pub end_reason: Option<GrantEnd>,
    /// Gateways that hold or held a lease of it, and whether they have said that nothing is left.
    pub gateways: BTreeMap<Name, bool>,
    /// The connector has made it a tombstone.
    pub deactivated: bool,
    /// From when a proof is possible.
    pub provable_at: Option<Time>,
    /// When to look again.
    pub look_at: Option<Time>,
    /// Looks so far.
    pub looks: u32,
    /// Lateness has been alerted.
    pub late_alerted: bool,
    /// The last finding of each check.
    pub checks: BTreeMap<CheckKind, Check>,
    /// All required checks passed, or what replaced them.
    pub outcome: Option<ProofOutcome>,
    /// People who waive the proof (two are needed).
    pub waivers: BTreeMap<PersonId, String>,
    /// Number of the last session.
    pub last_session: u32,
    /// Sessions that have not ended.
    pub open_sessions: BTreeSet<SessionId>,
    /// Kept beyond mitigation until then, by whom and why.
    pub kept: Option<Kept>,
}

/// A grant that stays when its incident is mitigated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Who decided that.
    pub by: PersonId,
    /// Until when.
    pub until: Time,
    /// Why.
    pub reason: String,
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Approved, not yet begun.
    Scheduled,
    /// The connector is at work.
    Activating,
    /// In force.
    Active,
    /// Ended; not yet proved.
    Revoking,
    /// Ended and proved, waived or attested.
    Revoked,
    /// Never became active, and nothing was made.
    Cancelled,
    /// Could not be made to work; needs a proof too.
    ActivationFailed,
    /// A look found the door open.
    RevocationFailed,
}

impl GrantState {
    /// Nothing more is owed.
    pub const fn settled(self) -> bool {
        matches!(self, Self::Revoked | Self::Cancelled)
    }
}

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantEnd {
    /// Its deadline.
    Expired,
    /// Its person was done.
    GivenBack,
    /// Somebody ended it.
    Revoked,
    /// Its incident was mitigated.
    IncidentMitigated,
    /// Another grant took its place.
    Superseded,
    /// It ended at its deadline and no session had used it.
    NeverUsed,
    /// It could not be activated.
    ActivationFailed,
}

/// How the question "is the door shut?" was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ProofOutcome {
    /// Every required check passed.
    Proven {
        /// When.
        at: Time,
    },
    /// Two people who are no party said that it need not be proved.
    Waived {
        /// When.
        at: Time,
    },
    /// The owner attests that the target is gone.
    TargetGone {
        /// Who.
        by: PersonId,
        /// When.
        at: Time,
        /// What happened to it.
        reason: String,
    },
}

impl Grant {
    /// Does it give access at this time? Judged by the clock, not by the sweeper (rule 5).
    pub fn in_force(&self, at: Time) -> bool {
        self.state == GrantState::Active && self.deadline.is_some_and(|deadline| at < deadline)
    }

    /// Did it give access at that time, as far as is known now?
    pub fn was_in_force(&self, at: Time) -> bool {
        let begun = self.activated_at.is_some();
        let end = [self.deadline, self.ended_at].into_iter().flatten().min();
        begun && end.is_some_and(|end| at < end)
    }
}

/// The finding of the whole proof as it stands: all required checks together. What gateways hold is known from their own
/// reports, never from a look at the target.
pub fn overall(grant: &Grant) -> Finding {
    let mut whole = Finding::Proven;
    for kind in &grant.required_checks {
        if *kind == CheckKind::GatewayConnections {
            if !no_connection_left(grant) {
                whole = Finding::Unknown;
            }
            continue;
        }
        match grant.checks.get(kind).map(|check| check.finding) {
            Some(Finding::Proven) => {}
            Some(Finding::Failed) => return Finding::Failed,
            Some(Finding::Unknown) | None => whole = Finding::Unknown,
        }
    }
    whole
}

/// Every gateway that held a lease has said that nothing of it is left.
pub fn no_connection_left(grant: &Grant) -> bool {
    grant.gateways.values().all(|gone| *gone) && grant.open_sessions.is_empty()
}

/// Takes the checks of a look.
pub fn merge(checks: &mut BTreeMap<CheckKind, Check>, evidence: &Evidence) {
    for check in &evidence.checks {
        checks.insert(check.kind, check.clone());
    }
}

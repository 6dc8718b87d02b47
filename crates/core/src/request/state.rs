//! The request: exactly one entitlement for one person.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::{FactorKind, Step, TimerAction, Who};
use crate::ids::{BatchId, EntitlementName, GrantId, IncidentId, Name, PersonId, RequestId};
use crate::time::{Span, Time};

/// One ask for one entitlement by one person, with everything that was said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Filed together with others.
    pub batch: Option<BatchId>,
    /// Who asks.
    pub requester: PersonId,
    /// Who will use it.
    pub beneficiary: PersonId,
    /// What for.
    pub entitlement: EntitlementName,
    /// Standard or emergency.
    pub mode: Mode,
    /// How grave; always there in an emergency.
    pub severity: Option<Name>,
    /// Whether somebody other than the requester vouches for the severity.
    pub severity_attested: bool,
    /// What kind of emergency; always there in an emergency.
    pub scenario: Option<Name>,
    /// Which emergency; always there in an emergency.
    pub incident: Option<IncidentId>,
    /// Why, in the requester's words; never empty.
    pub reason: String,
    /// The outside ticket.
    pub link: Option<String>,
    /// Why a lower step of the ladder is not enough.
    pub why_not_lower: Option<String>,
    /// For how long.
    pub duration: Span,
    /// The grant that this would extend.
    pub extends: Option<GrantId>,
    /// The total time is spent: only somebody who has not approved in this total may start a new one.
    pub new_total: bool,
    /// Approvers of the running total, who cannot start a new one.
    pub earlier_approvers: BTreeSet<PersonId>,
    /// Who asked for the grant that this extends: they approve neither (rule 2).
    #[serde(default)]
    pub earlier_requesters: BTreeSet<PersonId>,
    /// When it was filed.
    pub filed_at: Time,
    /// From when step timers count: filed or last escalated.
    pub timers_from: Time,
    /// When it lapses if nobody decides.
    pub lapses_at: Time,
    /// The policy and the catalog version that decide it.
    pub policy: Name,
    /// See `policy`.
    pub catalog_version: u64,
    /// The steps to be met, as they stood when filed or last escalated.
    pub steps: Vec<OpenStep>,
    /// At least this many distinct approvers (from the sensitivity).
    pub distinct_approvers: u8,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// A bypass, asked for or in effect.
    pub bypass: Option<Bypass>,
    /// Approved by policy alone.
    pub automatic: bool,
    /// Where it stands.
    pub state: RequestState,
    /// Grows with every change that an approver should have seen.
    pub version: u32,
    /// SHA-256 (hex) over person, entitlement, longest duration and conditions.
    pub scope_digest: String,
    /// SHA-256 (hex) over severity, reason and incident.
    pub context_digest: String,
    /// What came of it.
    pub grant: Option<GrantId>,
}

/// Standard or emergency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The everyday way.
    Standard,
    /// Breaking the glass.
    Emergency,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for people.
    Pending,
    /// Granted.
    Approved,
    /// Somebody said no.
    Denied,
    /// Taken back by the requester.
    Withdrawn,
    /// Nobody decided in time.
    Lapsed,
    /// Another request took its place.
    Superseded,
}

/// An approval step as it stands on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStep {
    /// From the policy.
    pub step: Step,
    /// Who may approve now: the policy's approvers, reassigned or widened by the timer.
    pub approvers: Vec<Who>,
    /// The timer has struck.
    pub timer_done: bool,
    /// Nobody is eligible; alerting.
    pub blocked: bool,
}

impl Request {
    /// When it lapses if nobody decides, steps' timers included. Judged by the clock (rule 5).
    pub fn lapses(&self) -> Time {
        let timers = self.steps.iter().filter_map(|step| match &step.step.timer {
            Some(timer) if timer.then == TimerAction::Lapse(true) => Some(self.timers_from.plus(timer.after)),
            _ => None,
        });
        timers.min().map_or(self.lapses_at, |timer| timer.min(self.lapses_at))
    }

    /// Did this person ask for it, or decide about it (even if that was taken back)?
    pub fn is_party(&self, person: &PersonId) -> bool {
        self.requester == *person
            || self.beneficiary == *person
            || self.earlier_requesters.contains(person)
            || self.decisions.iter().any(|decision| decision.person == *person)
    }

    /// A bypass whose loud wait is over by the clock, but which has not taken effect yet.
    pub fn bypass_is_due(&self, now: Time) -> bool {
        self.bypass.as_ref().is_some_and(|bypass| !bypass.in_effect && now >= bypass.effective_at)
    }
}

impl OpenStep {
    /// When its timer strikes and asks other people; `from` is the request's `timers_from`.
    pub fn moves_at(&self, from: Time) -> Option<Time> {
        let timer = self.step.timer.as_ref()?;
        (!matches!(timer.then, TimerAction::Lapse(_))).then(|| from.plus(timer.after))
    }

    /// Who may approve at that time, judged by the clock and not by the sweeper (rule 5).
    pub fn approvers_at(&self, from: Time, at: Time) -> Cow<'_, [Who]> {
        let struck = self.moves_at(from).is_some_and(|moves| at >= moves);
        match self.step.timer.as_ref().map(|timer| &timer.then) {
            Some(TimerAction::Reassign(to)) if struck => Cow::Borrowed(to),
            Some(TimerAction::Widen(to)) if struck => {
                Cow::Owned(self.step.approvers.iter().chain(to).cloned().collect())
            }
            _ => Cow::Borrowed(&self.step.approvers),
        }
    }
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who.
    pub person: PersonId,
    /// When.
    pub at: Time,
    /// Yes or no.
    pub verdict: Verdict,
    /// In their words.
    pub reason: Option<String>,
    /// The kind of second factor they used for it.
    pub factor: Option<FactorKind>,
    /// The version of the request that they saw.
    pub version_seen: u32,
    /// SHA-256 (hex) of scope and context digest: what they decided about.
    pub digest: String,
    /// Given before an escalation and carried over.
    pub carried: bool,
    /// Taken back, or void because they may not approve any more.
    pub void: bool,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// Going in without waiting for approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bypass {
    /// When it was asked for.
    pub at: Time,
    /// Why.
    pub reason: String,
    /// When it takes effect: at once, or after the loud wait.
    pub effective_at: Time,
    /// It has taken effect.
    pub in_effect: bool,
    /// The people who were not waited for.
    pub not_waited_for: BTreeSet<PersonId>,
}

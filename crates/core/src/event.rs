//! Everything that can have happened. One command makes one leaf with one or more of these; replaying them through
//! [`apply`](crate::apply::apply) gives the documents. Every released form decodes for ever (see `tests/golden`).

use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;

use crate::catalog::Who;
use crate::change::ProposedChange;
use crate::grant::{Grant, GrantEnd, Kept, ProofOutcome};
use crate::ids::{
    ChangeId, EntitlementName, GrantId, IncidentId, Name, PersonId, RequestId, ReviewId, SessionId,
};
use crate::incident::{ChangeJudgement, Incident, Note, Part};
use crate::proof::Evidence;
use crate::request::{Bypass, Decision, Request};
use crate::review::{Action, Deferral, Judgement, Review};
use crate::session::{HeldStatement, HoldAnswer, Session};
use crate::time::{Span, Time};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// Somebody asked.
    RequestFiled { request: Box<Request> },
    /// Somebody approved or denied.
    Decided { request: RequestId, decision: Decision },
    /// A decision does not count any more.
    DecisionVoided { request: RequestId, person: PersonId, why: String },
    /// A request became graver; steps and carried decisions are as given.
    Escalated { request: RequestId, by: PersonId, reason: String, to: Box<Request> },
    /// A step's timer struck.
    StepMoved { request: RequestId, step: u32, approvers: Vec<Who> },
    /// A step has (or no longer has) nobody who may approve it.
    StepBlocked { request: RequestId, step: u32, blocked: bool },
    /// Another grant has changed the running total: a new approver must start a new one, or need not any more.
    TotalMoved { request: RequestId, new_total: bool, earlier_approvers: BTreeSet<PersonId> },
    /// A second person vouches for the severity.
    SeverityAttested { request: RequestId, by: PersonId, at: Time },
    /// Somebody bypasses; it may take effect later.
    BypassAsked { request: RequestId, person: PersonId, bypass: Bypass },
    /// The bypass takes effect.
    BypassTookEffect { request: RequestId },
    /// Approved: by people, by policy, or by bypass.
    RequestApproved { request: RequestId, at: Time, automatic: bool },
    /// Denied; `requester` is who would have used it, and whom policy alone does not let in for a while.
    RequestDenied {
        request: RequestId,
        person: PersonId,
        entitlement: EntitlementName,
        requester: PersonId,
        at: Time,
    },
    /// Withdrawn.
    RequestWithdrawn { request: RequestId },
    /// Nobody decided in time, or its grant was never begun.
    RequestLapsed { request: RequestId },
    /// Waits again: an approval was void before activation.
    RequestReopened { request: RequestId, lapses_at: Time },
    /// A grant exists.
    GrantScheduled { grant: Box<Grant> },
    /// The connector is told.
    GrantActivating { grant: GrantId, fencing: u64 },
    /// In force.
    GrantActivated { grant: GrantId, at: Time, deadline: Time },
    /// Could not be made to work.
    GrantActivationFailed { grant: GrantId, at: Time, fencing: u64, reason: String },
    /// Never begun.
    GrantCancelled { grant: GrantId, why: String },
    /// A gateway holds its lease.
    LeaseHeld { grant: GrantId, gateway: Name },
    /// A gateway has let go.
    LeaseEnded { grant: GrantId, gateway: Name, sessions_ended: u32, at: Time },
    /// More time. It continues or replaces (`new_total`) the total of the grants named.
    GrantExtended {
        grant: GrantId,
        request: RequestId,
        deadline: Time,
        by: Span,
        fencing: u64,
        #[serde(default)]
        new_total: bool,
        #[serde(default)]
        extensions: u8,
        #[serde(default)]
        continues: BTreeSet<GrantId>,
    },
    /// Access ends now.
    GrantEnded {
        grant: GrantId,
        at: Time,
        reason: GrantEnd,
        by: Option<PersonId>,
        note: Option<String>,
        fencing: u64,
    },
    /// The connector will issue nothing more for it.
    GrantDeactivated { grant: GrantId, provable_at: Time },
    /// Somebody looked.
    GrantLooked { grant: GrantId, evidence: Evidence, look_at: Option<Time> },
    /// Access ends soon.
    DeadlineNear { grant: GrantId, deadline: Time },
    /// The connector is asked to look.
    LookAsked { grant: GrantId, at: Time, next: Time },
    /// A look found the door open.
    RevocationFailed { grant: GrantId },
    /// It is late.
    RevocationLate { grant: GrantId },
    /// The question is settled.
    GrantRevoked { grant: GrantId, outcome: ProofOutcome },
    /// One of two waives the proof.
    ProofWaived { grant: GrantId, person: PersonId, reason: String },
    /// Stays beyond mitigation.
    GrantKept { grant: GrantId, kept: Kept },
    /// A session is there.
    SessionOpened { session: Box<Session> },
    /// A channel in it.
    ChannelOpened { session: SessionId, kind: String, detail: String },
    /// It ended.
    SessionEnded { session: SessionId, grant: GrantId, at: Time, reason: String },
    /// Its recording is finished.
    RecordingFinished {
        session: SessionId,
        bytes: u64,
        frames: u64,
        sha256: String,
        chain_head: String,
        complete: bool,
    },
    /// Its recording is in the store.
    RecordingStored { session: SessionId, incident: Option<IncidentId> },
    /// Its recording is lost.
    RecordingLost { session: SessionId, incident: Option<IncidentId>, reason: String },
    /// One of two says that its absence is explained; settled with the second.
    GapWaived {
        session: SessionId,
        incident: Option<IncidentId>,
        person: PersonId,
        reason: String,
        settled: bool,
    },
    /// A recording was played, watched, searched or exported.
    RecordingPlayed { session: SessionId, person: PersonId, how: String },
    /// Somebody wants it dead.
    SessionTerminated { session: SessionId, person: PersonId, reason: String },
    /// Somebody tried what they may not.
    AttemptRefused { person: Option<PersonId>, what: String, client: String, reason: String },
    /// At a system there was what no session explains.
    UnexplainedFound { grant: Option<GrantId>, system: Name, what: String },
    /// An emergency began.
    IncidentOpened { incident: Box<Incident> },
    /// Somebody acted in it.
    PartTaken { incident: IncidentId, person: PersonId, part: Part },
    /// Its severity changed.
    SeverityChanged { incident: IncidentId, severity: Name, by: PersonId, reason: String },
    /// A note.
    NoteAdded { incident: IncidentId, note: Note },
    /// A link.
    LinkAdded { incident: IncidentId, link: String },
    /// The harm is over.
    IncidentMitigated { incident: IncidentId, at: Time, by: PersonId },
    /// Somebody wants to close it, but something blocks.
    IncidentClosing { incident: IncidentId, by: PersonId, blockers: Vec<String> },
    /// Closed.
    IncidentClosed { incident: IncidentId, at: Time, by: PersonId },
    /// One of two wants to end it unproven.
    UnprovenAsked { incident: IncidentId, person: PersonId, reason: String },
    /// Ended by two people without proof.
    IncidentClosedUnproven { incident: IncidentId, at: Time },
    /// Open again.
    IncidentReopened { incident: IncidentId, why: String },
    /// A session changed something.
    ChangeSeen { incident: IncidentId, session: SessionId, what: String },
    /// An owner said what became of it.
    ChangeJudged { incident: IncidentId, change: u32, judgement: ChangeJudgement },
    /// A statement waits for a second person.
    StatementHeld { session: SessionId, hold: u32, statement: Box<HeldStatement> },
    /// A second person let it pass, or did not.
    StatementReleased { session: SessionId, hold: u32, answer: HoldAnswer },
    /// It waits no more. `unasked`: the gateway let it pass and nobody had allowed it, a violation.
    StatementSettled {
        session: SessionId,
        hold: u32,
        allowed: bool,
        by: String,
        reason: String,
        unasked: bool,
    },
    /// A review is due.
    ReviewOpened { review: Box<Review> },
    /// Somebody took it up.
    ReviewStarted { review: ReviewId, reviewer: PersonId },
    /// Judged.
    ReviewJudged { review: ReviewId, judgement: Judgement },
    /// Put off.
    ReviewDeferred { review: ReviewId, deferral: Deferral },
    /// Something to do.
    ActionAdded { review: ReviewId, action: Action },
    /// Done.
    ActionCompleted { review: ReviewId, action: u32, at: Time },
    /// All done.
    ReviewClosed { review: ReviewId },
    /// Nobody has judged it in time.
    ReviewOverdue { review: ReviewId },
    /// Somebody wants to change the catalog, a factor, a person, …
    ChangeProposed { change: Box<ProposedChange> },
    /// A second person agrees.
    ChangeConfirmed { change: ChangeId, by: PersonId, at: Time },
    /// A person, or time (`by` is none), ends it.
    ChangeRejected { change: ChangeId, by: Option<PersonId>, reason: String, at: Time },
    /// It is in force from now on; alone when nobody else could confirm it.
    ChangeApplied { change: ChangeId, at: Time, alone: bool },
}

impl Event {
    /// Every name there is.
    pub const NAMES: [&'static str; 71] = [
        "request_filed",
        "decided",
        "decision_voided",
        "escalated",
        "step_moved",
        "step_blocked",
        "total_moved",
        "severity_attested",
        "bypass_asked",
        "bypass_took_effect",
        "request_approved",
        "request_denied",
        "request_withdrawn",
        "request_lapsed",
        "request_reopened",
        "grant_scheduled",
        "grant_activating",
        "grant_activated",
        "grant_activation_failed",
        "grant_cancelled",
        "lease_held",
        "lease_ended",
        "grant_extended",
        "grant_ended",
        "grant_deactivated",
        "grant_looked",
        "deadline_near",
        "look_asked",
        "revocation_failed",
        "revocation_late",
        "grant_revoked",
        "proof_waived",
        "grant_kept",
        "session_opened",
        "channel_opened",
        "session_ended",
        "recording_finished",
        "recording_stored",
        "recording_lost",
        "gap_waived",
        "recording_played",
        "session_terminated",
        "attempt_refused",
        "incident_opened",
        "part_taken",
        "severity_changed",
        "note_added",
        "link_added",
        "incident_mitigated",
        "incident_closing",
        "incident_closed",
        "unproven_asked",
        "incident_closed_unproven",
        "incident_reopened",
        "change_seen",
        "change_judged",
        "statement_held",
        "statement_released",
        "statement_settled",
        "review_opened",
        "review_started",
        "review_judged",
        "review_deferred",
        "action_added",
        "action_completed",
        "review_closed",
        "review_overdue",
        "change_proposed",
        "change_confirmed",
        "change_rejected",
        "change_applied",
    ];

    /// Its name, as it is written.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RequestFiled { .. } => "request_filed",
            Self::Decided { .. } => "decided",
            Self::DecisionVoided { .. } => "decision_voided",
            Self::Escalated { .. } => "escalated",
            Self::StepMoved { .. } => "step_moved",
            Self::StepBlocked { .. } => "step_blocked",
            Self::TotalMoved { .. } => "total_moved",
            Self::SeverityAttested { .. } => "severity_attested",
            Self::BypassAsked { .. } => "bypass_asked",
            Self::BypassTookEffect { .. } => "bypass_took_effect",
            Self::RequestApproved { .. } => "request_approved",
            Self::RequestDenied { .. } => "request_denied",
            Self::RequestWithdrawn { .. } => "request_withdrawn",
            Self::RequestLapsed { .. } => "request_lapsed",
            Self::RequestReopened { .. } => "request_reopened",
            Self::GrantScheduled { .. } => "grant_scheduled",
            Self::GrantActivating { .. } => "grant_activating",
            Self::GrantActivated { .. } => "grant_activated",
            Self::GrantActivationFailed { .. } => "grant_activation_failed",
            Self::GrantCancelled { .. } => "grant_cancelled",
            Self::LeaseHeld { .. } => "lease_held",
            Self::LeaseEnded { .. } => "lease_ended",
            Self::GrantExtended { .. } => "grant_extended",
            Self::GrantEnded { .. } => "grant_ended",
            Self::GrantDeactivated { .. } => "grant_deactivated",
            Self::GrantLooked { .. } => "grant_looked",
            Self::DeadlineNear { .. } => "deadline_near",
            Self::LookAsked { .. } => "look_asked",
            Self::RevocationFailed { .. } => "revocation_failed",
            Self::RevocationLate { .. } => "revocation_late",
            Self::GrantRevoked { .. } => "grant_revoked",
            Self::ProofWaived { .. } => "proof_waived",
            Self::GrantKept { .. } => "grant_kept",
            Self::SessionOpened { .. } => "session_opened",
            Self::ChannelOpened { .. } => "channel_opened",
            Self::SessionEnded { .. } => "session_ended",
            Self::RecordingFinished { .. } => "recording_finished",
            Self::RecordingStored { .. } => "recording_stored",
            Self::RecordingLost { .. } => "recording_lost",
            Self::GapWaived { .. } => "gap_waived",
            Self::RecordingPlayed { .. } => "recording_played",
            Self::SessionTerminated { .. } => "session_terminated",
            Self::AttemptRefused { .. } => "attempt_refused",
            Self::UnexplainedFound { .. } => "unexplained_found",
            Self::IncidentOpened { .. } => "incident_opened",
            Self::PartTaken { .. } => "part_taken",
            Self::SeverityChanged { .. } => "severity_changed",
            Self::NoteAdded { .. } => "note_added",
            Self::LinkAdded { .. } => "link_added",
            Self::IncidentMitigated { .. } => "incident_mitigated",
            Self::IncidentClosing { .. } => "incident_closing",
            Self::IncidentClosed { .. } => "incident_closed",
            Self::UnprovenAsked { .. } => "unproven_asked",
            Self::IncidentClosedUnproven { .. } => "incident_closed_unproven",
            Self::IncidentReopened { .. } => "incident_reopened",
            Self::ChangeSeen { .. } => "change_seen",
            Self::ChangeJudged { .. } => "change_judged",
            Self::StatementHeld { .. } => "statement_held",
            Self::StatementReleased { .. } => "statement_released",
            Self::StatementSettled { .. } => "statement_settled",
            Self::ReviewOpened { .. } => "review_opened",
            Self::ReviewStarted { .. } => "review_started",
            Self::ReviewJudged { .. } => "review_judged",
            Self::ReviewDeferred { .. } => "review_deferred",
            Self::ActionAdded { .. } => "action_added",
            Self::ActionCompleted { .. } => "action_completed",
            Self::ReviewClosed { .. } => "review_closed",
            Self::ReviewOverdue { .. } => "review_overdue",
            Self::ChangeProposed { .. } => "change_proposed",
            Self::ChangeConfirmed { .. } => "change_confirmed",
            Self::ChangeRejected { .. } => "change_rejected",
            Self::ChangeApplied { .. } => "change_applied",
        }
    }
}

//! The review: somebody else looks back, blamelessly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EntitlementName, GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use crate::time::Time;

/// A look back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// What it is about.
    pub kind: ReviewKind,
    /// Which emergency; a standard grant's review has none.
    pub incident: Option<IncidentId>,
    /// The grant looked at.
    pub grant: Option<GrantId>,
    /// The request looked at.
    pub request: Option<RequestId>,
    /// The session whose recording is missing.
    pub session: Option<SessionId>,
    /// Whose act it is.
    pub person: PersonId,
    /// On what.
    pub entitlement: Option<EntitlementName>,
    /// When it was opened.
    pub opened_at: Time,
    /// When it is due.
    pub due_at: Time,
    /// Being overdue has been alerted.
    pub overdue_alerted: bool,
    /// Where it stands.
    pub state: ReviewState,
    /// Who took it up.
    pub reviewer: Option<PersonId>,
    /// What they found.
    pub judgement: Option<Judgement>,
    /// Put off, once.
    pub deferral: Option<Deferral>,
    /// What is to be done; lives on after judging.
    pub actions: Vec<Action>,
}

/// Kinds of review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewKind {
    /// After every emergency grant.
    PostUse,
    /// After a bypass.
    Bypass,
    /// After the second extension.
    ExtendedTwice,
    /// After automatic approval.
    RetroactiveApproval,
    /// After a drill.
    Drill,
    /// A recording or report is missing.
    AttestationGap,
}

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Waits for somebody.
    Due,
    /// Somebody is at it.
    InReview,
    /// Judged; actions may be open.
    Judged,
    /// Done.
    Closed,
}

/// Answers of a review. Each question has a field; a text is at most 4,000 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Who.
    pub by: PersonId,
    /// When.
    pub at: Time,
    /// What it was.
    pub classification: Classification,
    /// Was the procedure invoked correctly?
    pub invoked_correctly: bool,
    /// Was the grant wider than needed?
    pub too_wide: bool,
    /// Were approvals timely?
    pub approvals_timely: bool,
    /// What would prevent the next one?
    pub prevention: String,
    /// Anything else.
    pub note: String,
    /// Explains why there was no activity, where there was none.
    pub empty_activity_explained: Option<String>,
}

/// What an emergency was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    /// Real.
    GenuineEmergency,
    /// A rehearsal.
    Drill,
    /// Somebody should look closer.
    NeedsCloserLook,
}

/// A review put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// By whom.
    pub by: PersonId,
    /// Until when.
    pub until: Time,
    /// Why.
    pub reason: String,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What.
    pub what: String,
    /// By whom.
    pub owner: PersonId,
    /// Until when.
    pub due_at: Time,
    /// When it was done.
    pub done_at: Option<Time>,
}

/// The computed facts that stand beside the questions, by question.
pub type ComputedFacts = BTreeMap<String, String>;

//! What has to happen in the world because of events. Control performs them from its outbox, again until they are done.

use serde::{Deserialize, Serialize};

use crate::ids::{ChangeId, GrantId, IncidentId, Name, PersonId, RequestId, ReviewId, SessionId};
use crate::time::Time;

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// Begin activation, then tell the connector.
    Activate { grant: GrantId },
    /// Give the gateways the lease (again, with the new deadline).
    PushLease { grant: GrantId },
    /// Tell gateways to end it.
    RevokeLease { grant: GrantId, fencing: u64, reason: String },
    /// Tell the connector that it is over.
    Deactivate { grant: GrantId, fencing: u64 },
    /// Look at the target, not before that time.
    Look { grant: GrantId, fencing: u64, not_before: Time },
    /// Kill one session.
    KillSession { session: SessionId, gateway: Name, reason: String },
    /// Tell a gateway what a second person says of a held statement.
    ReleaseStatement {
        session: SessionId,
        gateway: Name,
        hold: u32,
        allow: bool,
        by: PersonId,
        reason: String,
    },
    /// Put a change into force, if that was not done in its commit.
    ApplyChange { change: ChangeId },
    /// Tell people.
    Alert(Alert),
}

/// Something that people must hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What kind; routes choose by it.
    pub kind: AlertKind,
    /// In a sentence.
    pub say: String,
    /// What it is about.
    pub request: Option<RequestId>,
    /// See above.
    pub grant: Option<GrantId>,
    /// See above.
    pub session: Option<SessionId>,
    /// See above.
    pub incident: Option<IncidentId>,
    /// See above.
    pub review: Option<ReviewId>,
    /// People who are told besides the routes.
    pub people: Vec<PersonId>,
}

/// Kinds of alert. Names in catalogs are these in kebab-case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// Somebody asks for emergency access.
    EmergencyRequested,
    /// Somebody's decision is wanted.
    DecisionWanted,
    /// A request was approved.
    Approved,
    /// A request was denied.
    Denied,
    /// A step has nobody who may approve it.
    ApprovalBlocked,
    /// Somebody goes in without waiting.
    Bypassed,
    /// Access is open.
    Active,
    /// Somebody is in for the first time.
    FirstSession,
    /// Access ends soon.
    BeforeDeadline,
    /// Access ended.
    Ended,
    /// The proof is late.
    RevocationLate,
    /// A look found the door open.
    RevocationFailed,
    /// It cannot be told whether the door is shut.
    RevocationUnknown,
    /// A review is due.
    ReviewDue,
    /// A review is overdue.
    ReviewOverdue,
    /// Somebody tried what they may not.
    UnauthorisedAttempt,
    /// A recording is lost.
    RecordingLost,
    /// An incident was opened, mitigated, closed or reopened.
    Incident,
    /// Something widened who may get in, or a factor changed; or somebody wants that.
    Widened,
    /// A recording was opened.
    Playback,
    /// A statement waits for a second person.
    StatementHeld,
    /// Somebody was at a system past the gateways, or a credential there had outlived its grant.
    Unexplained,
}

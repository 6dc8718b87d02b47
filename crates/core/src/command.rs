//! Everything that can be asked of the core. Time arrives as a command too ([`Command::Wake`]).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::{FactorKind, StatementClass};
use crate::change::ProposeChange;
use crate::ids::{
    ChangeId, EntitlementName, GrantId, IncidentId, Name, PersonId, RecordingId, RequestId, ReviewId,
    SessionId,
};
use crate::incident::ChangeFate;
use crate::proof::Evidence;
use crate::request::{Mode, Verdict};
use crate::review::Classification;
use crate::time::{Span, Time};

/// Who gives a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Actor {
    /// A person who has signed in.
    Person {
        /// Who.
        id: PersonId,
        /// The second factor used for this very act or within the freshness that the rules allow.
        factor: Option<FactorUse>,
        /// Signed in by an API token, which may never approve, ask in emergency, review or release.
        token: bool,
    },
    /// A gateway or connector, reporting.
    Node {
        /// Which.
        name: Name,
    },
    /// Time itself, and what control does by itself.
    Clock,
}

/// A second factor in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorUse {
    /// What kind.
    pub kind: FactorKind,
    /// When it was shown.
    pub at: Time,
    /// When it was enrolled; young factors do not approve.
    pub enrolled_at: Time,
    /// It was shown for this act alone, as approvals need.
    pub for_this_act: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Ask for an entitlement.
    FileRequest(Box<FileRequest>),
    /// Approve or deny, having seen that version.
    Decide { request: RequestId, verdict: Verdict, version: u32, reason: Option<String> },
    /// Take one's own approval back, until activation.
    TakeBack { request: RequestId },
    /// Take one's own request back.
    Withdraw { request: RequestId },
    /// Turn a request into a graver one.
    Escalate {
        request: RequestId,
        severity: Name,
        scenario: Name,
        criteria_confirmed: bool,
        incident: Option<IncidentId>,
        number: u64,
        reason: String,
    },
    /// Vouch for the severity of somebody else's request.
    AttestSeverity { request: RequestId },
    /// Go in without waiting; `confirmation` is the typed sentence.
    Bypass { request: RequestId, reason: String, confirmation: String },
    /// The connector is about to be told.
    BeginActivation { grant: GrantId },
    /// The connector has done it.
    ReportActivated { grant: GrantId, fencing: u64 },
    /// The connector could not.
    ReportActivationFailed { grant: GrantId, fencing: u64, reason: String },
    /// A gateway holds the lease.
    ReportLeaseHeld { grant: GrantId, fencing: u64, gateway: Name },
    /// A gateway has let go, and nothing is left.
    ReportLeaseEnded { grant: GrantId, fencing: u64, gateway: Name, sessions_ended: u32 },
    /// The connector has made it a tombstone.
    ReportDeactivated { grant: GrantId, fencing: u64, provable_at: Time },
    /// The connector has looked.
    ReportLooked { grant: GrantId, fencing: u64, evidence: Evidence },
    /// Ask for more time.
    Extend { grant: GrantId, duration: Span, reason: String },
    /// Be done.
    GiveBack { grant: GrantId },
    /// End somebody's access.
    Revoke { grant: GrantId, reason: String },
    /// Say that the proof is not needed (two people).
    WaiveProof { grant: GrantId, reason: String },
    /// The owner says that the target is gone.
    AttestTargetGone { grant: GrantId, reason: String },
    /// Keep a grant beyond mitigation.
    KeepGrant { grant: GrantId, until: Time, reason: String },
    /// A gateway opened a session.
    ReportSessionOpened {
        session: SessionId,
        grant: GrantId,
        gateway: Name,
        recording: RecordingId,
        client: String,
        login: String,
        at: Time,
    },
    /// A channel in it.
    ReportChannel { session: SessionId, kind: String, detail: String },
    /// Something that it changed (a file moved, …).
    ReportChange { session: SessionId, what: String },
    /// A statement in it waits for a second person.
    ReportStatementHeld {
        session: SessionId,
        hold: u32,
        class: StatementClass,
        sha256: String,
        text: String,
        parameters: Option<String>,
        at: Time,
        until: Time,
    },
    /// It waits no more.
    ReportStatementSettled { session: SessionId, hold: u32, allowed: bool, by: String, reason: String },
    /// Let a held statement pass, or not.
    ReleaseStatement { session: SessionId, hold: u32, allow: bool, reason: String },
    /// It ended.
    ReportSessionEnded { session: SessionId, reason: String, at: Time },
    /// Its recording is finished.
    ReportRecordingFinished {
        session: SessionId,
        bytes: u64,
        frames: u64,
        sha256: String,
        chain_head: String,
        complete: bool,
    },
    /// Its recording is in the store, hash read back.
    ReportRecordingStored { session: SessionId, sha256: String },
    /// Its recording will never come.
    ReportRecordingLost { session: SessionId, reason: String },
    /// Say that the absence of a recording is explained (two people).
    WaiveGap { session: SessionId, reason: String },
    /// Somebody tried what they may not.
    ReportRefused { person: Option<PersonId>, what: String, client: String, reason: String },
    /// A connector found at a system what no session explains.
    ReportUnexplained { grant: Option<GrantId>, system: Name, what: String },
    /// Kill one session.
    TerminateSession { session: SessionId, reason: String },
    /// Open an incident.
    OpenIncident { title: String, severity: Name, scenario: Option<Name>, link: Option<String>, number: u64 },
    /// Change its severity.
    ChangeSeverity { incident: IncidentId, severity: Name, reason: String },
    /// Say something.
    AddNote { incident: IncidentId, text: String },
    /// Link the outside ticket.
    AddLink { incident: IncidentId, link: String },
    /// The harm is over: all its grants end.
    Mitigate { incident: IncidentId },
    /// Close it, if nothing blocks.
    CloseIncident { incident: IncidentId },
    /// End it without proof (two people).
    CloseUnproven { incident: IncidentId, reason: String },
    /// Open it again.
    Reopen { incident: IncidentId, reason: String },
    /// Say what became of a change.
    JudgeChange { incident: IncidentId, change: u32, fate: ChangeFate, note: String },
    /// Take a review up.
    StartReview { review: ReviewId },
    /// Judge it.
    JudgeReview { review: ReviewId, answers: Answers },
    /// Put it off.
    DeferReview { review: ReviewId, until: Time, reason: String },
    /// Add something to do.
    AddAction { review: ReviewId, what: String, owner: PersonId, due_at: Time },
    /// It is done.
    CompleteAction { review: ReviewId, action: u32 },
    /// A recording was played, watched, searched or exported.
    RecordPlayback { session: SessionId, how: String },
    /// Change the catalog, a factor, a person, …; widening ones wait for a second person.
    ProposeChange(Box<ProposeChange>),
    /// Agree to a change, having seen what that digest is of.
    ConfirmChange { change: ChangeId, digest: String },
    /// Say no to a change, or take one's own back.
    RejectChange { change: ChangeId, reason: String },
    /// Time has come for something.
    Wake(Due),
}

/// What time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "due", content = "id")]
pub enum Due {
    /// A request: timers, lapse, bypass.
    Request(RequestId),
    /// A grant: activation, deadline, look, lateness.
    Grant(GrantId),
    /// A review: overdue.
    Review(ReviewId),
    /// A change: nobody confirmed it in time.
    Change(ChangeId),
}

/// See [`Command::FileRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRequest {
    /// Who will use it; the requester if not somebody else.
    pub beneficiary: PersonId,
    /// What for.
    pub entitlement: EntitlementName,
    /// Standard or emergency.
    pub mode: Mode,
    /// How grave; needed in an emergency.
    pub severity: Option<Name>,
    /// An alert source that the requester cannot write to names the same severity for this incident.
    pub severity_attested: bool,
    /// What kind of emergency; needed in an emergency.
    pub scenario: Option<Name>,
    /// The requester confirms every criterion of the scenario.
    pub criteria_confirmed: bool,
    /// Which emergency; one is opened if none is given.
    pub incident: Option<IncidentId>,
    /// The number that a new incident would get.
    pub incident_number: u64,
    /// Why.
    pub reason: String,
    /// The outside ticket.
    pub link: Option<String>,
    /// Why a lower step of the ladder is not enough.
    pub why_not_lower: Option<String>,
    /// For how long; the entitlement's default if not said.
    pub duration: Option<Span>,
    /// Filed together with others.
    pub batch: Option<crate::ids::BatchId>,
}

/// Answers of a review as the reviewer gives them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
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
    #[serde(default)]
    pub note: String,
    /// Explains why there was no activity, where there was none.
    #[serde(default)]
    pub empty_activity_explained: Option<String>,
}

/// A document that a command needs to see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum DocumentRef {
    /// A request.
    Request(RequestId),
    /// A grant.
    Grant(GrantId),
    /// A session.
    Session(SessionId),
    /// An incident.
    Incident(IncidentId),
    /// A review.
    Review(ReviewId),
    /// A person's standing.
    Standing(PersonId),
    /// A change that waits for a second person, or did.
    Change(ChangeId),
}

/// What [`needs`](crate::world::needs) asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A document, or the knowledge that there is none.
    Document(DocumentRef),
    /// An entitlement with its system.
    Entitlement(EntitlementName),
}

/// A set of people.
pub type People = BTreeSet<PersonId>;

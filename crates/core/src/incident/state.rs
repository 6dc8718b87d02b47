//! The incident: what groups one emergency, and what still keeps it from being closed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{GrantId, IncidentId, Name, PersonId, RequestId, ReviewId, SessionId};
use crate::time::Time;

/// One emergency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// Its number: people say `INC-7`.
    pub number: u64,
    /// What it is about.
    pub title: String,
    /// How grave.
    pub severity: Name,
    /// What kind of emergency.
    pub scenario: Option<Name>,
    /// Who opened it.
    pub opened_by: PersonId,
    /// When.
    pub opened_at: Time,
    /// Where it stands.
    pub state: IncidentState,
    /// Outside tickets.
    pub links: BTreeSet<String>,
    /// Everybody who acted in it, and how. They do not review it.
    pub parties: BTreeMap<PersonId, BTreeSet<Part>>,
    /// Requests that wait for a decision.
    pub pending_requests: BTreeSet<RequestId>,
    /// Grants; true once nothing more is owed.
    pub grants: BTreeMap<GrantId, bool>,
    /// Sessions that have not ended.
    pub open_sessions: BTreeSet<SessionId>,
    /// Sessions whose recording is not in the store yet.
    pub unstored_recordings: BTreeSet<SessionId>,
    /// How many sessions there were.
    pub sessions: u32,
    /// Reviews; true once judged or deferred.
    pub reviews: BTreeMap<ReviewId, bool>,
    /// What was changed, and what an owner made of it.
    pub changes: Vec<Change>,
    /// Notes, in order.
    pub notes: Vec<Note>,
    /// When it was mitigated.
    pub mitigated_at: Option<Time>,
    /// When it was closed.
    pub closed_at: Option<Time>,
    /// People who end it unproven (two are needed), with their reasons.
    pub unproven: BTreeMap<PersonId, String>,
    /// Evidence still missing from a node that was cut off.
    pub attestation_gaps: BTreeSet<SessionId>,
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Going on.
    Open,
    /// The harm is over; access is being ended.
    Mitigated,
    /// Somebody wants to close it; something blocks.
    Closing,
    /// Closed.
    Closed,
    /// Ended by two people without proof.
    ClosedUnproven,
}

/// How somebody acted in an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Opened it.
    Opener,
    /// Asked for access.
    Requester,
    /// Had access.
    Beneficiary,
    /// Decided a request.
    Approver,
    /// Bypassed approval.
    Bypasser,
    /// Ended something: revoked, killed, mitigated.
    Ender,
    /// Waived a proof or a gap.
    Waiver,
    /// Vouched for a severity.
    Attestor,
    /// Led it: changed its severity, kept a grant.
    Lead,
    /// Let a held statement pass, or did not.
    Releaser,
}

/// Something that a session changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which session.
    pub session: SessionId,
    /// What, in a line.
    pub what: String,
    /// What an owner made of it.
    pub judged: Option<ChangeJudgement>,
}

/// What an owner made of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeJudgement {
    /// Who.
    pub by: PersonId,
    /// When.
    pub at: Time,
    /// What became of it.
    pub fate: ChangeFate,
    /// In their words.
    pub note: String,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeFate {
    /// It stays.
    Kept,
    /// It was put right.
    Corrected,
    /// It was undone.
    RolledBack,
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    pub by: PersonId,
    /// When.
    pub at: Time,
    /// What.
    pub text: String,
}

/// What keeps an incident from being closed, in words for people.
pub fn blockers(incident: &Incident) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |count: usize, one: &str, many: &str| {
        if count == 1 {
            found.push(one.to_owned());
        } else if count > 1 {
            found.push(format!("{count} {many}"));
        }
    };
    say(incident.pending_requests.len(), "1 request waits for a decision", "requests wait for a decision");
    let unproved = incident.grants.values().filter(|settled| !**settled).count();
    say(unproved, "1 grant has no revocation proof", "grants have no revocation proof");
    say(incident.open_sessions.len(), "1 session has not ended", "sessions have not ended");
    let unstored = incident.unstored_recordings.len();
    say(unstored, "1 recording has not been verified", "recordings have not been verified");
    let unjudged = incident.reviews.values().filter(|done| !**done).count();
    say(unjudged, "1 review is not judged", "reviews are not judged");
    let changes = incident.changes.iter().filter(|change| change.judged.is_none()).count();
    say(changes, "1 change has not been judged by an owner", "changes have not been judged by an owner");
    found
}

//! What the invariants remember, from the events alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Violation, holds};
use crate::command::{Actor, Command, DocumentRef};
use crate::event::Event;
use crate::grant::GrantState;
use crate::ids::{EntitlementName, GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use crate::request::{Mode, RequestState, Verdict};
use crate::review::ReviewKind;
use crate::time::Time;

/// An approval as it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub person: PersonId,
    pub at: Time,
    pub factor: Option<crate::catalog::FactorKind>,
}

/// A grant as the invariants know it.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub person: PersonId,
    pub entitlement: EntitlementName,
    pub incident: Option<IncidentId>,
    pub request: RequestId,
    pub activate_by: Time,
    pub duration: crate::time::Span,
    pub new_total: bool,
    pub from: Option<Time>,
    pub deadline: Option<Time>,
    pub ended: Option<Time>,
    pub over: bool,
    pub fencing: u64,
    pub proven: bool,
    /// The latest deadline that was ever promised.
    pub latest: Time,
}

/// The books.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub approvals: BTreeMap<RequestId, Vec<Given>>,
    pub denied: Vec<(PersonId, EntitlementName, Time)>,
    pub automatic: Vec<(PersonId, Time)>,
    pub attested: BTreeMap<RequestId, PersonId>,
    pub asked_bypass: BTreeMap<RequestId, (Time, bool)>,
    pub open_bypass_reviews: BTreeMap<PersonId, BTreeSet<ReviewId>>,
    pub access: BTreeMap<GrantId, Access>,
    pub groups: Vec<super::totals::Group>,
    pub parties: BTreeMap<IncidentId, BTreeSet<PersonId>>,
    pub waivers: BTreeMap<GrantId, BTreeSet<PersonId>>,
    pub deferred: BTreeSet<ReviewId>,
    pub unproven: BTreeMap<IncidentId, BTreeSet<PersonId>>,
    pub request_states: BTreeMap<RequestId, RequestState>,
    pub grant_states: BTreeMap<GrantId, GrantState>,
    /// The last statement that was held, by session.
    pub held: BTreeMap<SessionId, u32>,
    /// Held statements that somebody allowed.
    pub released: BTreeSet<(SessionId, u32)>,
}

impl Books {
    /// Takes the event in, after it has been checked.
    pub fn enter(&mut self, entry: &Entry<'_>, event: &Event) {
        match event {
            Event::RequestFiled { request } => {
                for person in [&request.requester, &request.beneficiary] {
                    self.party(request.incident, person);
                }
            }
            Event::StatementHeld { session, hold, .. } => {
                self.held.insert(*session, *hold);
            }
            Event::StatementReleased { session, hold, answer } => {
                let incident = entry.world.sessions.get(session).and_then(|found| found.incident);
                self.party(incident, &answer.by);
                if answer.allow {
                    self.released.insert((*session, *hold));
                }
            }
            Event::Escalated { to, .. } => {
                for person in [&to.requester, &to.beneficiary] {
                    self.party(to.incident, person);
                }
                let decided: Vec<PersonId> =
                    to.decisions.iter().map(|decision| decision.person.clone()).collect();
                for person in decided {
                    self.party(to.incident, &person);
                }
                self.asked_bypass.remove(&to.id);
                let kept: BTreeSet<&PersonId> = to
                    .decisions
                    .iter()
                    .filter(|decision| !decision.void)
                    .map(|decision| &decision.person)
                    .collect();
                if let Some(given) = self.approvals.get_mut(&to.id) {
                    given.retain(|given| kept.contains(&given.person));
                }
            }
            Event::Decided { request, decision } if decision.verdict == Verdict::Approve => {
                let given =
                    Given { person: decision.person.clone(), at: decision.at, factor: decision.factor };
                self.approvals.entry(*request).or_default().push(given);
            }
            Event::DecisionVoided { request, person, .. } => {
                if let Some(given) = self.approvals.get_mut(request) {
                    given.retain(|given| given.person != *person);
                }
            }
            Event::RequestDenied { entitlement, requester, .. } => {
                self.denied.push((requester.clone(), entitlement.clone(), entry.at));
            }
            Event::SeverityAttested { request, by, .. } => {
                self.attested.insert(*request, by.clone());
            }
            Event::RequestApproved { request, automatic: true, .. } => {
                if let Some(found) = entry.world.requests.get(request) {
                    self.automatic.push((found.beneficiary.clone(), entry.at));
                }
            }
            Event::BypassAsked { request, person, .. } => {
                let waits = self.open_bypass_reviews.get(person).is_some_and(|open| !open.is_empty());
                self.asked_bypass.insert(*request, (entry.at, waits));
            }
            Event::ReviewOpened { review } if review.kind == ReviewKind::Bypass => {
                self.open_bypass_reviews.entry(review.person.clone()).or_default().insert(review.id);
            }
            Event::ReviewJudged { review, .. } => {
                self.open_bypass_reviews.values_mut().for_each(|open| {
                    open.remove(review);
                });
            }
            Event::ReviewDeferred { review, .. } => {
                self.deferred.insert(*review);
            }
            Event::ProofWaived { grant, person, .. } => {
                self.waivers.entry(*grant).or_default().insert(person.clone());
            }
            Event::UnprovenAsked { incident, person, .. } => {
                self.unproven.entry(*incident).or_default().insert(person.clone());
            }
            Event::IncidentReopened { incident, .. } => {
                self.unproven.remove(incident);
            }
            _ => {}
        }
        self.enter_access(event);
        // Whoever gave the command acted in its incident, other than by reviewing, noting or closing.
        let acted = !matches!(
            entry.command,
            Command::StartReview { .. }
                | Command::JudgeReview { .. }
                | Command::DeferReview { .. }
                | Command::AddAction { .. }
                | Command::CompleteAction { .. }
                | Command::CloseIncident { .. }
                | Command::CloseUnproven { .. }
                | Command::Reopen { .. }
                | Command::AddNote { .. }
                | Command::AddLink { .. }
                | Command::JudgeChange { .. }
                | Command::RecordPlayback { .. }
                | Command::TakeBack { .. }
                | Command::Withdraw { .. }
        );
        if let (true, Some(person)) = (acted, entry.person().cloned()) {
            for incident in incidents(entry) {
                self.party(Some(incident), &person);
            }
        }
    }

    fn party(&mut self, incident: Option<IncidentId>, person: &PersonId) {
        if let Some(incident) = incident {
            self.parties.entry(incident).or_default().insert(person.clone());
        }
    }

    /// Rule 13: tokens only do what is everyday or reduces; who has left does nothing.
    pub fn tokens_and_leavers(&self, entry: &Entry<'_>) -> Result<(), Violation> {
        let Actor::Person { id, token, .. } = entry.actor else { return Ok(()) };
        let here = entry.organisation.catalog.people.get(id).is_some_and(|person| !person.left);
        holds("rule 13", here, || format!("{id} has left and still acts: {:?}", entry.command))?;
        let harmless = match entry.command {
            Command::FileRequest(file) => file.mode == Mode::Standard,
            Command::Decide { verdict, .. } => *verdict == Verdict::Deny,
            Command::TakeBack { .. }
            | Command::Withdraw { .. }
            | Command::GiveBack { .. }
            | Command::Revoke { .. }
            | Command::TerminateSession { .. }
            | Command::AddNote { .. }
            | Command::AddLink { .. }
            | Command::Mitigate { .. }
            | Command::RejectChange { .. }
            | Command::CompleteAction { .. } => true,
            _ => false,
        };
        holds("rule 13", !token || harmless, || format!("an API token was enough for {:?}", entry.command))
    }

    /// One command touches at most one incident.
    pub fn one_incident(&self, entry: &Entry<'_>) -> Result<(), Violation> {
        let touched = entry.changed.iter().filter(|document| matches!(document, DocumentRef::Incident(_)));
        holds("rule 9", touched.count() <= 1, || format!("{:?} touched two incidents", entry.command))
    }

    /// Rule 12: the same machines for all, and no step left out.
    pub fn states(&mut self, entry: &Entry<'_>) -> Result<(), Violation> {
        for document in entry.changed {
            match document {
                DocumentRef::Request(id) => {
                    let Some(now) = entry.world.requests.get(id).map(|found| found.state) else { continue };
                    let was = self.request_states.insert(*id, now);
                    use RequestState::{Approved, Denied, Lapsed, Pending, Withdrawn};
                    let legal = matches!(
                        (was, now),
                        (None, Pending | Approved)
                            | (Some(Pending), Pending | Approved | Denied | Withdrawn | Lapsed)
                            | (Some(Approved), Approved | Pending | Lapsed)
                    ) || was == Some(now);
                    holds("rule 12", legal, || format!("request {id} went from {was:?} to {now:?}"))?;
                }
                DocumentRef::Grant(id) => {
                    let Some(now) = entry.world.grants.get(id).map(|found| found.state) else { continue };
                    let was = self.grant_states.insert(*id, now);
                    use GrantState::{
                        Activating, ActivationFailed, Active, Cancelled, RevocationFailed, Revoked, Revoking,
                        Scheduled,
                    };
                    let legal = matches!(
                        (was, now),
                        (None, Scheduled)
                            | (Some(Scheduled), Activating | Cancelled)
                            | (Some(Activating), Active | ActivationFailed | Revoking)
                            | (Some(Active), Revoking)
                            | (Some(Revoking | ActivationFailed), Revoked | RevocationFailed)
                            | (Some(RevocationFailed), Revoked)
                    ) || was == Some(now);
                    holds("rule 12", legal, || format!("grant {id} went from {was:?} to {now:?}"))?;
                }
                _ => {}
            }
        }
        for event in entry.events {
            if let Event::GrantScheduled { grant } = event {
                let approved = entry.events.iter().any(
                    |other| matches!(other, Event::RequestApproved { request, .. } if *request == grant.request),
                );
                holds("rule 12", approved, || {
                    format!("grant {} exists without an approved request", grant.id)
                })?;
            }
        }
        Ok(())
    }

    /// After the commit.
    pub fn seen(&mut self, _: &Entry<'_>) {
        self.automatic.truncate(2000);
        self.denied.truncate(2000);
    }
}

/// The incident that a commit is about.
pub(super) fn incidents(entry: &Entry<'_>) -> Vec<IncidentId> {
    let touched = entry.changed.iter().filter_map(|document| match document {
        DocumentRef::Incident(id) => Some(*id),
        _ => None,
    });
    touched.collect()
}

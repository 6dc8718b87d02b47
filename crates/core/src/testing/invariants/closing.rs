//! Rules 9, 10 and 11: closing, reviewing, and changing Halligan itself.

use std::collections::BTreeSet;

use super::approvals::{officer, opened};
use super::books::{Books, incidents};
use super::{Entry, Violation, holds};
use crate::catalog::OfficeName;
use crate::change::ChangeSubject;
use crate::command::{Command, DocumentRef};
use crate::event::Event;
use crate::grant::{Grant, GrantState, ProofOutcome};
use crate::ids::{GrantId, IncidentId, PersonId};
use crate::incident::IncidentState;
use crate::request::{Mode, RequestState};
use crate::review::ReviewKind;
use crate::session::RecordingState;
use crate::time::Span;
use crate::world::World;

impl Books {
    /// Rule 10, and what rule 9 says of deferring.
    pub fn reviews(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::GrantEnded { grant, .. } => {
                let emergency =
                    entry.world.grants.get(grant).is_some_and(|found| found.mode == Mode::Emergency);
                let reviewed = opened(entry)
                    .any(|review| review.kind == ReviewKind::PostUse && review.grant == Some(*grant));
                holds("rule 10", reviewed || !emergency, || {
                    format!("the use of grant {grant} is not reviewed")
                })
            }
            Event::ReviewJudged { review, judgement } => {
                let Some(found) = entry.world.reviews.get(review) else { return Ok(()) };
                let acted = found.incident.and_then(|id| self.parties.get(&id));
                let mut of_access = BTreeSet::from([found.person.clone()]);
                for request in entry.world.requests.values() {
                    let of_grant = found.grant.is_some_and(|grant| {
                        request.extends == Some(grant)
                            || entry.world.grants.get(&grant).is_some_and(|grant| grant.request == request.id)
                    });
                    let approved_extension =
                        request.state == RequestState::Approved || request.extends.is_none();
                    if (found.request == Some(request.id) || of_grant) && approved_extension {
                        of_access.extend([request.requester.clone(), request.beneficiary.clone()]);
                        of_access.extend(request.decisions.iter().map(|decision| decision.person.clone()));
                    }
                }
                let by = &judgement.by;
                let party = of_access.contains(by) || acted.is_some_and(|acted| acted.contains(by));
                holds("rule 10", !party, || format!("{by} took part and judged review {review}"))?;
                let unused = found
                    .grant
                    .is_some_and(|grant| entry.world.sessions.values().all(|session| session.grant != grant));
                let explained =
                    judgement.empty_activity_explained.as_ref().is_some_and(|words| !words.trim().is_empty());
                holds("rule 10", !unused || explained, || format!("review {review} passes an empty log"))
            }
            Event::ReviewDeferred { review, deferral } => {
                let Some(found) = entry.world.reviews.get(review) else { return Ok(()) };
                let party = found
                    .incident
                    .and_then(|id| self.parties.get(&id))
                    .is_some_and(|acted| acted.contains(&deferral.by));
                let in_time = deferral.until <= entry.at.plus(Span::days(30));
                let once = !self.deferred.contains(review);
                let office = officer(entry, &deferral.by, OfficeName::SecurityOfficer);
                holds("rule 9", !party && in_time && once && office, || {
                    format!("{} put review {review} off", deferral.by)
                })
            }
            _ => Ok(()),
        }
    }

    /// Rule 9: mitigating, waiving, ending unproven.
    pub fn closing(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::IncidentMitigated { incident, .. } => {
                let left = entry.world.grants.values().find(|grant| {
                    grant.incident == Some(*incident)
                        && matches!(
                            grant.state,
                            GrantState::Scheduled | GrantState::Activating | GrantState::Active
                        )
                        && grant.kept.as_ref().is_none_or(|kept| kept.until <= entry.at)
                });
                holds("rule 9", left.is_none(), || {
                    format!("{incident} is mitigated and {:?} goes on", left.map(|grant| grant.id))
                })
            }
            Event::GrantRevoked { grant, outcome: ProofOutcome::Waived { .. } } => {
                let waivers = self.waivers.get(grant).cloned().unwrap_or_default();
                let parties = parties_of(entry.world, *grant);
                let two = waivers.len() >= 2 && waivers.is_disjoint(&parties);
                holds("rule 9", two, || format!("{waivers:?} waived the proof of grant {grant}"))
            }
            Event::GrantRevoked { grant, outcome: ProofOutcome::Proven { .. } } => {
                let Some(found) = entry.world.grants.get(grant) else { return Ok(()) };
                let sound = found.deactivated
                    && found.open_sessions.is_empty()
                    && found.gateways.values().all(|gone| *gone);
                holds("rule 9", sound, || format!("grant {grant} is proved with something left open"))
            }
            Event::IncidentClosedUnproven { incident, .. } => {
                let people = self.unproven.get(incident).cloned().unwrap_or_default();
                let acted = self.parties.get(incident).cloned().unwrap_or_default();
                holds("rule 9", people.len() >= 2 && people.is_disjoint(&acted), || {
                    format!("{people:?} ended {incident} unproven")
                })?;
                let open = entry
                    .world
                    .grants
                    .values()
                    .any(|grant| grant.incident == Some(*incident) && going_on(grant));
                holds("rule 9", !open, || format!("{incident} was ended with access open"))
            }
            Event::ChangeJudged { incident, change, judgement } => {
                let found =
                    entry.world.incidents.get(incident).and_then(|found| found.changes.get(*change as usize));
                let own = found
                    .and_then(|change| entry.world.sessions.get(&change.session))
                    .is_some_and(|session| session.person == judgement.by);
                holds("rule 9", !own, || format!("{} judged their own change", judgement.by))
            }
            _ => Ok(()),
        }
    }

    /// Rule 9: as long as an incident is closed, nothing of it is open. Looks at the documents, not at its counters.
    pub fn closed(&self, entry: &Entry<'_>) -> Result<(), Violation> {
        for id in incidents(entry) {
            let state = entry.world.incidents.get(&id).map(|found| found.state);
            if state == Some(IncidentState::Closed) {
                self.nothing_open(entry, id)?;
            }
        }
        for document in entry.changed {
            let about = match document {
                DocumentRef::Grant(id) => entry.world.grants.get(id).and_then(|found| found.incident),
                DocumentRef::Request(id) => entry.world.requests.get(id).and_then(|found| found.incident),
                DocumentRef::Session(id) => entry.world.sessions.get(id).and_then(|found| found.incident),
                DocumentRef::Review(id) => entry.world.reviews.get(id).and_then(|found| found.incident),
                _ => None,
            };
            let closed = about.and_then(|id| entry.world.incidents.get(&id));
            if let Some(found) = closed.filter(|found| found.state == IncidentState::Closed) {
                self.nothing_open(entry, found.id)?;
            }
        }
        Ok(())
    }

    fn nothing_open(&self, entry: &Entry<'_>, id: IncidentId) -> Result<(), Violation> {
        let world = entry.world;
        let broken = |what: String| Err(Violation::new("rule 9", format!("{id} is closed, and {what}")));
        for request in world.requests.values().filter(|request| request.incident == Some(id)) {
            if request.state == RequestState::Pending {
                return broken(format!("request {} waits", request.id));
            }
        }
        for grant in world.grants.values().filter(|grant| grant.incident == Some(id)) {
            if !grant.state.settled() {
                return broken(format!("grant {} has no proof", grant.id));
            }
        }
        for session in world.sessions.values().filter(|session| session.incident == Some(id)) {
            if session.ended_at.is_none() {
                return broken(format!("session {} goes on", session.id));
            }
            let acted = self.parties.get(&id).cloned().unwrap_or_default();
            let waived = session.gap_waivers.len() >= 2
                && session.gap_waivers.keys().filter(|person| !acted.contains(*person)).count() + 2
                    >= session.gap_waivers.len();
            if session.recording.state != RecordingState::Stored && !waived {
                return broken(format!("the recording of session {} is not there", session.id));
            }
        }
        for review in world.reviews.values().filter(|review| review.incident == Some(id)) {
            if review.judgement.is_none() && review.deferral.is_none() {
                return broken(format!("review {} is not judged", review.id));
            }
        }
        let changes = world.incidents.get(&id).map(|found| found.changes.as_slice()).unwrap_or_default();
        match changes.iter().position(|change| change.judged.is_none()) {
            Some(change) => broken(format!("change {change} has no judgement")),
            None => Ok(()),
        }
    }

    /// Rule 11.
    pub fn changes(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        let Event::ChangeApplied { change, alone, .. } = event else { return Ok(()) };
        let Some(found) = entry.world.changes.get(change) else { return Ok(()) };
        let widening = found.widening || found.subject == ChangeSubject::Factor;
        if !widening {
            return Ok(());
        }
        let second = match entry.command {
            Command::ConfirmChange { .. } => entry.person(),
            _ => None,
        };
        let by_two =
            second.is_some_and(|person| *person != found.proposed_by && Some(person) != found.about.as_ref());
        let nobody_else = match entry.command {
            Command::ProposeChange(ask) => !ask.able.iter().any(|person| {
                let here = entry.organisation.catalog.people.get(person).is_some_and(|found| !found.left);
                here && *person != found.proposed_by && Some(person) != found.about.as_ref()
            }),
            _ => false,
        };
        holds("rule 11", by_two || (nobody_else && *alone), || {
            format!("{} widened Halligan alone ({change})", found.proposed_by)
        })
    }
}

fn going_on(grant: &Grant) -> bool {
    matches!(grant.state, GrantState::Scheduled | GrantState::Activating | GrantState::Active)
}

/// Everybody of a grant.
fn parties_of(world: &World, id: GrantId) -> BTreeSet<PersonId> {
    let Some(grant) = world.grants.get(&id) else { return BTreeSet::new() };
    let requests = std::iter::once(&grant.request).chain(&grant.extended_by);
    let mut people = BTreeSet::from([grant.person.clone()]);
    for request in requests.filter_map(|id| world.requests.get(id)) {
        people.extend([request.requester.clone(), request.beneficiary.clone()]);
        people.extend(request.decisions.iter().map(|decision| decision.person.clone()));
    }
    people
}

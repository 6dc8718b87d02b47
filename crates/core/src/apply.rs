//! Turns events into documents. It takes every event that `decide` ever made, asks nothing and refuses nothing.

use crate::command::DocumentRef;
use crate::event::Event;
use crate::grant::{Grant, GrantState, merge};
use crate::ids::IncidentId;
use crate::incident::{Change, Incident, IncidentState};
use crate::request::{RequestState, Verdict};
use crate::review::{ReviewKind, ReviewState};
use crate::session::RecordingState;
use crate::standing::{Standing, Use};
use crate::time::{Span, Time};
use crate::world::World;

/// Applies one event that happened at `at` and notes in `world.changed` which documents it touched.
pub fn apply(world: &mut World, event: &Event, at: Time) {
    match event {
        Event::RequestFiled { .. }
        | Event::Decided { .. }
        | Event::DecisionVoided { .. }
        | Event::Escalated { .. }
        | Event::StepMoved { .. }
        | Event::StepBlocked { .. }
        | Event::BypassAsked { .. }
        | Event::BypassTookEffect { .. }
        | Event::RequestApproved { .. }
        | Event::RequestDenied { .. }
        | Event::RequestWithdrawn { .. }
        | Event::RequestLapsed { .. }
        | Event::RequestReopened { .. } => requests(world, event),
        Event::GrantScheduled { .. }
        | Event::GrantActivating { .. }
        | Event::GrantActivated { .. }
        | Event::GrantActivationFailed { .. }
        | Event::GrantCancelled { .. }
        | Event::LeaseHeld { .. }
        | Event::LeaseEnded { .. }
        | Event::GrantExtended { .. }
        | Event::GrantEnded { .. }
        | Event::GrantDeactivated { .. }
        | Event::GrantLooked { .. }
        | Event::DeadlineNear { .. }
        | Event::LookAsked { .. }
        | Event::RevocationFailed { .. }
        | Event::RevocationLate { .. }
        | Event::GrantRevoked { .. }
        | Event::ProofWaived { .. }
        | Event::GrantKept { .. } => grants(world, event, at),
        Event::SessionOpened { .. }
        | Event::ChannelOpened { .. }
        | Event::SessionEnded { .. }
        | Event::RecordingFinished { .. }
        | Event::RecordingStored { .. }
        | Event::RecordingLost { .. }
        | Event::GapWaived { .. }
        | Event::RecordingPlayed { .. }
        | Event::SessionTerminated { .. }
        | Event::AttemptRefused { .. } => sessions(world, event),
        Event::IncidentOpened { .. }
        | Event::PartTaken { .. }
        | Event::SeverityChanged { .. }
        | Event::NoteAdded { .. }
        | Event::LinkAdded { .. }
        | Event::IncidentMitigated { .. }
        | Event::IncidentClosing { .. }
        | Event::IncidentClosed { .. }
        | Event::UnprovenAsked { .. }
        | Event::IncidentClosedUnproven { .. }
        | Event::IncidentReopened { .. }
        | Event::ChangeSeen { .. }
        | Event::ChangeJudged { .. } => incidents(world, event),
        Event::ReviewOpened { .. }
        | Event::ReviewStarted { .. }
        | Event::ReviewJudged { .. }
        | Event::ReviewDeferred { .. }
        | Event::ActionAdded { .. }
        | Event::ActionCompleted { .. }
        | Event::ReviewClosed { .. }
        | Event::ReviewOverdue { .. } => reviews(world, event),
    }
}

fn change_incident(world: &mut World, id: Option<IncidentId>, change: impl FnOnce(&mut Incident)) {
    if let Some(id) = id
        && let Some(incident) = world.incident_mut(id)
    {
        change(incident);
        world.changed.insert(DocumentRef::Incident(id));
    }
}

fn change_standing(world: &mut World, person: &crate::ids::PersonId, change: impl FnOnce(&mut Standing)) {
    let standing = world.standings.entry(person.clone()).or_insert_with(|| Standing::new(person.clone()));
    change(standing);
    world.changed.insert(DocumentRef::Standing(person.clone()));
}

fn requests(world: &mut World, event: &Event) {
    let id = match event {
        Event::RequestFiled { request } => {
            let id = request.id;
            world.requests.insert(id, (**request).clone());
            world.changed.insert(DocumentRef::Request(id));
            change_incident(world, request.incident, |incident| {
                incident.pending_requests.insert(id);
                incident.links.extend(request.link.clone());
            });
            return;
        }
        Event::Escalated { request: id, to, .. } => {
            world.requests.insert(*id, (**to).clone());
            world.changed.insert(DocumentRef::Request(*id));
            change_incident(world, to.incident, |incident| {
                incident.pending_requests.insert(*id);
            });
            return;
        }
        Event::Decided { request, .. }
        | Event::DecisionVoided { request, .. }
        | Event::StepMoved { request, .. }
        | Event::StepBlocked { request, .. }
        | Event::BypassAsked { request, .. }
        | Event::BypassTookEffect { request }
        | Event::RequestApproved { request, .. }
        | Event::RequestDenied { request, .. }
        | Event::RequestWithdrawn { request }
        | Event::RequestLapsed { request }
        | Event::RequestReopened { request, .. } => *request,
        _ => return,
    };
    let Some(request) = world.request_mut(id) else { return };
    let incident = request.incident;
    let mut pending = None;
    match event {
        Event::Decided { decision, .. } => request.decisions.push(decision.clone()),
        Event::DecisionVoided { person, .. } => {
            for decision in request.decisions.iter_mut().filter(|decision| decision.person == *person) {
                decision.void = true;
            }
        }
        Event::StepMoved { step, approvers, .. } => {
            if let Some(step) = request.steps.get_mut(*step as usize) {
                step.approvers = approvers.clone();
                step.timer_done = true;
            }
        }
        Event::StepBlocked { step, blocked, .. } => {
            if let Some(step) = request.steps.get_mut(*step as usize) {
                step.blocked = *blocked;
            }
        }
        Event::BypassAsked { bypass, .. } => request.bypass = Some(bypass.clone()),
        Event::BypassTookEffect { .. } => {
            if let Some(bypass) = &mut request.bypass {
                bypass.in_effect = true;
            }
        }
        Event::RequestApproved { automatic, .. } => {
            request.state = RequestState::Approved;
            request.automatic = *automatic;
            pending = Some(false);
        }
        Event::RequestDenied { .. } => {
            request.state = RequestState::Denied;
            pending = Some(false);
        }
        Event::RequestWithdrawn { .. } => {
            request.state = RequestState::Withdrawn;
            pending = Some(false);
        }
        Event::RequestLapsed { .. } => {
            request.state = RequestState::Lapsed;
            pending = Some(false);
        }
        Event::RequestReopened { lapses_at, .. } => {
            request.state = RequestState::Pending;
            request.lapses_at = *lapses_at;
            request.grant = None;
            pending = Some(true);
        }
        _ => {}
    }
    let beneficiary = request.beneficiary.clone();
    world.changed.insert(DocumentRef::Request(id));
    if let Some(pending) = pending {
        change_incident(world, incident, |incident| {
            if pending {
                incident.pending_requests.insert(id);
            } else {
                incident.pending_requests.remove(&id);
            }
        });
    }
    match event {
        Event::RequestApproved { automatic: true, at, .. } => {
            change_standing(world, &beneficiary, |standing| {
                standing.automatic.retain(|earlier| at.since(*earlier) < Span::days(1));
                standing.automatic.push(*at);
            })
        }
        Event::RequestDenied { requester, entitlement, at, .. } => {
            change_standing(world, requester, |standing| {
                standing.denials.retain(|(_, earlier)| at.since(*earlier) < Span::days(1));
                standing.denials.push((entitlement.clone(), *at));
            })
        }
        _ => {}
    }
}

fn grants(world: &mut World, event: &Event, at: Time) {
    let id = match event {
        Event::GrantScheduled { grant } => {
            world.grants.insert(grant.id, (**grant).clone());
            world.changed.insert(DocumentRef::Grant(grant.id));
            if let Some(request) = world.request_mut(grant.request) {
                request.grant = Some(grant.id);
                world.changed.insert(DocumentRef::Request(grant.request));
            }
            change_incident(world, grant.incident, |incident| {
                incident.grants.insert(grant.id, false);
            });
            return;
        }
        Event::GrantActivating { grant, .. }
        | Event::GrantActivated { grant, .. }
        | Event::GrantActivationFailed { grant, .. }
        | Event::GrantCancelled { grant, .. }
        | Event::LeaseHeld { grant, .. }
        | Event::LeaseEnded { grant, .. }
        | Event::GrantExtended { grant, .. }
        | Event::GrantEnded { grant, .. }
        | Event::GrantDeactivated { grant, .. }
        | Event::GrantLooked { grant, .. }
        | Event::DeadlineNear { grant, .. }
        | Event::LookAsked { grant, .. }
        | Event::RevocationFailed { grant }
        | Event::RevocationLate { grant }
        | Event::GrantRevoked { grant, .. }
        | Event::ProofWaived { grant, .. }
        | Event::GrantKept { grant, .. } => *grant,
        _ => return,
    };
    let Some(grant) = world.grant_mut(id) else { return };
    match event {
        Event::GrantActivating { fencing, .. } => {
            grant.state = GrantState::Activating;
            grant.fencing = *fencing;
        }
        Event::GrantActivated { at, deadline, .. } => {
            grant.state = GrantState::Active;
            grant.activated_at = Some(*at);
            grant.deadline = Some(*deadline);
        }
        Event::GrantActivationFailed { at, fencing, .. } => {
            grant.state = GrantState::ActivationFailed;
            grant.fencing = *fencing;
            grant.ended_at = Some(*at);
            grant.end_reason = Some(crate::grant::GrantEnd::ActivationFailed);
        }
        Event::GrantCancelled { .. } => grant.state = GrantState::Cancelled,
        Event::LeaseHeld { gateway, .. } => {
            grant.gateways.insert(gateway.clone(), false);
        }
        Event::LeaseEnded { gateway, .. } => {
            grant.gateways.insert(gateway.clone(), true);
        }
        Event::GrantExtended { request, deadline, fencing, .. } => {
            grant.deadline = Some(*deadline);
            grant.fencing = *fencing;
            grant.extensions = grant.extensions.saturating_add(1);
            grant.warned = false;
            grant.extended_by.push(*request);
        }
        Event::GrantEnded { at, reason, fencing, .. } => {
            grant.state = GrantState::Revoking;
            grant.ended_at = Some(*at);
            grant.end_reason = Some(*reason);
            grant.fencing = *fencing;
        }
        Event::GrantDeactivated { provable_at, .. } => {
            grant.deactivated = true;
            grant.provable_at = Some(*provable_at);
            grant.look_at = Some(*provable_at);
        }
        Event::GrantLooked { evidence, look_at, .. } => {
            merge(&mut grant.checks, evidence);
            grant.looks = grant.looks.saturating_add(1);
            grant.look_at = *look_at;
        }
        Event::DeadlineNear { .. } => grant.warned = true,
        Event::LookAsked { next, .. } => grant.look_at = Some(*next),
        Event::RevocationFailed { .. } => grant.state = GrantState::RevocationFailed,
        Event::RevocationLate { .. } => grant.late_alerted = true,
        Event::GrantRevoked { outcome, .. } => {
            grant.state = GrantState::Revoked;
            grant.outcome = Some(outcome.clone());
            grant.look_at = None;
        }
        Event::ProofWaived { person, reason, .. } => {
            grant.waivers.insert(person.clone(), reason.clone());
        }
        Event::GrantKept { kept, .. } => {
            grant.deadline = grant.deadline.map(|deadline| deadline.min(kept.until));
            grant.kept = Some(kept.clone());
        }
        _ => {}
    }
    let grant = grant.clone();
    world.changed.insert(DocumentRef::Grant(id));
    if grant.state.settled() {
        change_incident(world, grant.incident, |incident| {
            incident.grants.insert(id, true);
        });
    }
    match event {
        Event::GrantActivated { deadline, .. } => begin_use(world, &grant, *deadline),
        Event::GrantExtended { request, deadline, by, .. } => {
            let approvers = approvers(world, *request);
            change_standing(world, &grant.person, |standing| {
                if let Some(used) = standing.uses.iter_mut().rev().find(|used| used.grant == id) {
                    used.total = used.total.plus(*by);
                    used.extensions = used.extensions.saturating_add(1);
                    used.until = *deadline;
                    used.approvers.extend(approvers);
                }
            });
        }
        Event::GrantEnded { .. } if grant.activated_at.is_some() => {
            change_standing(world, &grant.person, |standing| {
                if let Some(used) = standing.uses.iter_mut().rev().find(|used| used.grant == id) {
                    used.until = at;
                }
            })
        }
        _ => {}
    }
}

fn approvers(world: &World, request: crate::ids::RequestId) -> Vec<crate::ids::PersonId> {
    let decisions =
        world.requests.get(&request).map(|request| request.decisions.as_slice()).unwrap_or_default();
    let counted = decisions.iter().filter(|decision| !decision.void && decision.verdict == Verdict::Approve);
    counted.map(|decision| decision.person.clone()).collect()
}

/// A grant begins: it continues the running total of its entitlement, or starts one.
fn begin_use(world: &mut World, grant: &Grant, deadline: Time) {
    let approvers = approvers(world, grant.request);
    change_standing(world, &grant.person, |standing| {
        let continued = grant.earlier_total > Span::ZERO || grant.extensions > 0;
        let earlier = standing
            .uses
            .iter()
            .rposition(|used| continued && used.entitlement == grant.entitlement)
            .map(|place| standing.uses.remove(place));
        let mut all: std::collections::BTreeSet<_> = earlier.map(|used| used.approvers).unwrap_or_default();
        all.extend(approvers);
        standing.uses.push(Use {
            entitlement: grant.entitlement.clone(),
            incident: grant.incident,
            grant: grant.id,
            total: grant.earlier_total.plus(grant.duration),
            extensions: grant.extensions,
            until: deadline,
            approvers: all,
        });
        if standing.uses.len() > Standing::MOST_USES {
            standing.uses.remove(0);
        }
    });
}

fn sessions(world: &mut World, event: &Event) {
    match event {
        Event::SessionOpened { session } => {
            let id = session.id;
            world.sessions.insert(id, (**session).clone());
            world.changed.insert(DocumentRef::Session(id));
            if let Some(grant) = world.grant_mut(session.grant) {
                grant.last_session = session.number;
                grant.open_sessions.insert(id);
                world.changed.insert(DocumentRef::Grant(session.grant));
            }
            change_incident(world, session.incident, |incident| {
                incident.open_sessions.insert(id);
                incident.unstored_recordings.insert(id);
                incident.sessions = incident.sessions.saturating_add(1);
            });
        }
        Event::ChannelOpened { session: id, kind, detail } => {
            if let Some(session) = world.session_mut(*id) {
                session.channels.push(if detail.is_empty() {
                    kind.clone()
                } else {
                    format!("{kind}: {detail}")
                });
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::SessionEnded { session: id, grant, at, reason } => {
            let Some(session) = world.session_mut(*id) else { return };
            session.ended_at = Some(*at);
            session.end_reason = Some(reason.clone());
            let incident = session.incident;
            world.changed.insert(DocumentRef::Session(*id));
            if let Some(found) = world.grant_mut(*grant) {
                found.open_sessions.remove(id);
                world.changed.insert(DocumentRef::Grant(*grant));
            }
            change_incident(world, incident, |incident| {
                incident.open_sessions.remove(id);
            });
        }
        Event::RecordingFinished { session: id, bytes, frames, sha256, chain_head, complete } => {
            if let Some(session) = world.session_mut(*id) {
                let recording = &mut session.recording;
                recording.state = RecordingState::Finished;
                recording.bytes = *bytes;
                recording.frames = *frames;
                recording.sha256 = sha256.clone();
                recording.chain_head = chain_head.clone();
                recording.complete = *complete;
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::RecordingStored { session: id, incident } => {
            if let Some(session) = world.session_mut(*id) {
                session.recording.state = RecordingState::Stored;
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.unstored_recordings.remove(id);
            });
        }
        Event::RecordingLost { session: id, incident, .. } => {
            if let Some(session) = world.session_mut(*id) {
                session.recording.state = RecordingState::Lost;
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.attestation_gaps.insert(*id);
            });
        }
        Event::GapWaived { session: id, incident, person, reason, settled } => {
            if let Some(session) = world.session_mut(*id) {
                session.gap_waivers.insert(person.clone(), reason.clone());
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.parties.entry(person.clone()).or_default().insert(crate::incident::Part::Waiver);
                if *settled {
                    incident.unstored_recordings.remove(id);
                }
            });
        }
        // These are facts about a session that change no document.
        _ => {}
    }
}

fn incidents(world: &mut World, event: &Event) {
    let id = match event {
        Event::IncidentOpened { incident } => {
            world.incidents.insert(incident.id, (**incident).clone());
            world.changed.insert(DocumentRef::Incident(incident.id));
            return;
        }
        Event::PartTaken { incident, .. }
        | Event::SeverityChanged { incident, .. }
        | Event::NoteAdded { incident, .. }
        | Event::LinkAdded { incident, .. }
        | Event::IncidentMitigated { incident, .. }
        | Event::IncidentClosing { incident, .. }
        | Event::IncidentClosed { incident, .. }
        | Event::UnprovenAsked { incident, .. }
        | Event::IncidentClosedUnproven { incident, .. }
        | Event::IncidentReopened { incident, .. }
        | Event::ChangeSeen { incident, .. }
        | Event::ChangeJudged { incident, .. } => *incident,
        _ => return,
    };
    change_incident(world, Some(id), |incident| match event {
        Event::PartTaken { person, part, .. } => {
            incident.parties.entry(person.clone()).or_default().insert(*part);
        }
        Event::SeverityChanged { severity, .. } => incident.severity = severity.clone(),
        Event::NoteAdded { note, .. } => incident.notes.push(note.clone()),
        Event::LinkAdded { link, .. } => {
            incident.links.insert(link.clone());
        }
        Event::IncidentMitigated { at, by, .. } => {
            incident.state = IncidentState::Mitigated;
            incident.mitigated_at = Some(*at);
            incident.parties.entry(by.clone()).or_default().insert(crate::incident::Part::Ender);
        }
        Event::IncidentClosing { .. } => incident.state = IncidentState::Closing,
        Event::IncidentClosed { at, .. } => {
            incident.state = IncidentState::Closed;
            incident.closed_at = Some(*at);
        }
        Event::UnprovenAsked { person, reason, .. } => {
            incident.unproven.insert(person.clone(), reason.clone());
        }
        Event::IncidentClosedUnproven { at, .. } => {
            incident.state = IncidentState::ClosedUnproven;
            incident.closed_at = Some(*at);
        }
        Event::IncidentReopened { .. } => {
            incident.state = IncidentState::Open;
            incident.closed_at = None;
            incident.unproven.clear();
        }
        Event::ChangeSeen { session, what, .. } => {
            incident.changes.push(Change { session: *session, what: what.clone(), judged: None });
        }
        Event::ChangeJudged { change, judgement, .. } => {
            if let Some(found) = incident.changes.get_mut(*change as usize) {
                found.judged = Some(judgement.clone());
            }
        }
        _ => {}
    });
}

fn reviews(world: &mut World, event: &Event) {
    let id = match event {
        Event::ReviewOpened { review } => {
            let id = review.id;
            world.reviews.insert(id, (**review).clone());
            world.changed.insert(DocumentRef::Review(id));
            change_incident(world, review.incident, |incident| {
                incident.reviews.insert(id, false);
            });
            if review.kind == ReviewKind::Bypass {
                change_standing(world, &review.person.clone(), |standing| {
                    standing.bypass_reviews.insert(id);
                });
            }
            return;
        }
        Event::ReviewStarted { review, .. }
        | Event::ReviewJudged { review, .. }
        | Event::ReviewDeferred { review, .. }
        | Event::ActionAdded { review, .. }
        | Event::ActionCompleted { review, .. }
        | Event::ReviewClosed { review }
        | Event::ReviewOverdue { review } => *review,
        _ => return,
    };
    let Some(review) = world.review_mut(id) else { return };
    let mut settles = false;
    match event {
        Event::ReviewStarted { reviewer, .. } => {
            review.state = ReviewState::InReview;
            review.reviewer = Some(reviewer.clone());
        }
        Event::ReviewJudged { judgement, .. } => {
            review.state = ReviewState::Judged;
            review.reviewer = Some(judgement.by.clone());
            review.judgement = Some(judgement.clone());
            settles = true;
        }
        Event::ReviewDeferred { deferral, .. } => {
            review.deferral = Some(deferral.clone());
            review.overdue_alerted = false;
            settles = true;
        }
        Event::ActionAdded { action, .. } => review.actions.push(action.clone()),
        Event::ActionCompleted { action, at, .. } => {
            if let Some(found) = review.actions.get_mut(*action as usize) {
                found.done_at = Some(*at);
            }
        }
        Event::ReviewClosed { .. } => review.state = ReviewState::Closed,
        Event::ReviewOverdue { .. } => review.overdue_alerted = true,
        _ => {}
    }
    let (incident, person, judged, kind) =
        (review.incident, review.person.clone(), review.judgement.is_some(), review.kind);
    world.changed.insert(DocumentRef::Review(id));
    if settles {
        change_incident(world, incident, |incident| {
            incident.reviews.insert(id, true);
        });
        if judged && kind == ReviewKind::Bypass {
            change_standing(world, &person, |standing| {
                standing.bypass_reviews.remove(&id);
            });
        }
    }
}

//! What events make of requests.

use super::{RequestState, Verdict};
use crate::apply::{change_incident, change_standing};
use crate::command::DocumentRef;
use crate::event::Event;
use crate::ids::{GrantId, PersonId, RequestId};
use crate::standing::Standing;
use crate::time::Span;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    let id = match event {
        Event::RequestFiled { request } => {
            let id = request.id;
            world.requests.insert(id, (**request).clone());
            world.changed.insert(DocumentRef::Request(id));
            change_incident(world, request.incident, |incident| {
                incident.pending_requests.insert(id);
                incident.links.extend(request.link.clone());
            });
            change_extended(world, request.extends, |waiting| *waiting = Some(id));
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
        | Event::TotalMoved { request, .. }
        | Event::SeverityAttested { request, .. }
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
        Event::TotalMoved { new_total, earlier_approvers, .. } => {
            request.new_total = *new_total;
            request.earlier_approvers = earlier_approvers.clone();
        }
        Event::SeverityAttested { .. } => request.severity_attested = true,
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
            // A bypass waits again, if its wait was not over.
            if let Some(bypass) = &mut request.bypass {
                bypass.in_effect = false;
            }
            pending = Some(true);
        }
        _ => {}
    }
    let beneficiary = request.beneficiary.clone();
    let extends = request.extends;
    world.changed.insert(DocumentRef::Request(id));
    if let Some(pending) = pending {
        change_incident(world, incident, |incident| {
            if pending {
                incident.pending_requests.insert(id);
            } else {
                incident.pending_requests.remove(&id);
            }
        });
        if !pending {
            change_extended(world, extends, |waiting| {
                if *waiting == Some(id) {
                    *waiting = None;
                }
            });
        }
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
                standing.denials.retain(|(_, earlier)| at.since(*earlier) < Standing::DENIALS_KEPT);
                if standing.denials.len() >= Standing::MOST_DENIALS {
                    standing.denials.remove(0);
                }
                standing.denials.push((entitlement.clone(), *at));
            })
        }
        _ => {}
    }
}

/// The request for more time that a grant waits for.
fn change_extended(world: &mut World, grant: Option<GrantId>, change: impl FnOnce(&mut Option<RequestId>)) {
    if let Some(id) = grant
        && let Some(grant) = world.grant_mut(id)
    {
        change(&mut grant.pending_extension);
        world.changed.insert(DocumentRef::Grant(id));
    }
}

/// Whose approval counts on this request.
pub(crate) fn approvers(world: &World, request: RequestId) -> impl Iterator<Item = PersonId> {
    let decisions =
        world.requests.get(&request).map(|request| request.decisions.as_slice()).unwrap_or_default();
    let counted = decisions.iter().filter(|decision| !decision.void && decision.verdict == Verdict::Approve);
    counted.map(|decision| decision.person.clone()).collect::<Vec<_>>().into_iter()
}

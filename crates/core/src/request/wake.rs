//! What time does to a request: it lapses, steps move on, a loud wait ends.

use super::approval::met;
use super::bypass::bypass_takes_effect;
use super::decide::{brought_up, entitlement_of, extends_nothing};
use super::{Request, RequestState, granted, mark_blocked};
use crate::decide::Context;
use crate::event::Event;
use crate::ids::RequestId;
use crate::refusal::Refusal;
use crate::time::Time;
use crate::world::{Facts, World};

/// Handles [`Due::Request`](crate::command::Due::Request).
pub(crate) fn wake(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
) -> Result<Vec<Event>, Refusal> {
    context.only_clock()?;
    let request = world.request(id)?;
    let now = context.now;
    if request.state != RequestState::Pending {
        return Ok(Vec::new());
    }
    let lapsed = vec![Event::RequestLapsed { request: id }];
    if now >= request.lapses() || extends_nothing(world, request, now) {
        return Ok(lapsed);
    }
    let Ok(entitlement) = entitlement_of(facts, request) else {
        return Ok(lapsed);
    };
    let (after, mut events) = brought_up(world, facts, request, entitlement, now);
    let mut after = after.into_owned();
    if after.bypass_is_due(now) {
        // A loud wait never starts a new total: that takes somebody else (rule 7).
        if after.new_total {
            return Ok(lapsed);
        }
        // What the catalog does not permit any more must not be asked again and again.
        let Ok(found) = bypass_takes_effect(world, facts, context, &after, entitlement) else {
            return Ok(lapsed);
        };
        events.extend(found.events);
        return Ok(events);
    }
    let before: Vec<bool> = after.steps.iter().map(|step| step.blocked).collect();
    mark_blocked(facts, &mut after, entitlement, now);
    for (index, (step, was)) in after.steps.iter().zip(before).enumerate() {
        if step.blocked != was {
            events.push(Event::StepBlocked { request: id, step: index as u32, blocked: step.blocked });
        }
    }
    if met(facts, &after, entitlement).satisfied {
        match granted(world, facts, context, &after, entitlement) {
            Ok(found) => events.extend(found.events),
            Err(_) => return Ok(lapsed),
        }
    }
    Ok(events)
}

/// When [`wake`] wants to be called next.
pub fn due_at(request: &Request) -> Option<Time> {
    if request.state != RequestState::Pending {
        return None;
    }
    let timers = request
        .steps
        .iter()
        .filter(|step| !step.timer_done)
        .filter_map(|step| step.moves_at(request.timers_from));
    let bypass = request.bypass.iter().filter(|bypass| !bypass.in_effect).map(|bypass| bypass.effective_at);
    timers.chain(bypass).chain([request.lapses()]).min()
}

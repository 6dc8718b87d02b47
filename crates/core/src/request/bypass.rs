//! Going in without waiting for approval (rule 6).

use super::approval::standing;
use super::decide::{brought_up, entitlement_of, open, part};
use super::granted::{Granted, granted};
use super::{Bypass, Mode, Request};
use crate::catalog::{ResolvedEntitlement, WhoContext};
use crate::decide::{Context, said};
use crate::event::Event;
use crate::ids::RequestId;
use crate::incident::Part;
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::time::Span;
use crate::world::{Facts, World};

/// Most people that a bypass names as not waited for; all of them could have decided.
const MOST_NAMED: usize = 100;

/// Handles [`Command::Bypass`](crate::command::Command::Bypass).
pub(crate) fn bypass(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
    reason: &str,
    confirmation: &str,
) -> Result<Vec<Event>, Refusal> {
    let stored = world.request(id)?;
    let person = context.person()?.clone();
    if person != stored.beneficiary {
        return Err(Refusal::not_found(format_args!("request {id}")));
    }
    context.no_token("bypass approval")?;
    context.own_factor(facts)?;
    said("reason", reason, 2000)?;
    let now = context.now;
    open(world, stored, now)?;
    let entitlement = entitlement_of(facts, stored)?;
    let (request, mut events) = brought_up(world, facts, stored, entitlement, now);
    let mut request = request.into_owned();
    let scenario = request
        .scenario
        .as_ref()
        .filter(|_| request.mode == Mode::Emergency && request.incident.is_some())
        .and_then(|name| facts.catalog.scenarios.get(name))
        .ok_or_else(|| {
            Refusal::new(RefusalCode::NotAllowed, "only an emergency request can be bypassed")
                .next("escalate it first with `halligan escalate`")
        })?;
    let who = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    if !facts.catalog.is_among(&person, &scenario.bypassed_by, who) {
        return Err(Refusal::new(RefusalCode::NotAllowed, "this scenario does not let you bypass approval"));
    }
    if request.bypass.is_some() {
        return Err(Refusal::new(RefusalCode::WrongState, "the bypass is under way already"));
    }
    if request.new_total {
        return Err(Refusal::new(
            RefusalCode::Limit,
            "the total time is used up, and only the approval of somebody else starts a new one",
        )
        .next("have a colleague go in, or ask an approver"));
    }
    if confirmation.trim() != request.entitlement.to_string() {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("type the entitlement, {}, to confirm the bypass", request.entitlement),
        ));
    }
    let found = standing(facts, &request, entitlement, now);
    let not_waited_for = found
        .eligible
        .iter()
        .flatten()
        .filter(|person| !found.counted.contains_key(*person))
        .take(MOST_NAMED)
        .cloned()
        .collect();
    let open_review = world.standings.get(&person).is_some_and(|found| !found.bypass_reviews.is_empty());
    let wait = if open_review && found.counted.is_empty() {
        facts.catalog.settings.second_bypass_wait
    } else {
        Span::ZERO
    };
    let bypass = Bypass {
        at: now,
        reason: reason.to_owned(),
        effective_at: now.plus(wait),
        in_effect: false,
        not_waited_for,
    };
    request.bypass = Some(bypass.clone());
    events.push(Event::BypassAsked { request: id, person: person.clone(), bypass });
    events.extend(part(&request, &person, Part::Bypasser));
    let mut about = About::request(&request);
    if wait == Span::ZERO {
        let granted = bypass_takes_effect(world, facts, context, &request, entitlement)?;
        about.grant = granted.grant;
        events.extend(granted.events);
    }
    // The act itself is reviewed, whether its wait runs to the end or not.
    events.push(review::opened(context, facts, ReviewKind::Bypass, about));
    Ok(events)
}

pub(crate) fn bypass_takes_effect(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
) -> Result<Granted, Refusal> {
    let mut after = request.clone();
    if let Some(bypass) = &mut after.bypass {
        bypass.in_effect = true;
    }
    let mut found = granted(world, facts, context, &after, entitlement)?;
    found.events.insert(0, Event::BypassTookEffect { request: request.id });
    Ok(found)
}

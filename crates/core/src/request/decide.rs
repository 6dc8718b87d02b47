//! Deciding a request: approve, deny, take back, withdraw. Each looks at the request as it stands by the clock.

use super::approval::{barred, factor_counts, may_approve, met_with};
use std::borrow::Cow;

use super::bypass::bypass_takes_effect;
use super::{Decision, Request, RequestState, Verdict, granted, running_total};
use crate::catalog::{OfficeName, ResolvedEntitlement, WhoContext};
use crate::decide::{Context, text};
use crate::event::Event;
use crate::grant::GrantState;
use crate::ids::{PersonId, RequestId};
use crate::incident::Part;
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Time;
use crate::world::{Facts, World};

/// The entitlement of a request as the catalog has it now.
pub(crate) fn entitlement_of<'a>(
    facts: &'a Facts<'_>,
    request: &Request,
) -> Result<&'a ResolvedEntitlement, Refusal> {
    facts.entitlements.get(&request.entitlement).ok_or_else(|| {
        Refusal::new(
            RefusalCode::DoesNotFit,
            format!("{} is not in the catalog any more", request.entitlement),
        )
    })
}

pub(crate) fn pending(request: &Request) -> Result<(), Refusal> {
    let state = match request.state {
        RequestState::Pending => return Ok(()),
        RequestState::Approved => "approved",
        RequestState::Denied => "denied",
        RequestState::Withdrawn => "withdrawn",
        RequestState::Lapsed => "lapsed",
        RequestState::Superseded => "superseded",
    };
    Err(Refusal::new(RefusalCode::WrongState, format!("the request is {state} already")))
}

/// The grant that this request would extend does not give access any more.
pub(crate) fn extends_nothing(world: &World, request: &Request, now: Time) -> bool {
    request.extends.is_some_and(|grant| world.grants.get(&grant).is_none_or(|grant| !grant.in_force(now)))
}

/// Pending by the clock: neither lapsed nor about a grant that is over, whatever the sweeper has done (rule 5).
pub(crate) fn open(world: &World, request: &Request, now: Time) -> Result<(), Refusal> {
    pending(request)?;
    let lapses = request.lapses();
    if now >= lapses {
        return Err(Refusal::new(RefusalCode::WrongState, format!("the request lapsed at {lapses}")));
    }
    if extends_nothing(world, request, now) {
        return Err(Refusal::new(RefusalCode::WrongState, "the grant that this would extend has ended")
            .next("ask for it again with `halligan request`"));
    }
    Ok(())
}

/// The request as it stands by the clock: steps' timers have struck, the running total is that of this moment.
pub(crate) fn brought_up<'a>(
    world: &World,
    facts: &Facts<'_>,
    request: &'a Request,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> (Cow<'a, Request>, Vec<Event>) {
    let mut after = Cow::Borrowed(request);
    let mut events = Vec::new();
    for (index, step) in request.steps.iter().enumerate() {
        if step.timer_done || step.moves_at(request.timers_from).is_none_or(|moves| now < moves) {
            continue;
        }
        let approvers = step.approvers_at(request.timers_from, now).into_owned();
        if let Some(moved) = after.to_mut().steps.get_mut(index) {
            moved.approvers = approvers.clone();
            moved.timer_done = true;
        }
        events.push(Event::StepMoved { request: request.id, step: index as u32, approvers });
    }
    let total = running_total(world, facts, request, entitlement, now);
    if (total.new_total, &total.approvers) != (request.new_total, &request.earlier_approvers) {
        let moved = after.to_mut();
        moved.new_total = total.new_total;
        moved.earlier_approvers = total.approvers.clone();
        events.push(Event::TotalMoved {
            request: request.id,
            new_total: total.new_total,
            earlier_approvers: total.approvers,
        });
    }
    (after, events)
}

pub(crate) fn part(request: &Request, person: &PersonId, part: Part) -> Option<Event> {
    request.incident.map(|incident| Event::PartTaken { incident, person: person.clone(), part })
}

/// Approves or denies.
pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
    verdict: Verdict,
    version: u32,
    reason: Option<&str>,
) -> Result<Vec<Event>, Refusal> {
    let stored = world.request(id)?;
    let person = context.person()?.clone();
    let now = context.now;
    if verdict == Verdict::Approve {
        context.no_token("approve a request")?;
    }
    let entitlement = entitlement_of(facts, stored)?;
    let (request, mut events) = brought_up(world, facts, stored, entitlement, now);
    let open_steps: Vec<&super::OpenStep> = request
        .steps
        .iter()
        .filter(|step| may_approve(facts, &request, entitlement, step, &person, now))
        .collect();
    let security = facts.catalog.holds(&person, OfficeName::SecurityOfficer);
    if open_steps.is_empty() && !(security && verdict == Verdict::Deny) {
        return Err(refuse_stranger(facts, &request, entitlement, &person, now));
    }
    open(world, stored, now)?;
    if let Some(reason) = reason {
        text("reason", reason, 2000)?;
    }
    if verdict == Verdict::Deny {
        if request.bypass_is_due(now) {
            return Err(Refusal::new(RefusalCode::WrongState, "the bypass has taken effect already")
                .next("end the access with `halligan revoke`"));
        }
        let decision = decision(&request, &person, now, verdict, reason, None);
        events.push(Event::Decided { request: id, decision });
        events.push(Event::RequestDenied {
            request: id,
            person: person.clone(),
            entitlement: request.entitlement.clone(),
            requester: request.beneficiary.clone(),
            at: now,
        });
        events.extend(part(&request, &person, Part::Approver));
        return Ok(events);
    }
    if version != request.version {
        return Err(Refusal::new(
            RefusalCode::Stale,
            format!("the request has changed since you saw it (version {version}, now {})", request.version),
        )
        .next("read it again, then decide"));
    }
    if request.decisions.iter().any(|decision| decision.person == person && !decision.void) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "you have decided this request already; each person counts once",
        ));
    }
    let factor = context.own_factor(facts)?.kind;
    let usable: Vec<_> = open_steps.into_iter().filter(|step| factor_counts(step, Some(factor))).collect();
    if usable.is_empty() {
        return Err(Refusal::new(
            RefusalCode::SecondFactor,
            "this approval needs another kind of second factor",
        ));
    }
    if usable.iter().any(|step| step.step.reason_required)
        && reason.is_none_or(|reason| reason.trim().is_empty())
    {
        return Err(
            Refusal::new(RefusalCode::Incomplete, "this approval needs a reason").next("add --reason \"…\"")
        );
    }
    let decision = decision(&request, &person, now, verdict, reason, Some(factor));
    let satisfied = met_with(facts, &request, entitlement, Some(&decision)).satisfied;
    events.push(Event::Decided { request: id, decision });
    events.extend(part(&request, &person, Part::Approver));
    // While a loud wait runs, one approver is enough (rule 6).
    let waiting = request.bypass.as_ref().is_some_and(|bypass| !bypass.in_effect);
    if satisfied {
        events.extend(granted(world, facts, context, &request, entitlement)?.events);
    } else if waiting {
        events.extend(bypass_takes_effect(world, facts, context, &request, entitlement)?.events);
    }
    Ok(events)
}

fn decision(
    request: &Request,
    person: &PersonId,
    at: Time,
    verdict: Verdict,
    reason: Option<&str>,
    factor: Option<crate::catalog::FactorKind>,
) -> Decision {
    use sha2::{Digest, Sha256};
    let digest = hex::encode(Sha256::digest(format!(
        "halligan-decision-v1\n{}\n{}\n",
        request.scope_digest, request.context_digest
    )));
    Decision {
        person: person.clone(),
        at,
        verdict,
        reason: reason.map(str::to_owned),
        factor,
        version_seen: request.version,
        digest,
        carried: false,
        void: false,
    }
}

/// Why somebody may not decide: the true reason to those who may know of the request, "does not exist" to strangers.
fn refuse_stranger(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    person: &PersonId,
    now: Time,
) -> Refusal {
    let context = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    let named = request.steps.iter().any(|step| {
        facts.catalog.is_among(person, &step.approvers, context)
            || facts.catalog.is_among(person, &step.step.fallback, context)
    });
    let own = *person == request.beneficiary || *person == request.requester;
    if let Some(why) = barred(facts, request, person).filter(|_| named || own) {
        return Refusal::new(RefusalCode::SeparationOfDuties, why).next("another approver must decide");
    }
    if named {
        let age = facts.catalog.settings.approver_minimum_age;
        return Refusal::new(
            RefusalCode::NotAllowed,
            format!(
                "you cannot approve this: it is not your turn, or you have had the role for less than {age}"
            ),
        );
    }
    Refusal::not_found(format_args!("request {}", request.id))
}

/// Takes one's own approval back, until activation.
pub(crate) fn take_back(
    world: &World,
    context: &mut Context<'_>,
    id: RequestId,
) -> Result<Vec<Event>, Refusal> {
    let request = world.request(id)?;
    let person = context.person()?.clone();
    let grant = request.grant.and_then(|grant| world.grants.get(&grant));
    let given =
        request.decisions.iter().any(|d| d.person == person && !d.void && d.verdict == Verdict::Approve);
    if !given {
        return Err(Refusal::not_found("an approval of yours on this request"));
    }
    let why = "taken back by the approver".to_owned();
    let mut events = vec![Event::DecisionVoided { request: id, person, why: why.clone() }];
    if request.state != RequestState::Approved {
        pending(request)?;
        return Ok(events);
    }
    match grant.filter(|grant| grant.state == GrantState::Scheduled) {
        Some(grant) => {
            events.push(Event::GrantCancelled { grant: grant.id, why });
            events.push(reopened(request, context.now));
            Ok(events)
        }
        None => Err(Refusal::new(
            RefusalCode::WrongState,
            "access has begun or is over; an approval cannot be taken back any more",
        )
        .next("end it with `halligan revoke`")),
    }
}

/// Waits again, for as long as it would have; if that is over, it lapses.
pub(crate) fn reopened(request: &Request, now: Time) -> Event {
    if now >= request.lapses() {
        Event::RequestLapsed { request: request.id }
    } else {
        Event::RequestReopened { request: request.id, lapses_at: request.lapses_at }
    }
}

/// Takes one's own request back.
pub(crate) fn withdraw(
    world: &World,
    context: &mut Context<'_>,
    id: RequestId,
) -> Result<Vec<Event>, Refusal> {
    let request = world.request(id)?;
    let person = context.person()?;
    if *person != request.requester && *person != request.beneficiary {
        return Err(Refusal::not_found(format_args!("request {id}")));
    }
    pending(request)?;
    Ok(vec![Event::RequestWithdrawn { request: id }])
}

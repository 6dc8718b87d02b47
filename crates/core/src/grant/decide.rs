//! Rules of grants: activation, ending, proof.

use super::{Grant, GrantEnd, GrantState, Kept, ProofOutcome, merge, overall};
use crate::catalog::{OfficeName, WhoContext};
use crate::decide::{Context, said};
use crate::event::Event;
use crate::ids::{GrantId, Name, PersonId};
use crate::incident::Part;
use crate::proof::{Evidence, Finding};
use crate::refusal::{Refusal, RefusalCode};
use crate::request::{Mode, RequestState, Verdict, met, reopened};
use crate::review::{self, About, ReviewKind};
use crate::time::{Span, Time};
use crate::world::{Facts, World};

/// Before the deadline people are warned this long ahead.
pub const WARN_BEFORE: Span = Span::minutes(5);
/// Looks that cannot tell are repeated after this, doubling up to [`LOOK_AT_MOST_EVERY`].
pub const LOOK_AGAIN_AFTER: Span = Span::seconds(30);
/// A look that nothing was heard of is asked for again after this.
pub const LOOK_LOST_AFTER: Span = Span::minutes(2);
/// See [`LOOK_AGAIN_AFTER`].
pub const LOOK_AT_MOST_EVERY: Span = Span::minutes(10);

/// The connector is about to be told. Approvals are looked at once more: a removal bites until activation (rule 4).
pub(crate) fn begin_activation(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
) -> Result<Vec<Event>, Refusal> {
    context.only_clock()?;
    let grant = world.grant(id)?;
    let now = context.now;
    if grant.state != GrantState::Scheduled {
        return Ok(Vec::new());
    }
    let request = world.request(grant.request)?;
    if now >= grant.activate_by {
        return Ok(never_begun(grant, "it was not begun within the time that an approval is good for"));
    }
    let Some(entitlement) = facts.entitlements.get(&grant.entitlement) else {
        return Ok(never_begun(grant, "the entitlement is not in the catalog any more"));
    };
    let asks = WhoContext { beneficiary: &grant.person, system: Some(&entitlement.system), now };
    if !facts.catalog.is_among(&grant.person, &entitlement.entitlement.requested_by, asks) {
        return Ok(never_begun(grant, "the person may not have this entitlement any more"));
    }
    if !grant.automatic && !grant.bypassed {
        let found = met(facts, request, entitlement);
        if !found.satisfied {
            let gone = request.decisions.iter().filter(|decision| {
                !decision.void
                    && decision.verdict == Verdict::Approve
                    && !found.counted.contains_key(&decision.person)
            });
            let why = "the approver may not approve any more".to_owned();
            let mut events: Vec<Event> = gone
                .map(|decision| Event::DecisionVoided {
                    request: request.id,
                    person: decision.person.clone(),
                    why: why.clone(),
                })
                .collect();
            events.push(Event::GrantCancelled { grant: id, why });
            events.push(reopened(request, now));
            return Ok(events);
        }
    }
    Ok(vec![Event::GrantActivating { grant: id, fencing: grant.fencing }])
}

fn never_begun(grant: &Grant, why: &str) -> Vec<Event> {
    vec![
        Event::GrantCancelled { grant: grant.id, why: why.to_owned() },
        Event::RequestLapsed { request: grant.request },
    ]
}

/// The connector has done it; the clock starts now.
pub(crate) fn activated(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    fencing: u64,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    if grant.state != GrantState::Activating || grant.fencing != fencing {
        return Ok(Vec::new());
    }
    if context.now >= grant.activate_by {
        return Ok(vec![failed(grant, context.now, "the connector answered after the approval had run out")]);
    }
    let deadline = context.now.plus(grant.duration);
    Ok(vec![Event::GrantActivated { grant: id, at: context.now, deadline }])
}

/// The connector could not; something may be half made, so the end is proved all the same.
pub(crate) fn activation_failed(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    fencing: u64,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    if grant.state != GrantState::Activating || grant.fencing != fencing {
        return Ok(Vec::new());
    }
    Ok(vec![failed(grant, context.now, reason)])
}

fn failed(grant: &Grant, at: Time, reason: &str) -> Event {
    let reason = reason.chars().take(500).collect();
    Event::GrantActivationFailed { grant: grant.id, at, fencing: grant.fencing + 1, reason }
}

/// A gateway is about to get the lease, or holds it. Heard of after the end it is taken down all the same, and the lease
/// is revoked once more.
pub(crate) fn lease_held(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    gateway: &Name,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    if grant.gateways.get(gateway) == Some(&false) {
        return Ok(Vec::new());
    }
    Ok(vec![Event::LeaseHeld { grant: id, gateway: gateway.clone() }])
}

/// A gateway has let go.
pub(crate) fn lease_ended(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    gateway: &Name,
    sessions_ended: u32,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    if grant.gateways.get(gateway) == Some(&true) {
        return Ok(Vec::new());
    }
    let mut after = grant.clone();
    after.gateways.insert(gateway.clone(), true);
    let mut events =
        vec![Event::LeaseEnded { grant: id, gateway: gateway.clone(), sessions_ended, at: context.now }];
    events.extend(settled(&after, context.now));
    Ok(events)
}

/// If every required check has passed: revoked, with its proof.
pub(crate) fn settled(grant: &Grant, now: Time) -> Option<Event> {
    (owed(grant) && grant.deactivated && overall(grant) == Finding::Proven)
        .then_some(Event::GrantRevoked { grant: grant.id, outcome: ProofOutcome::Proven { at: now } })
}

/// The connector has made it a tombstone.
pub(crate) fn deactivated(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    fencing: u64,
    provable_at: Time,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    // A tombstone of a grant that has not ended, or of an earlier number, proves nothing.
    if grant.deactivated || grant.fencing != fencing || !owed(grant) {
        return Ok(Vec::new());
    }
    let mut after = grant.clone();
    after.deactivated = true;
    let mut events = vec![Event::GrantDeactivated { grant: id, provable_at }];
    events.extend(settled(&after, context.now));
    Ok(events)
}

/// The connector has looked.
pub(crate) fn looked(
    world: &World,
    context: &mut Context<'_>,
    id: GrantId,
    fencing: u64,
    evidence: &Evidence,
) -> Result<Vec<Event>, Refusal> {
    context.only_node()?;
    let grant = world.grant(id)?;
    if grant.fencing != fencing || !owed(grant) || !grant.deactivated {
        return Ok(Vec::new());
    }
    // Both times are the connector's: before its login window is over a refusal proves nothing.
    if grant.provable_at.is_none_or(|provable| evidence.at < provable) {
        return Ok(Vec::new());
    }
    let evidence = shortened(evidence);
    let mut after = grant.clone();
    merge(&mut after.checks, &evidence);
    let done = settled(&after, context.now);
    let look_at = done.is_none().then(|| context.now.plus(look_interval(grant.looks)));
    let mut events = vec![Event::GrantLooked { grant: id, evidence, look_at }];
    if overall(&after) == Finding::Failed && grant.state != GrantState::RevocationFailed {
        events.push(Event::RevocationFailed { grant: id });
    }
    events.extend(done);
    Ok(events)
}

/// Ended, and not settled.
fn owed(grant: &Grant) -> bool {
    matches!(grant.state, GrantState::Revoking | GrantState::RevocationFailed | GrantState::ActivationFailed)
}

/// What a node says is kept to a size.
fn shortened(evidence: &Evidence) -> Evidence {
    let mut evidence = evidence.clone();
    evidence.checks.truncate(16);
    for check in &mut evidence.checks {
        check.detail = check.detail.chars().take(1000).collect();
    }
    evidence
}

fn look_interval(looks: u32) -> Span {
    let doubled = LOOK_AGAIN_AFTER.as_micros().saturating_mul(1i64 << looks.min(10));
    Span::micros(doubled).min(LOOK_AT_MOST_EVERY)
}

/// Ends a grant, whatever it was doing; a grant of an emergency opens its review.
pub(crate) fn end(
    context: &mut Context<'_>,
    facts: &Facts<'_>,
    grant: &Grant,
    reason: GrantEnd,
    by: Option<&PersonId>,
    note: Option<&str>,
) -> Vec<Event> {
    let took_part = by.filter(|person| **person != grant.person).and_then(|person| {
        grant.incident.map(|incident| Event::PartTaken {
            incident,
            person: person.clone(),
            part: Part::Ender,
        })
    });
    match grant.state {
        GrantState::Scheduled => {
            let why = note.unwrap_or("ended before it began").to_owned();
            let mut events = vec![Event::GrantCancelled { grant: grant.id, why }];
            events.extend(took_part);
            events
        }
        GrantState::Activating | GrantState::Active => {
            // Whoever comes after the deadline finds that it has ended by itself (rule 5).
            let deadline = grant.deadline.filter(|deadline| context.now >= *deadline);
            let unused = grant.last_session == 0;
            let reason = match deadline {
                Some(_) if unused => GrantEnd::NeverUsed,
                Some(_) => GrantEnd::Expired,
                None => reason,
            };
            let mut events = vec![Event::GrantEnded {
                grant: grant.id,
                at: deadline.unwrap_or(context.now),
                reason,
                by: by.cloned(),
                note: note.map(str::to_owned),
                fencing: grant.fencing + 1,
            }];
            events.extend(took_part);
            // A request for more time has nothing to wait for any more.
            events.extend(grant.pending_extension.map(|request| Event::RequestLapsed { request }));
            if grant.mode == Mode::Emergency {
                events.push(review::opened(context, facts, ReviewKind::PostUse, About::grant(grant)));
            }
            events
        }
        GrantState::Revoking
        | GrantState::Revoked
        | GrantState::Cancelled
        | GrantState::ActivationFailed
        | GrantState::RevocationFailed => Vec::new(),
    }
}

fn over(grant: &Grant) -> Refusal {
    Refusal::new(RefusalCode::WrongState, format!("grant {} has ended already", grant.id))
}

/// The person is done.
pub(crate) fn give_back(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
) -> Result<Vec<Event>, Refusal> {
    let grant = world.grant(id)?;
    let person = context.person()?.clone();
    if grant.person != person {
        return Err(Refusal::not_found(format_args!("grant {id}")));
    }
    let events = end(context, facts, grant, GrantEnd::GivenBack, Some(&person), None);
    if events.is_empty() { Err(over(grant)) } else { Ok(events) }
}

/// Somebody with oversight ends it. Ending is easy and recorded (rule 13).
pub(crate) fn revoke(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let grant = world.grant(id)?;
    let person = context.person()?.clone();
    said("reason", reason, 2000)?;
    let request = world.request(grant.request)?;
    let overseer = [
        OfficeName::SecurityOfficer,
        OfficeName::IncidentLead,
        OfficeName::PlatformOwner,
        OfficeName::CloudAdministrator,
    ]
    .iter()
    .any(|office| facts.catalog.holds(&person, *office));
    let approved = request.decisions.iter().any(|decision| decision.person == person);
    if !overseer && !approved && !owns(facts, grant, &person, context.now) && grant.person != person {
        return Err(Refusal::not_found(format_args!("grant {id}")));
    }
    let events = end(context, facts, grant, GrantEnd::Revoked, Some(&person), Some(reason));
    if events.is_empty() { Err(over(grant)) } else { Ok(events) }
}

pub(crate) fn owns(facts: &Facts<'_>, grant: &Grant, person: &PersonId, now: Time) -> bool {
    facts.entitlements.get(&grant.entitlement).is_some_and(|found| {
        let context = WhoContext { beneficiary: &grant.person, system: Some(&found.system), now };
        facts.catalog.is_among(person, &found.system.owner, context)
    })
}

fn unsettled(grant: &Grant) -> Result<(), Refusal> {
    match grant.state {
        GrantState::Revoking | GrantState::RevocationFailed | GrantState::ActivationFailed => Ok(()),
        GrantState::Revoked | GrantState::Cancelled => {
            Err(Refusal::new(RefusalCode::WrongState, "nothing is owed: the grant is settled"))
        }
        GrantState::Scheduled | GrantState::Activating | GrantState::Active => {
            Err(Refusal::new(RefusalCode::WrongState, "the grant is still in force").next("end it first"))
        }
    }
}

/// Did this person take part in the grant: its person, requesters, and whoever decided about it or about more time?
pub(crate) fn is_party(world: &World, grant: &Grant, person: &PersonId) -> bool {
    let requests = std::iter::once(&grant.request).chain(&grant.extended_by);
    *person == grant.person
        || requests.filter_map(|id| world.requests.get(id)).any(|request| request.is_party(person))
}

fn no_party(world: &World, grant: &Grant, person: &PersonId) -> Result<(), Refusal> {
    if is_party(world, grant, person) {
        return Err(Refusal::new(
            RefusalCode::SeparationOfDuties,
            "you took part in this grant; somebody else must do that",
        ));
    }
    Ok(())
}

/// One of two people who are no party says that the proof is not needed.
pub(crate) fn waive(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let grant = world.grant(id)?;
    let offices = [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner];
    let person = context.officer(facts, &offices, "waive a proof")?.clone();
    context.no_token("waive a proof")?;
    context.own_factor(facts)?;
    said("reason", reason, 2000)?;
    unsettled(grant)?;
    no_party(world, grant, &person)?;
    if grant.waivers.contains_key(&person) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "you have waived it already; a second person is needed",
        ));
    }
    let mut events =
        vec![Event::ProofWaived { grant: id, person: person.clone(), reason: reason.to_owned() }];
    if let Some(incident) = grant.incident {
        events.push(Event::PartTaken { incident, person, part: Part::Waiver });
    }
    if !grant.waivers.is_empty() {
        events.push(Event::GrantRevoked { grant: id, outcome: ProofOutcome::Waived { at: context.now } });
    }
    Ok(events)
}

/// The owner attests that there is no such target any more.
pub(crate) fn target_gone(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let grant = world.grant(id)?;
    let person = context.person()?.clone();
    if !owns(facts, grant, &person, context.now) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "only the owner of the system can attest that it is gone",
        ));
    }
    context.no_token("attest")?;
    context.own_factor(facts)?;
    said("reason", reason, 2000)?;
    unsettled(grant)?;
    no_party(world, grant, &person)?;
    let part = grant.incident.map(|incident| Event::PartTaken {
        incident,
        person: person.clone(),
        part: Part::Waiver,
    });
    let outcome = ProofOutcome::TargetGone { by: person, at: context.now, reason: reason.to_owned() };
    Ok(part.into_iter().chain([Event::GrantRevoked { grant: id, outcome }]).collect())
}

/// Keeps a grant beyond mitigation, for a stated time, never past its deadline.
pub(crate) fn keep(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
    until: Time,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let grant = world.grant(id)?;
    let person = context
        .officer(facts, &[OfficeName::IncidentLead, OfficeName::SecurityOfficer], "keep a grant")?
        .clone();
    context.no_token("keep a grant")?;
    said("reason", reason, 2000)?;
    if grant.person == person {
        return Err(Refusal::new(RefusalCode::SeparationOfDuties, "nobody keeps their own access open"));
    }
    let Some(incident) = grant.incident else {
        return Err(Refusal::new(
            RefusalCode::DoesNotFit,
            "the grant belongs to no incident, and none will end it",
        ));
    };
    if !grant.in_force(context.now) {
        return Err(over(grant));
    }
    if until <= context.now || grant.deadline.is_none_or(|deadline| until > deadline) {
        return Err(Refusal::new(RefusalCode::Limit, "a grant can be kept only until its own deadline")
            .next("name an earlier time, or have it extended"));
    }
    let kept = Kept { by: person.clone(), until, reason: reason.to_owned() };
    Ok(vec![Event::GrantKept { grant: id, kept }, Event::PartTaken { incident, person, part: Part::Lead }])
}

/// What time does to a grant.
pub(crate) fn wake(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
) -> Result<Vec<Event>, Refusal> {
    context.only_clock()?;
    let grant = world.grant(id)?;
    let now = context.now;
    let mut events = Vec::new();
    match grant.state {
        GrantState::Scheduled if now >= grant.activate_by => {
            events = never_begun(grant, "it was not begun within the time that an approval is good for");
            if world.request(grant.request)?.state != RequestState::Approved {
                events.truncate(1);
            }
        }
        GrantState::Activating if now >= grant.activate_by => {
            events.push(failed(grant, now, "the connector did not answer in time"));
        }
        GrantState::Active => {
            let deadline = grant.deadline.unwrap_or(now);
            if now >= deadline {
                events = end(context, facts, grant, GrantEnd::Expired, None, None);
            } else if !grant.warned && now.plus(warn_before(grant)) >= deadline {
                events.push(Event::DeadlineNear { grant: id, deadline });
            }
        }
        GrantState::Revoking | GrantState::RevocationFailed | GrantState::ActivationFailed => {
            if let Some(done) = settled(grant, now) {
                return Ok(vec![done]);
            }
            if grant.deactivated && grant.look_at.is_some_and(|at| now >= at) {
                events.push(Event::LookAsked {
                    grant: id,
                    at: now,
                    next: now.plus(look_interval(grant.looks + 1).plus(LOOK_LOST_AFTER)),
                });
            }
            if !grant.late_alerted && now >= late_from(grant, facts) {
                events.push(Event::RevocationLate { grant: id });
            }
        }
        GrantState::Scheduled | GrantState::Activating | GrantState::Revoked | GrantState::Cancelled => {}
    }
    Ok(events)
}

/// Short grants are warned of in their last tenth.
fn warn_before(grant: &Grant) -> Span {
    WARN_BEFORE.min(Span::micros(grant.duration.as_micros() / 10))
}

fn late_from(grant: &Grant, facts: &Facts<'_>) -> Time {
    let from = grant.provable_at.or(grant.ended_at).unwrap_or(grant.activate_by);
    from.plus(facts.catalog.settings.revocation_late_after)
}

/// When [`wake`] wants to be called next; `late_after` is the catalog's `revocation_late_after`.
pub fn due_at(grant: &Grant, late_after: Span) -> Option<Time> {
    match grant.state {
        GrantState::Scheduled | GrantState::Activating => Some(grant.activate_by),
        GrantState::Active => {
            let deadline = grant.deadline?;
            Some(if grant.warned { deadline } else { deadline.minus(warn_before(grant)) })
        }
        GrantState::Revoking | GrantState::RevocationFailed | GrantState::ActivationFailed => {
            let from = grant.provable_at.or(grant.ended_at).unwrap_or(grant.activate_by);
            let late = (!grant.late_alerted).then(|| from.plus(late_after));
            [grant.look_at.filter(|_| grant.deactivated), late].into_iter().flatten().min()
        }
        GrantState::Revoked | GrantState::Cancelled => None,
    }
}

/// May this person see the grant (rule 13)?
pub fn may_oversee(facts: &Facts<'_>, grant: &Grant, person: &PersonId, now: Time) -> bool {
    grant.person == *person
        || [
            OfficeName::SecurityOfficer,
            OfficeName::IncidentLead,
            OfficeName::Auditor,
            OfficeName::PlatformOwner,
        ]
        .iter()
        .any(|office| facts.catalog.holds(person, *office))
        || owns(facts, grant, person, now)
}

//! Deciding a request: approve, deny, take back, withdraw, escalate, bypass, and what time does to it.

use super::approval::{self, barred, eligible, factor_counts};
use super::file::{
    approves_itself, fits_scenario, join, mark_blocked, open_steps, rule_for, sensitivity, set_digests,
};
use super::{Bypass, Decision, Mode, Request, RequestState, Verdict};
use crate::catalog::{OfficeName, ResolvedEntitlement, TimerAction, WhoContext};
use crate::command::FileRequest;
use crate::decide::{Context, said, text};
use crate::event::Event;
use crate::grant::{Grant, GrantState};
use crate::ids::{IncidentId, Name, PersonId, RequestId};
use crate::incident::{self, Part};
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::time::{Span, Time};
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

fn pending(request: &Request) -> Result<(), Refusal> {
    if request.state == RequestState::Pending {
        return Ok(());
    }
    let state = match request.state {
        RequestState::Pending => "pending",
        RequestState::Approved => "approved",
        RequestState::Denied => "denied",
        RequestState::Withdrawn => "withdrawn",
        RequestState::Lapsed => "lapsed",
        RequestState::Superseded => "superseded",
    };
    Err(Refusal::new(RefusalCode::WrongState, format!("the request is {state} already")))
}

fn part(request: &Request, person: &PersonId, part: Part) -> Option<Event> {
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
    let request = world.request(id)?;
    let person = context.person()?.clone();
    let now = context.now;
    context.no_token("decide a request")?;
    pending(request)?;
    if now >= request.lapses_at {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            format!("the request lapsed at {}", request.lapses_at),
        ));
    }
    let entitlement = entitlement_of(facts, request)?;
    let open: Vec<&super::OpenStep> = request
        .steps
        .iter()
        .filter(|step| eligible(facts, request, entitlement, step, now).contains(&person))
        .collect();
    let security = facts.catalog.holds(&person, OfficeName::SecurityOfficer);
    if let Some(reason) = reason {
        text("reason", reason, 2000)?;
    }
    if verdict == Verdict::Deny {
        if open.is_empty() && !security {
            return Err(refuse_stranger(facts, request, entitlement, &person, now));
        }
        let decision = decision(request, &person, now, verdict, reason, None);
        let mut events = vec![
            Event::Decided { request: id, decision },
            Event::RequestDenied {
                request: id,
                person: person.clone(),
                entitlement: request.entitlement.clone(),
                requester: request.beneficiary.clone(),
                at: now,
            },
        ];
        events.extend(part(request, &person, Part::Approver));
        return Ok(events);
    }
    if open.is_empty() {
        return Err(refuse_stranger(facts, request, entitlement, &person, now));
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
    let usable: Vec<_> = open.into_iter().filter(|step| factor_counts(step, Some(factor))).collect();
    if usable.is_empty() {
        return Err(Refusal::new(
            RefusalCode::SecondFactor,
            "this approval needs another kind of second factor",
        ));
    }
    if usable.iter().all(|step| step.step.reason_required)
        && reason.is_none_or(|reason| reason.trim().is_empty())
    {
        return Err(
            Refusal::new(RefusalCode::Incomplete, "this approval needs a reason").next("add --reason \"…\"")
        );
    }
    let decision = decision(request, &person, now, verdict, reason, Some(factor));
    let mut after = request.clone();
    after.decisions.push(decision.clone());
    let mut events = vec![Event::Decided { request: id, decision }];
    events.extend(part(request, &person, Part::Approver));
    // While a loud wait runs, one approver is enough (rule 6).
    let waiting = after.bypass.as_ref().is_some_and(|bypass| !bypass.in_effect);
    if approval::standing(facts, &after, entitlement, now).satisfied {
        events.extend(granted(world, facts, context, &after, entitlement)?);
    } else if waiting {
        events.extend(bypass_takes_effect(world, facts, context, &after, entitlement)?);
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
    if let Some(why) = barred(facts, request, person) {
        return Refusal::new(RefusalCode::SeparationOfDuties, why).next("another approver must decide");
    }
    let context = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    let named = request.steps.iter().any(|step| {
        facts.catalog.is_among(person, &step.approvers, context)
            || facts.catalog.is_among(person, &step.step.fallback, context)
    });
    if named {
        let age = facts.catalog.settings.approver_minimum_age;
        return Refusal::new(
            RefusalCode::NotAllowed,
            format!("you do not count as approver until {age} after you got the role"),
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
    if request.state == RequestState::Approved
        && grant.is_none_or(|grant| grant.state != GrantState::Scheduled)
    {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "access has begun; an approval cannot be taken back any more",
        )
        .next("end it with `halligan revoke`"));
    }
    let why = "taken back by the approver".to_owned();
    let mut events = vec![Event::DecisionVoided { request: id, person, why: why.clone() }];
    if let Some(grant) = grant {
        events.push(Event::GrantCancelled { grant: grant.id, why });
        events.push(Event::RequestReopened { request: id, lapses_at: request.lapses_at });
    } else {
        pending(request)?;
    }
    Ok(events)
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

/// What an escalation says.
pub(crate) struct Graver<'a> {
    pub severity: &'a Name,
    pub scenario: &'a Name,
    pub criteria_confirmed: bool,
    pub incident: Option<IncidentId>,
    pub number: u64,
    pub reason: &'a str,
}

/// The same request, graver: other steps, and approvals carried only where they still fit.
pub(crate) fn escalate(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
    to: &Graver<'_>,
) -> Result<Vec<Event>, Refusal> {
    let request = world.request(id)?;
    let person = context.person()?.clone();
    if person != request.requester && person != request.beneficiary {
        return Err(Refusal::not_found(format_args!("request {id}")));
    }
    context.no_token("escalate a request")?;
    context.fresh_factor(facts)?;
    pending(request)?;
    said("reason", to.reason, 2000)?;
    let now = context.now;
    let rank = |name: &Name| facts.catalog.severities.get(name).map_or(u8::MAX, |severity| severity.rank);
    if request.severity.as_ref().is_some_and(|old| rank(to.severity) >= rank(old)) {
        return Err(Refusal::new(
            RefusalCode::DoesNotFit,
            format!("{} is not graver than the request is already", to.severity),
        ));
    }
    let entitlement = entitlement_of(facts, request)?;
    let file = FileRequest {
        beneficiary: request.beneficiary.clone(),
        entitlement: request.entitlement.clone(),
        mode: Mode::Emergency,
        severity: Some(to.severity.clone()),
        severity_attested: false,
        scenario: Some(to.scenario.clone()),
        criteria_confirmed: to.criteria_confirmed,
        incident: to.incident,
        incident_number: to.number,
        reason: to.reason.to_owned(),
        link: request.link.clone(),
        why_not_lower: Some(request.why_not_lower.clone().unwrap_or_else(|| to.reason.to_owned())),
        duration: Some(request.duration),
        batch: request.batch,
    };
    fits_scenario(facts, &person, &file, entitlement, now)?;
    let durations = entitlement.entitlement.durations_at(Some(to.severity));
    if request.duration > durations.longest {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!(
                "at {} {} may be held for at most {}",
                to.severity, request.entitlement, durations.longest
            ),
        ));
    }
    let (policy, rule) = rule_for(facts, entitlement, Mode::Emergency, Some(to.severity))?;
    let class = sensitivity(facts, entitlement)?;
    let mut events = Vec::new();
    let incident = match to.incident.or(request.incident) {
        Some(id) => join(world, id, &mut events)?,
        None => {
            let title = format!("{}: {}", request.entitlement, to.reason.lines().next().unwrap_or_default());
            let opened = incident::fresh(
                context,
                &title,
                to.severity.clone(),
                Some(to.scenario.clone()),
                &person,
                to.number,
            );
            let id = opened.id;
            events.push(Event::IncidentOpened { incident: Box::new(opened) });
            id
        }
    };
    let mut graver = request.clone();
    graver.mode = Mode::Emergency;
    graver.severity = Some(to.severity.clone());
    graver.severity_attested = false;
    graver.scenario = Some(to.scenario.clone());
    graver.incident = Some(incident);
    graver.reason = format!("{}\nEscalated: {}", request.reason, to.reason);
    graver.policy = policy.clone();
    graver.catalog_version = facts.catalog_version;
    graver.steps = open_steps(rule);
    graver.distinct_approvers = class.1;
    graver.timers_from = now;
    graver.lapses_at = now.plus(facts.catalog.settings.request_lapses_after);
    graver.version += 1;
    set_digests(&mut graver);
    for (person, part) in [(&request.requester, Part::Requester), (&request.beneficiary, Part::Beneficiary)] {
        events.push(Event::PartTaken { incident, person: person.clone(), part });
    }
    let eligible_now = approval::standing(facts, &graver, entitlement, now).eligible;
    for decision in graver.decisions.iter_mut().filter(|decision| !decision.void) {
        let still = eligible_now.iter().any(|people| people.contains(&decision.person));
        decision.carried = still;
        decision.void = !still;
        if still {
            events.push(Event::PartTaken { incident, person: decision.person.clone(), part: Part::Approver });
        }
    }
    mark_blocked(facts, &mut graver, entitlement, now);
    events.push(Event::Escalated {
        request: id,
        by: person,
        reason: to.reason.to_owned(),
        to: Box::new(graver.clone()),
    });
    if approves_itself(world, facts, &graver, rule, class.0, now) {
        graver.automatic = true;
        events.extend(granted(world, facts, context, &graver, entitlement)?);
        events.push(review::opened(context, facts, ReviewKind::RetroactiveApproval, About::request(&graver)));
    } else if approval::standing(facts, &graver, entitlement, now).satisfied {
        events.extend(granted(world, facts, context, &graver, entitlement)?);
    }
    Ok(events)
}

/// Goes in without waiting for approval (rule 6).
pub(crate) fn bypass(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
    reason: &str,
    confirmation: &str,
) -> Result<Vec<Event>, Refusal> {
    let request = world.request(id)?;
    let person = context.person()?.clone();
    if person != request.beneficiary {
        return Err(Refusal::not_found(format_args!("request {id}")));
    }
    context.no_token("bypass approval")?;
    context.own_factor(facts)?;
    pending(request)?;
    said("reason", reason, 2000)?;
    let now = context.now;
    if now >= request.lapses_at {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            format!("the request lapsed at {}", request.lapses_at),
        ));
    }
    let entitlement = entitlement_of(facts, request)?;
    let scenario =
        request.scenario.as_ref().and_then(|name| facts.catalog.scenarios.get(name)).ok_or_else(|| {
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
    if confirmation.trim() != request.entitlement.to_string() {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("type the entitlement, {}, to confirm the bypass", request.entitlement),
        ));
    }
    let found = approval::standing(facts, request, entitlement, now);
    let not_waited_for = found
        .eligible
        .iter()
        .flatten()
        .filter(|person| !found.counted.contains_key(*person))
        .cloned()
        .collect();
    let open_review = !world.standing(&person).bypass_reviews.is_empty();
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
    let mut after = request.clone();
    after.bypass = Some(bypass.clone());
    let mut events = vec![Event::BypassAsked { request: id, person: person.clone(), bypass }];
    events.extend(part(request, &person, Part::Bypasser));
    if wait == Span::ZERO {
        events.extend(bypass_takes_effect(world, facts, context, &after, entitlement)?);
    }
    Ok(events)
}

fn bypass_takes_effect(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
) -> Result<Vec<Event>, Refusal> {
    let mut after = request.clone();
    if let Some(bypass) = &mut after.bypass {
        bypass.in_effect = true;
    }
    let mut events = vec![Event::BypassTookEffect { request: request.id }];
    events.extend(granted(world, facts, context, &after, entitlement)?);
    events.push(review::opened(context, facts, ReviewKind::Bypass, About::request(&after)));
    Ok(events)
}

/// The request is approved: a grant, or more time on the one that it extends.
pub(crate) fn granted(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
) -> Result<Vec<Event>, Refusal> {
    let now = context.now;
    let mut events =
        vec![Event::RequestApproved { request: request.id, at: now, automatic: request.automatic }];
    let standing = world.standing(&request.beneficiary);
    let window = facts.catalog.settings.regrant_window;
    let running = standing
        .running_use(&request.entitlement, request.incident, now, window)
        .filter(|_| !request.new_total);
    let extensions = running.map_or(0, |used| used.extensions.saturating_add(1));
    if extensions == 2 {
        events.push(review::opened(context, facts, ReviewKind::ExtendedTwice, About::request(request)));
    }
    if let Some(id) = request.extends {
        let grant = world.grant(id)?;
        let deadline = grant.deadline.filter(|deadline| grant.state == GrantState::Active && *deadline > now);
        let Some(deadline) = deadline else {
            return Err(Refusal::new(RefusalCode::WrongState, "the grant to be extended has ended")
                .next("deny this request; a new one can be filed"));
        };
        events.push(Event::GrantExtended {
            grant: id,
            request: request.id,
            deadline: deadline.plus(request.duration),
            by: request.duration,
            fencing: grant.fencing + 1,
        });
        return Ok(events);
    }
    let grant = Grant {
        id: context.ids.make(),
        request: request.id,
        extended_by: Vec::new(),
        person: request.beneficiary.clone(),
        entitlement: request.entitlement.clone(),
        mode: request.mode,
        severity: request.severity.clone(),
        incident: request.incident,
        reason: request.reason.clone(),
        automatic: request.automatic,
        bypassed: request.bypass.as_ref().is_some_and(|bypass| bypass.in_effect),
        durations: entitlement.entitlement.durations_at(request.severity.as_ref()).clone(),
        required_checks: entitlement.entitlement.proof.checks.clone(),
        state: GrantState::Scheduled,
        fencing: 1,
        duration: request.duration,
        scheduled_at: now,
        activate_by: now.plus(facts.catalog.settings.activate_within),
        activated_at: None,
        deadline: None,
        earlier_total: running.map_or(Span::ZERO, |used| used.total),
        extensions,
        warned: false,
        ended_at: None,
        end_reason: None,
        gateways: Default::default(),
        deactivated: false,
        provable_at: None,
        look_at: None,
        looks: 0,
        late_alerted: false,
        checks: Default::default(),
        outcome: None,
        waivers: Default::default(),
        last_session: 0,
        open_sessions: Default::default(),
        kept: None,
    };
    events.push(Event::GrantScheduled { grant: Box::new(grant) });
    Ok(events)
}

/// What time does to a request: lapse, step timers, the end of a loud wait.
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
    if now >= request.lapses_at {
        return Ok(vec![Event::RequestLapsed { request: id }]);
    }
    let Ok(entitlement) = entitlement_of(facts, request) else {
        return Ok(vec![Event::RequestLapsed { request: id }]);
    };
    if request.bypass.as_ref().is_some_and(|bypass| !bypass.in_effect && now >= bypass.effective_at) {
        return bypass_takes_effect(world, facts, context, request, entitlement);
    }
    let mut events = Vec::new();
    let mut after = request.clone();
    for (index, step) in after.steps.iter_mut().enumerate() {
        let Some(timer) = step.step.timer.clone().filter(|_| !step.timer_done) else { continue };
        if now < request.timers_from.plus(timer.after) {
            continue;
        }
        match timer.then {
            TimerAction::Lapse(true) => return Ok(vec![Event::RequestLapsed { request: id }]),
            TimerAction::Lapse(false) => continue,
            TimerAction::Reassign(to) => step.approvers = to,
            TimerAction::Widen(to) => step.approvers.extend(to),
        }
        step.timer_done = true;
        events.push(Event::StepMoved { request: id, step: index as u32, approvers: step.approvers.clone() });
    }
    let before: Vec<bool> = after.steps.iter().map(|step| step.blocked).collect();
    mark_blocked(facts, &mut after, entitlement, now);
    for (index, (step, was)) in after.steps.iter().zip(before).enumerate() {
        if step.blocked != was {
            events.push(Event::StepBlocked { request: id, step: index as u32, blocked: step.blocked });
        }
    }
    if approval::standing(facts, &after, entitlement, now).satisfied {
        events.extend(granted(world, facts, context, &after, entitlement)?);
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
        .filter_map(|step| step.step.timer.as_ref().map(|timer| request.timers_from.plus(timer.after)));
    let bypass = request.bypass.iter().filter(|bypass| !bypass.in_effect).map(|bypass| bypass.effective_at);
    timers.chain(bypass).chain([request.lapses_at]).min()
}

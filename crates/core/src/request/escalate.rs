//! The same request, graver: other steps, and approvals carried only where they still fit.

use super::approval::{factor_counts, may_approve, met};
use super::decide::{entitlement_of, open};
use super::granted::granted;
use super::scenario::fits_scenario;
use super::{
    Mode, approves_itself, join, mark_blocked, open_steps, rule_for, running_total, sensitivity, set_digests,
};
use crate::command::FileRequest;
use crate::decide::{Context, said};
use crate::event::Event;
use crate::ids::{IncidentId, Name, RequestId};
use crate::incident::{self, Part};
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::world::{Facts, World};

/// What an escalation says.
pub(crate) struct Graver<'a> {
    pub severity: &'a Name,
    pub scenario: &'a Name,
    pub criteria_confirmed: bool,
    pub incident: Option<IncidentId>,
    pub number: u64,
    pub reason: &'a str,
}

/// Handles [`Command::Escalate`](crate::command::Command::Escalate).
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
    said("reason", to.reason, 1000)?;
    let now = context.now;
    open(world, request, now)?;
    fits_state(facts, request, to)?;
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
    let longest = durations.longest.min(durations.ceiling);
    if request.duration > longest {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("at {} {} may be held for at most {longest}", to.severity, request.entitlement),
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
    let total = running_total(world, facts, &graver, entitlement, now);
    graver.new_total = total.new_total;
    graver.earlier_approvers = total.approvers;
    for (person, part) in [(&request.requester, Part::Requester), (&request.beneficiary, Part::Beneficiary)] {
        events.push(Event::PartTaken { incident, person: person.clone(), part });
    }
    // An approval is carried only if the new policy still names that person, for the factor that they used.
    let before = graver.clone();
    for decision in graver.decisions.iter_mut() {
        let still = !decision.void
            && before.steps.iter().any(|step| {
                factor_counts(step, decision.factor)
                    && may_approve(facts, &before, entitlement, step, &decision.person, decision.at)
            });
        decision.carried |= still;
        decision.void = !still;
        events.push(Event::PartTaken { incident, person: decision.person.clone(), part: Part::Approver });
    }
    let approved = approves_itself(world, facts, &graver, rule, class.0, now);
    super::decidable(&graver, &approved)?;
    if !approved.yes() {
        mark_blocked(facts, &mut graver, entitlement, now);
    }
    events.push(Event::Escalated {
        request: id,
        by: person,
        reason: to.reason.to_owned(),
        to: Box::new(graver.clone()),
    });
    if approved.yes() {
        graver.automatic = true;
        let found = granted(world, facts, context, &graver, entitlement)?;
        events.extend(found.events);
        let mut about = About::request(&graver);
        about.grant = found.grant;
        events.push(review::opened(context, facts, ReviewKind::RetroactiveApproval, about));
    } else if met(facts, &graver, entitlement).satisfied {
        events.extend(granted(world, facts, context, &graver, entitlement)?.events);
    }
    Ok(events)
}

/// Can this request become that?
fn fits_state(facts: &Facts<'_>, request: &super::Request, to: &Graver<'_>) -> Result<(), Refusal> {
    let rank = |name: &Name| facts.catalog.severities.get(name).map_or(u8::MAX, |severity| severity.rank);
    if request.severity.as_ref().is_some_and(|old| rank(to.severity) >= rank(old)) {
        return Err(Refusal::new(
            RefusalCode::DoesNotFit,
            format!("{} is not graver than the request is already", to.severity),
        ));
    }
    if request.extends.is_some() {
        return Err(Refusal::new(
            RefusalCode::DoesNotFit,
            "a request for more time is as grave as the grant that it extends",
        )
        .next("withdraw it, and file an emergency request"));
    }
    if request.bypass.is_some() {
        return Err(Refusal::new(RefusalCode::WrongState, "a bypass of this request is under way already"));
    }
    // One command touches one incident: the old one would be left with a request that is not its own.
    if let (Some(old), Some(new)) = (request.incident, to.incident)
        && old != new
    {
        return Err(Refusal::new(
            RefusalCode::DoesNotFit,
            format!("the request belongs to another incident already ({old})"),
        )
        .next("escalate it there, or withdraw it and file a new one"));
    }
    Ok(())
}

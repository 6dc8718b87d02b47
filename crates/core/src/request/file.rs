//! Filing a request, extending a grant, escalating: the question is put together and checked against the catalog.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::approval::standing;
use super::{Mode, OpenStep, Request, RequestState, granted};
use crate::catalog::{Durations, PolicyRule, ResolvedEntitlement, SeverityWord, WhoContext};
use crate::command::FileRequest;
use crate::decide::{Context, text};
use crate::event::Event;
use crate::grant::GrantState;
use crate::ids::{GrantId, IncidentId, Name, PersonId, RequestId};
use crate::incident::{self, IncidentState, Part};
use crate::refusal::{Refusal, RefusalCode};
use crate::review::ReviewKind;
use crate::time::{Span, Time};
use crate::world::{Facts, World};

/// Handles [`Command::FileRequest`](crate::command::Command::FileRequest).
pub(crate) fn file(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    file: &FileRequest,
) -> Result<Vec<Event>, Refusal> {
    let requester = context.person()?.clone();
    match file.mode {
        Mode::Emergency => {
            context.no_token("ask for emergency access")?;
            context.fresh_factor(facts)?;
        }
        Mode::Standard if context.is_token() => {}
        Mode::Standard => {
            context.fresh_factor(facts)?;
        }
    }
    let ask = Ask { requester, file, extends: None };
    put_together(world, facts, context, &ask)
}

/// Handles [`Command::Extend`](crate::command::Command::Extend): a child request for the same entitlement.
pub(crate) fn extend(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: GrantId,
    duration: Span,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let requester = context.person()?.clone();
    context.no_token("extend a grant")?;
    context.fresh_factor(facts)?;
    let grant = world.grant(id)?;
    if grant.person != requester {
        return Err(Refusal::not_found(format_args!("grant {id}")));
    }
    if grant.state != GrantState::Active || grant.deadline.is_none_or(|deadline| deadline <= context.now) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "failed to extend: the grant is not active any more",
        )
        .next("ask for it again with `halligan request`"));
    }
    let parent = world.request(grant.request)?;
    let file = FileRequest {
        beneficiary: grant.person.clone(),
        entitlement: grant.entitlement.clone(),
        mode: grant.mode,
        severity: grant.severity.clone(),
        severity_attested: parent.severity_attested,
        scenario: parent.scenario.clone(),
        criteria_confirmed: true,
        incident: grant.incident,
        incident_number: 0,
        reason: reason.to_owned(),
        link: parent.link.clone(),
        why_not_lower: parent.why_not_lower.clone(),
        duration: Some(duration),
        batch: None,
    };
    put_together(world, facts, context, &Ask { requester, file: &file, extends: Some(id) })
}

struct Ask<'a> {
    requester: PersonId,
    file: &'a FileRequest,
    extends: Option<GrantId>,
}

fn put_together(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    ask: &Ask<'_>,
) -> Result<Vec<Event>, Refusal> {
    let file = ask.file;
    let now = context.now;
    let entitlement = facts
        .entitlements
        .get(&file.entitlement)
        .ok_or_else(|| Refusal::not_found(format_args!("entitlement {}", file.entitlement)))?;
    text("reason", &file.reason, 2000)?;
    if file.reason.trim().is_empty() {
        return Err(
            Refusal::new(RefusalCode::Incomplete, "a request needs a reason").next("add --reason \"…\"")
        );
    }
    may_ask(facts, &ask.requester, &file.beneficiary, entitlement, now)?;
    let severity = match file.mode {
        Mode::Standard => None,
        Mode::Emergency => Some(fits_scenario(facts, &ask.requester, file, entitlement, now)?),
    };
    fits_link(entitlement, file.link.as_deref())?;
    let durations = entitlement.entitlement.durations_at(severity.as_ref());
    let duration = file.duration.unwrap_or(durations.default);
    if duration == Span::ZERO || duration > durations.longest {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("{} may be held for at most {} at a time", file.entitlement, durations.longest),
        )
        .next(format!("ask for --for {} or less", durations.longest)));
    }
    let mut events = Vec::new();
    let incident = match file.mode {
        Mode::Standard => file.incident.map(|id| join(world, id, &mut events)).transpose()?,
        Mode::Emergency => Some(match file.incident {
            Some(id) => join(world, id, &mut events)?,
            None => {
                let title = format!("{}: {}", file.entitlement, first_line(&file.reason));
                let severity = severity
                    .clone()
                    .ok_or_else(|| Refusal::new(RefusalCode::Incomplete, "severity missing"))?;
                let opened = incident::fresh(
                    context,
                    &title,
                    severity,
                    file.scenario.clone(),
                    &ask.requester,
                    file.incident_number,
                );
                let id = opened.id;
                events.push(Event::IncidentOpened { incident: Box::new(opened) });
                id
            }
        }),
    };
    let id: RequestId = context.ids.make();
    let (policy, rule) = rule_for(facts, entitlement, file.mode, severity.as_ref())?;
    let total = running_total(world, facts, ask, incident, durations, duration, now);
    let sensitivity = sensitivity(facts, entitlement)?;
    let mut request = Request {
        id,
        batch: file.batch,
        requester: ask.requester.clone(),
        beneficiary: file.beneficiary.clone(),
        entitlement: file.entitlement.clone(),
        mode: file.mode,
        severity,
        severity_attested: file.severity_attested,
        scenario: file.scenario.clone(),
        incident,
        reason: file.reason.clone(),
        link: file.link.clone(),
        why_not_lower: file.why_not_lower.clone(),
        duration,
        extends: ask.extends,
        new_total: total.new_total,
        earlier_approvers: total.approvers,
        filed_at: now,
        timers_from: now,
        lapses_at: now.plus(facts.catalog.settings.request_lapses_after),
        policy: policy.clone(),
        catalog_version: facts.catalog_version,
        steps: open_steps(rule),
        distinct_approvers: sensitivity.1,
        decisions: Vec::new(),
        bypass: None,
        automatic: false,
        state: RequestState::Pending,
        version: 1,
        scope_digest: String::new(),
        context_digest: String::new(),
        grant: None,
    };
    set_digests(&mut request);
    if let Some(incident) = incident {
        for (person, part) in [(&ask.requester, Part::Requester), (&file.beneficiary, Part::Beneficiary)] {
            events.push(Event::PartTaken { incident, person: person.clone(), part });
        }
    }
    let automatic = approves_itself(world, facts, &request, rule, sensitivity.0, now);
    if !automatic && request.steps.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("policy {policy} approves this by itself only within its limits, and they are passed"),
        )
        .next("ask for a shorter time, or speak to a security officer"));
    }
    if !automatic {
        mark_blocked(facts, &mut request, entitlement, now);
    }
    events.push(Event::RequestFiled { request: Box::new(request.clone()) });
    if automatic {
        request.automatic = true;
        events.extend(granted(world, facts, context, &request, entitlement)?);
        events.push(crate::review::opened(
            context,
            facts,
            ReviewKind::RetroactiveApproval,
            crate::review::About::request(&request),
        ));
    }
    Ok(events)
}

/// Marks steps that nobody may approve: blocked and alerting, never satisfied (rule 3).
pub(crate) fn mark_blocked(
    facts: &Facts<'_>,
    request: &mut Request,
    entitlement: &ResolvedEntitlement,
    now: Time,
) {
    let found = standing(facts, request, entitlement, now);
    for (step, people) in request.steps.iter_mut().zip(&found.eligible) {
        step.blocked = people.len() < usize::from(step.step.quorum.max(1));
    }
}

pub(crate) fn open_steps(rule: &PolicyRule) -> Vec<OpenStep> {
    rule.steps
        .iter()
        .map(|step| OpenStep {
            step: step.clone(),
            approvers: step.approvers.clone(),
            timer_done: false,
            blocked: false,
        })
        .collect()
}

fn may_ask(
    facts: &Facts<'_>,
    requester: &PersonId,
    beneficiary: &PersonId,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> Result<(), Refusal> {
    let context = WhoContext { beneficiary, system: Some(&entitlement.system), now };
    for person in [requester, beneficiary] {
        if facts.catalog.people.get(person).is_none_or(|found| found.left) {
            return Err(Refusal::not_found(format_args!("person {person}")));
        }
    }
    if !facts.catalog.is_among(beneficiary, &entitlement.entitlement.requested_by, context) {
        // The same words as for an entitlement that does not exist: need to know (rule 13).
        return Err(Refusal::not_found(format_args!("entitlement {}", entitlement.name)));
    }
    Ok(())
}

/// Rule 1: person, entitlement and severity fit the scenario, and its criteria are confirmed.
pub(crate) fn fits_scenario(
    facts: &Facts<'_>,
    requester: &PersonId,
    file: &FileRequest,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> Result<Name, Refusal> {
    let unfit = |say: String| Refusal::new(RefusalCode::DoesNotFit, say);
    if !entitlement.entitlement.emergency {
        return Err(unfit(format!("{} cannot be had in an emergency", entitlement.name)));
    }
    let severity = file.severity.as_ref().ok_or_else(|| {
        Refusal::new(RefusalCode::Incomplete, "an emergency request needs a severity")
            .next("add --severity sev1")
    })?;
    let scenario_name = file.scenario.as_ref().ok_or_else(|| {
        Refusal::new(RefusalCode::Incomplete, "an emergency request needs a scenario")
            .next("see `halligan catalog scenarios`, then add --scenario NAME")
    })?;
    let scenario = facts
        .catalog
        .scenarios
        .get(scenario_name)
        .ok_or_else(|| unfit(format!("there is no scenario {scenario_name}")))?;
    let known = facts
        .catalog
        .severities
        .get(severity)
        .ok_or_else(|| unfit(format!("there is no severity {severity}")))?;
    let context = WhoContext { beneficiary: requester, system: Some(&entitlement.system), now };
    if !known.declared_by.is_empty() && !facts.catalog.is_among(requester, &known.declared_by, context) {
        return Err(Refusal::new(RefusalCode::NotAllowed, format!("you may not declare {severity}"))
            .next("ask somebody who may, or choose a lower severity"));
    }
    if !scenario.severities.is_empty() && !scenario.severities.contains(severity) {
        return Err(unfit(format!("scenario {scenario_name} is not for {severity}")));
    }
    if !facts.catalog.is_among(requester, &scenario.invoked_by, context) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            format!("you may not invoke scenario {scenario_name}"),
        ));
    }
    if !scenario.scope.iter().any(|scope| scope.covers(&entitlement.system, &entitlement.name.role)) {
        return Err(unfit(format!("{} is not in the scope of scenario {scenario_name}", entitlement.name)));
    }
    if !file.criteria_confirmed && !scenario.criteria.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!(
                "the criteria of scenario {scenario_name} are not confirmed: {}",
                scenario.criteria.join("; ")
            ),
        )
        .next("read them, and add --confirm-criteria if all of them hold"));
    }
    if entitlement.entitlement.ladder > scenario.first_step
        && file.why_not_lower.as_deref().is_none_or(|why| why.trim().is_empty())
    {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("{} is higher on the ladder than this scenario begins with", entitlement.name),
        )
        .next("say why a lower step is not enough: --why-not-lower \"…\""));
    }
    Ok(severity.clone())
}

fn fits_link(entitlement: &ResolvedEntitlement, link: Option<&str>) -> Result<(), Refusal> {
    let Some(pattern) = &entitlement.entitlement.link_pattern else {
        return link.map_or(Ok(()), |link| text("link", link, 500));
    };
    match link {
        Some(link) if matches_pattern(pattern, link) => text("link", link, 500),
        _ => Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("{} needs a link to a ticket of the form {pattern}", entitlement.name),
        )
        .next("add --ticket …")),
    }
}

/// `*` stands for any characters; everything else for itself.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

/// The policy and its rule for this request.
pub(crate) fn rule_for<'a>(
    facts: &'a Facts<'_>,
    entitlement: &'a ResolvedEntitlement,
    mode: Mode,
    severity: Option<&Name>,
) -> Result<(&'a Name, &'a PolicyRule), Refusal> {
    let named = match mode {
        Mode::Standard => entitlement.standard_policy(),
        Mode::Emergency => entitlement.emergency_policy(),
    };
    let name = named.ok_or_else(|| match mode {
        Mode::Standard => Refusal::new(
            RefusalCode::DoesNotFit,
            format!("{} can be had only in an emergency", entitlement.name),
        )
        .next("add --emergency"),
        Mode::Emergency => {
            Refusal::new(RefusalCode::DoesNotFit, format!("{} has no emergency policy", entitlement.name))
        }
    })?;
    let rule =
        facts.catalog.policies.get(name).and_then(|policy| policy.rule_at(severity)).ok_or_else(|| {
            Refusal::new(RefusalCode::DoesNotFit, format!("policy {name} has no rule for this severity"))
        })?;
    Ok((name, rule))
}

/// May its policy approve by itself, and how many distinct approvers does the class demand?
pub(crate) fn sensitivity(
    facts: &Facts<'_>,
    entitlement: &ResolvedEntitlement,
) -> Result<(bool, u8), Refusal> {
    match &entitlement.entitlement.sensitivity {
        None => Ok((true, 0)),
        Some(name) => facts
            .catalog
            .sensitivities
            .get(name)
            .map(|class| (class.automatic_approval, class.distinct_approvers))
            .ok_or_else(|| Refusal::new(RefusalCode::DoesNotFit, format!("there is no sensitivity {name}"))),
    }
}

/// Rule 3: automatic approval within its limits.
pub(crate) fn approves_itself(
    world: &World,
    facts: &Facts<'_>,
    request: &Request,
    rule: &PolicyRule,
    class_permits: bool,
    now: Time,
) -> bool {
    let Some(automatic) = &rule.automatic else { return false };
    let settings = &facts.catalog.settings;
    let standing = world.standing(&request.beneficiary);
    let today = standing.automatic.iter().filter(|at| now.since(**at) < Span::days(1)).count();
    let denied = standing.denials.iter().any(|(entitlement, at)| {
        *entitlement == request.entitlement && now.since(*at) < settings.denial_blocks_automatic
    });
    class_permits
        && !request.new_total
        && request.distinct_approvers == 0
        && request.duration <= automatic.longest
        && (automatic.severity == SeverityWord::Claimed || request.severity_attested)
        && today < automatic.per_person_and_day as usize
        && !denied
}

struct Total {
    new_total: bool,
    approvers: BTreeSet<PersonId>,
}

/// Rule 7: an extension, or a new grant soon after the last, continues a total; at the ceiling somebody else starts a new one.
fn running_total(
    world: &World,
    facts: &Facts<'_>,
    ask: &Ask<'_>,
    incident: Option<IncidentId>,
    durations: &Durations,
    duration: Span,
    now: Time,
) -> Total {
    let standing = world.standing(&ask.file.beneficiary);
    match standing.running_use(&ask.file.entitlement, incident, now, facts.catalog.settings.regrant_window) {
        Some(used) => Total {
            new_total: used.total.plus(duration) > durations.ceiling
                || used.extensions >= durations.extensions,
            approvers: used.approvers.clone(),
        },
        None => Total { new_total: duration > durations.ceiling, approvers: BTreeSet::new() },
    }
}

/// Joins an incident that exists; one that was settled opens again (rule: a new request for it reopens it).
pub(crate) fn join(world: &World, id: IncidentId, events: &mut Vec<Event>) -> Result<IncidentId, Refusal> {
    let incident = world.incident(id)?;
    if incident.state != IncidentState::Open {
        events
            .push(Event::IncidentReopened { incident: id, why: "a new request was filed for it".to_owned() });
    }
    Ok(id)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(80).collect()
}

/// Both digests, over canonical JSON of what they cover.
pub(crate) fn set_digests(request: &mut Request) {
    let digest = |parts: &[&dyn erased::Text]| {
        let mut hash = Sha256::new();
        for part in parts {
            let text = part.text();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hex::encode(hash.finalize())
    };
    request.scope_digest = digest(&[
        &"halligan-scope-v1",
        &request.id.to_string(),
        &request.beneficiary.to_string(),
        &request.entitlement.to_string(),
        &request.duration.to_string(),
        &request.extends.map(|grant| grant.to_string()).unwrap_or_default(),
    ]);
    request.context_digest = digest(&[
        &"halligan-context-v1",
        &request.severity.as_ref().map(ToString::to_string).unwrap_or_default(),
        &request.scenario.as_ref().map(ToString::to_string).unwrap_or_default(),
        &request.reason,
        &request.incident.map(|incident| incident.to_string()).unwrap_or_default(),
        &request.link.clone().unwrap_or_default(),
    ]);
}

mod erased {
    /// Something with text.
    pub trait Text {
        fn text(&self) -> &str;
    }
    impl Text for &str {
        fn text(&self) -> &str {
            self
        }
    }
    impl Text for String {
        fn text(&self) -> &str {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_patterns() {
        assert!(matches_pattern("OPS-*", "OPS-123"));
        assert!(!matches_pattern("OPS-*", "DEV-123"));
        assert!(matches_pattern("https://*/browse/*", "https://t.example/browse/OPS-1"));
        assert!(!matches_pattern("OPS-1", "OPS-12"));
        assert!(matches_pattern("*", ""));
    }
}

//! Filing a request, extending a grant: the question is put together and checked against the catalog.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::approval::is_staffed;
use super::scenario::{fits_link, fits_scenario};
use super::{Mode, OpenStep, Request, RequestState, granted};
use crate::catalog::{PolicyRule, ResolvedEntitlement, SeverityWord, WhoContext};
use crate::command::FileRequest;
use crate::decide::{Context, text};
use crate::event::Event;
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
    let ask = Ask { requester, file, extends: None, earlier_requesters: BTreeSet::new() };
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
    if !grant.in_force(context.now) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "failed to extend: the grant is not active any more",
        )
        .next("ask for it again with `halligan request`"));
    }
    if let Some(asked) = grant.pending_extension {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            format!("more time has been asked for already ({asked})"),
        )
        .next("wait for the decision, or withdraw it and ask anew"));
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
    let mut earlier_requesters = parent.earlier_requesters.clone();
    earlier_requesters.insert(parent.requester.clone());
    put_together(
        world,
        facts,
        context,
        &Ask { requester, file: &file, extends: Some(id), earlier_requesters },
    )
}

struct Ask<'a> {
    requester: PersonId,
    file: &'a FileRequest,
    extends: Option<GrantId>,
    earlier_requesters: BTreeSet<PersonId>,
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
    if let Some(why) = &file.why_not_lower {
        text("reason why a lower step is not enough", why, 1000)?;
    }
    may_ask(facts, &ask.requester, &file.beneficiary, entitlement, now)?;
    let severity = match file.mode {
        Mode::Standard => None,
        // More time is as grave as the grant is; its scenario was invoked when that was asked for.
        Mode::Emergency if ask.extends.is_some() => file.severity.clone(),
        Mode::Emergency => Some(fits_scenario(facts, &ask.requester, file, entitlement, now)?),
    };
    fits_link(entitlement, file.link.as_deref())?;
    let durations = entitlement.entitlement.durations_at(severity.as_ref());
    let duration = file.duration.unwrap_or(durations.default);
    let longest = durations.longest.min(durations.ceiling);
    if duration == Span::ZERO || duration > longest {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("{} may be held for at most {longest} at a time", file.entitlement),
        )
        .next(format!("ask for --for {longest} or less")));
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
    let sensitivity = sensitivity(facts, entitlement)?;
    let mut request = Request {
        id,
        batch: file.batch,
        requester: ask.requester.clone(),
        beneficiary: file.beneficiary.clone(),
        entitlement: file.entitlement.clone(),
        mode: file.mode,
        severity,
        severity_attested: file.severity_attested && file.mode == Mode::Emergency,
        scenario: file.scenario.clone().filter(|_| file.mode == Mode::Emergency),
        incident,
        reason: file.reason.clone(),
        link: file.link.clone(),
        why_not_lower: file.why_not_lower.clone(),
        duration,
        extends: ask.extends,
        new_total: false,
        earlier_approvers: BTreeSet::new(),
        earlier_requesters: ask.earlier_requesters.clone(),
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
    let total = running_total(world, facts, &request, entitlement, now);
    request.new_total = total.new_total;
    request.earlier_approvers = total.approvers;
    if let Some(incident) = incident {
        for (person, part) in [(&ask.requester, Part::Requester), (&file.beneficiary, Part::Beneficiary)] {
            events.push(Event::PartTaken { incident, person: person.clone(), part });
        }
    }
    let approved = approves_itself(world, facts, &request, rule, sensitivity.0, now);
    decidable(&request, &approved)?;
    if !approved.yes() {
        mark_blocked(facts, &mut request, entitlement, now);
    }
    if !approved.yes() {
        events.push(Event::RequestFiled { request: Box::new(request) });
        return Ok(events);
    }
    events.push(Event::RequestFiled { request: Box::new(request.clone()) });
    request.automatic = true;
    let found = granted(world, facts, context, &request, entitlement)?;
    events.extend(found.events);
    let mut about = crate::review::About::request(&request);
    about.grant = found.grant;
    events.push(crate::review::opened(context, facts, ReviewKind::RetroactiveApproval, about));
    Ok(events)
}

/// A request that nobody could ever decide is refused: policy would have approved it only within its limits.
pub(crate) fn decidable(request: &Request, approved: &Approves) -> Result<(), Refusal> {
    if !request.steps.is_empty() {
        return Ok(());
    }
    match approved {
        Approves::Yes | Approves::OnceAttested => Ok(()),
        Approves::No => {
            let policy = &request.policy;
            Err(Refusal::new(
                RefusalCode::Limit,
                format!(
                    "policy {policy} approves this by itself only within its limits, and they are passed"
                ),
            )
            .next("ask for a shorter time, or speak to a security officer"))
        }
    }
}

/// Marks steps that nobody may approve: blocked and alerting, never satisfied (rule 3).
pub(crate) fn mark_blocked(
    facts: &Facts<'_>,
    request: &mut Request,
    entitlement: &ResolvedEntitlement,
    now: Time,
) {
    let blocked: Vec<bool> =
        request.steps.iter().map(|step| !is_staffed(facts, request, entitlement, step, now)).collect();
    for (step, blocked) in request.steps.iter_mut().zip(blocked) {
        step.blocked = blocked;
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

pub(crate) fn may_ask(
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

/// Does policy approve by itself?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approves {
    /// It does.
    Yes,
    /// It would if somebody else vouched for the severity.
    OnceAttested,
    /// A person must.
    No,
}

impl Approves {
    pub(crate) fn yes(self) -> bool {
        self == Self::Yes
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
) -> Approves {
    let Some(automatic) = &rule.automatic else { return Approves::No };
    let settings = &facts.catalog.settings;
    let standing = world.standings.get(&request.beneficiary);
    let today = standing
        .map_or(0, |found| found.automatic.iter().filter(|at| now.since(**at) < Span::days(1)).count());
    let denied = standing.iter().flat_map(|found| &found.denials).any(|(entitlement, at)| {
        *entitlement == request.entitlement && now.since(*at) < settings.denial_blocks_automatic
    });
    let within = class_permits
        && !request.new_total
        && request.distinct_approvers == 0
        && request.duration <= automatic.longest
        && today < automatic.per_person_and_day as usize
        && !denied;
    match (within, automatic.severity) {
        (false, _) => Approves::No,
        (true, SeverityWord::Attested) if !request.severity_attested => Approves::OnceAttested,
        (true, _) => Approves::Yes,
    }
}

/// Where the running total of a request's person and entitlement stands (rule 7).
pub(crate) struct Total {
    /// This request would pass the ceiling or the number of extensions: only a new approver may grant it.
    pub new_total: bool,
    /// Who approved in the running total.
    pub approvers: BTreeSet<PersonId>,
}

/// Rule 7: an extension, or a new grant soon after the last, continues a total; at the ceiling somebody else starts a new one.
pub(crate) fn running_total(
    world: &World,
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> Total {
    let durations = entitlement.entitlement.durations_at(request.severity.as_ref());
    let window = facts.catalog.settings.regrant_window;
    let running = world.running(request, now, window);
    running.map_or(Total { new_total: false, approvers: BTreeSet::new() }, |running| Total {
        new_total: running.total.plus(request.duration) > durations.ceiling
            || running.extensions >= durations.extensions,
        approvers: running.approvers,
    })
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

//! Rules of incidents: who may open, mitigate and close them, and what keeps them open.

use super::rights::{LEADS, may_change_severity, may_declare, seen, written};
use super::{ChangeJudgement, Incident, IncidentState, Note, Part, blockers};
use crate::catalog::OfficeName;
use crate::command::Command;
use crate::decide::{Context, said, text};
use crate::event::Event;
use crate::grant::{self, GrantEnd, GrantState};
use crate::ids::{IncidentId, Name, PersonId};
use crate::refusal::{Refusal, RefusalCode};
use crate::world::{Facts, World};

impl Incident {
    /// Did this person act in it in a way that keeps them from reviewing or waiving (rule 10)?
    pub fn is_party(&self, person: &PersonId) -> bool {
        self.parties.get(person).is_some_and(|parts| !parts.is_empty())
    }
    /// Did this person do anything in it but waive?
    pub(crate) fn did_more_than_waive(&self, person: &PersonId) -> bool {
        self.parties.get(person).is_some_and(|parts| parts.iter().any(|part| *part != Part::Waiver))
    }
    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, IncidentState::Closed | IncidentState::ClosedUnproven)
    }
    /// `INC-7`.
    pub fn label(&self) -> String {
        format!("INC-{}", self.number)
    }
}

/// A new incident.
pub(crate) fn fresh(
    context: &mut Context<'_>,
    title: &str,
    severity: Name,
    scenario: Option<Name>,
    by: &PersonId,
    number: u64,
) -> Incident {
    Incident {
        id: context.ids.make(),
        number,
        title: title.chars().take(200).collect(),
        severity,
        scenario,
        opened_by: by.clone(),
        opened_at: context.now,
        state: IncidentState::Open,
        links: Default::default(),
        parties: [(by.clone(), [Part::Opener].into())].into(),
        pending_requests: Default::default(),
        grants: Default::default(),
        open_sessions: Default::default(),
        unstored_recordings: Default::default(),
        sessions: 0,
        reviews: Default::default(),
        changes: Vec::new(),
        notes: Vec::new(),
        mitigated_at: None,
        closed_at: None,
        unproven: Default::default(),
        attestation_gaps: Default::default(),
    }
}

/// Somebody may still change it.
fn going_on(incident: &Incident) -> Result<(), Refusal> {
    if incident.is_closed() {
        return Err(Refusal::new(RefusalCode::WrongState, format!("{} is closed", incident.label()))
            .next("reopen it first"));
    }
    Ok(())
}

/// Evidence that comes late opens a closed incident again: it was closed too early (rule 9).
pub(crate) fn late_evidence(world: &World, id: Option<IncidentId>, why: &str) -> Option<Event> {
    let incident = world.incidents.get(&id?)?;
    incident.is_closed().then(|| Event::IncidentReopened { incident: incident.id, why: why.to_owned() })
}

pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    let now = context.now;
    match command {
        Command::OpenIncident { title, severity, scenario, link, number } => {
            let person = context.person()?.clone();
            context.no_token("open an incident")?;
            said("title", title, 200)?;
            may_declare(facts, context, &person, severity)?;
            if let Some(scenario) =
                scenario.as_ref().filter(|name| !facts.catalog.scenarios.contains_key(*name))
            {
                return Err(Refusal::new(
                    RefusalCode::DoesNotFit,
                    format!("there is no scenario {scenario}"),
                ));
            }
            let mut incident = fresh(context, title, severity.clone(), scenario.clone(), &person, *number);
            if let Some(link) = link {
                text("link", link, 500)?;
                incident.links.insert(link.clone());
            }
            Ok(vec![Event::IncidentOpened { incident: Box::new(incident) }])
        }
        Command::ChangeSeverity { incident, severity, reason } => {
            let found = written(world, facts, context, *incident)?;
            let person = context.person()?.clone();
            context.no_token("change a severity")?;
            said("reason", reason, 2000)?;
            going_on(found)?;
            if !facts.catalog.severities.contains_key(severity) || found.severity == *severity {
                return Err(Refusal::new(
                    RefusalCode::DoesNotFit,
                    format!("{severity} is not another severity"),
                ));
            }
            may_change_severity(facts, context, found, severity)?;
            Ok(vec![
                Event::SeverityChanged {
                    incident: *incident,
                    severity: severity.clone(),
                    by: person.clone(),
                    reason: reason.clone(),
                },
                Event::PartTaken { incident: *incident, person, part: Part::Lead },
            ])
        }
        Command::AddNote { incident, text } => {
            going_on(written(world, facts, context, *incident)?)?;
            said("note", text, 4000)?;
            let note = Note { by: context.person()?.clone(), at: now, text: text.clone() };
            Ok(vec![Event::NoteAdded { incident: *incident, note }])
        }
        Command::AddLink { incident, link } => {
            going_on(written(world, facts, context, *incident)?)?;
            said("link", link, 500)?;
            Ok(vec![Event::LinkAdded { incident: *incident, link: link.clone() }])
        }
        Command::Mitigate { incident } => mitigate(world, facts, context, *incident),
        Command::CloseIncident { incident } => {
            let found = seen(world, facts, context, *incident)?;
            let person = context.officer(facts, &LEADS, "close an incident")?.clone();
            context.no_token("close an incident")?;
            if found.is_closed() {
                return Err(Refusal::new(RefusalCode::WrongState, "the incident is closed already"));
            }
            let blocked = blockers(found);
            if blocked.is_empty() {
                return Ok(vec![Event::IncidentClosed { incident: *incident, at: now, by: person }]);
            }
            if found.state == IncidentState::Closing {
                return Err(Refusal::new(
                    RefusalCode::Blocked,
                    format!("{} cannot be closed: {}", found.label(), blocked.join("; ")),
                )
                .next(format!("see `halligan incident blockers {}`", found.label())));
            }
            Ok(vec![Event::IncidentClosing { incident: *incident, by: person, blockers: blocked }])
        }
        Command::CloseUnproven { incident, reason } => {
            close_unproven(world, facts, context, *incident, reason)
        }
        Command::Reopen { incident, reason } => {
            let found = seen(world, facts, context, *incident)?;
            context.officer(facts, &LEADS, "reopen an incident")?;
            context.no_token("reopen an incident")?;
            said("reason", reason, 2000)?;
            if found.state == IncidentState::Open {
                return Err(Refusal::new(RefusalCode::WrongState, "the incident is open"));
            }
            Ok(vec![Event::IncidentReopened { incident: *incident, why: reason.clone() }])
        }
        Command::JudgeChange { incident, change, fate, note } => {
            let found = world.incident(*incident)?;
            let person = context.person()?.clone();
            let change_found = found
                .changes
                .get(*change as usize)
                .ok_or_else(|| Refusal::not_found(format_args!("change {change}")))?;
            let session = world.sessions.get(&change_found.session);
            let grant = session.and_then(|session| world.grants.get(&session.grant));
            let owner = grant.is_some_and(|grant| grant::owns(facts, grant, &person, now));
            if !owner {
                seen(world, facts, context, *incident)?;
                let offices =
                    [OfficeName::PlatformOwner, OfficeName::IncidentLead, OfficeName::SecurityOfficer];
                context.officer(facts, &offices, "judge a change")?;
            }
            context.no_token("judge a change")?;
            text("note", note, 2000)?;
            if change_found.judged.is_some() {
                return Err(Refusal::new(RefusalCode::WrongState, "this change has been judged already"));
            }
            if session.is_some_and(|session| session.person == person)
                || found.parties.get(&person).is_some_and(|parts| parts.contains(&Part::Beneficiary))
            {
                return Err(Refusal::new(
                    RefusalCode::SeparationOfDuties,
                    "somebody who had access does not judge what was changed",
                ));
            }
            let judgement = ChangeJudgement { by: person, at: now, fate: *fate, note: note.clone() };
            Ok(vec![Event::ChangeJudged { incident: *incident, change: *change, judgement }])
        }
        _ => Ok(Vec::new()),
    }
}

/// The harm is over: every grant of the incident ends, except one that a person keeps with a reason.
fn mitigate(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: IncidentId,
) -> Result<Vec<Event>, Refusal> {
    let incident = seen(world, facts, context, id)?;
    let person = context.officer(facts, &LEADS, "mitigate an incident")?.clone();
    if !matches!(incident.state, IncidentState::Open | IncidentState::Closing) {
        return Err(Refusal::new(RefusalCode::WrongState, "only an open incident can be mitigated"));
    }
    let mut events = vec![Event::IncidentMitigated { incident: id, at: context.now, by: person.clone() }];
    for request in &incident.pending_requests {
        events.push(Event::RequestLapsed { request: *request });
    }
    for (grant_id, settled) in &incident.grants {
        if *settled {
            continue;
        }
        let Some(grant) = world.grants.get(grant_id) else { continue };
        let kept =
            grant.kept.as_ref().is_some_and(|kept| kept.until > context.now) && grant.in_force(context.now);
        if !kept {
            let note = Some("the incident was mitigated");
            let ended = grant::end(context, facts, grant, GrantEnd::IncidentMitigated, Some(&person), note);
            // Requests for more time are among those that wait in the incident.
            events.extend(ended.into_iter().filter(|event| !matches!(event, Event::RequestLapsed { .. })));
        }
    }
    Ok(events)
}

/// Two people who are no party end it without proof: loud, with a date, and only where the catalog permits it.
fn close_unproven(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: IncidentId,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let incident = seen(world, facts, context, id)?;
    if !facts.catalog.settings.closed_unproven_allowed {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            "the catalog forbids closing an incident without proof",
        ));
    }
    let person = context
        .officer(
            facts,
            &[OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner],
            "close an incident unproven",
        )?
        .clone();
    context.no_token("close an incident")?;
    context.own_factor(facts)?;
    said("reason", reason, 2000)?;
    if incident.is_party(&person) {
        return Err(Refusal::new(
            RefusalCode::SeparationOfDuties,
            "you took part in this incident; two people who did not must end it",
        ));
    }
    if incident.is_closed() {
        return Err(Refusal::new(RefusalCode::WrongState, "the incident is closed already"));
    }
    if !incident.open_sessions.is_empty() {
        return Err(Refusal::new(RefusalCode::Blocked, "sessions are still open")
            .next("end them with `halligan sessions terminate`"));
    }
    // Proof may be missing; access may not go on.
    let owed = incident.grants.iter().filter(|(_, settled)| !**settled);
    let going_on = owed.filter_map(|(id, _)| world.grants.get(id)).any(|grant| {
        matches!(grant.state, GrantState::Scheduled | GrantState::Activating | GrantState::Active)
    });
    if going_on || !incident.pending_requests.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Blocked,
            "grants are in force or requests wait for a decision",
        )
        .next("end them with `halligan incident mitigate`"));
    }
    if incident.unproven.contains_key(&person) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "you have asked for it already; a second person is needed",
        ));
    }
    let mut events = vec![Event::UnprovenAsked { incident: id, person, reason: reason.to_owned() }];
    // Whoever asked first and has acted in it since does not count any more.
    if incident.unproven.keys().any(|first| !incident.is_party(first)) {
        events.push(Event::IncidentClosedUnproven { incident: id, at: context.now });
    }
    Ok(events)
}

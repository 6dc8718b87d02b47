//! What gateways report of sessions, and what people do to them. A report that was taken before changes nothing.

use super::{Recording, RecordingState, Session};
use crate::catalog::OfficeName;
use crate::command::Command;
use crate::decide::{Context, said};
use crate::event::Event;
use crate::grant::{self, settled};
use crate::ids::SessionId;
use crate::incident::{self, Part};
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::world::{Facts, World};

/// Most changes that an incident lists one by one; after that one for each session.
const MOST_CHANGES: usize = 500;
/// Most channels that are listed by name; further ones are in the recording.
const MOST_CHANNELS: usize = 200;

pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::ReportSessionOpened { session, grant, gateway, recording, client, login, at } => {
            context.only_node()?;
            if world.sessions.contains_key(session) {
                return Ok(Vec::new());
            }
            let found = world.grant(*grant)?;
            // Reports come late: what counts is whether the grant was in force when the session began.
            let outside = !found.was_in_force(*at);
            let short = |text: &str| text.chars().take(200).collect::<String>();
            let session = Session {
                id: *session,
                grant: *grant,
                number: found.last_session + 1,
                person: found.person.clone(),
                entitlement: found.entitlement.clone(),
                incident: found.incident,
                gateway: gateway.clone(),
                client: short(client),
                login: short(login),
                opened_at: *at,
                ended_at: None,
                end_reason: None,
                outside_grant: outside,
                channels: Vec::new(),
                recording: Recording {
                    id: *recording,
                    state: RecordingState::Running,
                    bytes: 0,
                    sha256: String::new(),
                    chain_head: String::new(),
                    frames: 0,
                    complete: false,
                },
                gap_waivers: Default::default(),
                held: Default::default(),
                last_hold: 0,
            };
            let reopened = incident::late_evidence(
                world,
                found.incident,
                "a session in it was reported after it was closed",
            );
            let opened = Event::SessionOpened { session: Box::new(session) };
            Ok(reopened.into_iter().chain([opened]).collect())
        }
        Command::ReportChannel { session, kind, detail } => {
            context.only_node()?;
            let found = world.session(*session)?;
            if found.channels.len() >= MOST_CHANNELS {
                return Ok(Vec::new());
            }
            let detail = detail.chars().take(1000).collect();
            let kind = kind.chars().take(100).collect();
            Ok(vec![Event::ChannelOpened { session: *session, kind, detail }])
        }
        Command::ReportChange { session, what } => {
            context.only_node()?;
            let found = world.session(*session)?;
            let Some(incident) = found.incident.and_then(|id| world.incidents.get(&id)) else {
                return Ok(Vec::new());
            };
            let what: String = match incident.changes.len() {
                count if count < MOST_CHANGES => what.chars().take(1000).collect(),
                _ => "more changes, see the recording".to_owned(),
            };
            if incident.changes.iter().any(|known| known.session == *session && known.what == what) {
                return Ok(Vec::new());
            }
            let reopened = incident::late_evidence(
                world,
                found.incident,
                "a change made in it was reported after it was closed",
            );
            let seen = Event::ChangeSeen { incident: incident.id, session: *session, what };
            Ok(reopened.into_iter().chain([seen]).collect())
        }
        Command::ReportSessionEnded { session, reason, at } => {
            context.only_node()?;
            let found = world.session(*session)?;
            if found.ended_at.is_some() {
                return Ok(Vec::new());
            }
            let mut events = vec![Event::SessionEnded {
                session: *session,
                grant: found.grant,
                at: *at,
                reason: reason.chars().take(500).collect(),
            }];
            let mut grant = world.grant(found.grant)?.clone();
            grant.open_sessions.remove(session);
            events.extend(settled(&grant, context.now));
            Ok(events)
        }
        Command::ReportRecordingFinished { session, bytes, frames, sha256, chain_head, complete } => {
            context.only_node()?;
            let found = world.session(*session)?;
            // A recording that was given up for lost may turn up.
            if !matches!(found.recording.state, RecordingState::Running | RecordingState::Lost) {
                return Ok(Vec::new());
            }
            Ok(vec![Event::RecordingFinished {
                session: *session,
                bytes: *bytes,
                frames: *frames,
                sha256: sha256.clone(),
                chain_head: chain_head.clone(),
                complete: *complete,
            }])
        }
        Command::ReportRecordingStored { session, sha256 } => {
            context.only_node()?;
            let found = world.session(*session)?;
            match found.recording.state {
                RecordingState::Stored => Ok(Vec::new()),
                _ if found.recording.sha256 != *sha256 => Err(Refusal::new(
                    RefusalCode::DoesNotFit,
                    "the stored recording is not the one that the gateway's ledger names",
                )),
                _ => {
                    let mut events =
                        vec![Event::RecordingStored { session: *session, incident: found.incident }];
                    // Its writer was cut off. What passed before is in it; that nothing else is missing, somebody judges.
                    if !found.recording.complete {
                        let mut about = About::grant(world.grant(found.grant)?);
                        about.session = Some(*session);
                        events.push(review::opened(context, facts, ReviewKind::AttestationGap, about));
                    }
                    Ok(events)
                }
            }
        }
        Command::ReportRecordingLost { session, reason } => {
            context.only_node()?;
            let found = world.session(*session)?;
            if matches!(found.recording.state, RecordingState::Stored | RecordingState::Lost) {
                return Ok(Vec::new());
            }
            let grant = world.grant(found.grant)?;
            let mut about = About::grant(grant);
            about.session = Some(*session);
            let reason: String = reason.chars().take(500).collect();
            Ok(vec![
                Event::RecordingLost { session: *session, incident: found.incident, reason },
                review::opened(context, facts, ReviewKind::AttestationGap, about),
            ])
        }
        Command::WaiveGap { session, reason } => waive_gap(world, facts, context, *session, reason),
        Command::ReportRefused { person, what, client, reason } => {
            context.only_node()?;
            let short = |text: &str| text.chars().take(500).collect::<String>();
            Ok(vec![Event::AttemptRefused {
                person: person.clone(),
                what: short(what),
                client: short(client),
                reason: short(reason),
            }])
        }
        Command::ReportUnexplained { grant, system, what } => {
            context.only_node()?;
            let what = what.chars().take(1000).collect();
            Ok(vec![Event::UnexplainedFound { grant: *grant, system: system.clone(), what }])
        }
        Command::TerminateSession { session, reason } => {
            let found = world.session(*session)?;
            let person = context.person()?.clone();
            said("reason", reason, 2000)?;
            let officer = [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner]
                .iter()
                .any(|office| facts.catalog.holds(&person, *office));
            if !officer && found.person != person {
                return Err(Refusal::not_found(format_args!("session {session}")));
            }
            if found.ended_at.is_some() {
                return Err(Refusal::new(RefusalCode::WrongState, "the session has ended already"));
            }
            let mut events = vec![Event::SessionTerminated {
                session: *session,
                person: person.clone(),
                reason: reason.clone(),
            }];
            if let Some(incident) = found.incident.filter(|_| found.person != person) {
                events.push(Event::PartTaken { incident, person, part: Part::Ender });
            }
            Ok(events)
        }
        Command::RecordPlayback { session, how } => {
            let found = world.session(*session)?;
            let person = context.person()?.clone();
            let officer = [OfficeName::SecurityOfficer, OfficeName::Auditor]
                .iter()
                .any(|office| facts.catalog.holds(&person, *office));
            if !officer {
                // People may look at what they did themselves; others need the office.
                if found.person != person {
                    return Err(Refusal::new(
                        RefusalCode::NotAllowed,
                        "to open a recording takes the office of security-officer or auditor",
                    ));
                }
            }
            context.no_token("open a recording")?;
            Ok(vec![Event::RecordingPlayed { session: *session, person, how: how.clone() }])
        }
        _ => Ok(Vec::new()),
    }
}

/// Two people who are no party say that the absence of a recording is explained (rule 9).
fn waive_gap(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: SessionId,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let session = world.session(id)?;
    let offices = [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner];
    let person = context.officer(facts, &offices, "waive a missing recording")?.clone();
    context.no_token("waive")?;
    context.own_factor(facts)?;
    said("reason", reason, 2000)?;
    let grant = world.grant(session.grant)?;
    let party = grant::is_party(world, grant, &person)
        || session
            .incident
            .and_then(|incident| world.incidents.get(&incident))
            .is_some_and(|incident| incident.is_party(&person));
    if party {
        return Err(Refusal::new(
            RefusalCode::SeparationOfDuties,
            "you took part in this; somebody else must do that",
        ));
    }
    if session.recording.state != RecordingState::Lost {
        return Err(Refusal::new(RefusalCode::WrongState, "the recording is not known to be lost"));
    }
    if session.gap_waivers.contains_key(&person) {
        return Err(Refusal::new(
            RefusalCode::WrongState,
            "you have said so already; a second person is needed",
        ));
    }
    // Whoever waived first and has done more than that since does not count any more.
    let incident = session.incident.and_then(|id| world.incidents.get(&id));
    let settled = session
        .gap_waivers
        .keys()
        .any(|first| incident.is_none_or(|incident| !incident.did_more_than_waive(first)));
    Ok(vec![Event::GapWaived {
        session: id,
        incident: session.incident,
        person,
        reason: reason.to_owned(),
        settled,
    }])
}

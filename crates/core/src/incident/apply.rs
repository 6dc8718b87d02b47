//! What events make of incidents.

use super::{Change, IncidentState, Part};
use crate::apply::change_incident;
use crate::command::DocumentRef;
use crate::event::Event;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    let id = match event {
        Event::IncidentOpened { incident } => {
            world.incidents.insert(incident.id, (**incident).clone());
            world.changed.insert(DocumentRef::Incident(incident.id));
            return;
        }
        Event::PartTaken { incident, .. }
        | Event::SeverityChanged { incident, .. }
        | Event::NoteAdded { incident, .. }
        | Event::LinkAdded { incident, .. }
        | Event::IncidentMitigated { incident, .. }
        | Event::IncidentClosing { incident, .. }
        | Event::IncidentClosed { incident, .. }
        | Event::UnprovenAsked { incident, .. }
        | Event::IncidentClosedUnproven { incident, .. }
        | Event::IncidentReopened { incident, .. }
        | Event::ChangeSeen { incident, .. }
        | Event::ChangeJudged { incident, .. } => *incident,
        _ => return,
    };
    change_incident(world, Some(id), |incident| match event {
        Event::PartTaken { person, part, .. } => {
            incident.parties.entry(person.clone()).or_default().insert(*part);
        }
        Event::SeverityChanged { severity, .. } => incident.severity = severity.clone(),
        Event::NoteAdded { note, .. } => incident.notes.push(note.clone()),
        Event::LinkAdded { link, .. } => {
            incident.links.insert(link.clone());
        }
        Event::IncidentMitigated { at, by, .. } => {
            incident.state = IncidentState::Mitigated;
            incident.mitigated_at = Some(*at);
            incident.parties.entry(by.clone()).or_default().insert(Part::Ender);
        }
        Event::IncidentClosing { .. } => incident.state = IncidentState::Closing,
        Event::IncidentClosed { at, .. } => {
            incident.state = IncidentState::Closed;
            incident.closed_at = Some(*at);
        }
        Event::UnprovenAsked { person, reason, .. } => {
            incident.unproven.insert(person.clone(), reason.clone());
        }
        Event::IncidentClosedUnproven { at, .. } => {
            incident.state = IncidentState::ClosedUnproven;
            incident.closed_at = Some(*at);
        }
        Event::IncidentReopened { .. } => {
            incident.state = IncidentState::Open;
            incident.closed_at = None;
            incident.unproven.clear();
        }
        Event::ChangeSeen { session, what, .. } => {
            incident.changes.push(Change { session: *session, what: what.clone(), judged: None });
        }
        Event::ChangeJudged { change, judgement, .. } => {
            if let Some(found) = incident.changes.get_mut(*change as usize) {
                found.judged = Some(judgement.clone());
            }
        }
        _ => {}
    });
}

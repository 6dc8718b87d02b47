//! What events make of sessions.

use super::RecordingState;
use crate::apply::change_incident;
use crate::command::DocumentRef;
use crate::event::Event;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    match event {
        Event::SessionOpened { session } => {
            let id = session.id;
            world.sessions.insert(id, (**session).clone());
            world.changed.insert(DocumentRef::Session(id));
            if let Some(grant) = world.grant_mut(session.grant) {
                grant.last_session = session.number;
                grant.open_sessions.insert(id);
                world.changed.insert(DocumentRef::Grant(session.grant));
            }
            change_incident(world, session.incident, |incident| {
                incident.open_sessions.insert(id);
                incident.unstored_recordings.insert(id);
                incident.sessions = incident.sessions.saturating_add(1);
            });
        }
        Event::ChannelOpened { session: id, kind, detail } => {
            if let Some(session) = world.session_mut(*id) {
                session.channels.push(if detail.is_empty() {
                    kind.clone()
                } else {
                    format!("{kind}: {detail}")
                });
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::SessionEnded { session: id, grant, at, reason } => {
            let Some(session) = world.session_mut(*id) else { return };
            session.ended_at = Some(*at);
            session.end_reason = Some(reason.clone());
            // A gateway that was killed settles nothing: with the session goes what waited in it.
            session.held.clear();
            let incident = session.incident;
            world.changed.insert(DocumentRef::Session(*id));
            if let Some(found) = world.grant_mut(*grant) {
                found.open_sessions.remove(id);
                world.changed.insert(DocumentRef::Grant(*grant));
            }
            change_incident(world, incident, |incident| {
                incident.open_sessions.remove(id);
            });
        }
        Event::RecordingFinished { session: id, bytes, frames, sha256, chain_head, complete } => {
            if let Some(session) = world.session_mut(*id) {
                let recording = &mut session.recording;
                recording.state = RecordingState::Finished;
                recording.bytes = *bytes;
                recording.frames = *frames;
                recording.sha256 = sha256.clone();
                recording.chain_head = chain_head.clone();
                recording.complete = *complete;
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::RecordingStored { session: id, incident } => {
            if let Some(session) = world.session_mut(*id) {
                session.recording.state = RecordingState::Stored;
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.unstored_recordings.remove(id);
            });
        }
        Event::RecordingLost { session: id, incident, .. } => {
            if let Some(session) = world.session_mut(*id) {
                session.recording.state = RecordingState::Lost;
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.attestation_gaps.insert(*id);
            });
        }
        Event::GapWaived { session: id, incident, person, reason, settled } => {
            if let Some(session) = world.session_mut(*id) {
                session.gap_waivers.insert(person.clone(), reason.clone());
                world.changed.insert(DocumentRef::Session(*id));
            }
            change_incident(world, *incident, |incident| {
                incident.parties.entry(person.clone()).or_default().insert(crate::incident::Part::Waiver);
                if *settled {
                    incident.unstored_recordings.remove(id);
                }
            });
        }
        Event::StatementHeld { session: id, hold, statement } => {
            if let Some(session) = world.session_mut(*id) {
                session.held.insert(*hold, (**statement).clone());
                session.last_hold = session.last_hold.max(*hold);
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::StatementReleased { session: id, hold, answer } => {
            if let Some(held) = world.session_mut(*id).and_then(|session| session.held.get_mut(hold)) {
                held.answer = Some(answer.clone());
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        Event::StatementSettled { session: id, hold, .. } => {
            if let Some(session) = world.session_mut(*id) {
                session.held.remove(hold);
                world.changed.insert(DocumentRef::Session(*id));
            }
        }
        // These are facts about a session that change no document.
        _ => {}
    }
}

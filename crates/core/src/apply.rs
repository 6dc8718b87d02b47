//! Turns events into documents. It takes every event that `decide` ever made, asks nothing and refuses nothing.

use crate::command::DocumentRef;
use crate::event::Event;
use crate::ids::{IncidentId, PersonId};
use crate::incident::Incident;
use crate::standing::Standing;
use crate::time::Time;
use crate::world::World;
use crate::{change, grant, incident, request, review, session};

/// Applies one event that happened at `at` and notes in `world.changed` which documents it touched.
pub fn apply(world: &mut World, event: &Event, _at: Time) {
    match event {
        Event::RequestFiled { .. }
        | Event::Decided { .. }
        | Event::DecisionVoided { .. }
        | Event::Escalated { .. }
        | Event::StepMoved { .. }
        | Event::StepBlocked { .. }
        | Event::TotalMoved { .. }
        | Event::SeverityAttested { .. }
        | Event::BypassAsked { .. }
        | Event::BypassTookEffect { .. }
        | Event::RequestApproved { .. }
        | Event::RequestDenied { .. }
        | Event::RequestWithdrawn { .. }
        | Event::RequestLapsed { .. }
        | Event::RequestReopened { .. } => request::apply(world, event),
        Event::GrantScheduled { .. }
        | Event::GrantActivating { .. }
        | Event::GrantActivated { .. }
        | Event::GrantActivationFailed { .. }
        | Event::GrantCancelled { .. }
        | Event::LeaseHeld { .. }
        | Event::LeaseEnded { .. }
        | Event::GrantExtended { .. }
        | Event::GrantEnded { .. }
        | Event::GrantDeactivated { .. }
        | Event::GrantLooked { .. }
        | Event::DeadlineNear { .. }
        | Event::LookAsked { .. }
        | Event::RevocationFailed { .. }
        | Event::RevocationLate { .. }
        | Event::GrantRevoked { .. }
        | Event::ProofWaived { .. }
        | Event::GrantKept { .. } => grant::apply(world, event),
        Event::SessionOpened { .. }
        | Event::ChannelOpened { .. }
        | Event::SessionEnded { .. }
        | Event::RecordingFinished { .. }
        | Event::RecordingStored { .. }
        | Event::RecordingLost { .. }
        | Event::GapWaived { .. }
        | Event::RecordingPlayed { .. }
        | Event::SessionTerminated { .. }
        | Event::AttemptRefused { .. }
        | Event::UnexplainedFound { .. }
        | Event::StatementHeld { .. }
        | Event::StatementReleased { .. }
        | Event::StatementSettled { .. } => session::apply(world, event),
        Event::IncidentOpened { .. }
        | Event::PartTaken { .. }
        | Event::SeverityChanged { .. }
        | Event::NoteAdded { .. }
        | Event::LinkAdded { .. }
        | Event::IncidentMitigated { .. }
        | Event::IncidentClosing { .. }
        | Event::IncidentClosed { .. }
        | Event::UnprovenAsked { .. }
        | Event::IncidentClosedUnproven { .. }
        | Event::IncidentReopened { .. }
        | Event::ChangeSeen { .. }
        | Event::ChangeJudged { .. } => incident::apply(world, event),
        Event::ReviewOpened { .. }
        | Event::ReviewStarted { .. }
        | Event::ReviewJudged { .. }
        | Event::ReviewDeferred { .. }
        | Event::ActionAdded { .. }
        | Event::ActionCompleted { .. }
        | Event::ReviewClosed { .. }
        | Event::ReviewOverdue { .. } => review::apply(world, event),
        Event::ChangeProposed { .. }
        | Event::ChangeConfirmed { .. }
        | Event::ChangeRejected { .. }
        | Event::ChangeApplied { .. } => change::apply(world, event),
    }
}

pub(crate) fn change_incident(world: &mut World, id: Option<IncidentId>, change: impl FnOnce(&mut Incident)) {
    if let Some(id) = id
        && let Some(incident) = world.incident_mut(id)
    {
        change(incident);
        world.changed.insert(DocumentRef::Incident(id));
    }
}

pub(crate) fn change_standing(world: &mut World, person: &PersonId, change: impl FnOnce(&mut Standing)) {
    let standing = world.standings.entry(person.clone()).or_insert_with(|| Standing::new(person.clone()));
    change(standing);
    world.changed.insert(DocumentRef::Standing(person.clone()));
}

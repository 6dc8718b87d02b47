//! What events make of changes.

use super::ChangeState;
use crate::command::DocumentRef;
use crate::event::Event;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    let id = match event {
        Event::ChangeProposed { change } => {
            world.changes.insert(change.id, (**change).clone());
            world.changed.insert(DocumentRef::Change(change.id));
            return;
        }
        Event::ChangeConfirmed { change, .. }
        | Event::ChangeRejected { change, .. }
        | Event::ChangeApplied { change, .. } => *change,
        _ => return,
    };
    let Some(change) = world.change_mut(id) else { return };
    match event {
        Event::ChangeConfirmed { by, .. } => {
            change.state = ChangeState::Confirmed;
            change.confirmed_by = Some(by.clone());
        }
        Event::ChangeRejected { .. } => change.state = ChangeState::Rejected,
        Event::ChangeApplied { .. } => change.state = ChangeState::Applied,
        _ => {}
    }
    world.changed.insert(DocumentRef::Change(id));
}

//! What events make of reviews.

use super::{ReviewKind, ReviewState};
use crate::apply::{change_incident, change_standing};
use crate::command::DocumentRef;
use crate::event::Event;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    let id = match event {
        Event::ReviewOpened { review } => {
            let id = review.id;
            world.reviews.insert(id, (**review).clone());
            world.changed.insert(DocumentRef::Review(id));
            change_incident(world, review.incident, |incident| {
                incident.reviews.insert(id, false);
            });
            if review.kind == ReviewKind::Bypass {
                change_standing(world, &review.person.clone(), |standing| {
                    standing.bypass_reviews.insert(id);
                });
            }
            return;
        }
        Event::ReviewStarted { review, .. }
        | Event::ReviewJudged { review, .. }
        | Event::ReviewDeferred { review, .. }
        | Event::ActionAdded { review, .. }
        | Event::ActionCompleted { review, .. }
        | Event::ReviewClosed { review }
        | Event::ReviewOverdue { review } => *review,
        _ => return,
    };
    let Some(review) = world.review_mut(id) else { return };
    let mut settles = false;
    match event {
        Event::ReviewStarted { reviewer, .. } => {
            review.state = ReviewState::InReview;
            review.reviewer = Some(reviewer.clone());
        }
        Event::ReviewJudged { judgement, .. } => {
            review.state = ReviewState::Judged;
            review.reviewer = Some(judgement.by.clone());
            review.judgement = Some(judgement.clone());
            settles = true;
        }
        Event::ReviewDeferred { deferral, .. } => {
            review.deferral = Some(deferral.clone());
            review.overdue_alerted = false;
            settles = true;
        }
        Event::ActionAdded { action, .. } => review.actions.push(action.clone()),
        Event::ActionCompleted { action, at, .. } => {
            if let Some(found) = review.actions.get_mut(*action as usize) {
                found.done_at = Some(*at);
            }
        }
        Event::ReviewClosed { .. } => review.state = ReviewState::Closed,
        Event::ReviewOverdue { .. } => review.overdue_alerted = true,
        _ => {}
    }
    let (incident, person, judged, kind) =
        (review.incident, review.person.clone(), review.judgement.is_some(), review.kind);
    world.changed.insert(DocumentRef::Review(id));
    if settles {
        change_incident(world, incident, |incident| {
            incident.reviews.insert(id, true);
        });
        if judged && kind == ReviewKind::Bypass {
            change_standing(world, &person, |standing| {
                standing.bypass_reviews.remove(&id);
            });
        }
    }
}

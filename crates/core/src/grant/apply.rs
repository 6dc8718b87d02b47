//! What events make of grants, and of the totals of time that they count in (rule 7).

use std::collections::BTreeSet;

use super::{Grant, GrantEnd, GrantState, LOOK_LOST_AFTER, merge};
use crate::apply::{change_incident, change_standing};
use crate::command::DocumentRef;
use crate::event::Event;
use crate::ids::GrantId;
use crate::request::approvers;
use crate::standing::{Standing, Use};
use crate::time::Time;
use crate::world::World;

pub(crate) fn apply(world: &mut World, event: &Event) {
    let id = match event {
        Event::GrantScheduled { grant } => {
            world.grants.insert(grant.id, (**grant).clone());
            world.changed.insert(DocumentRef::Grant(grant.id));
            if let Some(request) = world.request_mut(grant.request) {
                request.grant = Some(grant.id);
                world.changed.insert(DocumentRef::Request(grant.request));
            }
            change_incident(world, grant.incident, |incident| {
                incident.grants.insert(grant.id, false);
            });
            use_scheduled(world, grant);
            return;
        }
        Event::GrantActivating { grant, .. }
        | Event::GrantActivated { grant, .. }
        | Event::GrantActivationFailed { grant, .. }
        | Event::GrantCancelled { grant, .. }
        | Event::LeaseHeld { grant, .. }
        | Event::LeaseEnded { grant, .. }
        | Event::GrantExtended { grant, .. }
        | Event::GrantEnded { grant, .. }
        | Event::GrantDeactivated { grant, .. }
        | Event::GrantLooked { grant, .. }
        | Event::DeadlineNear { grant, .. }
        | Event::LookAsked { grant, .. }
        | Event::RevocationFailed { grant }
        | Event::RevocationLate { grant }
        | Event::GrantRevoked { grant, .. }
        | Event::ProofWaived { grant, .. }
        | Event::GrantKept { grant, .. } => *grant,
        _ => return,
    };
    let Some(grant) = world.grant_mut(id) else { return };
    let before = grant.deadline;
    match event {
        Event::GrantActivating { fencing, .. } => {
            grant.state = GrantState::Activating;
            grant.fencing = *fencing;
        }
        Event::GrantActivated { at, deadline, .. } => {
            grant.state = GrantState::Active;
            grant.activated_at = Some(*at);
            grant.deadline = Some(*deadline);
        }
        Event::GrantActivationFailed { at, fencing, .. } => {
            grant.state = GrantState::ActivationFailed;
            grant.fencing = *fencing;
            grant.ended_at = Some(*at);
            grant.end_reason = Some(GrantEnd::ActivationFailed);
        }
        Event::GrantCancelled { .. } => grant.state = GrantState::Cancelled,
        Event::LeaseHeld { gateway, .. } => {
            grant.gateways.insert(gateway.clone(), false);
        }
        Event::LeaseEnded { gateway, .. } => {
            grant.gateways.insert(gateway.clone(), true);
        }
        Event::GrantExtended { request, deadline, fencing, .. } => {
            grant.deadline = Some(*deadline);
            grant.fencing = *fencing;
            grant.extensions = grant.extensions.saturating_add(1);
            grant.warned = false;
            grant.extended_by.push(*request);
        }
        Event::GrantEnded { at, reason, fencing, .. } => {
            grant.state = GrantState::Revoking;
            grant.ended_at = Some(*at);
            grant.end_reason = Some(*reason);
            grant.fencing = *fencing;
        }
        Event::GrantDeactivated { provable_at, .. } => {
            grant.deactivated = true;
            grant.provable_at = Some(*provable_at);
            // The first look is asked for with this event; should its answer be lost, time asks again.
            grant.look_at = Some(provable_at.plus(LOOK_LOST_AFTER));
        }
        Event::GrantLooked { evidence, look_at, .. } => {
            merge(&mut grant.checks, evidence);
            grant.looks = grant.looks.saturating_add(1);
            grant.look_at = *look_at;
        }
        Event::DeadlineNear { .. } => grant.warned = true,
        Event::LookAsked { next, .. } => grant.look_at = Some(*next),
        Event::RevocationFailed { .. } => grant.state = GrantState::RevocationFailed,
        Event::RevocationLate { .. } => grant.late_alerted = true,
        Event::GrantRevoked { outcome, .. } => {
            grant.state = GrantState::Revoked;
            grant.outcome = Some(outcome.clone());
            grant.look_at = None;
        }
        Event::ProofWaived { person, reason, .. } => {
            grant.waivers.insert(person.clone(), reason.clone());
        }
        Event::GrantKept { kept, .. } => {
            grant.deadline = grant.deadline.map(|deadline| deadline.min(kept.until));
            grant.warned = false;
            grant.kept = Some(kept.clone());
        }
        _ => {}
    }
    let grant = grant.clone();
    world.changed.insert(DocumentRef::Grant(id));
    if grant.state.settled() {
        change_incident(world, grant.incident, |incident| {
            incident.grants.insert(id, true);
        });
    }
    match event {
        Event::GrantActivated { deadline, .. } => use_begun(world, &grant, *deadline),
        Event::GrantExtended { request, deadline, by, new_total, extensions, continues, .. } => {
            let approvers = approvers(world, *request).collect();
            let used = Use {
                entitlement: grant.entitlement.clone(),
                incidents: grant.incident.into_iter().collect(),
                grants: [(id, *deadline)].into(),
                total: *by,
                extensions: *extensions,
                approvers,
            };
            change_standing(world, &grant.person, |standing| count(standing, continues, used, *new_total));
        }
        Event::GrantEnded { at, .. } => match before {
            Some(deadline) => use_shortened(world, &grant, deadline, *at),
            None => use_never_begun(world, &grant),
        },
        Event::GrantKept { .. } => {
            if let (Some(before), Some(now)) = (before, grant.deadline) {
                use_shortened(world, &grant, before, now);
            }
        }
        Event::GrantCancelled { .. } | Event::GrantActivationFailed { .. } => use_never_begun(world, &grant),
        _ => {}
    }
}

/// Joins `used` with the totals of the grants that it continues; a new total takes their place.
fn count(standing: &mut Standing, continues: &BTreeSet<GrantId>, used: Use, new_total: bool) {
    let earlier = standing.take(continues);
    let Some(mut whole) = earlier else { return standing.put(used) };
    whole.incidents.extend(used.incidents);
    whole.extensions = used.extensions;
    if new_total {
        whole.total = used.total;
        whole.grants = used.grants;
        whole.approvers = used.approvers;
    } else {
        whole.total = whole.total.plus(used.total);
        whole.grants.extend(used.grants);
        whole.approvers.extend(used.approvers);
    }
    standing.put(whole);
}

/// A grant is counted from its approval on, so that two that wait for activation see each other. A new total begins
/// only with access: until then the old one stands.
fn use_scheduled(world: &mut World, grant: &Grant) {
    let approvers = approvers(world, grant.request).collect();
    change_standing(world, &grant.person, |standing| {
        let until = grant.activate_by.plus(grant.duration);
        let mut used = Use {
            entitlement: grant.entitlement.clone(),
            incidents: grant.incident.into_iter().collect(),
            grants: [(grant.id, until)].into(),
            total: grant.duration,
            extensions: grant.extensions,
            approvers,
        };
        if grant.new_total
            && let Some(mut earlier) = standing.take(&grant.continues)
        {
            earlier.grants.insert(grant.id, until);
            earlier.incidents.append(&mut used.incidents);
            standing.put(earlier);
        } else {
            count(standing, &grant.continues, used, false);
        }
    });
}

fn use_begun(world: &mut World, grant: &Grant, deadline: Time) {
    let approvers = approvers(world, grant.request).collect();
    change_standing(world, &grant.person, |standing| {
        if grant.new_total {
            let used = Use {
                entitlement: grant.entitlement.clone(),
                incidents: grant.incident.into_iter().collect(),
                grants: [(grant.id, deadline)].into(),
                total: grant.duration,
                extensions: 0,
                approvers,
            };
            count(standing, &[grant.id].into(), used, true);
        } else if let Some(used) = standing.of(grant.id) {
            used.grants.insert(grant.id, deadline);
        }
    });
}

/// What is given back early is not counted.
fn use_shortened(world: &mut World, grant: &Grant, deadline: Time, at: Time) {
    change_standing(world, &grant.person, |standing| {
        if let Some(used) = standing.of(grant.id) {
            used.total = used.total.minus(deadline.since(at));
            used.grants.insert(grant.id, at);
        }
    });
}

fn use_never_begun(world: &mut World, grant: &Grant) {
    change_standing(world, &grant.person, |standing| {
        if let Some(used) = standing.of(grant.id) {
            used.grants.remove(&grant.id);
            if !grant.new_total {
                used.total = used.total.minus(grant.duration);
                if grant.extensions > 0 {
                    used.extensions = used.extensions.saturating_sub(1);
                }
            }
        }
        standing.tidy();
    });
}

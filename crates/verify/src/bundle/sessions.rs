//! Sessions: each under a grant in force, numbered without gaps, ended, and told alike by control and by its gateway.

use std::collections::{BTreeMap, BTreeSet};

use halligan_core::ids::{GrantId, SessionId};
use halligan_core::node_event::NodeEvent;
use halligan_core::session::Session;

use super::CLOCKS;
use crate::findings::{Faults, Report, count};
use crate::story::Story;

pub(super) fn check(story: &Story, report: &mut Report) {
    let sessions = &story.world.sessions;
    let said = count(sessions.len(), "session", "sessions");
    report.check("sessions under grants", |faults| {
        for session in sessions.values() {
            under_grant(story, session, faults);
        }
        said.clone()
    });
    report.check("sessions numbered", |faults| {
        let mut numbers: BTreeMap<GrantId, Vec<u32>> = BTreeMap::new();
        for session in sessions.values() {
            numbers.entry(session.grant).or_default().push(session.number);
        }
        for grant in story.world.grants.values() {
            let mut found = numbers.remove(&grant.id).unwrap_or_default();
            found.sort_unstable();
            let wanted: Vec<u32> = (1..=grant.last_session).collect();
            faults.unless(found == wanted, || {
                format!(
                    "grant {} counts {} sessions, here are {found:?}: one is missing or doubled",
                    grant.id, grant.last_session
                )
            });
        }
        said.clone()
    });
    report.check("sessions at gateways", |faults| {
        at_gateways(story, faults);
        said.clone()
    });
}

fn under_grant(story: &Story, session: &Session, faults: &mut Faults) {
    let place = format!("session {}", session.id);
    faults
        .unless(!session.outside_grant, || format!("{place} was reported while its grant was not in force"));
    let Some(grant) = story.world.grants.get(&session.grant) else {
        faults.say(format!("{place} belongs to grant {}, which is not in the bundle", session.grant));
        return;
    };
    faults.unless(grant.person == session.person && grant.entitlement == session.entitlement, || {
        format!("{place} is of {} on {}, its grant is not", session.person, session.entitlement)
    });
    let (Some(began), Some(deadline)) = (grant.activated_at, grant.deadline) else {
        faults.say(format!("{place} was opened under grant {}, which never began", grant.id));
        return;
    };
    let end = grant.ended_at.unwrap_or(deadline).min(deadline);
    let opened = session.opened_at;
    faults.unless(opened.plus(CLOCKS) >= began && opened <= end.plus(CLOCKS), || {
        format!("{place} was opened at {opened}, outside of grant {} ({began} to {end})", grant.id)
    });
    match session.ended_at {
        None => faults.say(format!("{place} has no end")),
        Some(ended) => {
            faults.unless(ended <= deadline.plus(CLOCKS), || {
                format!("{place} ended at {ended}, after the deadline {deadline} of its grant")
            });
            faults.unless(opened <= ended, || format!("{place} ended before it began"));
        }
    }
}

/// What gateways wrote into their own ledgers and what control made of it must be the same.
fn at_gateways(story: &Story, faults: &mut Faults) {
    let (mut opened, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for (node, index, leaf) in story.node_events() {
        let place = format!("leaf {index} of {node}");
        match &leaf.event {
            NodeEvent::SessionOpened { session, grant, person, entitlement, recording, .. } => {
                faults.unless(opened.insert(*session), || format!("{place} opens session {session} again"));
                let Some(found) = story.world.sessions.get(session) else {
                    faults.say(format!("{place} opens session {session}, of which control has no document"));
                    continue;
                };
                let same = found.grant == *grant
                    && found.person == *person
                    && found.entitlement == *entitlement
                    && found.recording.id == *recording
                    && found.gateway == *node;
                faults.unless(same, || format!("{place} tells session {session} differently from control"));
            }
            NodeEvent::SessionEnded { session, reason, .. } => {
                // A gateway that was killed at this moment may say it again; the first time counts.
                if !ended.insert(*session) {
                    continue;
                }
                let found = story.world.sessions.get(session);
                let same = found.is_some_and(|found| {
                    found.end_reason.as_ref() == Some(reason) && found.ended_at == Some(leaf.at)
                });
                faults.unless(same, || format!("{place} ends session {session} differently from control"));
            }
            NodeEvent::LeaseHeld { grant, .. } => {
                faults.unless(story.world.grants.contains_key(grant), || {
                    format!("{place} holds a lease of grant {grant}, which is not in the bundle")
                });
            }
            _ => {}
        }
    }
    let missing = |known: &BTreeSet<SessionId>, what: &str, faults: &mut Faults| {
        for session in story.world.sessions.values().filter(|session| !known.contains(&session.id)) {
            faults.say(format!("no leaf of gateway {} {what} session {}", session.gateway, session.id));
        }
    };
    missing(&opened, "opens", faults);
    missing(&ended, "ends", faults);
}

//! Grants: settled with a proof, and every certificate that was ever issued belongs to one and ends with it.

use std::collections::BTreeSet;

use halligan_core::event::Event;
use halligan_core::grant::{Grant, GrantState, ProofOutcome, overall};
use halligan_core::ids::Name;
use halligan_core::node_event::NodeEvent;
use halligan_core::proof::Finding;
use halligan_core::time::Time;

use super::CLOCKS;
use crate::findings::{Faults, Report, count};
use crate::page::word;
use crate::story::Story;

pub(super) fn check(story: &Story, report: &mut Report) {
    report.check("revocation proofs", |faults| {
        for grant in story.world.grants.values() {
            settled(story, grant, faults);
        }
        count(story.world.grants.len(), "grant", "grants")
    });
    report.check("certificates", |faults| certificates(story, faults));
}

fn settled(story: &Story, grant: &Grant, faults: &mut Faults) {
    let place = format!("grant {}", grant.id);
    match (grant.state, &grant.outcome) {
        (GrantState::Cancelled, _) => {
            faults.unless(grant.activated_at.is_none() && grant.last_session == 0, || {
                format!("{place} was cancelled after it had begun")
            });
        }
        (GrantState::Revoked, Some(ProofOutcome::Proven { .. })) => proven(story, grant, &place, faults),
        // Two waivers, or an owner's word: see the check of waivers.
        (GrantState::Revoked, Some(ProofOutcome::Waived { .. } | ProofOutcome::TargetGone { .. })) => {}
        (state, _) => faults.say(format!("{place} has no proof: it is {}", word(&state))),
    }
}

/// Every required check passed, and a connector's own ledger says the same, after the grant was made a tombstone.
fn proven(story: &Story, grant: &Grant, place: &str, faults: &mut Faults) {
    faults.unless(overall(grant) == Finding::Proven, || {
        format!("{place} is called proven, and a required check did not pass")
    });
    let mut tombstones: BTreeSet<&Name> = BTreeSet::new();
    let mut looked = false;
    for (node, index, leaf) in story.node_events() {
        match &leaf.event {
            NodeEvent::Deactivated { grant: id, .. } if *id == grant.id => {
                tombstones.insert(node);
            }
            NodeEvent::Activated { grant: id, .. } if *id == grant.id => {
                faults.unless(!tombstones.contains(node), || {
                    format!("{place} was activated again after its end, by leaf {index} of {node}")
                });
            }
            NodeEvent::Looked { grant: id, evidence, .. } if *id == grant.id => {
                let same = evidence.checks.iter().all(|check| {
                    let required = grant.required_checks.contains(&check.kind);
                    !required || grant.checks.get(&check.kind) == Some(check)
                });
                looked |= same && tombstones.contains(node);
            }
            _ => {}
        }
    }
    let looks = grant.required_checks.iter().any(|kind| grant.checks.contains_key(kind));
    faults.unless(looked || !looks, || {
        format!("{place}: no leaf of a connector, after the tombstone, holds the findings of its proof")
    });
}

fn certificates(story: &Story, faults: &mut Faults) -> String {
    let mut serials: BTreeSet<(&Name, u64)> = BTreeSet::new();
    for (node, index, leaf) in story.node_events() {
        let (grant, session, serial, after, before) = match &leaf.event {
            NodeEvent::CertificateIssued { grant, session, serial, valid_after, valid_before, .. } => {
                (*grant, Some(*session), *serial, *valid_after, *valid_before)
            }
            NodeEvent::ProbeIssued { serial, valid_after, valid_before, .. } => {
                let place = format!("serial {serial} of leaf {index} of {node}");
                faults.unless(serials.insert((node, *serial)), || format!("{place} was used before"));
                faults.unless(valid_after < valid_before, || format!("{place} is never valid"));
                continue;
            }
            _ => continue,
        };
        let place = format!("certificate {serial} of leaf {index} of {node}");
        faults.unless(serials.insert((node, serial)), || format!("{place}: its serial was used before"));
        let Some(found) = story.world.grants.get(&grant) else {
            faults.say(format!("{place} belongs to grant {grant}, which is not in the bundle"));
            continue;
        };
        if let Some(session) = session {
            let of = story.world.sessions.get(&session).map(|session| session.grant);
            faults.unless(of == Some(grant), || {
                format!("{place} was issued for session {session}, which is none of grant {grant}")
            });
        }
        window(story, found, (leaf.at, after, before), &place, faults);
    }
    count(serials.len(), "serial", "serials")
}

/// The certificate was issued while the grant was in force, and its window ends with the deadline. Its front may reach
/// back, for targets whose clock is slow; then there was no key yet that could have used it.
fn window(
    story: &Story,
    grant: &Grant,
    (at, after, before): (Time, Time, Time),
    place: &str,
    faults: &mut Faults,
) {
    let id = grant.id;
    let (Some(began), Some(deadline)) = (grant.activated_at, farthest(story, grant)) else {
        faults.say(format!("{place} was issued for grant {id}, which never began"));
        return;
    };
    let ended = grant.ended_at.unwrap_or(deadline).min(deadline);
    faults.unless(after < before, || format!("{place} is never valid"));
    faults
        .unless(at.plus(CLOCKS) >= began, || format!("{place} was issued at {at}, before grant {id} began"));
    faults.unless(at <= ended.plus(CLOCKS), || {
        format!("{place} was issued at {at}, after the end of grant {id}")
    });
    faults.unless(before <= deadline.plus(CLOCKS), || {
        format!("{place} is valid until {before}, beyond the deadline {deadline} of grant {id}")
    });
}

/// The latest deadline that the grant ever had; keeping it for less moves a deadline forward.
fn farthest(story: &Story, grant: &Grant) -> Option<Time> {
    let given = story.events().filter_map(|(_, _, event)| match event {
        Event::GrantActivated { grant: id, deadline, .. }
        | Event::GrantExtended { grant: id, deadline, .. }
            if *id == grant.id =>
        {
            Some(*deadline)
        }
        _ => None,
    });
    given.chain(grant.deadline).max()
}

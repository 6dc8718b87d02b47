//! Separation of duties, read from the documents: who asked, who agreed, who waived, who looked back.

use std::collections::BTreeSet;

use halligan_core::grant::{Grant, GrantState, ProofOutcome};
use halligan_core::ids::PersonId;
use halligan_core::request::{Mode, Request, Verdict};
use halligan_core::review::{Review, ReviewKind, ReviewState};

use crate::findings::{Faults, Report, count};
use crate::story::Story;

pub(super) fn check(story: &Story, report: &mut Report) {
    report.check("approvals", |faults| {
        for grant in story.world.grants.values() {
            let asked = std::iter::once(&grant.request).chain(&grant.extended_by);
            for request in asked.filter_map(|id| story.world.requests.get(id)) {
                approved(grant, request, faults);
            }
        }
        count(story.world.requests.len(), "request", "requests")
    });
    report.check("waivers", |faults| {
        let mut waived = 0;
        for grant in story.world.grants.values() {
            match &grant.outcome {
                Some(ProofOutcome::Waived { .. }) => {
                    waived += 1;
                    two_others(&grant.waivers.keys().collect::<Vec<_>>(), &grant.person, faults, || {
                        format!("the proof of grant {}", grant.id)
                    });
                }
                Some(ProofOutcome::TargetGone { by, .. }) => {
                    faults.unless(*by != grant.person, || {
                        format!("{by} attests that the target of their own grant {} is gone", grant.id)
                    });
                }
                _ => {}
            }
        }
        for session in story.world.sessions.values().filter(|session| !session.gap_waivers.is_empty()) {
            waived += 1;
            two_others(&session.gap_waivers.keys().collect::<Vec<_>>(), &session.person, faults, || {
                format!("the recording of session {}", session.id)
            });
        }
        count(waived, "waiver", "waivers")
    });
    report.check("reviews", |faults| {
        for review in story.world.reviews.values() {
            reviewed(story, review, faults);
        }
        for grant in story.world.grants.values() {
            owed(story, grant, faults);
        }
        count(story.world.reviews.len(), "review", "reviews")
    });
}

/// A grant or its extension came from people who may agree, from policy, or from a bypass that says so.
fn approved(grant: &Grant, request: &Request, faults: &mut Faults) {
    let place = format!("request {}", request.id);
    let counted: BTreeSet<&PersonId> = request
        .decisions
        .iter()
        .filter(|decision| decision.verdict == Verdict::Approve && !decision.void)
        .map(|decision| &decision.person)
        .collect();
    for person in &counted {
        let own = **person == request.requester
            || **person == request.beneficiary
            || request.earlier_requesters.contains(*person);
        faults.unless(!own, || format!("{place}: {person} approved their own request"));
    }
    let bypassed = request.bypass.as_ref().is_some_and(|bypass| bypass.in_effect);
    let came_to_be = grant.state != GrantState::Cancelled;
    if !request.automatic && !bypassed && came_to_be {
        let needed = usize::from(request.distinct_approvers.max(1));
        faults.unless(counted.len() >= needed, || {
            format!("{place}: {} approvals, {needed} are needed", counted.len())
        });
    }
}

fn two_others(waivers: &[&PersonId], person: &PersonId, faults: &mut Faults, what: impl Fn() -> String) {
    faults.unless(waivers.len() >= 2, || {
        format!("{} was waived by {} only, not by two", what(), waivers.len())
    });
    faults.unless(!waivers.contains(&person), || format!("{} was waived by {person} themselves", what()));
}

fn reviewed(story: &Story, review: &Review, faults: &mut Faults) {
    let place = format!("review {}", review.id);
    let judged = matches!(review.state, ReviewState::Judged | ReviewState::Closed);
    match (&review.judgement, &review.deferral) {
        (Some(judgement), _) if judged => outsider(story, review, &judgement.by, &place, faults),
        (_, Some(deferral)) => outsider(story, review, &deferral.by, &place, faults),
        _ => faults.say(format!("{place} is neither judged nor put off")),
    }
}

/// Nobody who acted in the incident looks back on it.
fn outsider(story: &Story, review: &Review, by: &PersonId, place: &str, faults: &mut Faults) {
    let party =
        review.incident.and_then(|id| story.incident(id)).is_some_and(|incident| incident.is_party(by));
    faults
        .unless(!party && *by != review.person, || format!("{place}: {by} took part and looked back on it"));
}

/// The reviews that a grant makes due (rules 3, 6, 10).
fn owed(story: &Story, grant: &Grant, faults: &mut Faults) {
    let has = |kind: ReviewKind| {
        let mut of = story.world.reviews.values();
        of.any(|review| {
            review.kind == kind && (review.grant == Some(grant.id) || review.request == Some(grant.request))
        })
    };
    let used = grant.mode == Mode::Emergency && grant.activated_at.is_some() && grant.ended_at.is_some();
    let wanted = [
        (used, ReviewKind::PostUse, "post-use"),
        (grant.bypassed, ReviewKind::Bypass, "bypass"),
        (
            grant.automatic && grant.mode == Mode::Emergency,
            ReviewKind::RetroactiveApproval,
            "retroactive approval",
        ),
    ];
    for (due, kind, name) in wanted {
        faults.unless(!due || has(kind), || format!("grant {} has no review of kind {name}", grant.id));
    }
}

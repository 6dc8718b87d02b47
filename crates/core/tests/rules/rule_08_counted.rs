//! Grants are counted: ending one never touches another, and every effect carries a number that never goes back.

use halligan_core::command::{Actor, Command};
use halligan_core::effect::Effect;
use halligan_core::event::Event;
use halligan_core::grant::{GrantState, ProofOutcome};
use halligan_core::proof::Finding;
use halligan_core::refusal::RefusalCode;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, evidence, node, span};

#[test]
fn ending_one_grant_leaves_every_other_alone() {
    let mut story = Story::begin();
    let anna = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    let ben = story.open("ben", emergency("ben", "orders-host/operate", "sev2")).unwrap();
    let second = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant: anna }).unwrap();
    let states = [anna, ben, second].map(|grant| story.grant(grant).unwrap().state);
    assert_eq!(states, [GrantState::Revoking, GrantState::Active, GrantState::Active]);
    let touched = story.effects.iter().filter_map(|effect| match effect {
        Effect::RevokeLease { grant, .. } | Effect::Deactivate { grant, .. } => Some(*grant),
        _ => None,
    });
    assert!(touched.into_iter().all(|grant| grant == anna));
}

#[test]
fn a_stalled_activation_that_lands_late_changes_nothing() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.approve("dan", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.grant(grant).unwrap().fencing, 2);
    assert!(
        story.run(&node("connector"), Command::ReportActivated { grant, fencing: 1 }).unwrap().is_empty()
    );
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Revoking);
}

#[test]
fn a_proof_needs_a_tombstone_of_the_ended_grant_and_a_look_after_its_window() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let now = story.now;
    let connector = node("connector");
    let early = Command::ReportDeactivated { grant, fencing: 1, provable_at: now };
    assert!(story.run(&connector, early).unwrap().is_empty(), "it is in force");
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let window = now.plus(span("1m"));
    story.run(&connector, Command::ReportDeactivated { grant, fencing: 2, provable_at: window }).unwrap();
    let look = |at, finding| Command::ReportLooked { grant, fencing: 2, evidence: evidence(at, finding) };
    assert!(
        story.run(&connector, look(now, Finding::Proven)).unwrap().is_empty(),
        "the window is still open"
    );
    story.later("1m");
    story.run(&connector, look(window, Finding::Proven)).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Revoking, "the gateway has not let go");
    let gateway = name("gw-1");
    story
        .run(&node("gw-1"), Command::ReportLeaseEnded { grant, fencing: 2, gateway, sessions_ended: 0 })
        .unwrap();
    assert!(matches!(story.grant(grant).unwrap().outcome, Some(ProofOutcome::Proven { .. })));
}

#[test]
fn an_open_door_is_loud_and_looked_at_again() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let now = story.now;
    let connector = node("connector");
    story.run(&connector, Command::ReportDeactivated { grant, fencing: 2, provable_at: now }).unwrap();
    let looked = Command::ReportLooked { grant, fencing: 2, evidence: evidence(now, Finding::Failed) };
    let events = story.run(&connector, looked).unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::RevocationFailed { .. })));
    assert!(story.grant(grant).unwrap().look_at.is_some());
    let gateway = name("gw-1");
    story
        .run(&node("gw-1"), Command::ReportLeaseEnded { grant, fencing: 2, gateway, sessions_ended: 0 })
        .unwrap();
    let shut = story.later("1m").now;
    story
        .run(
            &connector,
            Command::ReportLooked { grant, fencing: 2, evidence: evidence(shut, Finding::Proven) },
        )
        .unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Revoked);
}

#[test]
fn a_lease_heard_of_after_the_end_is_taken_down_and_revoked_again() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    story.effects.clear();
    let gateway = name("gw-2");
    story.run(&node("gw-2"), Command::ReportLeaseHeld { grant, fencing: 1, gateway }).unwrap();
    assert!(matches!(story.effects.as_slice(), [Effect::RevokeLease { fencing: 2, .. }]));
    assert_eq!(story.grant(grant).unwrap().gateways.get("gw-2"), Some(&false));
}

#[test]
fn two_people_not_of_the_grant_can_waive_its_proof() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let waive = Command::WaiveProof { grant, reason: "the host burned".to_owned() };
    assert_eq!(story.by("eve", waive.clone()).unwrap_err().code, RefusalCode::WrongState);
    story.by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.by("dan", waive.clone()).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.by("eve", waive.clone()).unwrap();
    assert!(story.by("eve", waive.clone()).is_err());
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Revoking);
    story.by("fred", waive).unwrap();
    assert!(matches!(story.grant(grant).unwrap().outcome, Some(ProofOutcome::Waived { .. })));
}

#[test]
fn whoever_approved_more_time_does_not_waive_the_proof() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.by("anna", Command::Extend { grant, duration: span("30m"), reason: "more".to_owned() }).unwrap();
    let request = story.grant(grant).unwrap().pending_extension.unwrap();
    story.approve("hana", request).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let waive = Command::WaiveProof { grant, reason: "the host burned".to_owned() };
    assert_eq!(story.by("hana", waive).unwrap_err().code, RefusalCode::SeparationOfDuties);
}

#[test]
fn the_owner_can_attest_that_the_target_is_gone() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let gone = Command::AttestTargetGone { grant, reason: "scrapped".to_owned() };
    assert_eq!(story.by("eve", gone.clone()).unwrap_err().code, RefusalCode::NotAllowed);
    story.by("gus", gone).unwrap();
    assert!(matches!(story.grant(grant).unwrap().outcome, Some(ProofOutcome::TargetGone { .. })));
}

//! Every step needs a person; automatic approval is a policy of its own, with limits and a review afterwards.

use halligan_core::command::{Command, Due};
use halligan_core::effect::AlertKind;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, span};

#[test]
fn a_step_without_an_eligible_approver_is_blocked_and_alerts() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        catalog.groups.get_mut("leads").unwrap().members.clear();
        catalog.groups.get_mut("security").unwrap().members.clear();
    });
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    assert!(story.request(request).unwrap().steps[0].blocked);
    assert_eq!(story.alerts(AlertKind::ApprovalBlocked).len(), 1);
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
    story.catalog(|catalog| {
        catalog.groups.get_mut("security").unwrap().members.insert(name("eve"));
    });
    story.wake(Due::Request(request)).unwrap();
    assert!(!story.request(request).unwrap().steps[0].blocked);
    story.approve("eve", request).unwrap();
}

#[test]
fn policy_approves_by_itself_within_its_limits_and_is_always_reviewed() {
    let mut story = Story::begin();
    let ask = |duration| {
        let mut file = emergency("anna", "orders-host/observe", "sev1");
        file.duration = Some(span(duration));
        file
    };
    story.open("anna", ask("10m")).unwrap();
    assert_eq!(story.reviews(ReviewKind::RetroactiveApproval).len(), 1);
    let mut other = ask("10m");
    other.entitlement = "billing-host/observe".parse().unwrap();
    story.file("anna", other.clone()).unwrap();
    story.later("1h");
    // Two in a day are the most that this policy gives to one person.
    let third = story.file("anna", other.clone()).unwrap();
    assert_eq!(story.request(third).unwrap().state, RequestState::Pending);
    story.later("23h");
    let mut fresh = emergency("anna", "billing-host/observe", "sev1");
    fresh.duration = Some(span("10m"));
    let next_day = story.file("anna", fresh).unwrap();
    assert_eq!(story.request(next_day).unwrap().state, RequestState::Approved);
}

#[test]
fn a_lower_severity_or_a_longer_time_needs_a_person() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/observe", "sev2")).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
    story.approve("dan", request).unwrap();
}

#[test]
fn after_a_denial_a_person_must_decide() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/observe", "sev2")).unwrap();
    story.deny("dan", request).unwrap();
    let again = story.file("anna", emergency("anna", "orders-host/observe", "sev1")).unwrap();
    assert_eq!(story.request(again).unwrap().state, RequestState::Pending);
    story.later("4h");
    let later = story.file("anna", emergency("anna", "orders-host/observe", "sev1")).unwrap();
    assert_eq!(story.request(later).unwrap().state, RequestState::Approved);
}

#[test]
fn an_attested_severity_is_the_word_of_a_second_person() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/patch", "sev1")).unwrap();
    assert_eq!(
        story.request(request).unwrap().state,
        RequestState::Pending,
        "waits for somebody else's word"
    );
    let attest = Command::AttestSeverity { request };
    for (person, code) in [
        ("anna", RefusalCode::SeparationOfDuties),
        ("oto", RefusalCode::SeparationOfDuties),
        ("nia", RefusalCode::NotFound),
    ] {
        assert_eq!(story.by(person, attest.clone()).unwrap_err().code, code, "{person}");
    }
    story.by("ben", attest.clone()).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Approved);
    assert!(story.request(request).unwrap().automatic);
    assert_eq!(story.reviews(ReviewKind::RetroactiveApproval).len(), 1);
    assert!(story.incident().unwrap().is_party(&name("ben")), "whoever vouched does not review");
    assert!(story.by("cleo", attest).is_err());
}

#[test]
fn customer_data_is_never_approved_by_policy_alone() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        let automatic = catalog.policies["automatic"].rules[0].automatic.clone();
        catalog.policies.get_mut("two").unwrap().rules[0].automatic = automatic;
    });
    let mut file = emergency("anna", "orders-host/data", "sev1");
    file.scenario = Some(name("data-fix"));
    let request = story.file("anna", file).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
}

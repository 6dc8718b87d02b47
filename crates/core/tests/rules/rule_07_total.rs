//! Extensions and quick re-grants share one total; at its ceiling somebody else starts a new one.

use halligan_core::command::Command;
use halligan_core::ids::{GrantId, RequestId};
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, span};

fn extend(story: &mut Story, grant: GrantId, duration: &str) -> RequestId {
    story.by("anna", Command::Extend { grant, duration: span(duration), reason: "more".to_owned() }).unwrap();
    story.grant(grant).unwrap().pending_extension.unwrap()
}

#[test]
fn the_second_extension_is_reviewed_and_the_third_needs_somebody_new() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    for _ in 0..2 {
        let request = extend(&mut story, grant, "30m");
        story.approve("dan", request).unwrap();
    }
    let review = story.reviews(ReviewKind::ExtendedTwice)[0];
    assert_eq!((review.grant, review.due_at), (Some(grant), story.now.plus(span("48h"))));
    let third = extend(&mut story, grant, "30m");
    assert!(story.request(third).unwrap().new_total);
    assert_eq!(story.approve("dan", third).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.approve("hana", third).unwrap();
    let used = &story.world().standing(&name("anna")).uses;
    assert_eq!((used.len(), used[0].total, used[0].extensions), (1, span("30m"), 0));
    let fourth = extend(&mut story, grant, "30m");
    assert!(!story.request(fourth).unwrap().new_total);
    story.approve("dan", fourth).unwrap();
}

#[test]
fn the_ceiling_holds_even_for_policies_that_approve_by_themselves() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/observe", "sev1");
    file.duration = Some(span("2h"));
    let grant = story.open("anna", file.clone()).unwrap();
    story.later("2h");
    story.by("anna", Command::GiveBack { grant }).unwrap();
    file.incident = story.incident_id();
    let again = story.file("anna", file).unwrap();
    let found = story.request(again).unwrap();
    assert_eq!((found.state, found.new_total), (RequestState::Pending, true), "2h + 2h is above 3h");
    story.approve("dan", again).unwrap();
}

#[test]
fn time_given_back_is_not_counted() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/observe", "sev1");
    file.duration = Some(span("2h"));
    let grant = story.open("anna", file.clone()).unwrap();
    story.later("10m").by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.world().standing(&name("anna")).uses[0].total, span("10m"));
    let again = story.file("anna", file).unwrap();
    assert!(!story.request(again).unwrap().new_total);
}

#[test]
fn four_hours_later_or_in_another_incident_a_total_begins_anew_but_not_in_the_same_incident() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/root", "sev2");
    file.duration = Some(span("1h"));
    let grant = story.open("anna", file.clone()).unwrap();
    let incident = story.incident_id();
    story.later("1h").by("anna", Command::GiveBack { grant }).unwrap();
    story.later("4h");
    let fresh = story.file("anna", file.clone()).unwrap();
    story.by("anna", Command::Withdraw { request: fresh }).unwrap();
    file.incident = incident;
    file.duration = Some(span("1h"));
    let same = story.file("anna", file.clone()).unwrap();
    assert!(!story.request(same).unwrap().new_total, "1h + 1h is the ceiling of 2h");
    story.approve("hana", same).unwrap();
    let grant = story.grant_of(same).unwrap();
    assert_eq!(story.grant(grant).unwrap().earlier_total, span("1h"));
    assert!(story.request(fresh).unwrap().earlier_approvers.is_empty());
}

#[test]
fn two_grants_that_wait_for_activation_see_each_other() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/root", "sev2");
    file.duration = Some(span("1h"));
    let requests: Vec<RequestId> = (0..3).map(|_| story.file("anna", file.clone()).unwrap()).collect();
    story.approve("dan", requests[0]).unwrap();
    story.approve("dan", requests[1]).unwrap();
    // The third was filed when nothing had been granted; by now the total is used up.
    assert!(!story.request(requests[2]).unwrap().new_total);
    assert_eq!(story.approve("dan", requests[2]).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.approve("hana", requests[2]).unwrap();
    assert!(story.request(requests[2]).unwrap().new_total);
}

#[test]
fn a_new_total_that_never_began_does_not_wash_the_old_one_away() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/root", "sev2");
    file.duration = Some(span("1h"));
    for _ in 0..2 {
        let grant = story.open("anna", file.clone()).unwrap();
        story.later("1h").by("anna", Command::GiveBack { grant }).unwrap();
    }
    let third = story.file("anna", file.clone()).unwrap();
    story.approve("hana", third).unwrap();
    story.by("hana", Command::TakeBack { request: third }).unwrap();
    story.by("anna", Command::Withdraw { request: third }).unwrap();
    let fourth = story.file("anna", file).unwrap();
    assert!(story.request(fourth).unwrap().new_total, "the old total still stands");
    assert_eq!(story.approve("dan", fourth).unwrap_err().code, RefusalCode::SeparationOfDuties);
}

#[test]
fn a_bypass_starts_no_new_total() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/root", "sev2");
    file.duration = Some(span("1h"));
    for _ in 0..2 {
        let grant = story.open("anna", file.clone()).unwrap();
        story.later("1h").by("anna", Command::GiveBack { grant }).unwrap();
    }
    let request = story.file("anna", file).unwrap();
    let bypass = Command::Bypass {
        request,
        reason: "nobody answers".to_owned(),
        confirmation: "orders-host/root".to_owned(),
    };
    assert_eq!(story.by("anna", bypass).unwrap_err().code, RefusalCode::Limit);
}

#[test]
fn a_request_for_more_time_ends_with_its_grant() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    let request = extend(&mut story, grant, "30m");
    let again = Command::Extend { grant, duration: span("30m"), reason: "more".to_owned() };
    assert_eq!(story.by("anna", again).unwrap_err().code, RefusalCode::WrongState, "one at a time");
    story.by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Lapsed);
    assert!(story.incident().unwrap().pending_requests.is_empty());
}

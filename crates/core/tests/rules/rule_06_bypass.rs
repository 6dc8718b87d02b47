//! A bypass is loud and reviewed; while a review is open the next one waits for one approver or fifteen minutes.

use halligan_core::command::{Command, Due};
use halligan_core::effect::AlertKind;
use halligan_core::ids::RequestId;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, answers, emergency, span};

fn bypass(request: RequestId, what: &str) -> Command {
    Command::Bypass { request, reason: "nobody answers".to_owned(), confirmation: what.to_owned() }
}

#[test]
fn a_bypass_takes_effect_at_once_and_is_loud() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    assert_eq!(story.by("anna", bypass(request, "yes")).unwrap_err().code, RefusalCode::Incomplete);
    assert_eq!(
        story.by("ben", bypass(request, "orders-host/operate")).unwrap_err().code,
        RefusalCode::NotFound
    );
    story.by("anna", bypass(request, "orders-host/operate")).unwrap();
    let grant = story.grant_of(request).unwrap();
    assert!(story.grant(grant).unwrap().bypassed);
    let told = &story.alerts(AlertKind::Bypassed)[0].people;
    assert!(told.contains(&name("dan")) && told.contains(&name("hana")), "those not waited for: {told:?}");
    let review = story.reviews(ReviewKind::Bypass)[0];
    assert_eq!(review.due_at, story.now.plus(span("1d")), "Monday to Tuesday");
    assert_eq!(review.grant, Some(grant));
    assert!(story.world().standing(&name("anna")).bypass_reviews.contains(&review.id));
}

#[test]
fn the_next_bypass_waits_loudly_until_the_review_is_judged() {
    let mut story = Story::begin();
    let first = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(first, "orders-host/operate")).unwrap();
    let second = story.file("anna", emergency("anna", "billing-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(second, "billing-host/operate")).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Pending);
    story.later("14m").wake(Due::Request(second)).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Pending);
    story.later("1m");
    assert_eq!(
        story.deny("dan", second).unwrap_err().code,
        RefusalCode::WrongState,
        "too late, by the clock"
    );
    story.wake(Due::Request(second)).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Approved, "never zero access");
    assert!(story.grant(story.grant_of(second).unwrap()).unwrap().bypassed);
    assert_eq!(story.reviews(ReviewKind::Bypass).len(), 2);
    for review in story.reviews(ReviewKind::Bypass).iter().map(|review| review.id).collect::<Vec<_>>() {
        story.by("pia", Command::JudgeReview { review, answers: answers() }).unwrap();
    }
    let third = story.file("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", bypass(third, "orders-host/root")).unwrap();
    assert_eq!(story.request(third).unwrap().state, RequestState::Approved);
}

#[test]
fn one_approver_ends_the_loud_wait_and_one_denial_too() {
    let mut story = Story::begin();
    let first = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(first, "orders-host/operate")).unwrap();
    story.catalog(|catalog| catalog.policies.get_mut("one").unwrap().rules[0].steps[0].quorum = 2);
    let second = story.file("anna", emergency("anna", "billing-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(second, "billing-host/operate")).unwrap();
    story.approve("dan", second).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Approved, "one of the two is enough now");
    let third = story.file("anna", emergency("anna", "billing-host/root", "sev2")).unwrap();
    story.by("anna", bypass(third, "billing-host/root")).unwrap();
    story.deny("dan", third).unwrap();
    story.later("15m").wake(Due::Request(third)).unwrap();
    assert_eq!(story.request(third).unwrap().state, RequestState::Denied);
}

#[test]
fn an_approval_taken_back_leaves_the_loud_wait_running() {
    let mut story = Story::begin();
    let first = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(first, "orders-host/operate")).unwrap();
    let second = story.file("anna", emergency("anna", "billing-host/operate", "sev2")).unwrap();
    story.by("anna", bypass(second, "billing-host/operate")).unwrap();
    story.approve("dan", second).unwrap();
    story.by("dan", Command::TakeBack { request: second }).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Pending);
    story.later("15m").wake(Due::Request(second)).unwrap();
    assert_eq!(story.request(second).unwrap().state, RequestState::Approved);
    assert_eq!(story.reviews(ReviewKind::Bypass).len(), 2, "one for each bypass");
}

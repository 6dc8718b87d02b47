//! Every emergency grant is reviewed by somebody who did not act, and an empty log is explained.

use halligan_core::command::Command;
use halligan_core::refusal::RefusalCode;
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, answers, emergency, span, standard};

#[test]
fn the_end_of_an_emergency_grant_opens_a_review_due_in_three_business_days() {
    let mut story = Story::begin();
    story.later("2d"); // Wednesday
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let review = story.reviews(ReviewKind::PostUse)[0];
    assert_eq!(review.due_at, story.now.plus(span("5d")), "Wednesday to Monday, over a weekend");
}

#[test]
fn nobody_who_acted_reviews_whatever_their_office() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("eve", Command::Revoke { grant, reason: "enough".to_owned() }).unwrap();
    let review = story.reviews(ReviewKind::PostUse)[0].id;
    for person in ["dan", "eve"] {
        let refusal = story.by(person, Command::JudgeReview { review, answers: answers() }).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::SeparationOfDuties, "{person}");
    }
    let mut empty = answers();
    empty.empty_activity_explained = None;
    let refusal = story.by("fred", Command::JudgeReview { review, answers: empty }).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Incomplete, "nothing was done, and nobody says why");
    story.by("fred", Command::JudgeReview { review, answers: answers() }).unwrap();
}

#[test]
fn without_an_incident_those_who_asked_or_decided_do_not_review() {
    let mut story = Story::begin();
    let grant = story.open("anna", standard("anna", "orders-host/operate")).unwrap();
    for approver in ["hana", "hana"] {
        story
            .by("anna", Command::Extend { grant, duration: span("10m"), reason: "more".to_owned() })
            .unwrap();
        let request = story.grant(grant).unwrap().pending_extension.unwrap();
        story.approve(approver, request).unwrap();
    }
    let review = story.reviews(ReviewKind::ExtendedTwice)[0].id;
    let judge = Command::JudgeReview { review, answers: answers() };
    assert_eq!(story.by("hana", judge.clone()).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.by("dan", judge).unwrap();
    assert!(story.incident().is_none());
}

#[test]
fn a_review_is_put_off_once_and_at_most_thirty_days_by_a_security_officer_who_is_no_party() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let review = story.reviews(ReviewKind::PostUse)[0].id;
    let now = story.now;
    let defer = |until| Command::DeferReview { review, until, reason: "waiting for the vendor".to_owned() };
    assert!(story.by("pia", defer(now.plus(span("5d")))).is_err());
    assert_eq!(story.by("eve", defer(now.plus(span("31d")))).unwrap_err().code, RefusalCode::Limit);
    story.by("eve", defer(now.plus(span("30d")))).unwrap();
    assert_eq!(story.by("eve", defer(now.plus(span("5d")))).unwrap_err().code, RefusalCode::Limit);
}

#[test]
fn actions_live_on_after_judging() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let review = story.reviews(ReviewKind::PostUse)[0].id;
    let due_at = story.now.plus(span("7d"));
    let add = Command::AddAction { review, what: "add an alert".to_owned(), owner: name("ben"), due_at };
    story.by("pia", add).unwrap();
    story.by("pia", Command::JudgeReview { review, answers: answers() }).unwrap();
    assert_eq!(story.world().reviews[&review].state, halligan_core::review::ReviewState::Judged);
    story.by("ben", Command::CompleteAction { review, action: 0 }).unwrap();
    assert_eq!(story.world().reviews[&review].state, halligan_core::review::ReviewState::Closed);
}

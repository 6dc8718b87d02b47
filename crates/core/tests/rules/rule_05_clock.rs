//! Lateness is judged by the clock, not by the sweeper: nobody calls `wake` in these stories until the end.

use halligan_core::command::{Actor, Command, Due};
use halligan_core::grant::{GrantEnd, GrantState};
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, node, span, standard};

#[test]
fn nobody_decides_after_a_request_has_lapsed() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.later("4h");
    assert!(story.approve("dan", request).unwrap_err().say.contains("lapsed"));
    let escalate = Command::Escalate {
        request,
        severity: name("sev1"),
        scenario: name("outage"),
        criteria_confirmed: true,
        incident: None,
        number: 1,
        reason: "worse".to_owned(),
    };
    assert_eq!(story.by("anna", escalate).unwrap_err().code, RefusalCode::WrongState);
    story.wake(Due::Request(request)).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Lapsed);
}

#[test]
fn a_step_that_lapses_does_so_by_the_clock() {
    let mut story = Story::begin();
    let request = story.file("anna", standard("anna", "orders-host/observe")).unwrap();
    story.later("1h");
    assert!(story.approve("dan", request).unwrap_err().say.contains("lapsed"));
}

#[test]
fn a_timer_asks_other_people_by_the_clock() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    assert_eq!(story.approve("eve", request).unwrap_err().code, RefusalCode::NotAllowed, "not yet");
    story.later("20m");
    story.approve("eve", request).unwrap();
    assert!(story.request(request).unwrap().steps[0].timer_done);
}

#[test]
fn an_approval_is_good_for_an_hour() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.approve("dan", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.later("1h");
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Cancelled);
}

#[test]
fn a_connector_that_answers_too_late_has_opened_nothing() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.approve("dan", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    story.later("1h");
    story.run(&node("connector"), Command::ReportActivated { grant, fencing: 1 }).unwrap();
    let found = story.grant(grant).unwrap();
    assert_eq!((found.state, found.fencing), (GrantState::ActivationFailed, 2));
}

#[test]
fn whoever_ends_a_grant_after_its_deadline_finds_it_expired_at_its_deadline() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev1")).unwrap();
    let deadline = story.grant(grant).unwrap().deadline;
    let session = story.enter(grant).unwrap();
    story.leave(session).unwrap();
    story.later("2h");
    let extend = Command::Extend { grant, duration: span("10m"), reason: "more".to_owned() };
    assert_eq!(story.by("anna", extend).unwrap_err().code, RefusalCode::WrongState);
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let found = story.grant(grant).unwrap();
    assert_eq!((found.end_reason, found.ended_at), (Some(GrantEnd::Expired), deadline));
}

#[test]
fn nothing_that_is_due_stays_due_for_ever() {
    // A sweeper that wakes what is due must come to rest: each wake moves the due time on.
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.later("21m").wake(Due::Request(request)).unwrap();
    let due = halligan_core::request::due_at(story.request(request).unwrap()).unwrap();
    assert!(due > story.now);
    let grant = story.open("ben", emergency("ben", "orders-host/root", "sev2")).unwrap();
    let late = span("15m");
    for _ in 0..50 {
        let Some(due) = halligan_core::grant::due_at(story.grant(grant).unwrap(), late) else { return };
        story.now = story.now.max(due);
        story.wake(Due::Grant(grant)).unwrap();
        let next = halligan_core::grant::due_at(story.grant(grant).unwrap(), late);
        assert!(next.is_none_or(|next| next > due), "{:?}", story.grant(grant).unwrap().state);
    }
}

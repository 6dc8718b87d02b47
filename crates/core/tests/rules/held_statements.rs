//! Four eyes on one statement: rules 2, 4, 5 and 13 for what waits in a database session.

use halligan_core::catalog::StatementClass;
use halligan_core::command::{Actor, Command};
use halligan_core::effect::AlertKind;
use halligan_core::event::Event;
use halligan_core::ids::SessionId;
use halligan_core::incident::Part;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, node, span};

/// Anna is in, and her statement waits: dan approved, and could let it pass.
fn waiting() -> (Story, SessionId) {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    let session = story.enter(grant).unwrap();
    assert!(!hold(&mut story, "gw-1", session, 1).unwrap().is_empty());
    (story, session)
}

fn hold(story: &mut Story, gateway: &str, session: SessionId, hold: u32) -> Result<Vec<Event>, Refusal> {
    let (at, until) = (story.now, story.now.plus(span("10m")));
    let (sha256, text) = ("ab".repeat(32), "DROP TABLE orders".to_owned());
    let class = StatementClass::Schema;
    let held =
        Command::ReportStatementHeld { session, hold, class, sha256, text, parameters: None, at, until };
    story.run(&node(gateway), held)
}

fn release(session: SessionId, allow: bool) -> Command {
    Command::ReleaseStatement { session, hold: 1, allow, reason: "I read it".to_owned() }
}

fn settle(story: &mut Story, session: SessionId, allowed: bool) -> Vec<Event> {
    let (by, reason) = ("dan".to_owned(), String::new());
    let settled = Command::ReportStatementSettled { session, hold: 1, allowed, by, reason };
    story.run(&node("gw-1"), settled).unwrap()
}

#[test]
fn somebody_else_who_could_approve_lets_it_pass() {
    for who in ["dan", "hana", "eve"] {
        let (mut story, session) = waiting();
        story.by(who, release(session, true)).unwrap();
        let answer = story.session(session).unwrap().held[&1].answer.clone().unwrap();
        assert!(answer.allow && answer.by == name(who), "{answer:?}");
        assert!(story.incident().unwrap().parties[&name(who)].contains(&Part::Releaser));
        let events = settle(&mut story, session, true);
        assert!(matches!(events[..], [Event::StatementSettled { allowed: true, unasked: false, .. }, ..]));
        assert!(story.session(session).unwrap().held.is_empty());
        assert!(story.alerts(AlertKind::UnauthorisedAttempt).is_empty());
    }
}

#[test]
fn nobody_lets_their_own_pass_nor_does_their_deputy_or_a_stranger() {
    let (mut story, session) = waiting();
    story.catalog(|catalog| {
        for person in ["anna", "oto"] {
            catalog.groups.get_mut("leads").unwrap().members.insert(name(person));
        }
    });
    for (who, code) in [
        ("anna", RefusalCode::SeparationOfDuties),
        ("oto", RefusalCode::NotFound),
        ("ben", RefusalCode::NotFound),
        ("ivo", RefusalCode::NotFound),
        ("nia", RefusalCode::NotFound),
    ] {
        assert_eq!(story.by(who, release(session, true)).unwrap_err().code, code, "{who}");
    }
    assert!(story.session(session).unwrap().held[&1].answer.is_none());
}

#[test]
fn to_allow_needs_a_second_factor_for_this_act_to_deny_none_and_a_token_does_neither() {
    let (mut story, session) = waiting();
    let without = Actor::Person { id: name("dan"), factor: None, token: false };
    let refusal = story.run(&without, release(session, true)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::SecondFactor);
    for allow in [true, false] {
        assert!(story.by_token("dan", release(session, allow)).is_err());
    }
    story.run(&without, release(session, false)).unwrap();
    // The first answer stands.
    let again = story.by("hana", release(session, true)).unwrap_err();
    assert_eq!(again.code, RefusalCode::WrongState);
    assert!(!story.session(session).unwrap().held[&1].answer.as_ref().unwrap().allow);
}

#[test]
fn it_waits_no_longer_than_said_nor_beyond_its_access() {
    let (mut story, session) = waiting();
    story.later("10m");
    assert_eq!(story.by("dan", release(session, true)).unwrap_err().code, RefusalCode::WrongState);
    let (mut story, session) = waiting();
    let grant = story.session(session).unwrap().grant;
    story.by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.by("dan", release(session, true)).unwrap_err().code, RefusalCode::WrongState);
    let (mut story, session) = waiting();
    story.leave(session).unwrap();
    assert!(story.session(session).unwrap().held.is_empty());
    assert_eq!(story.by("dan", release(session, true)).unwrap_err().code, RefusalCode::WrongState);
    assert!(
        hold(&mut story, "gw-1", session, 2).unwrap().is_empty(),
        "a session that is over waits for nothing"
    );
}

#[test]
fn only_its_gateway_speaks_of_a_session_and_a_number_is_used_once() {
    let (mut story, session) = waiting();
    assert_eq!(hold(&mut story, "gw-2", session, 2).unwrap_err().code, RefusalCode::NotAllowed);
    settle(&mut story, session, false);
    // Reported once more, as after a broken link: an answer to the first would pass for one to the second.
    assert!(hold(&mut story, "gw-1", session, 1).unwrap().is_empty());
    assert!(!hold(&mut story, "gw-1", session, 2).unwrap().is_empty());
}

#[test]
fn a_gateway_that_lets_one_pass_unasked_is_a_violation() {
    let (mut story, session) = waiting();
    let events = settle(&mut story, session, true);
    assert!(matches!(events[..], [Event::StatementSettled { allowed: true, unasked: true, .. }, ..]));
    assert!(!story.alerts(AlertKind::UnauthorisedAttempt).is_empty());
}

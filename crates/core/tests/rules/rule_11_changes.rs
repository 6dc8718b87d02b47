//! What widens who can get in, and every factor, needs a second person as soon as there is one.

use std::collections::BTreeSet;

use halligan_core::change::{ChangeState, ChangeSubject, ProposeChange};
use halligan_core::command::{Command, Due};
use halligan_core::effect::{AlertKind, Effect};
use halligan_core::event::Event;
use halligan_core::ids::{ChangeId, PersonId};
use halligan_core::refusal::RefusalCode;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, person};

fn propose(story: &mut Story, by: &str, widening: bool, able: &[&str]) -> Result<ChangeId, RefusalCode> {
    let id = story.id();
    let able: BTreeSet<PersonId> = able.iter().map(|person| name(person)).collect();
    let change = ProposeChange {
        id,
        subject: ChangeSubject::Catalog,
        about: None,
        digest: "0f".repeat(32),
        summary: "cleo may approve".to_owned(),
        widening,
        able,
    };
    story.by(by, Command::ProposeChange(Box::new(change))).map(|_| id).map_err(|refusal| refusal.code)
}

fn confirm(change: ChangeId) -> Command {
    Command::ConfirmChange { change, digest: "0f".repeat(32) }
}

#[test]
fn a_widening_change_waits_for_a_second_person() {
    let mut story = Story::begin();
    let change = propose(&mut story, "jon", true, &["jon", "pia", "eve"]).unwrap();
    assert_eq!(story.world().changes[&change].state, ChangeState::Proposed);
    assert_eq!(story.by("jon", confirm(change)).unwrap_err().code, RefusalCode::SeparationOfDuties);
    assert_eq!(story.by("anna", confirm(change)).unwrap_err().code, RefusalCode::NotFound);
    let other = Command::ConfirmChange { change, digest: "00".repeat(32) };
    assert_eq!(story.by("pia", other).unwrap_err().code, RefusalCode::Stale);
    let events = story.by("pia", confirm(change)).unwrap();
    assert!(matches!(events[1], Event::ChangeApplied { alone: false, .. }));
    assert!(story.effects.contains(&Effect::ApplyChange { change }));
    assert_eq!(story.alerts(AlertKind::Widened).len(), 2, "when asked and when done");
}

#[test]
fn a_change_that_widens_nothing_is_in_force_at_once() {
    let mut story = Story::begin();
    let change = propose(&mut story, "jon", false, &["jon", "pia"]).unwrap();
    assert_eq!(story.world().changes[&change].state, ChangeState::Applied);
    assert_eq!(propose(&mut story, "anna", false, &["jon"]).unwrap_err(), RefusalCode::NotAllowed);
}

#[test]
fn a_single_administrator_goes_alone_and_it_says_so() {
    let mut story = Story::begin();
    let change = propose(&mut story, "jon", true, &["jon"]).unwrap();
    let found = &story.world().changes[&change];
    assert!(found.alone && found.state == ChangeState::Applied);
    assert!(story.alerts(AlertKind::Widened)[0].say.contains("ALONE"));
}

#[test]
fn before_the_first_catalog_whoever_is_enrolled_brings_it_in() {
    let mut story = Story::begin();
    story.catalog(|catalog| *catalog = halligan_core::catalog::Catalog::default());
    propose(&mut story, "first", true, &["first"]).unwrap();
    let open = Command::OpenIncident {
        title: "x".to_owned(),
        severity: name("sev1"),
        scenario: None,
        link: None,
        number: 1,
    };
    assert_eq!(story.by("first", open).unwrap_err().code, RefusalCode::NotAllowed);
}

#[test]
fn a_factor_needs_somebody_else_even_for_its_owner() {
    let mut story = Story::begin();
    let id = story.id();
    let change = ProposeChange {
        id,
        subject: ChangeSubject::Factor,
        about: Some(name("anna")),
        digest: "0f".repeat(32),
        summary: "a new key for anna".to_owned(),
        widening: false,
        able: [name("jon"), name("anna"), name("pia")].into(),
    };
    story.by("jon", Command::ProposeChange(Box::new(change))).unwrap();
    assert_eq!(story.by("anna", confirm(id)).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.by("pia", confirm(id)).unwrap();
}

#[test]
fn a_change_expires_by_the_clock_and_goes_stale_with_the_catalog() {
    let mut story = Story::begin();
    let change = propose(&mut story, "jon", true, &["pia"]).unwrap();
    let stale = propose(&mut story, "jon", true, &["pia"]).unwrap();
    story.catalog(|catalog| catalog.organisation.push('!'));
    assert_eq!(story.by("pia", confirm(stale)).unwrap_err().code, RefusalCode::Stale);
    story.later("24h");
    assert_eq!(story.by("pia", confirm(change)).unwrap_err().code, RefusalCode::WrongState);
    story.wake(Due::Change(change)).unwrap();
    assert_eq!(story.world().changes[&change].state, ChangeState::Rejected);
}

#[test]
fn who_could_confirm_can_say_no_and_a_token_cannot_say_yes() {
    let mut story = Story::begin();
    let change = propose(&mut story, "jon", true, &["pia", "eve"]).unwrap();
    assert_eq!(story.by_token("pia", confirm(change)).unwrap_err().code, RefusalCode::NotAllowed);
    let reject = Command::RejectChange { change, reason: "why?".to_owned() };
    assert_eq!(story.by("anna", reject.clone()).unwrap_err().code, RefusalCode::NotFound);
    story.run(&person("eve", story.now), reject).unwrap();
    assert!(story.by("pia", confirm(change)).is_err());
}

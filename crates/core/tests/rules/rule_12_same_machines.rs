//! Standard and emergency run the same machines and write the same kinds of event.

use std::collections::BTreeSet;

use halligan_core::command::Command;
use halligan_core::event::Event;
use halligan_core::testing::story::{Story, emergency, standard};

fn kinds(emergency_mode: bool) -> BTreeSet<&'static str> {
    let mut story = Story::begin();
    let file = if emergency_mode {
        emergency("anna", "orders-host/operate", "sev2")
    } else {
        standard("anna", "orders-host/operate")
    };
    let grant = story.open("anna", file).unwrap();
    let session = story.enter(grant).unwrap();
    story.leave(session).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    story.prove(grant).unwrap();
    story.history.iter().map(Event::name).collect()
}

#[test]
fn an_emergency_writes_the_same_events_and_some_more() {
    let (standard, emergency) = (kinds(false), kinds(true));
    let more: Vec<&str> = emergency.difference(&standard).copied().collect();
    assert!(standard.is_subset(&emergency));
    assert_eq!(more, ["incident_opened", "part_taken", "review_opened"]);
}

#[test]
fn emergency_is_a_different_policy_and_never_a_missing_one() {
    let mut story = Story::begin();
    story.catalog(|catalog| drop(catalog.policies.remove("one")));
    let refusal = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap_err();
    assert!(refusal.say.contains("policy one"), "{refusal}");
    let refusal = story.file("anna", standard("anna", "orders-host/root")).unwrap_err();
    assert_eq!(refusal.next.as_deref(), Some("add --emergency"));
}

//! Who asks, who uses, and their deputies never approve. Approvals are matched, whatever the order.

use halligan_core::command::Command;
use halligan_core::grant::GrantState;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, span, standard};

fn data(beneficiary: &str) -> halligan_core::command::FileRequest {
    let mut file = emergency(beneficiary, "orders-host/data", "sev2");
    file.scenario = Some(name("data-fix"));
    file
}

#[test]
fn nobody_approves_their_own_request_nor_their_deputys() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        for person in ["anna", "oto", "ben"] {
            catalog.groups.get_mut("leads").unwrap().members.insert(name(person));
        }
    });
    let request = story.file("ben", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    for person in ["anna", "ben", "oto", "dan"] {
        let refusal = story.approve(person, request).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::SeparationOfDuties, "{person}: {refusal}");
    }
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
    story.approve("hana", request).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Approved);
}

#[test]
fn two_approvals_fill_two_steps_in_either_order() {
    for order in [["eve", "kim"], ["kim", "eve"], ["eve", "fred"], ["fred", "eve"]] {
        let mut story = Story::begin();
        let request = story.file("anna", data("anna")).unwrap();
        for person in order {
            assert_eq!(story.request(request).unwrap().state, RequestState::Pending, "{order:?}");
            story.approve(person, request).unwrap();
        }
        assert_eq!(story.request(request).unwrap().state, RequestState::Approved, "{order:?}");
    }
}

#[test]
fn two_approvals_of_the_same_step_are_not_enough_and_one_person_counts_once() {
    let mut story = Story::begin();
    let request = story.file("anna", data("anna")).unwrap();
    story.approve("kim", request).unwrap();
    story.approve("lea", request).unwrap();
    assert_eq!(story.approve("kim", request).unwrap_err().code, RefusalCode::WrongState);
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
    story.approve("eve", request).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Approved);
}

#[test]
fn a_lead_who_filed_for_a_responder_approves_neither_the_request_nor_its_extension() {
    let mut story = Story::begin();
    let request = story.file("dan", emergency("cleo", "orders-host/operate", "sev2")).unwrap();
    assert_eq!(story.approve("dan", request).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.approve("hana", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.activate(grant).unwrap();
    story.by("cleo", Command::Extend { grant, duration: span("30m"), reason: "not yet".to_owned() }).unwrap();
    let extension = story.grant(grant).unwrap().pending_extension.unwrap();
    assert_eq!(story.approve("dan", extension).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.approve("hana", extension).unwrap();
    assert_eq!(story.grant(grant).unwrap().extended_by, vec![extension]);
}

#[test]
fn an_approval_can_be_taken_back_until_activation() {
    let mut story = Story::begin();
    let request = story.file("anna", standard("anna", "orders-host/operate")).unwrap();
    story.approve("hana", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.by("hana", Command::TakeBack { request }).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Cancelled);
    assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
    story.approve("hana", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.activate(grant).unwrap();
    assert_eq!(story.by("hana", Command::TakeBack { request }).unwrap_err().code, RefusalCode::WrongState);
}

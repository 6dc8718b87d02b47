//! Strangers learn nothing; reducing is easy; tokens never approve, ask in emergency, review or release.

use halligan_core::command::Command;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::{RequestState, Verdict};
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, answers, emergency, span, standard};

#[test]
fn a_stranger_cannot_tell_what_exists_from_what_does_not() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let request = story.grant(grant).unwrap().request;
    let incident = story.incident_id().unwrap();
    let session = story.enter(grant).unwrap();
    let file = |what: &str| Command::FileRequest(Box::new(standard("nia", what)));
    let missing = story.by("nia", file("orders-host/nothing")).unwrap_err();
    let hidden = story.by("nia", file("orders-host/operate")).unwrap_err();
    assert_eq!(missing.say.replace("nothing", "operate"), hidden.say);
    let version = 1;
    for command in [
        Command::Decide { request, verdict: Verdict::Approve, version, reason: None },
        Command::Decide { request, verdict: Verdict::Deny, version, reason: None },
        Command::Withdraw { request },
        Command::TakeBack { request },
        Command::GiveBack { grant },
        Command::Revoke { grant, reason: "x".to_owned() },
        Command::Extend { grant, duration: span("5m"), reason: "x".to_owned() },
        Command::AddNote { incident, text: "x".to_owned() },
        Command::TerminateSession { session, reason: "x".to_owned() },
    ] {
        let refusal = story.by("nia", command.clone()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotFound, "{command:?}");
    }
}

#[test]
fn a_token_does_only_what_reduces_or_is_everyday() {
    let mut story = Story::begin();
    let ask = Command::FileRequest(Box::new(emergency("anna", "orders-host/operate", "sev2")));
    assert_eq!(story.by_token("anna", ask).unwrap_err().code, RefusalCode::NotAllowed);
    let standard = Command::FileRequest(Box::new(standard("anna", "orders-host/operate")));
    story.by_token("anna", standard).unwrap();
    let request = *story.world().requests.keys().next().unwrap();
    let decide = |verdict| Command::Decide { request, verdict, version: 1, reason: None };
    assert_eq!(story.by_token("hana", decide(Verdict::Approve)).unwrap_err().code, RefusalCode::NotAllowed);
    story.by_token("hana", decide(Verdict::Deny)).unwrap();
    assert_eq!(story.request(request).unwrap().state, RequestState::Denied);
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let extend = Command::Extend { grant, duration: span("5m"), reason: "x".to_owned() };
    assert_eq!(story.by_token("anna", extend).unwrap_err().code, RefusalCode::NotAllowed);
    story.by_token("eve", Command::Revoke { grant, reason: "enough".to_owned() }).unwrap();
    let review = story.reviews(ReviewKind::PostUse)[0].id;
    for (person, command) in [
        ("fred", Command::JudgeReview { review, answers: answers() }),
        ("fred", Command::WaiveProof { grant, reason: "x".to_owned() }),
        ("hana", Command::CloseIncident { incident }),
        ("hana", Command::Reopen { incident, reason: "x".to_owned() }),
        ("fred", Command::CloseUnproven { incident, reason: "x".to_owned() }),
    ] {
        let refusal = story.by_token(person, command.clone()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed, "{command:?}");
    }
}

#[test]
fn an_auditor_reads_an_incident_and_changes_nothing() {
    let mut story = Story::begin();
    story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let severity = name("sev1");
    let commands = [
        Command::AddNote { incident, text: "x".to_owned() },
        Command::AddLink { incident, link: "OPS-1".to_owned() },
        Command::ChangeSeverity { incident, severity, reason: "x".to_owned() },
    ];
    for command in &commands {
        let refusal = story.by("ivo", command.clone()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed, "it is known to them: {command:?}");
        assert_eq!(story.by("nia", command.clone()).unwrap_err().code, RefusalCode::NotFound);
    }
    for command in commands {
        story.by("anna", command).unwrap();
    }
}

#[test]
fn a_member_raises_the_severity_and_only_those_who_lead_lower_it() {
    let mut story = Story::begin();
    story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let change = |to: &str| Command::ChangeSeverity { incident, severity: name(to), reason: "x".to_owned() };
    assert_eq!(story.by("anna", change("sev3")).unwrap_err().code, RefusalCode::NotAllowed);
    story.by("anna", change("sev1")).unwrap();
    // Whoever raised it does not take that back alone.
    assert_eq!(story.by("anna", change("sev2")).unwrap_err().code, RefusalCode::NotAllowed);
    story.by("hana", change("sev2")).unwrap();
    story.by("eve", change("sev3")).unwrap();
    // Oversight alone declares nothing: sev1 names who may.
    assert_eq!(story.by("gus", change("sev1")).unwrap_err().code, RefusalCode::NotAllowed);
}

#[test]
fn who_has_nothing_to_do_with_emergencies_opens_no_incident() {
    let mut story = Story::begin();
    let mut number = 0;
    let mut open = |severity: &str| {
        number += 1;
        let title = "orders are stuck".to_owned();
        Command::OpenIncident { title, severity: name(severity), scenario: None, link: None, number }
    };
    // sev2 names nobody: that means everybody who may have to answer an emergency, and nobody else.
    for who in ["nia", "ivo", "jon"] {
        assert_eq!(story.by(who, open("sev2")).unwrap_err().code, RefusalCode::NotAllowed, "{who}");
    }
    for who in ["anna", "hana", "eve"] {
        story.by(who, open("sev2")).unwrap();
    }
    // gus leads nothing; he is on call in turn, and only then.
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(story.by("gus", open("sev2")).is_ok());
        story.later("12h");
    }
    assert_eq!(said.iter().filter(|yes| **yes).count(), 1, "{said:?}");
}

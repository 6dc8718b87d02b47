//! No session without a grant in force; every grant has a deadline; an emergency has reason, scenario and incident.

use halligan_core::command::{Command, Due};
use halligan_core::effect::AlertKind;
use halligan_core::grant::{GrantEnd, GrantState};
use halligan_core::refusal::RefusalCode;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, node, span, standard};

#[test]
fn an_emergency_opens_an_incident_and_access_ends_by_itself() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev1")).unwrap();
    let incident = story.incident().unwrap();
    assert_eq!(incident.opened_by, name("anna"));
    let deadline = story.grant(grant).unwrap().deadline.unwrap();
    assert_eq!(deadline, story.now.plus(span("30m")));
    let session = story.enter(grant).unwrap();
    assert!(!story.session(session).unwrap().outside_grant);
    story.later("30m").wake(Due::Grant(grant)).unwrap();
    let ended = story.grant(grant).unwrap();
    assert_eq!((ended.state, ended.end_reason), (GrantState::Revoking, Some(GrantEnd::Expired)));
    let late = story.enter(grant).unwrap();
    assert!(
        story.session(late).unwrap().outside_grant,
        "a session after the deadline is a violation, and is said to be one"
    );
}

#[test]
fn a_session_that_began_in_time_and_is_reported_late_is_no_violation() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev1")).unwrap();
    let began = story.now;
    story.later("5m").by("anna", Command::GiveBack { grant }).unwrap();
    let (session, recording) = (story.id(), story.id());
    let report = |at| Command::ReportSessionOpened {
        session,
        grant,
        gateway: name("gw-1"),
        recording,
        client: "192.0.2.7".to_owned(),
        login: "public key".to_owned(),
        at,
    };
    story.run(&node("gw-1"), report(began)).unwrap();
    assert!(!story.session(session).unwrap().outside_grant);
    assert!(
        story.run(&node("gw-1"), report(began)).unwrap().is_empty(),
        "a report taken in before changes nothing"
    );
}

#[test]
fn what_does_not_fit_the_scenario_is_refused_in_words() {
    let mut story = Story::begin();
    let mut file = emergency("anna", "orders-host/root", "sev3");
    assert_eq!(story.file("anna", file.clone()).unwrap_err().code, RefusalCode::DoesNotFit);
    file.severity = Some(name("sev1"));
    file.scenario = Some(name("data-fix"));
    assert!(story.file("anna", file.clone()).unwrap_err().say.contains("not in the scope"));
    file.scenario = None;
    assert_eq!(story.file("anna", file.clone()).unwrap_err().code, RefusalCode::Incomplete);
    file.scenario = Some(name("outage"));
    file.criteria_confirmed = false;
    assert!(story.file("anna", file.clone()).unwrap_err().say.contains("users notice it"));
    file.criteria_confirmed = true;
    file.why_not_lower = None;
    let refusal = story.file("anna", file.clone()).unwrap_err();
    assert!(refusal.next.unwrap().contains("--why-not-lower"));
    file.reason = "  ".to_owned();
    assert!(story.file("anna", file).is_err());
    assert!(story.history.is_empty());
}

#[test]
fn an_entitlement_can_demand_a_ticket() {
    let mut story = Story::begin();
    let mut file = standard("anna", "orders-host/vendor");
    file.link = Some("DEV-1".to_owned());
    assert!(story.file("anna", file.clone()).unwrap_err().say.contains("OPS-*"));
    file.link = Some("OPS-12".to_owned());
    story.file("anna", file).unwrap();
}

#[test]
fn a_standard_request_never_carries_a_scenario_by_which_it_could_be_bypassed() {
    let mut story = Story::begin();
    let mut file = standard("anna", "orders-host/operate");
    file.scenario = Some(name("outage"));
    file.severity_attested = true;
    let request = story.file("anna", file).unwrap();
    let found = story.request(request).unwrap();
    assert!(found.scenario.is_none() && !found.severity_attested);
    let bypass =
        Command::Bypass { request, reason: "now".to_owned(), confirmation: "orders-host/operate".to_owned() };
    assert_eq!(story.by("anna", bypass).unwrap_err().code, RefusalCode::NotAllowed);
}

#[test]
fn what_no_session_explains_at_a_system_is_told_and_only_nodes_say_so() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev1")).unwrap();
    let found = Command::ReportUnexplained {
        grant: Some(grant),
        system: name("orders-db"),
        what: "postgres logged in from 192.0.2.7".to_owned(),
    };
    assert_eq!(story.by("anna", found.clone()).unwrap_err().code, RefusalCode::NotAllowed);
    assert!(story.alerts(AlertKind::Unexplained).is_empty());
    story.run(&node("con-1"), found).unwrap();
    let told = story.alerts(AlertKind::Unexplained);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].grant, Some(grant));
    assert!(told[0].say.contains("192.0.2.7"), "{}", told[0].say);
}

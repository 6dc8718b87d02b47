//! Approvers are resolved when they decide; a removal bites at once; young people, factors and memberships do not count.

use halligan_core::catalog::FactorKind;
use halligan_core::command::{Actor, Command, FactorUse};
use halligan_core::grant::GrantState;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::{RequestState, Verdict};
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, span, standard};

#[test]
fn a_removal_before_activation_takes_the_approval_with_it() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.approve("dan", request).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.catalog(|catalog| {
        catalog.groups.get_mut("leads").unwrap().members.remove("dan");
    });
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Cancelled);
    let found = story.request(request).unwrap();
    assert_eq!(found.state, RequestState::Pending);
    assert!(found.decisions[0].void);
}

#[test]
fn a_person_who_left_gets_no_access_any_more() {
    let mut story = Story::begin();
    let request = story.file("anna", emergency("anna", "orders-host/observe", "sev1")).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.catalog(|catalog| catalog.people.get_mut("anna").unwrap().left = true);
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Cancelled);
    let refusal = story.by("anna", Command::Withdraw { request }).unwrap_err();
    assert!(refusal.say.contains("left"), "{refusal}");
}

#[test]
fn the_end_of_a_turn_on_call_takes_nothing_back() {
    let mut story = Story::begin();
    story.later("1h30m"); // 11:30; hana's or dan's turn changes at noon
    let request = story.file("anna", standard("anna", "orders-host/operate")).unwrap();
    let duty =
        ["dan", "hana", "gus"].into_iter().find(|person| story.approve(person, request).is_ok()).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.later("35m");
    story.run(&Actor::Clock, Command::BeginActivation { grant }).unwrap();
    assert_eq!(story.grant(grant).unwrap().state, GrantState::Activating, "{duty} decided in their turn");
}

#[test]
fn young_memberships_people_and_factors_do_not_count() {
    let mut story = Story::begin();
    let now = story.now;
    story.catalog(|catalog| {
        catalog.groups.get_mut("leads").unwrap().members.insert(name("cleo"));
        catalog.since.insert("group:leads:cleo".to_owned(), now);
        catalog.since.insert("person:hana".to_owned(), now);
    });
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    for person in ["cleo", "hana"] {
        assert_eq!(story.approve(person, request).unwrap_err().code, RefusalCode::NotAllowed, "{person}");
    }
    let factor = |enrolled_at, at, own| {
        let factor = FactorUse { kind: FactorKind::Totp, at, enrolled_at, for_this_act: own };
        Actor::Person { id: name("dan"), factor: Some(factor), token: false }
    };
    let decide = Command::Decide { request, verdict: Verdict::Approve, version: 1, reason: None };
    for bad in [
        factor(now.minus(span("2h")), now, true),
        factor(now.minus(span("9d")), now.minus(span("6m")), true),
        factor(now.minus(span("9d")), now, false),
    ] {
        assert_eq!(story.run(&bad, decide.clone()).unwrap_err().code, RefusalCode::SecondFactor, "{bad:?}");
    }
    story.run(&factor(now.minus(span("9d")), now, true), decide).unwrap();
}

#[test]
fn a_young_membership_is_not_made_old_by_another_name_in_the_same_step() {
    let mut story = Story::begin();
    let now = story.now;
    story.catalog(|catalog| {
        catalog.groups.get_mut("leads").unwrap().members.insert(name("cleo"));
        catalog.since.insert("group:leads:cleo".to_owned(), now);
        let step = &mut catalog.policies.get_mut("one").unwrap().rules[0].steps[0];
        step.approvers.push(halligan_core::catalog::Who::Person(name("gus")));
    });
    let request = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    assert_eq!(story.approve("cleo", request).unwrap_err().code, RefusalCode::NotAllowed);
}

#[test]
fn a_decision_names_the_version_it_saw_and_the_factor_it_used() {
    let mut story = Story::begin();
    let request = story.file("anna", standard("anna", "orders-host/operate")).unwrap();
    story
        .by(
            "anna",
            Command::Escalate {
                request,
                severity: name("sev2"),
                scenario: name("outage"),
                criteria_confirmed: true,
                incident: None,
                number: 1,
                reason: "it got worse".to_owned(),
            },
        )
        .unwrap();
    let stale = Command::Decide { request, verdict: Verdict::Approve, version: 1, reason: None };
    assert_eq!(story.by("dan", stale).unwrap_err().code, RefusalCode::Stale);
    story.approve("dan", request).unwrap();
    let decision = &story.request(request).unwrap().decisions[0];
    assert_eq!((decision.version_seen, decision.factor), (2, Some(FactorKind::Totp)));
}

#[test]
fn an_escalation_carries_an_approval_only_if_the_new_policy_still_names_that_person() {
    let escalate = |request| Command::Escalate {
        request,
        severity: name("sev2"),
        scenario: name("outage"),
        criteria_confirmed: true,
        incident: None,
        number: 1,
        reason: "it got worse".to_owned(),
    };
    // orders-host/vendor: standard needs manager or owner (dan or gus), emergency needs a lead (dan or hana).
    for (person, carried) in [("dan", true), ("gus", false)] {
        let mut story = Story::begin();
        story.catalog(|catalog| {
            catalog.policies.get_mut("manager").unwrap().rules[0].steps[0].quorum = 2;
        });
        let request = story.file("anna", standard("anna", "orders-host/vendor")).unwrap();
        story.approve(person, request).unwrap();
        story.by("anna", escalate(request)).unwrap();
        let found = story.request(request).unwrap();
        assert_eq!((found.decisions[0].carried, found.decisions[0].void), (carried, !carried), "{person}");
        assert_eq!(found.state == RequestState::Approved, carried, "{person}");
        assert!(story.incident().unwrap().is_party(&name(person)));
        if carried {
            story.by(person, Command::TakeBack { request }).unwrap();
            assert_eq!(story.request(request).unwrap().state, RequestState::Pending);
        }
    }
}

#[test]
fn a_request_stays_in_its_incident_when_it_gets_graver() {
    let mut story = Story::begin();
    let first = story.file("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    story.later("1s");
    story.file("ben", emergency("ben", "orders-host/operate", "sev2")).unwrap();
    let own = story.request(first).unwrap().incident;
    let other = story.world().incidents.keys().copied().find(|id| Some(*id) != own);
    let escalate = |incident| Command::Escalate {
        request: first,
        severity: name("sev1"),
        scenario: name("outage"),
        criteria_confirmed: true,
        incident,
        number: 9,
        reason: "worse".to_owned(),
    };
    assert_eq!(story.by("anna", escalate(other)).unwrap_err().code, RefusalCode::DoesNotFit);
    story.by("anna", escalate(own)).unwrap();
    assert_eq!(story.request(first).unwrap().incident, own);
}

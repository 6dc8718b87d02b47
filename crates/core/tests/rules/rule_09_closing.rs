//! An incident closes when everything is proved, ended, kept and judged; or two people end it unproven, loudly.

use halligan_core::command::Command;
use halligan_core::grant::{GrantEnd, GrantState};
use halligan_core::incident::{ChangeFate, IncidentState};
use halligan_core::refusal::RefusalCode;
use halligan_core::request::RequestState;
use halligan_core::review::ReviewKind;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, node, span};

#[test]
fn closing_names_what_blocks_until_nothing_does() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let session = story.enter(grant).unwrap();
    story
        .run(&node("gw-1"), Command::ReportChange { session, what: "moved /etc/orders.conf".to_owned() })
        .unwrap();
    let close = Command::CloseIncident { incident };
    story.by("hana", close.clone()).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closing);
    story.by("hana", Command::Mitigate { incident }).unwrap();
    assert_eq!(story.grant(grant).unwrap().end_reason, Some(GrantEnd::IncidentMitigated));
    let blocked = |story: &mut Story| halligan_core::incident::blockers(story.incident().unwrap());
    assert_eq!(blocked(&mut story).len(), 5, "proof, session, recording, review, change");
    story.leave(session).unwrap();
    story.prove(grant).unwrap();
    assert_eq!(blocked(&mut story).len(), 2);
    story.judge_all("pia").unwrap();
    story.by("hana", close.clone()).unwrap();
    assert_eq!(story.by("hana", close.clone()).unwrap_err().code, RefusalCode::Blocked);
    let judge = |note: &str| Command::JudgeChange {
        incident,
        change: 0,
        fate: ChangeFate::Corrected,
        note: note.to_owned(),
    };
    story.by("gus", judge("the owner put it right")).unwrap();
    story.by("hana", close).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closed);
}

#[test]
fn mitigating_ends_every_grant_but_those_that_a_person_keeps() {
    let mut story = Story::begin();
    let first = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id();
    let join = |person: &str, what: &str| {
        let mut file = emergency(person, what, "sev2");
        file.incident = incident;
        file
    };
    let kept = story.open("ben", join("ben", "orders-host/operate")).unwrap();
    let waiting = story.file("cleo", join("cleo", "orders-host/operate")).unwrap();
    let until = story.now.plus(span("20m"));
    let keep = Command::KeepGrant { grant: kept, until, reason: "watching the queue".to_owned() };
    assert!(story.by("ben", keep.clone()).is_err());
    story.by("hana", keep).unwrap();
    story.by("hana", Command::Mitigate { incident: incident.unwrap() }).unwrap();
    assert_eq!(story.grant(first).unwrap().state, GrantState::Revoking);
    assert_eq!(story.request(waiting).unwrap().state, RequestState::Lapsed);
    let found = story.grant(kept).unwrap();
    assert_eq!((found.state, found.deadline), (GrantState::Active, Some(until)));
}

#[test]
fn mitigating_ends_a_hundred_grants_in_one_go() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        for number in 0..100 {
            let person = name(&format!("responder-{number}"));
            catalog.people.insert(person.clone(), Default::default());
            catalog.groups.get_mut("sre").unwrap().members.insert(person);
        }
    });
    story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    let incident = story.incident_id();
    for number in 0..100 {
        let mut file = emergency(&format!("responder-{number}"), "orders-host/operate", "sev2");
        file.incident = incident;
        story.open(&format!("responder-{number}"), file).unwrap();
    }
    story.by("hana", Command::Mitigate { incident: incident.unwrap() }).unwrap();
    assert!(story.world().grants.values().all(|grant| grant.state == GrantState::Revoking));
    assert_eq!(story.reviews(ReviewKind::PostUse).len(), 101);
}

#[test]
fn a_new_request_reopens_a_closed_incident_and_so_does_late_evidence() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    story.prove(grant).unwrap();
    story.judge_all("pia").unwrap();
    story.by("hana", Command::CloseIncident { incident }).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closed);
    story.enter(grant).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Open, "a session nobody had heard of");
    let mut again = Story::begin();
    let grant = again.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = again.incident_id().unwrap();
    again.by("anna", Command::GiveBack { grant }).unwrap();
    again.prove(grant).unwrap();
    again.judge_all("pia").unwrap();
    again.by("hana", Command::CloseIncident { incident }).unwrap();
    let mut file = emergency("ben", "orders-host/operate", "sev2");
    file.incident = Some(incident);
    again.file("ben", file).unwrap();
    assert_eq!(again.incident().unwrap().state, IncidentState::Open);
}

#[test]
fn a_lost_recording_needs_its_review_and_two_waivers() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let session = story.enter(grant).unwrap();
    let at = story.now;
    let gateway = node("gw-1");
    story.run(&gateway, Command::ReportSessionEnded { session, reason: "disk".to_owned(), at }).unwrap();
    story.run(&gateway, Command::ReportRecordingLost { session, reason: "disk".to_owned() }).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    story.prove(grant).unwrap();
    assert_eq!(story.reviews(ReviewKind::AttestationGap).len(), 1);
    story.judge_all("pia").unwrap();
    let waive = Command::WaiveGap { session, reason: "the disk is in the bin".to_owned() };
    assert_eq!(story.by("dan", waive.clone()).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.by("eve", waive.clone()).unwrap();
    story.by("hana", Command::CloseIncident { incident }).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closing);
    story.by("fred", waive).unwrap();
    story.by("hana", Command::CloseIncident { incident }).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closed);
}

#[test]
fn a_recording_whose_writer_was_cut_off_is_reviewed_before_the_incident_closes() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let session = story.enter(grant).unwrap();
    let (at, gateway, sha256) = (story.now, node("gw-1"), "ab".repeat(32));
    let reports = [
        Command::ReportSessionEnded { session, reason: "gateway_restarted".to_owned(), at },
        Command::ReportRecordingFinished {
            session,
            bytes: 10,
            frames: 1,
            sha256: sha256.clone(),
            chain_head: "cd".repeat(32),
            complete: false,
        },
        Command::ReportRecordingStored { session, sha256: sha256.clone() },
        Command::ReportRecordingStored { session, sha256 },
    ];
    for report in reports {
        story.run(&gateway, report).unwrap();
    }
    story.by("anna", Command::GiveBack { grant }).unwrap();
    story.prove(grant).unwrap();
    assert_eq!(story.reviews(ReviewKind::AttestationGap).len(), 1);
    story.by("hana", Command::CloseIncident { incident }).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closing);
    story.judge_all("pia").unwrap();
    story.by("hana", Command::CloseIncident { incident }).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::Closed);
}

#[test]
fn two_people_who_are_no_party_may_end_it_unproven_but_never_with_access_open() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let end = Command::CloseUnproven { incident, reason: "the host burned".to_owned() };
    assert_eq!(story.by("eve", end.clone()).unwrap_err().code, RefusalCode::Blocked, "access is open");
    story.by("anna", Command::GiveBack { grant }).unwrap();
    assert_eq!(story.by("dan", end.clone()).unwrap_err().code, RefusalCode::SeparationOfDuties);
    story.by("eve", end.clone()).unwrap();
    assert!(story.by("eve", end.clone()).is_err());
    assert_ne!(story.incident().unwrap().state, IncidentState::ClosedUnproven);
    story.by("fred", end.clone()).unwrap();
    assert_eq!(story.incident().unwrap().state, IncidentState::ClosedUnproven);
    let mut forbidding = Story::begin();
    forbidding.catalog(|catalog| catalog.settings.closed_unproven_allowed = false);
    forbidding.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = forbidding.incident_id().unwrap();
    let end = Command::CloseUnproven { incident, reason: "the host burned".to_owned() };
    assert_eq!(forbidding.by("eve", end).unwrap_err().code, RefusalCode::NotAllowed);
}

#[test]
fn nobody_judges_what_they_changed_themselves() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        let office = catalog.offices.get_mut(&halligan_core::catalog::OfficeName::PlatformOwner).unwrap();
        office.people.insert(name("anna"));
    });
    let grant = story.open("anna", emergency("anna", "orders-host/root", "sev2")).unwrap();
    let incident = story.incident_id().unwrap();
    let session = story.enter(grant).unwrap();
    story.run(&node("gw-1"), Command::ReportChange { session, what: "a file".to_owned() }).unwrap();
    let judge = Command::JudgeChange { incident, change: 0, fate: ChangeFate::Kept, note: String::new() };
    assert_eq!(story.by("anna", judge.clone()).unwrap_err().code, RefusalCode::SeparationOfDuties);
    assert_eq!(story.by("nia", judge.clone()).unwrap_err().code, RefusalCode::NotFound);
    story.by("gus", judge).unwrap();
}

//! From the request to the closed incident.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use anyhow::Result;
use halligan_control::ControlError;
use halligan_core::command::{Answers, Command, DocumentRef, FileRequest};
use halligan_core::event::Event;
use halligan_core::grant::{Grant, GrantState, ProofOutcome};
use halligan_core::ids::{GrantId, IncidentId};
use halligan_core::incident::{Incident, IncidentState, blockers};
use halligan_core::proof::Finding;
use halligan_core::refusal::RefusalCode;
use halligan_core::request::{Mode, Verdict};
use halligan_core::review::{Classification, Review};
use halligan_core::session::{RecordingState, Session};
use halligan_core::time::Span;
use serde::de::DeserializeOwned;

use super::world::{World, eventually, name};

async fn read<T: DeserializeOwned>(world: &World, document: DocumentRef) -> Result<T> {
    let key = halligan_control::documents::key_of(&document);
    let found =
        world.control.store().get(&key).await?.ok_or_else(|| anyhow::anyhow!("{key} is not there"))?;
    Ok(serde_json::from_slice(&found.body)?)
}

async fn grant(world: &World, id: GrantId) -> Result<Grant> {
    read(world, DocumentRef::Grant(id)).await
}

fn ask(duration: Span) -> Command {
    Command::FileRequest(Box::new(FileRequest {
        beneficiary: name("anna"),
        entitlement: "orders-host/operate".parse().unwrap(),
        mode: Mode::Emergency,
        severity: Some(name("sev1")),
        severity_attested: false,
        scenario: Some(name("db-locked")),
        criteria_confirmed: true,
        incident: None,
        incident_number: 1,
        reason: "orders are stuck".into(),
        link: None,
        why_not_lower: None,
        duration: Some(duration),
        batch: None,
    }))
}

/// Files, has it approved by two, waits until it is active.
async fn open(world: &World, duration: Span, incident: Option<IncidentId>) -> Result<GrantId> {
    let mut command = ask(duration);
    if let Command::FileRequest(file) = &mut command {
        file.incident = incident;
    }
    let filed = world.does("anna", command).await?;
    let Some(request) = filed.events.iter().find_map(|event| match event {
        Event::RequestFiled { request } => Some(request.id),
        _ => None,
    }) else {
        panic!("no request was filed")
    };
    let decide =
        |who| (who, Command::Decide { request, verdict: Verdict::Approve, version: 1, reason: None });
    // The requester's own approval is refused.
    let (_, own) = decide("anna");
    match world.does("anna", own).await {
        Err(error) => assert!(error.to_string().contains("nobody approves what they asked for"), "{error:#}"),
        Ok(_) => panic!("somebody approved their own request"),
    }
    let (who, command) = decide("carla");
    world.does(who, command).await?;
    let (who, command) = decide("dmitri");
    let approved = world.does(who, command).await?;
    let Some(grant_id) = approved.events.iter().find_map(|event| match event {
        Event::GrantScheduled { grant } => Some(grant.id),
        _ => None,
    }) else {
        panic!("two approvals made no grant: {:?}", approved.events)
    };
    eventually("the grant to be active", Duration::from_secs(10), async || {
        let found = grant(world, grant_id).await?;
        Ok((found.state == GrantState::Active && found.gateways.contains_key("gw-1")).then_some(()))
    })
    .await?;
    Ok(grant_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_from_request_to_closed_incident() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    // Before anything was asked for, the door is shut.
    let early = client.ssh(world.ssh_port, "operate+orders-host", "true").await?;
    assert!(!early.success(), "somebody got in without a grant");

    let first = open(&world, Span::hours(1), None).await?;
    let incident = grant(&world, first).await?.incident.unwrap();
    let run = eventually("the lease to arrive", Duration::from_secs(5), async || {
        let run = client.ssh(world.ssh_port, "operate+orders-host", "id -un; echo oops >&2; exit 3").await?;
        Ok((run.code == Some(3)).then_some(run))
    })
    .await?;
    assert_eq!(run.text().trim(), "halligan-app");
    assert!(run.stderr.contains("oops"));

    // Give back: the live session dies, and the end is proved at the target.
    let mut live = client.terminal(world.ssh_port, "operate+orders-host", "sleep 600")?;
    eventually("the second session", Duration::from_secs(5), async || {
        let found = grant(&world, first).await?;
        Ok((found.last_session == 2 && found.open_sessions.len() == 1).then_some(()))
    })
    .await?;
    let begun = Instant::now();
    world.does("anna", Command::GiveBack { grant: first }).await?;
    live.wait_for("access has ended", Duration::from_secs(5)).await?;
    live.ended().await?;
    println!("give-back to dead session: {:?}", begun.elapsed());
    let proved = eventually("the proof", Duration::from_secs(40), async || {
        let found = grant(&world, first).await?;
        Ok((found.state == GrantState::Revoked).then_some(found))
    })
    .await?;
    assert!(matches!(proved.outcome, Some(ProofOutcome::Proven { .. })), "{proved:?}");
    assert!(proved.checks.values().all(|check| check.finding == Finding::Proven));
    println!("give-back to proof: {:?}", begun.elapsed());
    let late = client.ssh(world.ssh_port, "operate+orders-host", "true").await?;
    assert!(!late.success(), "somebody got in after the end");

    // A second grant in the same incident ends hard at its deadline.
    let second = open(&world, Span::seconds(4), Some(incident)).await?;
    let live = eventually("the second lease", Duration::from_secs(5), async || {
        let mut live = client.ssh_live(world.ssh_port, "operate+orders-host", &[], "echo in; sleep 600")?;
        Ok(live.wait_for("in", Duration::from_secs(3)).await.is_ok().then_some(live))
    })
    .await?;
    let ended = live.ended().await?;
    assert_ne!(ended.code, Some(0));
    let found = grant(&world, second).await?;
    assert!(world.control.now() < found.deadline.unwrap().plus(Span::seconds(3)));

    // Closing too early lists what blocks.
    world.does("ines", Command::Mitigate { incident }).await?;
    let early = world.does("ines", Command::CloseIncident { incident }).await?;
    assert!(early.events.iter().any(|event| matches!(event, Event::IncidentClosing { .. })));
    match world.does("ines", Command::CloseIncident { incident }).await {
        Err(error) => {
            let refusal = error.downcast::<ControlError>()?;
            assert!(
                matches!(refusal, ControlError::Refused(refusal) if refusal.code == RefusalCode::Blocked)
            );
        }
        Ok(_) => panic!("the incident was closed while its proof was missing"),
    }
    eventually("the second proof", Duration::from_secs(60), async || {
        Ok((grant(&world, second).await?.state == GrantState::Revoked).then_some(()))
    })
    .await?;

    // The recordings are in the store, hash read back.
    let sessions: Vec<Session> = eventually("the recordings", Duration::from_secs(20), async || {
        let page = world
            .control
            .store()
            .by_index(
                "session",
                "incident",
                &incident.to_string(),
                None,
                100,
                halligan_store::Order::Ascending,
            )
            .await?;
        let sessions: Vec<Session> =
            page.iter().map(|found| serde_json::from_slice(&found.body)).collect::<Result<_, _>>()?;
        let all = sessions.iter().all(|session| session.recording.state == RecordingState::Stored);
        Ok((sessions.len() == 3 && all).then_some(sessions))
    })
    .await?;
    assert!(sessions.iter().all(|session| session.recording.complete && !session.outside_grant));

    // Reviews: not by somebody who acted, then by somebody who did not.
    let found: Incident = read(&world, DocumentRef::Incident(incident)).await?;
    let answers = Answers {
        classification: Classification::GenuineEmergency,
        invoked_correctly: true,
        too_wide: false,
        approvals_timely: true,
        prevention: "an index".into(),
        note: String::new(),
        empty_activity_explained: None,
    };
    for review in found.reviews.keys() {
        let judged: Review = read(&world, DocumentRef::Review(*review)).await?;
        assert_eq!(judged.person.as_str(), "anna");
        let by_party = Command::JudgeReview { review: *review, answers: answers.clone() };
        assert!(world.does("ines", by_party.clone()).await.is_err(), "a party judged");
        world.does("paula", by_party).await?;
    }
    let closed = world.does("ines", Command::CloseIncident { incident }).await?;
    assert!(
        closed.events.iter().any(|event| matches!(event, Event::IncidentClosed { .. })),
        "{:?}",
        closed.events
    );
    let found: Incident = read(&world, DocumentRef::Incident(incident)).await?;
    assert_eq!(found.state, IncidentState::Closed);
    assert!(blockers(&found).is_empty());
    super::evidence::proves(&world, incident, first).await?;
    world.stop().await;
    Ok(())
}

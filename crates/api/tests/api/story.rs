//! Stories through the client, as the program of a person has it.

use std::time::Duration;

use base64::Engine as _;
use halligan_client::types::*;
use halligan_client::{Client, Options};
use halligan_core::grant::GrantState;
use halligan_core::request::{Mode, RequestState};
use halligan_core::time::Span;
use zeroize::Zeroizing;

use crate::http::call;
use crate::world::{PASSWORD, Prepared, World, name};

fn client(world: &World, who: &str) -> Client {
    let client = Client::new(&Options::new(format!("http://{}", world.address))).unwrap();
    match world.facts.tokens.get(who) {
        Some(token) => client.with_token(Zeroizing::new(token.clone())),
        None => client,
    }
}

fn asks(entitlements: &[&str], totp: Option<String>) -> RequestWish {
    RequestWish {
        entitlements: entitlements.iter().map(|text| text.parse().unwrap()).collect(),
        beneficiary: None,
        mode: Mode::Emergency,
        severity: Some(name("sev1")),
        scenario: Some(name("db-locked")),
        criteria_confirmed: true,
        incident: None,
        reason: "orders wait for each other".to_owned(),
        link: None,
        why_not_lower: Some("looking is not enough".to_owned()),
        duration: None,
        totp,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_asks_is_approved_and_told_at_once() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    // A new sign-in, as in the morning.
    let wish = SignInWish {
        name: "rita".to_owned(),
        password: Zeroizing::new(PASSWORD.to_owned()),
        totp: Some(world.code("rita")),
        label: "laptop".to_owned(),
    };
    let signed_in = client(&world, "").sign_in(&wish).await.unwrap();
    let again = client(&world, "").sign_in(&wish).await.err().unwrap();
    assert_eq!((again.status(), again.code()), (Some(401), Some("not_allowed")), "a code works once");
    let rita = client(&world, "").with_token(signed_in.token);
    let me = rita.me().await.unwrap();
    assert_eq!((me.person.as_str(), me.name.as_str()), ("rita", "Rita Responder"));
    assert!(!me.single_administrator && me.sign_in.current);

    let offered = rita.askable(&Paging::default()).await.unwrap();
    assert_eq!(offered.items.len(), 4);
    assert!(client(&world, "sten").askable(&Paging::default()).await.unwrap().items.is_empty());

    // Both in one batch belong to one new incident.
    let filed = rita.file_requests(&asks(&["orders-db/operate", "sealed-db/observe"], None)).await.unwrap();
    let requests: Vec<&RequestView> = filed.items.iter().filter_map(|item| item.request.as_ref()).collect();
    assert_eq!(requests.len(), 2, "{filed:?}");
    assert_eq!(requests[0].request.incident, requests[1].request.incident);
    assert!(requests[0].incident_number.unwrap() > 1);
    assert!(!requests[0].may_decide);

    // The answer can be held against the ledger later.
    let note = rita.last_checkpoint().unwrap();
    assert!(note.starts_with("test.example/halligan\n"), "{note}");

    let alan = client(&world, "alan");
    let tasks = alan.tasks().await.unwrap();
    assert!(tasks.decisions.iter().any(|seen| seen.request.id == requests[0].request.id && seen.may_decide));
    let waiting = rita.clone();
    let id = requests[0].request.id;
    let waits = tokio::spawn(async move { waiting.wait_for_request(id, Duration::from_secs(30)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waits.is_finished(), "nobody has decided");

    let without = DecisionWish { version: requests[0].request.version, reason: None, totp: None };
    let refused = alan.approve(id, &without).await.unwrap_err();
    assert_eq!(refused.code(), Some("second_factor"));
    assert!(refused.next_step().is_some());
    let seen = requests
        .iter()
        .map(|seen| SeenRequest { request: seen.request.id, version: seen.request.version })
        .collect();
    let approval = BatchApproval { requests: seen, reason: None, totp: world.code("alan") };
    let items = alan.approve_batch(filed.batch.unwrap(), &approval).await.unwrap();
    assert!(items.iter().all(|item| item.refused.is_none()), "{items:?}");
    // No connector runs here, so control itself says what it would.
    for item in &items {
        let grant = item.request.as_ref().unwrap().request.grant.unwrap();
        let fencing = rita.grant(grant).await.unwrap().grant.fencing;
        use halligan_core::command::{Actor, Command};
        world.control.run(&Actor::Clock, Command::BeginActivation { grant }).await.unwrap();
        world.control.run(&Actor::Clock, Command::ReportActivated { grant, fencing }).await.unwrap();
    }
    let told = tokio::time::timeout(Duration::from_secs(5), waits).await.unwrap().unwrap().unwrap();
    assert_eq!((told.request.state, told.grant_state), (RequestState::Approved, Some(GrantState::Active)));
    let grant = rita.grant(told.request.grant.unwrap()).await.unwrap();
    assert_eq!(grant.login, "operate+orders-db");
    assert_eq!(grant.time_left, Some(Span::hours(1)));
    let given_back = rita.give_back(grant.grant.id).await.unwrap();
    assert_eq!(given_back.grant.state, GrantState::Revoking);
    rita.sign_out().await.unwrap();
    assert_eq!(rita.me().await.unwrap_err().status(), Some(401));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_is_answered_and_not_done_again() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let rita = world.facts.tokens["rita"].as_str();
    let sofia = world.facts.tokens["sofia"].as_str();
    let path = "/incidents/INC-1/notes";
    let body = r#"{"text": "once"}"#;
    let count = async || {
        let seen = client(&world, "rita").incident("INC-1").await.unwrap();
        seen.incident.notes.iter().filter(|note| note.text == "once").count()
    };
    let key = [("Idempotency-Key", "abc")];
    let first = call(world.address, "POST", path, Some(rita), Some(body), &key).await;
    let second = call(world.address, "POST", path, Some(rita), Some(body), &key).await;
    assert_eq!((first.status, second.status), (200, 200), "{}", second.text());
    assert_eq!(count().await, 1);
    assert!(first.header("halligan-leaf").is_some());
    let checkpoint = first.header("halligan-checkpoint").unwrap();
    assert!(base64::engine::general_purpose::STANDARD.decode(checkpoint).is_ok());
    // The same key of somebody else, and another key, are other calls.
    assert_eq!(call(world.address, "POST", path, Some(sofia), Some(body), &key).await.status, 200);
    let other = [("Idempotency-Key", "abd")];
    assert_eq!(call(world.address, "POST", path, Some(rita), Some(body), &other).await.status, 200);
    assert_eq!(count().await, 3);
    // What cannot be done twice is answered as done, not refused for having been done.
    let path = "/incidents/INC-1/mitigate";
    for (key, status) in [("abc", 200), ("abc", 200), ("abe", 409)] {
        let key = [("Idempotency-Key", key)];
        let answer = call(world.address, "POST", path, Some(sofia), Some("{}"), &key).await;
        assert_eq!(answer.status, status, "{key:?}: {}", answer.text());
    }
    let path = "/incidents/INC-1/notes";
    let bad = [("Idempotency-Key", "")];
    assert_eq!(call(world.address, "POST", path, Some(rita), Some(body), &bad).await.status, 422);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_played_to_those_who_may_and_each_time_is_an_event() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let ava = client(&world, "ava");
    let size = |world: &World| {
        let control = world.control.clone();
        async move { control.store().head().await.unwrap().size }
    };
    let before = size(&world).await;
    let mut transcript = Vec::new();
    ava.replay(world.facts.readable, ReplayForm::Transcript, &mut transcript).await.unwrap();
    let transcript = String::from_utf8(transcript).unwrap();
    assert!(transcript.contains("orders=# ") && !transcript.contains('\u{1b}'), "{transcript}");
    assert_eq!(size(&world).await, before + 1, "the playback is in the ledger");

    let mut records = Vec::new();
    ava.replay(world.facts.readable, ReplayForm::Records, &mut records).await.unwrap();
    let records = String::from_utf8(records).unwrap();
    let kinds: Vec<String> = records
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["session_start", "channel_open", "resize", "output", "transfer_end", "end"]);
    let mut film = Vec::new();
    ava.replay(world.facts.readable, ReplayForm::Asciicast, &mut film).await.unwrap();
    assert!(String::from_utf8(film).unwrap().starts_with("{\"version\":2"));

    let sealed = world.facts.sealed;
    let mut none = Vec::new();
    let refused = ava.replay(sealed, ReplayForm::Transcript, &mut none).await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (Some(409), Some("sealed")));
    let mut file = Vec::new();
    ava.download_recording(sealed, &mut file).await.unwrap();
    let path = world
        .control
        .recordings()
        .path(client(&world, "ava").session(sealed).await.unwrap().session.recording.id);
    assert_eq!(file, std::fs::read(path).unwrap(), "the auditor gets the very bytes");

    let refused =
        client(&world, "lena").replay(world.facts.readable, ReplayForm::Transcript, &mut none).await;
    assert_eq!(refused.unwrap_err().status(), Some(403));
    assert!(none.is_empty());
    // The live one has no recording yet; nobody can watch it without its gateway.
    let live = ava.replay(world.facts.session, ReplayForm::Transcript, &mut none).await.unwrap_err();
    assert_eq!(live.status(), Some(409));
    let watch = ava.watch(world.facts.session).await.unwrap().watch;
    assert_eq!(ava.watch_next(world.facts.session, &watch).await.unwrap_err().code(), Some("blocked"));
    let stolen = client(&world, "sofia").watch_next(world.facts.session, &watch).await.unwrap_err();
    assert_eq!(stolen.status(), Some(404), "a watch is its beginner's");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_without_gaps_or_repetitions() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let sofia = client(&world, "sofia");
    let whole = sofia.requests(RequestsOf::All, &Paging::default()).await.unwrap();
    assert_eq!((whole.items.len(), whole.next.clone()), (3, None));
    let mut found = Vec::new();
    let mut paging = Paging { after: None, limit: Some(1) };
    for _ in 0..10 {
        let page = sofia.requests(RequestsOf::All, &paging).await.unwrap();
        found.extend(page.items.iter().map(|seen| seen.request.id));
        paging.after = page.next;
        if paging.after.is_none() {
            break;
        }
    }
    let ids: Vec<_> = whole.items.iter().map(|seen| seen.request.id).collect();
    assert_eq!(found, ids);
    let lists = client(&world, "sten").requests(RequestsOf::All, &Paging::default()).await.unwrap();
    assert!(lists.items.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_reads_and_asks_for_everyday_work_only() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let token = client(&world, "token");
    assert!(!token.requests(RequestsOf::Mine, &Paging::default()).await.unwrap().items.is_empty());
    let refused = token.file_requests(&asks(&["orders-db/operate"], None)).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_allowed"), "{refused}");
    let standard = RequestWish {
        mode: Mode::Standard,
        severity: None,
        scenario: None,
        ..asks(&["sealed-db/observe"], None)
    };
    let filed = token.file_requests(&standard).await.unwrap();
    assert!(filed.items[0].request.is_some());
    assert_eq!(token.give_back(world.facts.grant).await.unwrap_err().status(), Some(403));
    assert_eq!(token.metrics().await.unwrap_err().status(), Some(403));
    let metrics = client(&world, "cleo").metrics().await.unwrap();
    assert!(metrics.contains("halligan_sessions_live 1"), "{metrics}");
    assert!(metrics.contains("halligan_requests_pending 2"), "{metrics}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_an_incident_is_ended_by_one_call() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let wish = RevokeMany {
        person: None,
        system: None,
        incident: Some("INC-1".to_owned()),
        reason: "over".to_owned(),
    };
    let items = client(&world, "sofia").revoke_many(&wish).await.unwrap();
    assert_eq!(items.len(), 1, "one grant is in force: {items:?}");
    assert_eq!(items[0].grant, world.facts.grant);
    assert_eq!(items[0].state, Some(GrantState::Revoking));
    let both = RevokeMany { person: Some(name("rita")), ..wish };
    assert_eq!(client(&world, "sofia").revoke_many(&both).await.unwrap_err().code(), Some("malformed"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_statement_is_shown_whole_and_let_pass_by_somebody_else() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let session = world.facts.session;
    let wish = |totp: Option<String>| ReasonWish { reason: "as agreed".to_owned(), totp };
    let (rita, alan, sten) = (client(&world, "rita"), client(&world, "alan"), client(&world, "sten"));

    let seen = alan.statements().await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].session, seen[0].hold, seen[0].may_release), (session, 1, true));
    assert_eq!(seen[0].statement.text, "drop table orders_old");
    assert_eq!(alan.tasks().await.unwrap().statements, seen);
    // Who waits sees it too, and cannot answer; a stranger sees nothing.
    assert!(!rita.statements().await.unwrap()[0].may_release);
    assert!(rita.tasks().await.unwrap().statements.is_empty());
    assert!(sten.statements().await.unwrap().is_empty());
    let own = rita.allow_statement(session, 1, &wish(Some(world.code("rita")))).await.err().unwrap();
    assert_eq!(own.code(), Some("separation_of_duties"));
    let stranger = sten.allow_statement(session, 1, &wish(None)).await.err().unwrap();
    assert_eq!(stranger.status(), Some(404));

    let bare = alan.allow_statement(session, 1, &wish(None)).await.err().unwrap();
    assert_eq!(bare.code(), Some("second_factor"));
    let done = alan.allow_statement(session, 1, &wish(Some(world.code("alan")))).await.unwrap();
    let answer = done.statement.answer.unwrap();
    assert!(answer.allow && answer.by.as_str() == "alan" && !done.may_release);
    let sofia = client(&world, "sofia");
    let late = sofia.deny_statement(session, 1, &wish(None)).await.err().unwrap();
    assert_eq!(late.code(), Some("wrong_state"), "the first answer counts");
    assert!(sofia.tasks().await.unwrap().statements.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_stands_in_no_roster_so_no_certificate_opens_anything() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let key = world.control.keys().lease.verifying_key();
    let people = async || {
        let roster = world.control.roster().await.unwrap().verify(&key).unwrap();
        assert_eq!(roster.client_ca, [world.control.keys().client.certificate()]);
        roster.people.into_iter().map(|person| person.id.to_string()).collect::<Vec<_>>()
    };
    assert!(people().await.contains(&"sten".to_owned()), "by certificate he could log in");
    client(&world, "cleo").disable(&name("sten")).await.unwrap();
    let left = people().await;
    assert!(!left.contains(&"sten".to_owned()) && left.contains(&"rita".to_owned()), "{left:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_password_needs_a_grant_and_a_live_check_an_office() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let what = "orders-db/operate".parse().unwrap();
    let none = client(&world, "alan").connect_password(&what).await.err().unwrap();
    assert_eq!(none.code(), Some("not_allowed"));
    let token = client(&world, "token").connect_password(&what).await.err().unwrap();
    assert_eq!(token.status(), Some(403));
    let wish = LiveCheckWish { system: None, after: None };
    assert!(client(&world, "rita").check_live(&wish).await.is_err());
    // Nothing in this catalog can be looked at.
    assert!(client(&world, "cleo").check_live(&wish).await.unwrap().systems.is_empty());
    let named = LiveCheckWish { system: Some(name("orders-db")), after: None };
    let gone = client(&world, "cleo").check_live(&named).await.err().unwrap();
    assert_eq!(gone.status(), Some(404));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_look_after_it_see_what_waits_and_how_nodes_are() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let status = client(&world, "cleo").status().await.unwrap();
    assert!(status.disk_free > 0 && !status.clock_is_bad);
    // Nobody works the outbox of this world: what it has decided waits.
    assert!(status.outbox > 0, "{status:?}");
    assert_eq!(status.nodes.len(), 1);
    let node = &status.nodes[0];
    assert_eq!((node.name.as_str(), node.connected, node.last_contact), ("gw-1", false, None));
    assert!(node.answer.is_none());
    // The sequencer of this world runs: what is new is signed soon.
    for _ in 0..200 {
        let status = client(&world, "cleo").status().await.unwrap();
        if status.unsigned_leaves == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(client(&world, "cleo").status().await.unwrap().unsigned_leaves, 0);
    world.stop().await;
}

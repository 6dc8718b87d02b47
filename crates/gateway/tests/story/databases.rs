//! A database behind the gateway: connect passwords, the database user of a grant, statements that wait for a second person,
//! and the end of a session's backends.

use std::sync::atomic::Ordering;

use halligan_core::catalog::{PostgresTarget, StatementClass, SystemKind};
use halligan_core::node_event::held_statement_digest;
use halligan_core::time::Span;
use halligan_gateway::Clock as _;
use halligan_link::messages::Seed;
use halligan_link::{Request, Response};
use halligan_session::control_plane::{ClientConnection, ControlPlane as _, LoginProof};
use halligan_session::lease::Lease;
use halligan_session::node_event::NodeEvent;
use halligan_session::scram::{
    ScramKeys, ScramSalt, client_key_of_password, client_proof, same_signature, server_signature,
};
use halligan_session::{Answer, Person, Question, Refusal, Secret, Session};

use crate::support::*;

const LOGIN: &str = "read-only+orders-db";
const MESSAGE: &[u8] = b"n=,r=a,r=ab,s=c,i=4096,c=biws,r=ab";

fn database() -> halligan_core::ids::EntitlementName {
    "orders-db/read-only".parse().unwrap()
}

fn database_lease(site: &Site, number: u128, remaining: Span) -> Lease {
    let mut lease = site.lease(number, 1, remaining);
    lease.entitlement = database();
    lease.target.system = name("orders-db");
    lease.target.kind = SystemKind::Postgres;
    lease.target.postgres =
        Some(PostgresTarget { databases: vec!["orders".to_owned()], ..PostgresTarget::default() });
    lease
}

async fn put(site: &Site, number: u128, password: &str) -> Response {
    put_used(site, number, password, None).await
}

async fn put_used(site: &Site, number: u128, password: &str, client: Option<std::net::IpAddr>) -> Response {
    let salt = site.gateway.scram_salt(LOGIN);
    let keys = ScramKeys::from_password(&Secret::new(password.to_owned()), &salt);
    site.ask(Request::PutConnectPassword {
        person: name("ana"),
        entitlement: database(),
        grant: grant(number),
        stored_key: Seed::new(keys.stored_key),
        server_key: Seed::new(keys.server_key),
        expires: site.clock.wall().plus(Span::minutes(10)),
        client,
    })
    .await
}

async fn login(site: &Site, login: &str, password: &str, from: &str) -> Result<Person, Refusal> {
    let salt = site.gateway.scram_salt(login);
    let key = client_key_of_password(&Secret::new(password.to_owned()), &salt);
    let proof = LoginProof::Scram {
        login: login.to_owned(),
        auth_message: MESSAGE.to_vec(),
        client_proof: client_proof(key.expose(), MESSAGE),
    };
    let from = ClientConnection { client: from.parse().unwrap(), ..client() };
    site.gateway.login(proof, &from).await
}

async fn open(site: &Site, number: u128) -> Session {
    site.hold(&database_lease(site, number, Span::minutes(10))).await;
    site.gateway.open(&site.ana().await, &database(), &client()).await.unwrap()
}

fn question(text: &str, limit: Span) -> Question {
    Question {
        class: StatementClass::Schema,
        text: text.to_owned(),
        parameters: Some("[\"7\"]".to_owned()),
        limit,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_password_opens_one_grant_from_one_address_as_often_as_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&database_lease(&site, 1, Span::minutes(30))).await;
    assert_eq!(put(&site, 1, "0123456789abcdef0123456789abcdef").await, Response::Ok);
    let right = "0123456789abcdef0123456789abcdef";
    let mut people = Vec::new();
    for port in [4001, 4002, 4003] {
        let person = login(&site, LOGIN, right, &format!("192.0.2.7:{port}")).await.unwrap();
        let keys = ScramKeys::from_password(&Secret::new(right.to_owned()), &site.gateway.scram_salt(LOGIN));
        let expected = server_signature(&keys.server_key, MESSAGE);
        assert!(same_signature(&person.server_signature.unwrap(), &expected));
        people.push(person);
    }
    let elsewhere = login(&site, LOGIN, right, "192.0.2.8:4001").await.unwrap_err();
    let wrong = login(&site, LOGIN, "wrong", "192.0.2.7:4001").await.unwrap_err();
    let nobody = login(&site, "read-only+no-such-db", right, "192.0.2.7:4001").await.unwrap_err();
    assert!(elsewhere == wrong && wrong == nobody, "all failures read alike");
    let _session = site.gateway.open(&people[0], &database(), &client()).await.unwrap();
    // Another grant of the same person for the same entitlement is not what the password was made for.
    assert_eq!(site.revoke(1, 2).await, Response::Revoked { sessions_ended: 1 });
    site.hold(&database_lease(&site, 2, Span::minutes(30))).await;
    assert!(site.gateway.open(&people[1], &database(), &client()).await.is_err());
    assert!(login(&site, LOGIN, right, "192.0.2.7:4001").await.is_err(), "it ended with its grant");
    let refused = site
        .told(
            |event| matches!(event, NodeEvent::Refused { reason, .. } if reason.contains("another address")),
        )
        .await;
    assert!(matches!(refused, NodeEvent::Refused { what, .. } if what.contains(LOGIN)));
    let all = String::from_utf8(site.control.leaves.lock().unwrap().concat()).unwrap();
    assert!(!all.contains(right), "no password reaches the ledger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_address_is_told_and_holds_where_the_password_comes_again() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let site = Site::linked(folder.path()).await;
    site.hold(&database_lease(&site, 1, Span::minutes(30))).await;
    assert_eq!(put(&site, 1, "of ana").await, Response::Ok);
    for _ in 0..3 {
        login(&site, LOGIN, "of ana", "192.0.2.7:4001").await.unwrap();
    }
    let told = async |count: usize| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while site.control.used.lock().unwrap().len() < count {
            assert!(std::time::Instant::now() < until, "control was not told");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        site.control.used.lock().unwrap().clone()
    };
    let used = told(1).await;
    assert_eq!((used.len(), used[0].1.to_string()), (1, "192.0.2.7".to_owned()), "once");
    // A control that does not know it yet puts it again: it is told again.
    assert_eq!(put(&site, 1, "of ana").await, Response::Ok);
    assert_eq!(told(2).await[1], used[0]);
    // At a gateway that has never seen it, as this one after a restart.
    let site = Site::linked(other.path()).await;
    site.hold(&database_lease(&site, 1, Span::minutes(30))).await;
    assert_eq!(put_used(&site, 1, "of ana", Some(used[0].1)).await, Response::Ok);
    assert!(login(&site, LOGIN, "of ana", "192.0.2.8:4001").await.is_err());
    login(&site, LOGIN, "of ana", "192.0.2.7:4002").await.unwrap();
    assert!(site.control.used.lock().unwrap().is_empty(), "that is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_login_name_has_a_salt_of_its_own_known_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let before = site.gateway.scram_salt(LOGIN);
    assert_eq!(before, site.gateway.scram_salt(LOGIN));
    assert_ne!(before.salt, site.gateway.scram_salt("read-only+no-such-db").salt);
    // With control's key it is the same at every gateway.
    let mut roster = halligan_session::Roster { version: 1, serial: 2, ..Default::default() };
    roster.scram_salt_key = "07".repeat(32);
    let signed = halligan_session::SignedRoster::sign(&roster, &control_key()).unwrap();
    assert_eq!(site.ask(Request::PutRoster { roster: signed }).await, Response::Ok);
    assert_eq!(site.gateway.scram_salt(LOGIN), ScramSalt::of_login(&[7; 32], LOGIN));
    assert_eq!(site.gateway.scram_salt("").iterations, 4096);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_user_is_made_once_for_a_grant_and_again_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let session = open(&site, 1).await;
    let second = site.gateway.open(&site.ana().await, &database(), &client()).await.unwrap();
    let first = session.database_credential(false).await.unwrap();
    assert_eq!(first.user, "halligan_1");
    assert!(!format!("{first:?}").contains('9'), "{first:?}");
    assert_eq!(second.database_credential(false).await.unwrap().user, "halligan_1");
    assert_eq!(second.database_credential(true).await.unwrap().user, "halligan_2 renewed");
    // More time: the user is good until the earlier deadline only, so another is asked for.
    let mut longer = database_lease(&site, 1, Span::minutes(30));
    longer.fencing = 2;
    site.hold(&longer).await;
    assert_eq!(session.database_credential(false).await.unwrap().user, "halligan_3");
    assert!(session.ssh_credential().await.unwrap_err().say.contains("not a host"));
    second.end(halligan_session::EndReason::ClientLeft).await;
    soon("the backends of the second session end", || {
        site.connector.ended.lock().unwrap().as_slice() == [second.id()]
    })
    .await;
    site.revoke(1, 3).await;
    assert!(session.database_credential(false).await.is_err());
    assert_eq!(site.connector.made.load(Ordering::SeqCst), 3);
    soon("the backends of the first session end", || {
        site.connector.ended.lock().unwrap().as_slice() == [second.id(), session.id()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_hangs_does_not_hold_a_session_past_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.connector.hangs.store(true, Ordering::SeqCst);
    let session = open(&site, 1).await;
    let other = site.gateway.open(&site.ana().await, &database(), &client()).await.unwrap();
    let (one, two) = (session.clone(), other.clone());
    let asking = tokio::spawn(async move { one.database_credential(false).await.unwrap_err() });
    let waiting = tokio::spawn(async move { two.database_credential(false).await.unwrap_err() });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let began = std::time::Instant::now();
    assert_eq!(site.revoke(1, 2).await, Response::Revoked { sessions_ended: 2 });
    assert!(asking.await.unwrap().say.contains("revoked"));
    assert!(waiting.await.unwrap().say.contains("revoked"));
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

async fn release(site: &Site, session: &Session, hold: u32, allow: bool) -> Response {
    site.ask(Request::ReleaseStatement {
        session: session.id(),
        hold,
        allow,
        by: "bo".to_owned(),
        reason: "as agreed".to_owned(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_statement_passes_when_a_second_person_says_so_and_the_ledger_says_so_first() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let session = open(&site, 1).await;
    assert!(matches!(release(&site, &session, 1, true).await, Response::Error { .. }), "nothing waits yet");
    for (hold, allow) in [(1, true), (2, false)] {
        let asker = session.clone();
        let asked =
            tokio::spawn(async move { asker.ask(question("drop table t -- $1", Span::minutes(1))).await });
        let held = site
            .told(|event| matches!(event, NodeEvent::StatementHeld { hold: found, .. } if *found == hold))
            .await;
        let NodeEvent::StatementHeld { class, sha256, text, parameters, until, .. } = held else { panic!() };
        assert_eq!((text.as_str(), parameters.as_deref()), ("drop table t -- $1", Some("[\"7\"]")));
        assert_eq!(sha256, held_statement_digest(class, &text, parameters.as_deref()));
        assert!(until > site.clock.wall());
        assert!(!asked.is_finished());
        assert_eq!(release(&site, &session, hold, allow).await, Response::Ok);
        let answer = asked.await.unwrap().unwrap();
        match answer {
            Answer::Allow { by } => assert!(allow && by == "bo"),
            Answer::Deny { say } => assert!(!allow && say.contains("as agreed"), "{say}"),
        }
        let leaves = site.gateway.status().ledger_size;
        let settled = site
            .told(|event| matches!(event, NodeEvent::StatementSettled { hold: found, .. } if *found == hold))
            .await;
        assert!(matches!(settled, NodeEvent::StatementSettled { allowed, .. } if allowed == allow));
        assert!(leaves >= 2 * u64::from(hold), "it was in the ledger when the answer came");
        assert!(matches!(release(&site, &session, hold, true).await, Response::Error { .. }), "only once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_a_client_that_goes_and_the_end_of_the_session_all_mean_no() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let session = open(&site, 1).await;
    let settled = |hold: u32| {
        let site = &site;
        async move {
            let event = site
                .told(|event| matches!(event, NodeEvent::StatementSettled { hold: found, .. } if *found == hold))
                .await;
            let NodeEvent::StatementSettled { allowed, reason, .. } = event else { panic!() };
            assert!(!allowed);
            reason
        }
    };
    let Answer::Deny { say } = session.ask(question("drop table t", Span::micros(50_000))).await.unwrap()
    else {
        panic!()
    };
    assert!(say.contains("Nobody"), "{say}");
    assert_eq!(settled(1).await, "nobody answered in time");

    let asker = session.clone();
    let gone = tokio::spawn(async move { asker.ask(question("drop table t", Span::minutes(1))).await });
    site.told(|event| matches!(event, NodeEvent::StatementHeld { hold: 2, .. })).await;
    gone.abort();
    assert_eq!(settled(2).await, "the client did not wait for it");
    assert!(matches!(release(&site, &session, 2, true).await, Response::Error { .. }));

    let asker = session.clone();
    let asked = tokio::spawn(async move { asker.ask(question("drop table t", Span::minutes(1))).await });
    site.told(|event| matches!(event, NodeEvent::StatementHeld { hold: 3, .. })).await;
    site.revoke(1, 2).await;
    assert!(asked.await.unwrap().is_err());
    assert_eq!(settled(3).await, "the session ended");
    site.told(|event| matches!(event, NodeEvent::SessionEnded { .. })).await;
    let events = site.control.events();
    let place = |like: &dyn Fn(&NodeEvent) -> bool| events.iter().position(like).unwrap();
    let last = place(&|event| matches!(event, NodeEvent::StatementSettled { hold: 3, .. }));
    assert!(last < place(&|event| matches!(event, NodeEvent::SessionEnded { .. })), "in that order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late_by_the_clock_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let session = open(&site, 1).await;
    let asker = session.clone();
    let asked = tokio::spawn(async move { asker.ask(question("drop table t", Span::minutes(1))).await });
    site.told(|event| matches!(event, NodeEvent::StatementHeld { .. })).await;
    // The machine slept: the timer did not run, the clock did.
    site.clock.move_boot(61);
    site.clock.move_wall(61);
    assert_eq!(release(&site, &session, 1, true).await, Response::Ok);
    assert!(matches!(asked.await.unwrap(), Ok(Answer::Deny { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_whole_is_refused_and_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let session = open(&site, 1).await;
    for text in ["drop table \u{202e}t".to_owned(), "x".repeat(20_000)] {
        let answer = session.ask(question(&text, Span::minutes(1))).await.unwrap();
        assert!(matches!(answer, Answer::Deny { say } if say.contains("second person")));
    }
    session.end(halligan_session::EndReason::ClientLeft).await;
    assert!(session.ask(question("drop table t", Span::minutes(1))).await.is_err());
    assert!(!site.control.events().iter().any(|event| matches!(event, NodeEvent::StatementHeld { .. })));
}

//! Server and connector are killed at the same moment, with twenty grants in force.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use halligan_connector::Connector as _;
use halligan_connector_postgres::IssuedUser;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::time::{Span, Time};
use halligan_link::messages::Seed;
use halligan_session::{Lease, SignedLease};

use crate::client::Connected;
use crate::world::{World, connector_at, gateway, sign};

const GRANTS: u128 = 20;

fn seed(hex: &str) -> Seed {
    let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    Seed::new(bytes.try_into().unwrap())
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Not a test: the connector, in a process that can be killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn victim() {
    let Ok(folder) = std::env::var("VICTIM_FOLDER") else { return };
    let leases: Vec<SignedLease> = serde_json::from_str(&std::env::var("VICTIM_LEASES").unwrap()).unwrap();
    let connector = connector_at(folder.as_ref(), "127.0.0.1/32");
    println!();
    for (number, lease) in (0u128..).zip(&leases) {
        connector.activate(lease).await.unwrap();
        let session = SessionId::from_bits(number);
        let user = connector.issue(lease, session, &gateway(), false).await.unwrap();
        println!("user {} {} {}", user.user, hex(user.client_key.expose()), hex(user.server_key.expose()));
    }
    println!("ready");
    connector.keep_watch().await;
}

fn start(world: &World, leases: &[SignedLease]) -> (Child, Vec<IssuedUser>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::victim", "--exact", "--ignored", "--nocapture"])
        .env("VICTIM_FOLDER", world.folder.path())
        .env("VICTIM_LEASES", serde_json::to_string(leases).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut users = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["user", name, client, server] => users.push(IssuedUser {
                user: name.to_owned(),
                client_key: seed(client),
                server_key: seed(server),
            }),
            ["ready"] => return (child, users),
            _ => {}
        }
    }
    panic!("the connector ended by itself");
}

#[tokio::test]
async fn no_user_outlives_its_deadline_when_server_and_connector_are_killed_and_none_that_lives_is_cut() {
    let world = World::new().await;
    let mut world = world.closed();
    let now = || halligan_connector::system_clock()();
    let begun = now();
    let leases: Vec<Lease> = (0..GRANTS)
        .map(|number| {
            let mut lease = Lease { grant: GrantId::from_bits(900 + number), ..world.lease(1) };
            lease.issued_at = begun;
            // Half of them end while everything lies down, or soon after.
            lease.remaining = match number % 4 {
                0 => Span::seconds(22),
                2 => Span::seconds(28),
                _ => Span::minutes(60),
            };
            lease.deadline = begun.plus(lease.remaining);
            lease
        })
        .collect();
    let signed: Vec<SignedLease> = leases.iter().map(sign).collect();
    let (mut child, users) = start(&world, &signed);
    assert_eq!(users.len(), 20);
    assert!(now() < begun.plus(Span::seconds(20)), "too slow to be a test of this");
    // With sessions in some: of those that end, and of those that live.
    let mut sessions: Vec<Connected> = Vec::new();
    for user in users.iter().take(12) {
        let mut session = world.login(user, "orders").await.unwrap();
        session
            .query("BEGIN; UPDATE orders SET cents = cents + 1 WHERE id = pg_backend_pid()")
            .await
            .unwrap();
        sessions.push(session);
    }
    child.kill().unwrap();
    world.target.server().kill();
    child.wait().unwrap();
    drop(sessions);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The server is back first; the connector remembers by itself.
    world.target.server().resume().unwrap();
    let (mut child, _) = start(&world, &[]);
    let must_live = |at: Time| {
        let pairs = leases.iter().zip(&users).filter(move |(lease, _)| lease.deadline > at);
        pairs.map(|(_, user)| user.user.clone()).collect::<Vec<_>>()
    };
    let may_live = |at: Time| must_live(at.minus(Span::seconds(5)));
    // In this one a new session works, long before the others' time is over.
    let alive = &users[1];
    let mut session = world.login(alive, "orders").await.unwrap();
    session.query("BEGIN").await.unwrap();
    let end = begun.plus(Span::seconds(28 + 6));
    while now() < end {
        let at = now();
        let there = world.roles();
        let there: Vec<&str> = there.split(' ').filter(|name| !name.is_empty()).collect();
        for role in must_live(now()) {
            assert!(there.contains(&role.as_str()), "{role} was cut while its grant lives");
        }
        for role in &there {
            assert!(
                may_live(at).iter().any(|may| may == role),
                "{role} outlived its deadline by more than 5 s"
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.roles().split(' ').count(), 10);
    session.query("SELECT count(*) FROM orders").await.unwrap();
    let by = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(by.elapsed() < Duration::from_secs(5));
}

//! What naive gateways get wrong: first packets, versions, strangers, startup options, cancel keys, sizes.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_protocol_postgres::codec::{Version, Writer};
use halligan_session::node_event::NodeEvent;
use tokio::io::AsyncReadExt as _;

use crate::raw::*;
use crate::support::*;

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSSENC: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_packets_are_read_one_by_one_and_nothing_in_clear_passes_for_encrypted() {
    let world = World::new().await;
    // GSSENC is refused, then TLS is offered.
    let mut raw = Raw::plain(&world).await;
    raw.send(&GSSENC).await;
    assert_eq!(raw.stream.read_u8().await.unwrap(), b'N');
    raw.send(&SSL).await;
    assert_eq!(raw.stream.read_u8().await.unwrap(), b'S');
    // Clear bytes behind the request end it.
    for surplus in [&SSL[..], &b"X"[..]] {
        let mut raw = Raw::plain(&world).await;
        raw.send(&[&SSL[..], surplus].concat()).await;
        let mut rest = Vec::new();
        let _reset = raw.stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest == b"S", "{rest:?}");
        // And if it was answered, what is in clear is no handshake.
    }
    // TLS at once must name its protocol.
    let mut named = Raw::direct_tls(&world, Some(b"postgresql")).await.unwrap();
    named.startup(Version::V3_0, &[("user", LOGIN)]).await;
    let (kind, body) = named.message().await.unwrap();
    assert_eq!(kind, b'R');
    assert!(text(&body).contains("SCRAM-SHA-256-PLUS"));
    assert!(Raw::direct_tls(&world, Some(b"http/1.1")).await.is_err());
    if let Ok(mut unnamed) = Raw::direct_tls(&world, None).await {
        let mut out = BytesMut::new();
        Writer(&mut out).startup(Version::V3_0, &[("user", LOGIN)]);
        let _closed = tokio::io::AsyncWriteExt::write_all(&mut unnamed.stream, &out).await;
        assert!(unnamed.message().await.is_none());
    }
    // Lengths that cannot be.
    for packet in [[0, 0, 0, 3, 0, 3, 0, 0], [255, 255, 255, 255, 0, 3, 0, 0], [0, 1, 0, 0, 0, 3, 0, 0]] {
        let mut raw = Raw::plain(&world).await;
        raw.send(&packet).await;
        assert!(raw.message().await.is_none(), "{packet:?}");
    }
    // An old protocol gets a sentence.
    let mut raw = Raw::plain(&world).await;
    raw.startup(Version { major: 2, minor: 0 }, &[]).await;
    assert_eq!(raw.error().await.0, "0A000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_nobody_is_asked_anything_unless_it_is_this_machine_and_said_so() {
    let world = World::with(Change {
        config: Box::new(|config| config.plain_from_here = false),
        ..Change::default()
    })
    .await;
    let mut raw = Raw::plain(&world).await;
    raw.startup(Version::V3_0, &[("user", LOGIN)]).await;
    let (code, say) = raw.error().await;
    assert_eq!(code, "28000");
    assert!(say.contains("TLS"), "{say}");
    assert_eq!(world.sql("SELECT 1").await.unwrap(), "1");
    // A client that insists on channel binding gets it.
    let mut psql = world.psql();
    psql.env("PGCHANNELBINDING", "require").args(["-c", "SELECT 2"]);
    let output = finished(psql).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_see_the_same_whatever_they_say() {
    let world = World::new().await;
    let mut seen = Vec::new();
    for (login, password) in
        [(LOGIN, "wrong"), ("nobody+nowhere", "wrong"), ("postgres", "wrong"), ("work+orders-db ", PASSWORD)]
    {
        let begun = Instant::now();
        let mut raw = Raw::plain(&world).await;
        raw.startup(Version::V3_0, &[("user", login)]).await;
        raw.prove(login, password, &world).await;
        let (code, say) = raw.error().await;
        assert_eq!(raw.message().await, None);
        assert!(begun.elapsed() > Duration::from_millis(250));
        seen.push((code, say.replace(login, "…")));
    }
    seen.dedup();
    assert_eq!(seen, [("28P01".to_owned(), "password authentication failed for user \"…\"".to_owned())]);
    assert!(!world.control.events().iter().any(|event| matches!(event, NodeEvent::SessionOpened { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_options_are_an_allow_list_and_refusals_are_in_the_ledger() {
    let world = World::new().await;
    for options in ["-c role=postgres", "-c session_authorization=postgres", "-c log_statement=none"] {
        let mut psql = world.psql();
        psql.env("PGOPTIONS", options).args(["-c", "SELECT 1"]);
        let output = finished(psql).await;
        assert!(!output.status.success() && text(&output.stderr).contains("not let through"), "{options}");
    }
    let mut psql = world.psql();
    psql.env("PGOPTIONS", "-c search_path=pg_catalog -c extra_float_digits=1")
        .args(["-c", "SHOW search_path"]);
    assert_eq!(text(&finished(psql).await.stdout).trim(), "pg_catalog");
    let mut psql = world.psql();
    psql.env("PGDATABASE", "postgres").args(["-c", "SELECT 1"]);
    let said = text(&finished(psql).await.stderr);
    assert!(said.contains("does not lead to the database \"postgres\""), "{said}");
    let mut psql = world.psql();
    psql.args(["-d", "dbname=orders replication=database", "-c", "IDENTIFY_SYSTEM"]);
    let said = text(&finished(psql).await.stderr);
    assert!(said.contains("no replication connections"), "{said}");
    world
        .told(|event| matches!(event, NodeEvent::Refused { reason, .. } if reason.contains("replication")))
        .await;
    // A function call names no statement.
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    let mut out = BytesMut::new();
    put(&mut out, b'F', &[0, 0, 4, 210, 0, 0, 0, 0, 0, 0]);
    raw.send(&out).await;
    assert_eq!(raw.error().await.0, "42501");
    assert_eq!(raw.message().await.unwrap(), (b'Z', b"I".to_vec()));
    raw.query("SELECT 1").await;
    assert_eq!(raw.until(b'Z').await.0, "TDCZ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_is_let_through_where_the_entitlement_says_so() {
    let world = World::with(Change {
        lease: Box::new(|lease| lease.postgres.replication = true),
        attributes: "REPLICATION",
        ..Change::default()
    })
    .await;
    let mut psql = world.psql();
    psql.args(["-d", "dbname=orders replication=database", "-c", "IDENTIFY_SYSTEM"]);
    let output = finished(psql).await;
    assert!(text(&output.stdout).contains("|orders"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_negotiated_and_cancel_keys_are_our_own() {
    let world = World::new().await;
    let mut raw = Raw::plain(&world).await;
    raw.startup(Version { major: 3, minor: 9 }, &[("user", LOGIN), ("_pq_.command_compression", "on")]).await;
    let (kind, body) = raw.message().await.unwrap();
    assert_eq!((kind, text(&body[8..]).as_str()), (b'v', "_pq_.command_compression\0"));
    assert_eq!(body[..8], [0, 3, 0, 2, 0, 0, 0, 1]);

    let mut old = Raw::ready(&world, Version::V3_0).await;
    let mut new = Raw::ready(&world, Version::V3_2).await;
    assert_eq!((old.key.1.len(), new.key.1.len()), (4, 32));
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    old.query("SELECT pg_sleep(60)").await;
    new.query("SELECT pg_sleep(60)").await;
    world.direct_until(running, "2", Duration::from_secs(10)).await;
    let cancel = async |process: u32, key: &[u8]| {
        let mut raw = Raw::plain(&world).await;
        let mut out = BytesMut::new();
        Writer(&mut out).cancel_request(process, key);
        raw.send(&out).await;
        assert_eq!(raw.message().await, None, "a cancel request has no answer");
    };
    // Wrong keys, and one session's secret with the other's number, hit nobody.
    cancel(new.key.0, &old.key.1).await;
    cancel(new.key.0, &[0; 32]).await;
    cancel(old.key.0 ^ 1, &old.key.1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.direct(running).await, "2");
    let (process, key) = new.key.clone();
    cancel(process, &key).await;
    assert_eq!(new.error().await.0, "57014");
    assert_eq!(world.direct(running).await, "1");
    // With nothing running it does nothing: not to the next statement either.
    new.until(b'Z').await;
    cancel(process, &key).await;
    new.query("SELECT pg_sleep(0.5), 1").await;
    assert_eq!(new.until(b'Z').await.0, "TDCZ");
    drop((old, new));
}

/// Passes connections on to `to`; all but the first wait for a while.
async fn slow_but_the_first(listener: std::net::TcpListener, to: String, wait: Duration) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut first = true;
    while let Ok((mut from, _)) = listener.accept().await {
        let (wait, to) = (if std::mem::take(&mut first) { Duration::ZERO } else { wait }, to.clone());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
            let _closed = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_that_is_slow_on_its_way_hits_no_later_statement() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (between, (send, receive)) = (listener.local_addr().unwrap(), std::sync::mpsc::sync_channel(1));
    let world = World::with(Change {
        lease: Box::new(move |lease| {
            let server = std::mem::replace(&mut lease.target.address, between.to_string());
            send.send(server).unwrap();
        }),
        ..Change::default()
    })
    .await;
    tokio::spawn(slow_but_the_first(listener, receive.recv().unwrap(), Duration::from_millis(800)));
    let mut client = Raw::ready(&world, Version::V3_0).await;
    client.query("SELECT pg_sleep(0.4), 1").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut other = Raw::plain(&world).await;
    let mut out = BytesMut::new();
    Writer(&mut out).cancel_request(client.key.0, &client.key.1);
    other.send(&out).await;
    // As libpq does: the next statement is sent when the request was taken.
    assert_eq!(other.message().await, None);
    // The statement is done before the request is there. What follows runs when it was there.
    client.query("SELECT pg_sleep(0.8), 2").await;
    client.query("SELECT pg_sleep(0.1), 3").await;
    for statement in 1..=3 {
        assert_eq!(client.until(b'Z').await.0, "TDCZ", "statement {statement}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_refused_and_rows_of_any_length_pass() {
    let world = World::with(Change {
        config: Box::new(|config| config.longest_message = 1 << 20),
        ..Change::default()
    })
    .await;
    let long = world.sql("SELECT length(repeat('x', 50000000)), repeat('x', 50000000)").await.unwrap();
    assert_eq!(long.len(), "50000000|".len() + 50_000_000);
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    raw.send(&[b'Q', 0x3f, 0, 0, 0, b'S']).await;
    let (code, say) = raw.error().await;
    assert_eq!(code, "54000", "{say}");
    assert_eq!(raw.message().await, None);
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    raw.send(&[b'Q', 0, 0, 0, 3, b'S']).await;
    assert_eq!(raw.error().await.0, "08P01");
}

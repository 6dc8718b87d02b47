//! The hard stop: nothing goes on at the server, and the client is told why.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_core::time::Span;
use halligan_protocol_postgres::codec::Version;
use halligan_recording::{Outcome, RecordKind};
use halligan_session::node_event::NodeEvent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::raw::*;
use crate::support::*;

const BACKENDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'halligan:%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_ends_queries_copies_and_transactions_at_once() {
    let world = World::new().await;
    let copy = "COPY (SELECT repeat('x', 100) FROM generate_series(1, 2000000000)) TO STDOUT";
    for (statement, goes_on) in [("SELECT pg_sleep(60)", false), (copy, true)] {
        let mut psql = world.psql();
        psql.args(["-c", statement]);
        if goes_on {
            psql.stdout(std::process::Stdio::null());
        }
        let psql = psql.spawn().unwrap();
        world.direct_until(&format!("{BACKENDS} AND state = 'active'"), "1", Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        world.kill(world.last_session().0, "enough").await;
        world.direct_until(BACKENDS, "0", Duration::from_secs(2)).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{statement}: {:?}", begun.elapsed());
        let output = ended(psql, Duration::from_secs(5)).await;
        let said = text(&output.stderr);
        assert!(said.contains("ended by somebody else: enough"), "{statement}: {said}");
        assert!(!output.status.success());
    }

    // What was not committed is not there; what was committed is told.
    let mut psql = talking(world.program("psql"));
    say(&mut psql, "CREATE TABLE things (n BIGINT);\nINSERT INTO things VALUES (1);\n").await;
    say(&mut psql, "BEGIN;\nINSERT INTO things VALUES (2), (3);\n").await;
    world
        .direct_until(
            &format!("{BACKENDS} AND state = 'idle in transaction' AND query LIKE 'INSERT%'"),
            "1",
            Duration::from_secs(10),
        )
        .await;
    let session = world.last_session().0;
    world.kill(session, "enough").await;
    world.direct_until(BACKENDS, "0", Duration::from_secs(2)).await;
    drop(psql);
    assert_eq!(world.direct("SELECT count(*) FROM things").await, "1");
    let changed: Vec<String> = world
        .control
        .events()
        .into_iter()
        .filter_map(|event| match event {
            NodeEvent::DatabaseChanged { what, session: of, .. } if of == session => Some(what),
            _ => None,
        })
        .collect();
    assert!(changed.iter().any(|what| what.contains("create table things")), "{changed:?}");
    assert!(changed.iter().any(|what| what.contains("insert") && what.contains("1 row")), "{changed:?}");
    assert!(world.connector.ended.lock().unwrap().contains(&session));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_and_the_idle_limit_end_it_with_a_sentence() {
    for (idle, sentence) in [(true, "nothing moved for too long"), (false, "its deadline has passed")] {
        let world = World::with(Change {
            lease: Box::new(move |lease| match idle {
                true => lease.idle_limit = Some(Span::seconds(3)),
                false => {
                    lease.remaining = Span::seconds(6);
                    lease.deadline = lease.issued_at.plus(Span::seconds(6));
                }
            }),
            ..Change::default()
        })
        .await;
        let mut psql = talking(world.program("psql"));
        say(&mut psql, "SELECT 1;\n").await;
        world.told_of_session().await;
        world.told(|event| matches!(event, NodeEvent::SessionEnded { .. })).await;
        say(&mut psql, "SELECT 2;\n").await;
        let output = ended(psql, Duration::from_secs(5)).await;
        let said = text(&output.stderr);
        assert!(said.contains(sentence), "{said}");
        world.direct_until(BACKENDS, "0", Duration::from_secs(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_goes_or_does_not_let_us_in_is_said() {
    let world = World::new().await;
    let mut psql = talking(world.program("psql"));
    say(&mut psql, "SELECT 1;\n").await;
    world.direct_until(BACKENDS, "1", Duration::from_secs(10)).await;
    world
        .direct(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'halligan:%'",
        )
        .await;
    world
        .told(|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "target_left"))
        .await;
    say(&mut psql, "SELECT 2;\n").await;
    let output = ended(psql, Duration::from_secs(5)).await;
    assert!(text(&output.stderr).contains("terminating connection due to administrator command"));
    // Somebody dropped the role: it is made once more.
    let user = world.direct("SELECT rolname FROM pg_roles WHERE rolname LIKE 'halligan_%'").await;
    world.direct(&format!("DROP ROLE \"{user}\"")).await;
    assert_eq!(world.sql("SELECT 1").await.unwrap(), "1");
    assert_eq!(world.connector.renewed.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The server's own words.
    world.direct(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 0")).await;
    let error = world.sql("SELECT 1").await.unwrap_err();
    assert!(error.contains("too many connections for role"), "{error}");
    // Another certificate is no server of ours.
    let other = tokio::task::spawn_blocking(halligan_testkit::postgres_target::PostgresTarget::start)
        .await
        .unwrap()
        .unwrap();
    let ca = other.ca_pem().to_owned();
    drop(other);
    let world = World::with(Change {
        lease: Box::new(move |lease| lease.target.postgres.as_mut().unwrap().server_ca = ca),
        ..Change::default()
    })
    .await;
    let error = world.sql("SELECT 1").await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_so() {
    let world = World::new().await;
    let mut psql = talking(world.program("psql"));
    say(&mut psql, "SELECT 1;\n").await;
    world.direct_until(BACKENDS, "1", Duration::from_secs(10)).await;
    world.shutdown.cancel();
    world
        .told(|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "gateway_stopping"))
        .await;
    say(&mut psql, "SELECT 2;\n").await;
    let output = ended(psql, Duration::from_secs(5)).await;
    let said = text(&output.stderr);
    assert!(said.contains("the gateway is being stopped"), "{said}");
    world.direct_until(BACKENDS, "0", Duration::from_secs(2)).await;
    assert!(world.sql("SELECT 3").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_cut_off_has_its_end_on_record() {
    let world = World::new().await;
    // Two small ones: the server makes a whole series before it gives the first row of it.
    let copy = "COPY (SELECT repeat('x', 100) FROM generate_series(1, 50000) AS a, generate_series(1, 50000) AS b) TO STDOUT";
    for (statement, how) in
        [("SELECT pg_sleep(60)", "killed"), (copy, "killed"), ("SELECT pg_sleep(61)", "the client is gone")]
    {
        let mut psql = world.psql();
        psql.args(["-c", statement]).stdout(std::process::Stdio::null());
        let mut psql = psql.spawn().unwrap();
        world.direct_until(&format!("{BACKENDS} AND state = 'active'"), "1", Duration::from_secs(10)).await;
        if statement == copy {
            // Its first rows have left the server, and a megabyte more has gone through.
            let copied = "SELECT bool_or(bytes_processed > 1048576) FROM pg_stat_progress_copy";
            world.direct_until(copied, "t", Duration::from_secs(30)).await;
        }
        world.all_told().await;
        match how {
            "killed" => world.kill(world.told_of_session().await, "enough").await,
            _ => psql.kill().await.unwrap(),
        }
        let records = world.records().await;
        let begun = records.iter().find_map(|record| match record {
            RecordKind::StatementBegin { text, number, .. } if text == statement => Some(*number),
            _ => None,
        });
        let end = records.iter().find_map(|record| match record {
            RecordKind::StatementEnd { number, outcome, .. } if Some(*number) == begun => {
                Some(outcome.clone())
            }
            _ => None,
        });
        let Some(Outcome::Failed { reason }) = end else { panic!("{how}: {end:?} in {records:#?}") };
        assert!(reason.starts_with("ended with the session: "), "{how}: {reason}");
        if statement == copy {
            let counted = records.iter().any(|record| {
                matches!(record, RecordKind::TransferEnd { bytes, outcome: Outcome::Failed { .. }, .. } if *bytes > 0)
            });
            assert!(counted, "what was copied until then is counted: {records:#?}");
        }
        drop(psql);
        world.direct_until(BACKENDS, "0", Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_copying_in_is_told_and_its_socket_closes() {
    let world = World::new().await;
    world.sql("CREATE TABLE things (t TEXT)").await.unwrap();
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    raw.query("COPY things FROM STDIN").await;
    assert_eq!(raw.until(b'G').await.0, "G");
    let mut rows = BytesMut::new();
    put(&mut rows, b'd', &[b"x".repeat(8000), b"\n".to_vec()].concat());
    let Raw { stream, mut buffer, .. } = raw;
    let (mut from, mut to) = tokio::io::split(stream);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&sent);
    // It never looks at what it is told.
    let sending = tokio::spawn(async move {
        while to.write_all(&rows).await.is_ok() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Instant::now()
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) > 100, "it copies");
    let session = world.told_of_session().await;
    let begun = Instant::now();
    world.kill(session, "enough").await;
    let mut told = async || while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {};
    tokio::time::timeout(Duration::from_secs(5), told()).await.expect("the socket closes");
    let words = text(&buffer);
    assert!(words.contains("57P01") && words.contains("ended by somebody else: enough"), "{words}");
    let closed = tokio::time::timeout(Duration::from_secs(5), sending).await.unwrap().unwrap();
    assert!(closed.duration_since(begun) < Duration::from_secs(2), "{:?}", closed.duration_since(begun));
    world.direct_until(BACKENDS, "0", Duration::from_secs(2)).await;
    assert_eq!(world.direct("SELECT count(*) FROM things").await, "0");
    let records = world.records().await;
    let end = |record: &RecordKind| matches!(record, RecordKind::TransferEnd { bytes, outcome: Outcome::Failed { .. }, .. } if *bytes > 0);
    assert!(records.iter().any(end), "{records:#?}");
}

/// The server may have swallowed the Sync behind such a COPY or not: what comes next is on record as what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_copy_that_failed_every_answer_is_matched_again() {
    let world = World::new().await;
    world.sql("CREATE TABLE numbers (n BIGINT)").await.unwrap();
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    let mut out = BytesMut::new();
    parse(&mut out, "", "COPY numbers FROM STDIN");
    put(&mut out, b'B', b"\0\0\0\0\0\0\0\0");
    execute(&mut out);
    sync(&mut out);
    raw.send(&out).await;
    assert_eq!(raw.until(b'G').await.0, "12G");
    out.clear();
    put(&mut out, b'd', b"no number\n");
    put(&mut out, b'c', b"");
    sync(&mut out);
    raw.send(&out).await;
    assert_eq!(raw.error().await.0, "22P02");
    assert_eq!(raw.until(b'Z').await.0, "Z");
    for number in 0..3 {
        raw.query(&format!("SELECT {number} AS after")).await;
        assert_eq!(raw.until(b'Z').await.0, "TDCZ");
    }
    drop(raw);
    let records = world.records().await;
    for number in 0..3 {
        let sql = format!("SELECT {number} AS after");
        let begun = records.iter().find_map(|record| match record {
            RecordKind::StatementBegin { text, number, .. } if *text == sql => Some(*number),
            _ => None,
        });
        let done = records.iter().any(|record| {
            matches!(record, RecordKind::StatementEnd { number, outcome: Outcome::Done, rows: Some(1), .. }
                if Some(*number) == begun)
        });
        assert!(begun.is_some() && done, "{sql}: {records:#?}");
    }
}

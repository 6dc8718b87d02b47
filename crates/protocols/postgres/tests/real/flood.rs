//! Very much at once: nothing is lost, nobody else waits, memory stays bounded, and a full disk stops everything.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_protocol_postgres::codec::Version;
use halligan_recording::RecordKind;
use halligan_session::node_event::NodeEvent;
use halligan_testkit::small_disk::SmallDisk;

use crate::raw::*;
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_statements_are_all_on_record() {
    const ALL: usize = 200_000;
    const TOGETHER: usize = 500;
    let world = World::with(Change {
        lease: Box::new(|lease| lease.recording.spool_budget_bytes = 1 << 30),
        ..Change::default()
    })
    .await;
    let Raw { stream, buffer, .. } = Raw::ready(&world, Version::V3_0).await;
    let (read, mut write) = tokio::io::split(stream);
    assert!(buffer.is_empty());
    let begun = Instant::now();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let mut out = BytesMut::new();
        parse(&mut out, "one", "SELECT $1::BIGINT");
        sync(&mut out);
        for first in (0..ALL).step_by(TOGETHER) {
            for number in first..first + TOGETHER {
                bind(&mut out, "one", &number.to_string());
                execute(&mut out);
            }
            sync(&mut out);
            write.write_all(&out).await.unwrap();
            out.clear();
        }
        write
    });
    let mut raw =
        Raw { stream: Box::new(tokio::io::join(read, tokio::io::sink())), buffer, key: (0, vec![]) };
    let (mut rows, mut ready) = (0, 0);
    while ready < 1 + ALL / TOGETHER {
        let (kind, body) = raw.message().await.unwrap();
        match kind {
            b'D' => {
                assert_eq!(text(&body[6..]), rows.to_string());
                rows += 1;
            }
            b'Z' => ready += 1,
            b'E' => panic!("{}", text(&body)),
            _ => {}
        }
    }
    println!("{ALL} statements in {:?}", begun.elapsed());
    assert_eq!(rows, ALL);
    drop((raw, writing.await.unwrap()));
    let mut next = 0;
    let mut ends = 0;
    for record in world.records().await {
        match record {
            RecordKind::StatementBegin { number, parameters, .. } => {
                assert_eq!(number, next + 1);
                assert_eq!(parameters.unwrap().trim_matches(['[', ']', '"']), next.to_string());
                next += 1;
            }
            RecordKind::StatementEnd { rows: Some(1), .. } => ends += 1,
            _ => {}
        }
    }
    assert_eq!((next as usize, ends), (ALL, ALL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stalls_nobody_and_costs_little() {
    let world = World::new().await;
    let mut deaf = Raw::ready(&world, Version::V3_0).await;
    let mut out = BytesMut::new();
    for _ in 0..2_000 {
        halligan_protocol_postgres::codec::Writer(&mut out).query("SELECT repeat('x', 100000)");
    }
    deaf.send(&out).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = resident_mib();
    let driver = world.driver().await;
    let mut slowest = Duration::ZERO;
    for number in 0..50_i64 {
        let begun = Instant::now();
        let row = driver.query_one("SELECT $1::BIGINT", &[&number]).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        assert_eq!(row.get::<_, i64>(0), number);
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 32, "{grown} MiB more");
    // It goes on where it stood, once it reads.
    let mut ready = 0;
    while ready < 2_000 {
        if deaf.message().await.unwrap().0 == b'Z' {
            ready += 1;
        }
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_no_statement_reaches_the_server() {
    let disk = SmallDisk::mount(32).unwrap();
    let world = World::with(Change { folder: Some(disk.path().join("gateway")), ..Change::default() }).await;
    world.direct("CREATE TABLE marks (n BIGINT); GRANT ALL ON marks TO orders_write").await;
    let driver = world.driver().await;
    driver.execute("INSERT INTO marks VALUES (0)", &[]).await.unwrap();
    disk.fill().unwrap();
    let mut through = 1_i64;
    let error = loop {
        // Noise, so that compression does not hide it.
        let mut noise = vec![0; 4096];
        getrandom::fill(&mut noise).unwrap();
        let sql = format!("INSERT INTO marks VALUES ({through}) -- {}", hex::encode(noise));
        match driver.batch_execute(&sql).await {
            Ok(()) => through += 1,
            Err(error) => break error,
        }
        assert!(through < 10_000, "it goes on though nothing can be recorded");
    };
    if let Some(said) = error.as_db_error() {
        assert_eq!(said.code().code(), "57P01");
        assert!(said.message().contains("can no longer be recorded"), "{}", said.message());
    }
    assert_eq!(world.direct("SELECT count(*) FROM marks").await, through.to_string());
    world.told(|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason.starts_with("recording_lost"))).await;
    assert!(world.sql("SELECT 1").await.is_err(), "no new session either");
}

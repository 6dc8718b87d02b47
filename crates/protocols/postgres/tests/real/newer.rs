//! Programs of newer majors, with what their libpq has learned: TLS from the first byte, protocol 3.2, encrypted cancels.

use std::time::{Duration, Instant};

use halligan_testkit::postgres_programs::{NEWER, libpq};

use crate::support::*;

/// Runs one statement and gives what is printed.
async fn says(mut psql: tokio::process::Command, connection: &str, sql: &str) -> String {
    psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", connection, "-c", sql]);
    let output = finished(psql).await;
    assert!(output.status.success(), "{connection}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_newer_libpq_connects_and_those_that_can_begin_with_tls() {
    let world = World::new().await;
    for major in NEWER {
        let mut ways = vec!["dbname=orders channel_binding=require"];
        if major >= 17 {
            ways.push("dbname=orders sslnegotiation=direct sslmode=verify-full channel_binding=require");
        }
        if major >= 18 {
            ways.push("dbname=orders min_protocol_version=3.2 max_protocol_version=3.2");
            ways.push("dbname=orders sslnegotiation=direct min_protocol_version=latest");
            ways.push("dbname=orders max_protocol_version=3.0");
        }
        for way in ways {
            let mut psql = world.program("psql");
            psql.env("LD_LIBRARY_PATH", libpq(major).unwrap());
            assert_eq!(says(psql, way, "SELECT count(*) FROM orders").await, "1000", "libpq {major}, {way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_18_speaks_protocol_3_2_and_its_cancel_is_encrypted() {
    let world = World::new().await;
    let way = "dbname=orders sslnegotiation=direct min_protocol_version=3.2";
    let mut psql = world.program_18("psql");
    psql.args(["-X", "-d", way, "-c", "\\conninfo"]);
    let output = finished(psql).await;
    let said = text(&output.stdout);
    let shown = |name: &str, value: &str| {
        said.lines().any(|line| line.contains(name) && line.trim_end_matches([' ', '|']).ends_with(value))
    };
    assert!(
        shown("Protocol Version", "3.2") && shown("SSL Connection", "true"),
        "{said}{}",
        text(&output.stderr)
    );
    // Statements that are sent ahead in a pipeline, by psql itself.
    let mut psql = world.program_18("psql");
    psql.args(["-X", "-A", "-t", "-d", way, "-f"]).arg(world.folder.path().join("pipeline.sql"));
    let script = "\\startpipeline\nSELECT $1 + 1 \\bind 41 \\sendpipeline\nSELECT 'second' \\bind \\sendpipeline\n\\endpipeline\n";
    std::fs::write(world.folder.path().join("pipeline.sql"), script).unwrap();
    let output = finished(psql).await;
    assert_eq!(text(&output.stdout).trim(), "42\nsecond", "{}", text(&output.stderr));

    let mut psql = world.program_18("psql");
    psql.args(["-X", "-d", way, "-c", "SELECT pg_sleep(60)"]);
    let psql = psql.spawn().unwrap();
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    world.direct_until(running, "1", Duration::from_secs(10)).await;
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_raw(i32::try_from(psql.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = ended(psql, Duration::from_secs(5)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(
        text(&output.stderr).contains("canceling statement due to user request"),
        "{}",
        text(&output.stderr)
    );
    world.direct_until(running, "0", Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_dump_and_pgbench_of_18_work() {
    let world =
        World::with(Change { target: Box::new(|target| target.database("stock")), ..Change::default() })
            .await;
    let folder = world.folder.path().join("dump");
    let mut dump = world.program_18("pg_dump");
    dump.args(["-Fd", "-j", "4", "-t", "orders", "-f"]).arg(&folder);
    let output = finished(dump).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut list = world.program_18("pg_restore");
    list.arg("-l").arg(&folder);
    assert!(text(&finished(list).await.stdout).contains("TABLE DATA public orders"));
    let mut init = world.program_18("pgbench");
    init.args(["-i", "-s", "1", "--quiet"]);
    let output = finished(init).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut bench = world.program_18("pgbench");
    bench.args(["-n", "-M", "prepared", "-c", "4", "-t", "25"]);
    let output = finished(bench).await;
    assert!(text(&output.stdout).contains("processed: 100/100"), "{}", text(&output.stderr));
}

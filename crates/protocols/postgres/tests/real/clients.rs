//! Stock clients, unchanged.

use std::process::Stdio;
use std::time::{Duration, Instant};

use halligan_core::catalog::ResultsKept;
use halligan_recording::{Direction, Outcome, RecordKind};
use halligan_session::node_event::NodeEvent;
use sha2::Digest as _;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works_and_every_statement_is_on_record() {
    let world = World::new().await;
    assert_eq!(world.sql("SELECT count(*) FROM orders").await.unwrap(), "1000");
    let records = world.records().await;
    assert!(statements(&records).contains(&"SELECT count(*) FROM orders".to_owned()), "{records:#?}");
    let ended = records.iter().any(
        |record| matches!(record, RecordKind::StatementEnd { tag, rows: Some(1), .. } if tag == "SELECT 1"),
    );
    assert!(ended, "{records:#?}");
    // Whose rights they are, and who they are at the server.
    assert_eq!(world.sql("SELECT current_user").await.unwrap(), "orders_write");
    let who = world.sql("SELECT session_user, current_setting('application_name')").await.unwrap();
    let (user, application) = who.split_once('|').unwrap();
    assert!(user.starts_with("halligan_") && user.ends_with("_gw-1"), "{user}");
    world.all_told().await;
    assert_eq!(application, format!("halligan:{}", world.last_session().0));
    let error = world.sql("SELECT * FROM nowhere").await.unwrap_err();
    assert!(error.contains("relation \"nowhere\" does not exist"), "{error}");
    // The server looks for us by itself; and it is encrypted there.
    assert_eq!(world.sql("SHOW client_connection_check_interval").await.unwrap(), "2s");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name LIKE 'halligan:%'";
    let mut psql = talking(world.psql());
    say(&mut psql, "SELECT 1;\n").await;
    world.direct_until(encrypted, "t", Duration::from_secs(10)).await;
    drop(psql);
    // Secrets go to the server and not into the record.
    let refused = world.sql("CREATE ROLE x PASSWORD 'swordfish'").await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    let records = world.records().await;
    assert!(!format!("{records:?}").contains("swordfish"));
    assert!(statements(&records).iter().any(|text| text.contains("CREATE ROLE x")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_runs_in_its_three_query_modes_with_eight_clients() {
    let world = World::new().await;
    let mut init = world.program("pgbench");
    init.args(["-i", "-s", "1", "--quiet"]);
    let output = finished(init).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    for mode in ["simple", "extended", "prepared"] {
        for script in [&["-S"][..], &[][..]] {
            let mut bench = world.program("pgbench");
            bench.args(["-n", "-M", mode, "-c", "8", "-j", "2", "-t", "25"]).args(script);
            let output = finished(bench).await;
            let said = text(&output.stdout);
            assert!(output.status.success(), "{mode}: {said}{}", text(&output.stderr));
            assert!(said.contains("processed: 200/200"), "{said}");
        }
    }
    assert_eq!(world.direct("SELECT count(*) FROM pgbench_history").await, "600");
    let changed = world
        .told(|event| matches!(event, NodeEvent::DatabaseChanged { what, .. } if what.contains("pgbench_history")))
        .await;
    assert!(format!("{changed:?}").contains("rows"), "{changed:?}");
    let bound = world.records().await.into_iter().any(|record| {
        matches!(record, RecordKind::StatementBegin { parameters: Some(values), .. } if values.starts_with('['))
    });
    assert!(bound, "bound parameters are on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_are_copied_both_ways_counted_and_hashed() {
    let world = World::new().await;
    let file = world.folder.path().join("rows");
    let mut out = world.psql();
    out.args(["-c", "COPY (SELECT n, 'row ' || n FROM generate_series(1, 1000000) n) TO STDOUT"]);
    out.stdout(Stdio::from(std::fs::File::create(&file).unwrap()));
    let output = finished(out).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1_000_000);
    let digest = hex::encode(sha2::Sha256::digest(&bytes));
    let moved = |records: &[RecordKind], way: Direction| {
        records.iter().any(|record| {
            matches!(record, RecordKind::TransferEnd { direction, bytes: count, sha256, outcome: Outcome::Done, .. }
                if *direction == way && *count == bytes.len() as u64 && hex::encode(sha256.0) == digest)
        })
    };
    assert!(moved(&world.records().await, Direction::Download));
    world.sql("CREATE TABLE million (n BIGINT, t TEXT)").await.unwrap();
    let mut into = world.psql();
    into.args(["-c", "COPY million FROM STDIN"]).stdin(Stdio::from(std::fs::File::open(&file).unwrap()));
    let output = finished(into).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.direct("SELECT count(*), sum(n) FROM million").await, "1000000|500000500000");
    let records = world.records().await;
    assert!(moved(&records, Direction::Upload), "{records:?}");
    world
        .told(|event| {
            matches!(event, NodeEvent::TransferEnded { path, bytes: count, .. }
            if path.contains("million") && *count == bytes.len() as u64)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_go_by_pg_dump_and_pg_restore() {
    let world = World::with(Change {
        lease: Box::new(|lease| lease.postgres.function_calls = true),
        target: Box::new(|target| target.database("stock")),
        ..Change::default()
    })
    .await;
    world
        .sql(
            "CREATE TABLE pictures (id BIGINT, picture OID);
             INSERT INTO pictures SELECT n, lo_from_bytea(0, decode(repeat(md5(n::text), 20000), 'hex'))
             FROM generate_series(1, 5) n",
        )
        .await
        .unwrap();
    let file = world.folder.path().join("dump");
    let mut dump = world.program_for_server("pg_dump");
    dump.args(["-Fc", "-b", "-t", "pictures", "-f"]).arg(&file);
    let output = finished(dump).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut restore = world.program_for_server("pg_restore");
    restore.args(["--no-owner", "--no-acl", "-d", "stock"]).arg(&file);
    let output = finished(restore).await;
    let said = text(&output.stderr);
    // A pg_restore of 18 sets what a server of 16 does not know, and goes on.
    let newer = said.contains("\"transaction_timeout\"") && said.contains("errors ignored on restore: 1");
    assert!(output.status.success() || newer, "{said}");
    let digests = "SELECT md5(string_agg(md5(lo_get(picture)), ',' ORDER BY id)) FROM pictures";
    let (target, here) = (world.target.clone(), world.direct(digests).await);
    let there = tokio::task::spawn_blocking(move || target.sql("stock", digests).unwrap()).await.unwrap();
    assert_eq!(here, there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_c_cancels_within_a_second_and_hits_nobody_else() {
    let world = World::new().await;
    let mut other = talking(world.psql());
    say(&mut other, "SELECT pg_sleep(4), 'undisturbed';\n").await;
    let mut one = world.psql();
    one.args(["-c", "SELECT pg_sleep(60)"]);
    let one = one.spawn().unwrap();
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%' AND state = 'active'";
    world.direct_until(running, "2", Duration::from_secs(10)).await;
    let begun = Instant::now();
    let pid = i32::try_from(one.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT)
        .unwrap();
    let output = ended(one, Duration::from_secs(5)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(
        text(&output.stderr).contains("canceling statement due to user request"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(world.direct(running).await, "1");
    say(&mut other, "\\q\n").await;
    let output = ended(other, Duration::from_secs(20)).await;
    assert!(text(&output.stdout).contains("undisturbed"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_rows_that_policy_keeps_can_be_read_as_the_person_read_them() {
    let world = World::with(Change {
        lease: Box::new(|lease| {
            lease.postgres.results = ResultsKept::First(2);
            lease.recording.keep_content_bytes = 1 << 20;
        }),
        ..Change::default()
    })
    .await;
    let wanted = "SELECT n AS id, 'ä' || n AS what, NULL AS no FROM generate_series(1, 3) n";
    let results = async || {
        let kept = |record| match record {
            RecordKind::Result { rows, columns, values, .. } => Some((rows, columns, values)),
            _ => None,
        };
        world.records().await.into_iter().filter_map(kept).collect::<Vec<_>>()
    };
    let (columns, values) = (r#"["id","what","no"]"#, r#"[[1,"ä1",null],[2,"ä2",null]]"#);
    // Text, asked at once; then binary, of a statement that was described when it was prepared.
    world.sql(wanted).await.unwrap();
    assert_eq!(results().await, [(2, columns.to_owned(), values.to_owned())]);
    let driver = world.driver().await;
    assert_eq!(driver.query(wanted, &[]).await.unwrap().len(), 3);
    drop(driver);
    assert_eq!(results().await, [(2, columns.to_owned(), values.to_owned())]);
}

//! How fast it is, beside the same server directly, TLS on each leg, everything recorded. Run by hand in a release build:
//! `cargo test --release -p halligan-protocol-postgres --test real -- --ignored throughput --nocapture`

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::*;

const ROUNDS: usize = 3;

fn direct(world: &World, program: &str) -> tokio::process::Command {
    let mut command = world.program(program);
    command
        .env("PGPORT", world.target.address().port().to_string())
        .env("PGUSER", "beside")
        .env("PGPASSWORD", "beside")
        .env("PGSSLMODE", "require")
        .env_remove("PGSSLROOTCERT");
    command
}

async fn transactions(mut bench: tokio::process::Command, mode: &str, clients: &str) -> f64 {
    bench.args(["-n", "-S", "-M", mode, "-c", clients, "-j", "1", "-T", "4"]);
    let output = finished(bench).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let line = said.lines().find(|line| line.contains("without initial connection time")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

async fn copy(mut psql: tokio::process::Command, sql: &str) -> f64 {
    psql.args(["-X", "-q", "-c", sql]).stdout(Stdio::null());
    let begun = Instant::now();
    let output = finished(psql).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    1.0 / begun.elapsed().as_secs_f64()
}

async fn connects(mut bench: tokio::process::Command, clients: &str) -> f64 {
    bench.args(["-n", "-C", "-c", clients, "-j", clients, "-T", "3", "-f", "/dev/stdin"]);
    bench.stdin(Stdio::piped());
    let mut child = bench.spawn().unwrap();
    say(&mut child, "SELECT 1;\n").await;
    let output = ended(child, Duration::from_secs(60)).await;
    let said = text(&output.stdout);
    let line = said
        .lines()
        .find(|line| line.starts_with("tps"))
        .unwrap_or_else(|| panic!("{said}{}", text(&output.stderr)));
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and says nothing in a debug build"]
async fn throughput_beside_direct() {
    let world = World::with(Change {
        lease: Box::new(|lease| {
            lease.recording.spool_budget_bytes = 8 << 30;
            lease.postgres.connections = 100;
        }),
        ..Change::default()
    })
    .await;
    world.direct("CREATE ROLE beside LOGIN PASSWORD 'beside' IN ROLE orders_write").await;
    let mut init = world.program("pgbench");
    init.args(["-i", "-s", "5", "--quiet"]);
    assert!(finished(init).await.status.success());
    for mode in ["simple", "extended", "prepared"] {
        for clients in ["1", "8"] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                theirs.push(transactions(direct(&world, "pgbench"), mode, clients).await);
                ours.push(transactions(world.program("pgbench"), mode, clients).await);
            }
            say_ratio(&format!("pgbench -S {mode} -c {clients}, per second"), ours, theirs);
        }
    }
    for (what, sql) in [
        (
            "COPY out of 1M rows, per second",
            "COPY (SELECT n, 'row ' || n FROM generate_series(1, 1000000) n) TO STDOUT",
        ),
        ("SELECT of 500k rows, per second", "SELECT n, 'row ' || n FROM generate_series(1, 500000) n"),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(copy(direct(&world, "psql"), sql).await);
            ours.push(copy(world.program("psql"), sql).await);
        }
        say_ratio(what, ours, theirs);
    }
    for clients in ["1", "8"] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(connects(direct(&world, "pgbench"), clients).await);
            ours.push(connects(world.program("pgbench"), clients).await);
        }
        say_ratio(&format!("connections, {clients} at once, per second"), ours, theirs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "says little in a debug build"]
async fn throughput_idle_sessions_cost_little_memory() {
    const SESSIONS: usize = 60;
    let world = World::with(Change {
        options: Box::new(|options| options.most_sessions_per_person = 1000),
        ..Change::default()
    })
    .await;
    world.sql("SELECT 1").await.unwrap();
    let before = resident();
    let mut all = Vec::new();
    for _ in 0..SESSIONS {
        let mut psql = talking(world.psql());
        say(&mut psql, "SELECT 1;\n").await;
        all.push(psql);
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'halligan:%' AND query = 'SELECT 1;'";
    world.direct_until(open, &SESSIONS.to_string(), Duration::from_secs(60)).await;
    println!("{} KiB for each of {SESSIONS} idle sessions", (resident() - before) / SESSIONS as u64);
}

/// KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn say_ratio(what: &str, ours: Vec<f64>, theirs: Vec<f64>) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{what}: direct {theirs:.2}, through {ours:.2}, ratio {:.2}", ours / theirs);
}

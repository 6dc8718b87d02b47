//! `activation: prepared`: the gateway logs in at the server by a certificate for a key of its own.

use std::time::{Duration, Instant};

use halligan_core::catalog::Activation;

use crate::support::*;

const LINES: &str = "hostssl all +standing 127.0.0.1/32 cert\nhost all +standing all reject";

async fn world() -> World {
    let world = World::may(|may| may.activation = Activation::Prepared).await;
    let make = format!(
        "CREATE ROLE standing NOLOGIN; CREATE ROLE \"{STANDING}\" LOGIN IN ROLE orders_write, standing"
    );
    for statement in make.split(';') {
        world.direct(statement).await;
    }
    let target = std::sync::Arc::clone(&world.target);
    tokio::task::spawn_blocking(move || target.set_hba(LINES).unwrap()).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_role_is_opened_by_certificate_and_everything_else_is_as_ever() {
    let world = world().await;
    let who = world.sql("SELECT session_user, current_user").await.unwrap();
    assert_eq!(who, format!("{STANDING}|orders_write"));
    let records = world.records().await;
    assert!(statements(&records).contains(&"SELECT session_user, current_user".to_owned()));
    // Cancel requests need no certificate.
    let mut sleeper = world.psql();
    sleeper.args(["-c", "SELECT pg_sleep(60)"]);
    let sleeper = sleeper.spawn().unwrap();
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%' AND state = 'active'";
    world.direct_until(running, "1", Duration::from_secs(10)).await;
    let begun = Instant::now();
    let pid = i32::try_from(sleeper.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT)
        .unwrap();
    let output = ended(sleeper, Duration::from_secs(5)).await;
    assert!(
        text(&output.stderr).contains("canceling statement due to user request"),
        "{}",
        text(&output.stderr)
    );
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // Many at once, each with a certificate of its own.
    let mut bench = world.program("pgbench");
    bench.args(["-n", "-f", "/dev/stdin", "-c", "4", "-j", "2", "-t", "5"]);
    bench.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut bench = bench.spawn().unwrap();
    say(&mut bench, "SELECT count(*) FROM orders;\n").await;
    let output = ended(bench, Duration::from_secs(30)).await;
    assert!(text(&output.stdout).contains("number of failed transactions: 0"), "{}", text(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_password_of_a_standing_role_gets_none() {
    let world = world().await;
    let target = std::sync::Arc::clone(&world.target);
    let lines = LINES.replace("cert", "scram-sha-256");
    tokio::task::spawn_blocking(move || target.set_hba(&lines).unwrap()).await.unwrap();
    let refused = world.sql("SELECT 1").await.unwrap_err();
    assert!(refused.contains("must say `cert`"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_names_its_backend() {
    let world = world().await;
    let number = world.sql("SELECT pg_backend_pid()").await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while world.connector.numbers.lock().unwrap().is_empty() {
        assert!(Instant::now() < until, "no backend was named");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.connector.numbers.lock().unwrap()[0].to_string(), number);
}

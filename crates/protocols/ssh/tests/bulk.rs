//! Much data: whole, with new keys on the way, and little of it in memory. One test at a time, for they measure.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod support;

use std::time::{Duration, Instant};

use halligan_recording::RecordKind;
use support::{LOGIN, World, noise, resident_mib, sha256};
use tokio::sync::Mutex;

static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_pass_both_ways_with_new_keys_on_the_way_and_little_memory() {
    let _alone = ALONE.lock().await;
    let world = World::with(|lease| lease, |sshd| sshd.option("RekeyLimit", "16M"), |_| {}).await;
    let client = world.client().option("RekeyLimit", "16M");
    let before = resident_mib();
    let started = Instant::now();
    let down = client
        .ssh(world.port, LOGIN, "head -c 104857600 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null | tee >(sha256sum >&2)")
        .await
        .unwrap();
    let down_took = started.elapsed();
    assert_eq!(down.stdout.len(), 100 * 1024 * 1024, "{}", down.stderr);
    assert!(down.stderr.starts_with(&sha256(&down.stdout)), "{}", down.stderr);
    let started = Instant::now();
    let up = client.ssh_with_input(world.port, LOGIN, "sha256sum", &down.stdout).await.unwrap().ok().unwrap();
    println!("100 MiB down {down_took:?}, up {:?}", started.elapsed());
    assert!(up.text().starts_with(&sha256(&down.stdout)), "{}", up.text());
    let records = world.records().await;
    let counted = |r: &RecordKind| matches!(r, RecordKind::Bulk { bytes: 104_857_600, sha256, .. } if hex::encode(sha256.0) == support::sha256(&down.stdout));
    assert!(records.iter().any(counted));
    // The client's copies are in this process too: two hundred MiB and what vectors keep in reserve.
    let after = resident_mib();
    assert!(after.saturating_sub(before) < 600, "grew from {before} to {after} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_duplex_jam_is_bounded_and_comes_loose() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let client = world.client().timeout(Duration::from_secs(60));
    // `cat` sends everything back while the client reads nothing: both directions fill up.
    let content = noise(64 * 1024 * 1024);
    let input = client.home().join("input");
    std::fs::write(&input, &content).unwrap();
    let before = resident_mib();
    let script = format!("{} 127.0.0.1 cat < {} | (sleep 3; sha256sum)", world.plain_ssh(), input.display());
    let running = tokio::process::Command::new("bash").arg("-c").arg(&script).output();
    tokio::pin!(running);
    let early = tokio::time::timeout(Duration::from_millis(2_500), &mut running).await;
    assert!(early.is_err(), "nobody was reading yet");
    let jammed = resident_mib().saturating_sub(before);
    println!("memory while jammed: {jammed} MiB");
    assert!(jammed < 64, "{jammed} MiB wait in memory");
    let output = tokio::time::timeout(Duration::from_secs(40), running)
        .await
        .expect("the jam did not come loose")
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(&sha256(&content)), "{output:?}");
}

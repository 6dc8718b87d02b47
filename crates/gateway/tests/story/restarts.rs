//! A gateway that stops, cleanly or not, and starts again, with or without control.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use halligan_core::time::Span;
use halligan_gateway::Clock as _;
use halligan_session::EndReason;
use halligan_session::control_plane::{ControlPlane as _, LoginProof};
use halligan_session::node_event::NodeEvent;

use crate::support::*;

const FOLDER: &str = "HALLIGAN_TEST_GATEWAY_FOLDER";

/// The gateway that is killed: this very test, in a process of its own.
#[test]
#[ignore = "started by the test below"]
fn the_one_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let site = Site::linked(Path::new(&folder)).await;
        site.hold(&site.lease(1, 1, Span::minutes(10))).await;
        site.hold(&site.lease(2, 1, Span::seconds(3))).await;
        let session = site.open().await;
        for line in 0..100 {
            session.record_now(output(&format!("line {line}\n"))).unwrap();
        }
        println!("\nready {}", session.id());
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_loses_nothing_acknowledged_and_held_leases_go_on_without_control() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "restarts::the_one_that_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = loop {
        let line = lines.next().expect("the child says ready").unwrap();
        if let Some(id) = line.strip_prefix("ready ") {
            break id.to_owned();
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let begun = std::time::Instant::now();
    let mut site = Site::alone(folder.path());
    println!("start after kill -9: {:?}", begun.elapsed());
    // Control is not there: the roster and the lease are.
    let session = site.open().await;
    assert_eq!(session.lease().grant, grant(1));
    session.record_now(output("after the restart")).unwrap();
    assert!(site.gateway.status().roster_age.is_some());

    site.link_control();
    let ended = site
        .told(|event| matches!(event, NodeEvent::SessionEnded { session, .. } if session.to_string() == id))
        .await;
    assert!(matches!(&ended, NodeEvent::SessionEnded { reason, .. } if reason == "gateway_restarted"));
    let finished = site
        .told(|event| matches!(event, NodeEvent::RecordingFinished { session, .. } if session.to_string() == id))
        .await;
    let NodeEvent::RecordingFinished { recording, complete, .. } = finished else { panic!() };
    assert!(!complete, "it has no end, and says so");
    let records = site.stored(recording).await;
    assert!(records.iter().any(|record| record.kind == output("line 99\n")), "all that was written is there");
    let expired = site.told(|event| matches!(event, NodeEvent::LeaseEnded { .. })).await;
    let NodeEvent::LeaseEnded { grant: ended, reason, .. } = expired else { panic!() };
    assert_eq!((ended, reason.as_str()), (grant(2), "expired"), "the one past its deadline is dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_ends_every_session_with_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    let told = tokio::spawn(async move { session.closed().await });
    assert!(site.gateway.drain(Duration::from_secs(5)).await);
    assert_eq!(told.await.unwrap(), EndReason::GatewayStopping);
    assert!(site.try_open().await.is_err());
    let control = std::sync::Arc::clone(&site.control);
    site.vanish().await;
    let ended = control.events().into_iter().find(
        |event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "gateway_stopping"),
    );
    assert!(ended.is_some());

    let mut again = Site::alone(folder.path());
    again.control = control;
    again.link_control();
    again.open().await.record_now(output("the lease is still held")).unwrap();
    // Control is told only what it does not have: its list goes on without a gap.
    again
        .told(|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "client_left"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_goes_on_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let deadline = site.clock.wall().plus(Span::minutes(10));
    site.vanish().await;
    // Same run of the machine, nine minutes later, and somebody has set the clock back.
    let clock = std::sync::Arc::new(Shifted::default());
    clock.move_boot(9 * 60);
    clock.move_wall(-9 * 60);
    let site = Site::with(Site::options(folder.path()), clock);
    let session = site.open().await;
    assert!(session.lease().deadline.since(deadline) < Span::seconds(5));
    site.clock.move_boot(61);
    assert_eq!(session.closed().await, EndReason::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_somebody_wrote_into_the_folder_opens_nothing_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let true_one = site.lease(1, 1, Span::minutes(10));
    site.hold(&true_one).await;
    site.vanish().await;
    // The same lease for Bo, with the signature of Ana's.
    let path = folder.path().join("leases").join(grant(1).to_string());
    let text = std::fs::read_to_string(&path).unwrap();
    let forged = text
        .replace(&grant(1).to_string(), &grant(2).to_string())
        .replace(r#"\"person\":\"ana\""#, r#"\"person\":\"bo\""#);
    assert_ne!(forged, text);
    std::fs::write(folder.path().join("leases").join(grant(2).to_string()), forged).unwrap();
    let site = Site::alone(folder.path());
    let key = LoginProof::PublicKey { openssh: BO_KEY.to_owned() };
    let bo = site.gateway.login(key, &client()).await.unwrap();
    assert!(site.gateway.open(&bo, &entitlement(), &client()).await.is_err());
    assert_eq!(site.open().await.lease().grant, true_one.grant);
    soon("the forged lease is forgotten", || site.gateway.status().leases == 1).await;
}

//! Access ends at its deadline, in the data path, whatever clocks, control or the runtime do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use halligan_core::catalog::OnPartition;
use halligan_core::time::Span;
use halligan_session::EndReason;
use halligan_session::node_event::NodeEvent;

use crate::support::*;

#[tokio::test(flavor = "current_thread")]
async fn no_byte_passes_after_the_deadline_even_if_the_runtime_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::micros(600_000))).await;
    let session = site.open().await;
    session.record_now(output("in time")).unwrap();
    // The only thread of the runtime does nothing else: no timer and no task runs.
    std::thread::sleep(Duration::from_millis(650));
    let ended = session.record_now(output("late")).unwrap_err();
    assert_eq!(ended.reason, EndReason::Expired);
    assert_eq!(session.closed().await, EndReason::Expired);
    assert!(session.ssh_credential().await.is_err());
    drop(session);
    let told = site.told(|event| matches!(event, NodeEvent::LeaseEnded { .. })).await;
    let NodeEvent::LeaseEnded { reason, sessions_ended, .. } = told else { panic!() };
    assert_eq!((reason.as_str(), sessions_ended), ("expired", 1));
    assert!(site.try_open().await.unwrap_err().say.contains("no access to orders-host/root"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_session_is_told_of_its_end_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    let mut warning = session.warning();
    site.clock.move_boot(6 * 60);
    site.clock.move_wall(6 * 60);
    warning.changed().await.unwrap();
    let said = warning.borrow().clone().unwrap();
    assert!(said.starts_with("Your access ends in 3m"), "{said}");
    site.clock.move_boot(4 * 60);
    site.clock.move_wall(4 * 60);
    assert_eq!(session.closed().await, EndReason::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_runs_ahead_ends_nothing_while_control_says_that_the_grant_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::linked(folder.path()).await;
    site.control.grants_stand.store(true, Ordering::SeqCst);
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    site.clock.move_wall(3_600);
    soon("control is asked", || site.control.asked.load(Ordering::SeqCst) > 0).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    session.record_now(output("goes on")).unwrap();
    drop(site.open().await);

    // Control's word is good for some seconds; when it cannot be asked any more the earlier end wins.
    site.cut_control();
    site.clock.move_boot(16);
    assert_eq!(session.closed().await, EndReason::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_control_the_earlier_end_wins_and_a_clock_set_back_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let mut other = site.lease(2, 1, Span::minutes(20));
    other.most_sessions = 1;
    site.hold(&other).await;
    let longest = site.open().await;
    assert_eq!(longest.lease().grant, grant(2), "the lease that runs longest is used");
    let first = site.open().await;
    assert_eq!(first.lease().grant, grant(1));
    site.cut_control();
    site.clock.move_wall(-3_600);
    tokio::time::sleep(Duration::from_millis(700)).await;
    first.record_now(output("goes on")).unwrap();
    site.clock.move_boot(10 * 60 + 1);
    assert!(first.record_now(output("late")).is_err(), "the count is on boot time");
    longest.record_now(output("goes on")).unwrap();
    site.clock.move_wall(2 * 3_600);
    assert_eq!(longest.closed().await, EndReason::Expired, "wall time is past the deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_that_says_no_ends_what_the_wall_clock_ends() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    site.clock.move_wall(3_600);
    assert_eq!(session.closed().await, EndReason::Expired);
    assert!(site.control.asked.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entitlement_can_end_its_sessions_when_control_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::linked(folder.path()).await;
    let mut strict = site.lease(1, 1, Span::hours(2));
    strict.on_partition = OnPartition::EndAfter(Span::minutes(5));
    site.hold(&strict).await;
    let session = site.open().await;
    site.cut_control();
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.clock.move_boot(4 * 60);
    tokio::time::sleep(Duration::from_millis(700)).await;
    session.record_now(output("goes on")).unwrap();
    site.clock.move_boot(61);
    assert_eq!(session.closed().await, EndReason::ControlAway);
    drop(session);
    assert_eq!(site.try_open().await.unwrap_err().say, EndReason::ControlAway.to_string());
    site.link_control();
    site.open().await.record_now(output("control is back")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_session_and_not_its_grant() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let mut lease = site.lease(1, 1, Span::hours(2));
    lease.idle_limit = Some(Span::minutes(5));
    site.hold(&lease).await;
    let session = site.open().await;
    for _ in 0..3 {
        site.clock.move_boot(4 * 60);
        session.record_now(output("typing")).unwrap();
    }
    site.clock.move_boot(5 * 60 + 1);
    assert_eq!(session.closed().await, EndReason::Idle);
    site.open().await.record_now(output("again")).unwrap();
}

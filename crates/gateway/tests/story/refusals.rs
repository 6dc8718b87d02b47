//! What a gateway does not do.

use halligan_core::time::Span;
use halligan_link::{Request, Response};
use halligan_session::lease::{Lease, SignedLease};
use halligan_session::node_event::NodeEvent;

use crate::support::*;

fn is_error(answer: &Response, words: &str) -> bool {
    matches!(answer, Response::Error { say } if say.contains(words))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_grant_is_a_tombstone_for_late_leases_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::linked(folder.path()).await;
    let lease = site.lease(1, 3, Span::minutes(10));
    site.hold(&lease).await;
    site.hold(&lease).await; // Control repeats what it is not sure of,
    let later = lease.issued_at.plus(Span::seconds(3)); // also when it was killed meanwhile and signs anew.
    site.hold(&Lease { issued_at: later, remaining: lease.deadline.since(later), ..lease.clone() }).await;
    assert!(is_error(&site.put(&site.lease(1, 2, Span::minutes(10))).await, "too late"));
    assert!(
        is_error(&site.put(&site.lease(1, 3, Span::minutes(99))).await, "too late"),
        "same number, other lease"
    );
    assert!(is_error(&site.revoke(1, 2).await, "too late"), "a revocation from before the extension");
    assert_eq!(site.revoke(1, 4).await, Response::Revoked { sessions_ended: 0 });
    assert_eq!(site.revoke(2, 7).await, Response::Revoked { sessions_ended: 0 }, "never seen here");
    for restarted in [false, true] {
        if restarted {
            site.vanish().await;
            site = Site::linked(folder.path()).await;
        }
        assert!(is_error(&site.put(&lease).await, "too late"));
        assert!(is_error(&site.put(&site.lease(1, 4, Span::minutes(10))).await, "too late"));
        assert!(is_error(&site.put(&site.lease(2, 7, Span::minutes(10))).await, "too late"));
        assert!(site.try_open().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_control_may_and_only_with_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let lease = site.lease(1, 1, Span::minutes(10));
    let forged = SignedLease::sign(&lease, &ed25519_dalek::SigningKey::from_bytes(&[1; 32])).unwrap();
    assert!(is_error(&site.ask(Request::PutLease { lease: forged }).await, "not signed by control"));
    let signed = SignedLease::sign(&lease, &control_key()).unwrap();
    let connector = site.from_connector.as_ref().unwrap();
    let answer = connector.call(Request::PutLease { lease: signed }).await.unwrap();
    assert!(is_error(&answer, "from control only"), "{answer:?}");
    let kill = Request::RevokeLease { grant: grant(1), fencing: 9, reason: String::new() };
    assert!(is_error(&connector.call(kill).await.unwrap(), "from control only"));
    assert!(site.try_open().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let mut lease = site.lease(1, 1, Span::minutes(10));
    lease.recipients.clear();
    site.hold(&lease).await;
    assert!(site.try_open().await.unwrap_err().say.contains("nobody who may open the recording"));
    let mut lease = site.lease(1, 2, Span::minutes(10));
    lease.recipients = vec!["age1nonsense".to_owned()];
    site.hold(&lease).await;
    assert!(site.try_open().await.unwrap_err().say.contains("could not be recorded"));
    let refused = site.told(|event| matches!(event, NodeEvent::Refused { person: Some(_), .. })).await;
    assert!(format!("{refused:?}").contains("orders-host/root"));
    let never = site.control.events().iter().any(|event| matches!(event, NodeEvent::SessionOpened { .. }));
    assert!(!never);
    assert_eq!(std::fs::read_dir(folder.path().join("spool")).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_and_places_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(site.open().await);
    }
    let refusal = site.try_open().await.unwrap_err();
    assert!(refusal.say.contains("allows 3 sessions at one time"), "{refusal}");
    let left = open.pop().unwrap();
    left.end(halligan_session::EndReason::ClientLeft).await;
    open.push(site.open().await);
    assert!(site.try_open().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_fills_its_spool_ends_alone_and_its_recording_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let mut lease = site.lease(1, 1, Span::minutes(10));
    lease.recording.spool_budget_bytes = 64 * 1024;
    site.hold(&lease).await;
    let other = site.open().await;
    let dump = site.open().await;
    let mut noise = vec![0; 8 * 1024];
    let ended = loop {
        getrandom::fill(&mut noise).unwrap();
        let record = halligan_recording::RecordKind::Output { channel: 0, bytes: noise.clone().into() };
        if let Err(ended) = dump.record_now(record) {
            break ended;
        }
    };
    assert_eq!(ended.reason, halligan_session::EndReason::SpoolSpent);
    drop(dump);
    let finished = site.told(|event| matches!(event, NodeEvent::RecordingFinished { .. })).await;
    assert!(matches!(finished, NodeEvent::RecordingFinished { complete: true, .. }));
    other.record_now(output("goes on")).unwrap();
}

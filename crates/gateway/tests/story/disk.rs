//! A full disk: no new sessions; live ones end, and the ledger says so out of its reserve.

use halligan_core::time::Span;
use halligan_link::Response;
use halligan_recording::{Record, RecordKind};
use halligan_session::node_event::NodeEvent;
use halligan_session::{EndReason, Written};
use halligan_testkit::small_disk::SmallDisk;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_bytes_stop_and_the_end_is_still_written() {
    let disk = SmallDisk::mount(32).unwrap();
    let site = Site::linked(&disk.path().join("gateway")).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    session.record_now(output("before")).unwrap();
    disk.fill().unwrap();
    // Noise, so that compression does not hide it.
    let mut noise = vec![0; 16 * 1024];
    let mut ended = None;
    for _ in 0..64 {
        getrandom::fill(&mut noise).unwrap();
        let record = RecordKind::Output { channel: 0, bytes: noise.clone().into() };
        if let Err(end) = session.record_now(record) {
            ended = Some(end);
            break;
        }
    }
    let ended = ended.expect("the disk is full");
    assert!(matches!(ended.reason, EndReason::RecordingLost { .. }), "{ended:?}");
    assert!(session.record_now(output("small")).is_err(), "and stays ended");
    drop(session);
    let refusal = site.try_open().await.unwrap_err();
    assert!(refusal.say.contains("disk is nearly full"), "{refusal}");

    let said = site.told(|event| matches!(event, NodeEvent::SessionEnded { .. })).await;
    assert!(
        matches!(&said, NodeEvent::SessionEnded { reason, .. } if reason.starts_with("recording_lost: "))
    );
    let finished = site.told(|event| matches!(event, NodeEvent::RecordingFinished { .. })).await;
    assert!(matches!(finished, NodeEvent::RecordingFinished { complete: false, .. }));
    assert_eq!(
        site.revoke(1, 2).await,
        Response::Revoked { sessions_ended: 0 },
        "ending works on a full disk"
    );

    disk.empty().unwrap();
    site.hold(&site.lease(2, 1, Span::minutes(10))).await;
    site.open().await.record_now(output("room again")).unwrap();
}

/// The thread that carries the session does not wait for the disk; whoever sends the statement on does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_is_owed_is_made_elsewhere_before_anything_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    let syncs = || site.gateway.metrics().syncs.load(std::sync::atomic::Ordering::Relaxed);
    let statement = |class: &str| {
        let begin = RecordKind::StatementBegin {
            channel: 0,
            number: 1,
            class: class.to_owned(),
            role: String::new(),
            database: String::new(),
            text: String::new(),
            parameters: None,
        };
        session.write(&[Record::new(session.since_start(), begin)]).unwrap()
    };
    assert_eq!(statement("read"), Written::default());
    let before = syncs();
    let owed = statement("write");
    assert_eq!(owed, Written::new(true));
    session.on_disk(owed).await.unwrap();
    assert!(syncs() > before);
    // A megabyte owes one too.
    let mut noise = vec![0; 64 * 1024];
    let owes = (0..32).any(|_| {
        getrandom::fill(&mut noise).unwrap();
        let record = RecordKind::Output { channel: 0, bytes: noise.clone().into() };
        session.write(&[Record::new(session.since_start(), record)]).unwrap() == Written::new(true)
    });
    assert!(owes);
    let owed = statement("unknown");
    session.end(EndReason::ClientLeft).await;
    for written in [owed, Written::default()] {
        assert_eq!(session.on_disk(written).await.unwrap_err().reason, EndReason::ClientLeft);
    }
}

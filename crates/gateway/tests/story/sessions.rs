//! Sessions from their opening to their place in control's store, and every way they end.

use std::time::{Duration, Instant};

use halligan_core::time::Span;
use halligan_link::{Request, Response};
use halligan_recording::RecordKind;
use halligan_session::EndReason;
use halligan_session::node_event::NodeEvent;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_recorded_told_and_stored() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    let id = session.id();

    let credential = session.ssh_credential().await.unwrap();
    assert_eq!((credential.serial, credential.certificate), (42, format!("certificate for {id}")));
    assert_eq!(*credential.seed.expose(), [5; 32]);
    assert_eq!((session.next_channel(), session.next_channel()), (0, 1));

    let opened = NodeEvent::ChannelOpened {
        session: id,
        channel: 0,
        kind: "exec".to_owned(),
        detail: "uptime".to_owned(),
    };
    session.milestone(opened.clone()).await.unwrap();
    session.record_now(output("up 3 days\n")).unwrap();

    let Response::Sessions { sessions, more } =
        site.ask(Request::ListSessions { grant: None, after: None }).await
    else {
        panic!()
    };
    assert_eq!((sessions.len(), more, sessions[0].session, sessions[0].records), (1, false, id, 1));

    session.end(EndReason::ClientLeft).await;
    assert!(session.record_now(output("late")).is_err());
    assert_eq!(session.closed().await, EndReason::ClientLeft);

    let NodeEvent::RecordingFinished { recording, complete, records, sha256, .. } =
        site.told(|event| matches!(event, NodeEvent::RecordingFinished { .. })).await
    else {
        panic!()
    };
    assert!(complete);
    assert_eq!(records, 3, "start, output, end");
    let events = site.control.events();
    let place = |like: &dyn Fn(&NodeEvent) -> bool| events.iter().position(like).unwrap();
    let held = place(&|event| matches!(event, NodeEvent::LeaseHeld { .. }));
    let opened_at =
        place(&|event| matches!(event, NodeEvent::SessionOpened { session, .. } if *session == id));
    let channel = place(&|event| *event == opened);
    let ended =
        place(&|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "client_left"));
    assert!(held < opened_at && opened_at < channel && channel < ended);

    let read = site.stored(recording).await;
    assert_eq!(read.len(), 3);
    assert_eq!(read[1].kind, output("up 3 days\n"));
    let RecordKind::SessionStart { metadata } = &read[0].kind else { panic!() };
    assert!(metadata.contains("\"person\":\"ana\"") && metadata.contains("the pager"), "{metadata}");
    assert_eq!(site.control.stored.lock().unwrap()[&recording], sha256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_shuts_the_data_path_at_once_and_answers_when_all_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    let mut took = Vec::new();
    for number in 1..=60 {
        site.hold(&site.lease(number, 1, Span::minutes(10))).await;
        let session = site.open().await;
        let waiter = tokio::spawn(async move {
            let reason = session.closed().await;
            let at = Instant::now();
            assert!(session.record_now(output("late")).is_err());
            (reason, at)
        });
        let begun = Instant::now();
        assert_eq!(site.revoke(number, 2).await, Response::Revoked { sessions_ended: 1 });
        let (reason, at) = waiter.await.unwrap();
        assert_eq!(reason, EndReason::Revoked { why: "no longer needed".to_owned() });
        took.push(at - begun);
        // Control is not sure that we heard it, and asks again.
        assert_eq!(site.revoke(number, 2).await, Response::Revoked { sessions_ended: 1 });
    }
    took.sort();
    let p99 = took[took.len() - 1];
    println!("revoke to dead session, across the link: median {:?}, slowest {:?}", took[took.len() / 2], p99);
    assert!(p99 < Duration::from_millis(100), "{took:?}");
    let ended = site.told(|event| matches!(event, NodeEvent::LeaseEnded { .. })).await;
    assert_eq!(
        ended,
        NodeEvent::LeaseEnded {
            grant: grant(1),
            fencing: 2,
            reason: "revoked: no longer needed".to_owned(),
            sessions_ended: 1
        }
    );
    let count = |like: &dyn Fn(&NodeEvent) -> bool| site.control.events().iter().filter(|e| like(e)).count();
    soon("every end is told once", || count(&|e| matches!(e, NodeEvent::LeaseEnded { .. })) == 60).await;
    assert_eq!(count(&|e| matches!(e, NodeEvent::SessionEnded { .. })), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protocol_that_hangs_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let hung = site.open().await;
    let begun = Instant::now();
    assert_eq!(site.revoke(1, 2).await, Response::Revoked { sessions_ended: 1 });
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(4), "{took:?}");
    assert!(hung.record_now(output("late")).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_session_has_left_and_a_killed_one_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    drop(site.open().await);
    site.told(|event| matches!(event, NodeEvent::SessionEnded { reason, .. } if reason == "client_left"))
        .await;

    let session = site.open().await;
    let id = session.id();
    let other = site.open().await;
    let told = tokio::spawn(async move { session.closed().await });
    assert_eq!(
        site.ask(Request::KillSession { session: id, reason: "wrong host".to_owned() }).await,
        Response::Ok
    );
    let reason = told.await.unwrap();
    assert_eq!(reason.to_string(), "This session was ended by somebody else: wrong host.");
    assert!(other.record_now(output("the grant and its other session go on")).is_ok());
    assert!(matches!(
        site.ask(Request::KillSession { session: id, reason: String::new() }).await,
        Response::Error { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_lease_takes_over_and_a_different_one_ends_the_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::seconds(2))).await;
    let session = site.open().await;
    site.hold(&site.lease(1, 2, Span::minutes(10))).await;
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    session.record_now(output("extended")).unwrap();

    let mut narrower = site.lease(1, 3, Span::minutes(10));
    narrower.ssh.shell = false;
    site.hold(&narrower).await;
    assert_eq!(session.closed().await, EndReason::Superseded);
    let again = site.open().await;
    assert!(!again.lease().ssh.shell);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_session_can_be_watched() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    let session = site.open().await;
    let watch = |after| site.ask(Request::WatchNext { session: session.id(), after });
    let first = tokio::join!(watch(0), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.record_now(output("one")).unwrap();
    })
    .0;
    let Response::Watched { records, last, lost, ended } = first else { panic!("{first:?}") };
    assert_eq!((records.len(), last, lost, ended), (1, 1, 0, false));
    let mut bytes = bytes::Bytes::from(records[0].0.clone());
    assert_eq!(halligan_recording::Record::decode(&mut bytes).unwrap().kind, output("one"));
    let end = tokio::join!(watch(1), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.end(EndReason::ClientLeft).await;
    })
    .0;
    assert!(matches!(end, Response::Watched { ended: true, .. }), "{end:?}");
}

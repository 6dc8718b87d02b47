//! What every link must do, whatever it travels over.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use halligan_core::ids::{RecordingId, SessionId};
use halligan_link::messages::CHUNK_MOST_BYTES;
use halligan_link::peer::MOST_CALLS;
use halligan_link::{Blob, LinkError, Request, Response};

use crate::node::{Linked, linked, sleep_request};

macro_rules! contract {
    ($($name:ident)*) => {
        mod in_one_process { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::linked(false).await).await; })* }
        mod over_tls { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::linked(true).await).await; })* }
    };
}

contract! {
    both_sides_ask_and_know_who_asks
    a_slow_call_holds_up_nobody
    calls_in_flight_are_bounded_and_all_are_answered
    a_call_that_takes_too_long_is_given_up_and_the_link_lives
    closing_answers_every_waiting_call
    what_was_begun_is_finished_though_the_link_closed
    a_handler_that_panics_is_an_answer
    a_handler_may_call_back
    a_chunk_of_a_recording_fits_and_what_does_not_fit_is_refused
    ten_thousand_calls
}

async fn both_sides_ask_and_know_who_asks(link: Linked) {
    assert_eq!(link.at_control.info().name.as_str(), "gw-1");
    assert_eq!(link.at_gateway.info().name.as_str(), "control");
    let answer = link.at_gateway.call(Request::RecordingEnd { recording: RecordingId::from_bits(1) }).await;
    assert_eq!(answer.unwrap(), Response::error("I see gateway gw-1 of main"));
    let answer = link.at_control.ask(Request::RecordingEnd { recording: RecordingId::from_bits(1) }).await;
    assert_eq!(answer.unwrap_err().to_string(), "gateway gw-1 says: I see control control of main");
    assert_eq!(link.at_control.call(Request::Ping).await.unwrap(), Response::Ok);
}

async fn a_slow_call_holds_up_nobody(link: Linked) {
    let slow = link.at_control.clone();
    let slow = tokio::spawn(async move { slow.call(sleep_request(1500)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    for _ in 0..20 {
        link.at_control.call(Request::NodeTime).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(1000), "{:?}", began.elapsed());
    assert!(!slow.is_finished());
    assert_eq!(slow.await.unwrap().unwrap(), Response::Ok);
}

async fn calls_in_flight_are_bounded_and_all_are_answered(link: Linked) {
    let calls = (0..3 * MOST_CALLS).map(|_| link.at_control.call(sleep_request(50)));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), Response::Ok);
    }
    assert_eq!(link.gateway.peak.load(Ordering::SeqCst), MOST_CALLS);
}

async fn a_call_that_takes_too_long_is_given_up_and_the_link_lives(link: Linked) {
    let given_up = link.at_control.call_within(sleep_request(300), Duration::from_millis(50)).await;
    assert!(matches!(given_up, Err(LinkError::TimedOut { request: "kill_session", .. })), "{given_up:?}");
    tokio::time::sleep(Duration::from_millis(400)).await; // its late answer arrives and is dropped
    assert_eq!(link.at_control.call(sleep_request(1)).await.unwrap(), Response::Ok);
    assert_eq!(link.gateway.done.load(Ordering::SeqCst), 2);
}

async fn closing_answers_every_waiting_call(link: Linked) {
    let waiting: Vec<_> = [&link.at_control, &link.at_gateway]
        .into_iter()
        .map(|peer| {
            let peer = peer.clone();
            tokio::spawn(async move { peer.call(sleep_request(5000)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    link.at_control.close("control shuts down");
    for call in waiting {
        let outcome = call.await.unwrap();
        assert!(matches!(outcome, Err(LinkError::Closed { .. })), "{outcome:?}");
    }
    assert_eq!(link.at_gateway.closed().await, "the other side ended it: control shuts down");
    assert!(began.elapsed() < Duration::from_secs(1));
    let after = link.at_gateway.call(Request::NodeTime).await.unwrap_err().to_string();
    assert_eq!(after, "the link to control control is closed: the other side ended it: control shuts down");
}

async fn what_was_begun_is_finished_though_the_link_closed(link: Linked) {
    let call = link.at_control.call_within(sleep_request(200), Duration::from_millis(50)).await;
    assert!(call.is_err());
    link.at_control.close("gone");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(link.gateway.done.load(Ordering::SeqCst), 1, "an effect must not be torn by a lost link");
}

async fn a_handler_that_panics_is_an_answer(link: Linked) {
    let request = Request::KillSession { session: SessionId::from_bits(1), reason: "boom".to_owned() };
    let Response::Error { say } = link.at_control.call(request).await.unwrap() else { panic!() };
    assert!(say.contains("failed inside") && !say.contains("boom"), "{say}");
    assert_eq!(link.at_control.call(sleep_request(1)).await.unwrap(), Response::Ok);
}

async fn a_handler_may_call_back(link: Linked) {
    assert!(link.control.other.get().is_some());
    let calls = (0..2 * MOST_CALLS)
        .map(|n| if n % 2 == 0 { &link.at_control } else { &link.at_gateway }.call(Request::Status));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), Response::error("called back, 7"));
    }
}

async fn a_chunk_of_a_recording_fits_and_what_does_not_fit_is_refused(link: Linked) {
    let chunk = |bytes: usize| Request::RecordingChunk {
        recording: RecordingId::from_bits(1),
        offset: 1,
        data: Blob(vec![0xa5; bytes]),
    };
    let answer = link.at_gateway.call(chunk(CHUNK_MOST_BYTES)).await.unwrap();
    assert_eq!(answer, Response::RecordingAt { offset: 1 + CHUNK_MOST_BYTES as u64 });
    let refused = link.at_gateway.call(chunk(1024 * 1024)).await;
    assert!(matches!(refused, Err(LinkError::TooLarge { what: "recording_chunk", .. })), "{refused:?}");
    let huge = Request::Witness { checkpoint: "x".repeat(1000), old_size: 2000, proof: vec![] };
    let Response::Error { say } = link.at_gateway.call(huge).await.unwrap() else { panic!() };
    assert!(say.contains("`cosigned` would take"), "{say}");
    assert_eq!(link.at_gateway.call(Request::Ping).await.unwrap(), Response::Ok);
}

async fn ten_thousand_calls(link: Linked) {
    const CALLS: u32 = 10_000;
    let began = Instant::now();
    let callers = (0..32).map(|_| async {
        for n in 0..CALLS / 32 + 1 {
            let request = Request::Witness { checkpoint: n.to_string(), old_size: 1, proof: vec![] };
            let answer = link.at_control.call(request).await.unwrap();
            assert_eq!(answer, Response::Cosigned { note: n.to_string() }, "each its own answer");
        }
    });
    futures::future::join_all(callers).await;
    let took = began.elapsed();
    println!(
        "{CALLS} calls by 32 callers in {took:?}: {:.0} a second",
        f64::from(CALLS) / took.as_secs_f64()
    );
    let began = Instant::now();
    for _ in 0..500 {
        link.at_control.call(Request::Ping).await.unwrap();
    }
    println!("one after the other: {:?} each", began.elapsed() / 500);
    assert!(took < Duration::from_secs(60));
}

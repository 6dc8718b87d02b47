//! Bytes of a peer that is newer, broken, hostile, or frozen.

use std::time::{Duration, Instant};

use halligan_link::{LinkError, Peer, Request, Response, Timing};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::node::{Node, QUICK, gateway};

fn raw_link(timing: Timing) -> (DuplexStream, Peer) {
    let (far, near) = tokio::io::duplex(4096);
    (far, Peer::start(near, gateway(), Node::new(), timing))
}

async fn send(far: &mut DuplexStream, json: &str) {
    far.write_all(&u32::try_from(json.len()).unwrap().to_be_bytes()).await.unwrap();
    far.write_all(json.as_bytes()).await.unwrap();
}

async fn next_answer(far: &mut DuplexStream) -> serde_json::Value {
    loop {
        let mut bytes = vec![0; far.read_u32().await.unwrap() as usize];
        far.read_exact(&mut bytes).await.unwrap();
        let frame: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        if frame["kind"] != "alive" {
            return frame;
        }
    }
}

#[tokio::test]
async fn a_request_of_a_newer_node_is_answered_and_the_link_lives() {
    let (mut far, peer) = raw_link(Timing::default());
    send(&mut far, r#"{"kind":"ask","call":1,"body":{"open_pod_bay_doors":{"please":true}}}"#).await;
    let say = next_answer(&mut far).await["body"]["error"]["say"].as_str().unwrap().to_owned();
    assert!(say.starts_with("this node is older") && say.contains("`open_pod_bay_doors`"), "{say}");
    send(&mut far, r#"{"kind":"ask","call":2,"body":"sing"}"#).await;
    let say = next_answer(&mut far).await["body"]["error"]["say"].as_str().unwrap().to_owned();
    assert!(say.contains("does not know the request `sing`"), "{say}");
    send(&mut far, r#"{"kind":"ask","call":3,"body":{"look":{"grant":"nonsense","fencing":1}}}"#).await;
    let say = next_answer(&mut far).await["body"]["error"]["say"].as_str().unwrap().to_owned();
    assert!(say.starts_with("this node could not read the request `look`"), "{say}");
    send(&mut far, r#"{"kind":"whisper","call":0,"body":null,"more":1}"#).await;
    send(&mut far, r#"{"kind":"ask","call":4,"body":"node_time"}"#).await;
    assert_eq!(next_answer(&mut far).await["body"]["node_time"]["time"], 7);
    assert!(!peer.is_closed());
}

#[tokio::test]
async fn an_answer_of_a_newer_node_fails_its_call_only() {
    let (mut far, peer) = raw_link(Timing::default());
    let asked = tokio::spawn({
        let peer = peer.clone();
        async move { (peer.call(Request::Ping).await, peer.call(Request::Ping).await) }
    });
    let call = next_answer(&mut far).await["call"].as_u64().unwrap();
    send(&mut far, r#"{"kind":"answer","call":999,"body":"ok"}"#).await; // nobody asked: passed over
    send(&mut far, &format!(r#"{{"kind":"answer","call":{call},"body":{{"new":1}}}}"#)).await;
    let call = next_answer(&mut far).await["call"].as_u64().unwrap();
    send(&mut far, &format!(r#"{{"kind":"answer","call":{call},"body":"ok"}}"#)).await;
    let (first, second) = asked.await.unwrap();
    assert!(matches!(first, Err(LinkError::Malformed { .. })), "{first:?}");
    assert_eq!(second.unwrap(), Response::Ok);
}

#[tokio::test]
async fn an_oversized_frame_and_junk_end_the_link_with_a_reason() {
    let (mut far, peer) = raw_link(Timing::default());
    far.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(peer.closed().await.contains("announced a frame of 4294967295 bytes"));

    let (mut far, peer) = raw_link(Timing::default());
    send(&mut far, "GET / HTTP/1.1").await;
    assert!(peer.closed().await.starts_with("the peer sent no message of a link"));

    let (mut far, peer) = raw_link(Timing::default());
    far.write_all(&[0, 0, 1]).await.unwrap();
    drop(far);
    assert!(peer.closed().await.contains("in the middle of a frame"));
}

#[tokio::test]
async fn a_flood_of_slow_requests_is_refused_past_a_limit() {
    let (far, peer) = raw_link(Timing::default());
    let (mut from, mut to) = tokio::io::split(far);
    let flood = tokio::spawn(async move {
        for call in 0..1000 {
            let json = format!(
                r#"{{"kind":"ask","call":{call},"body":{{"kill_session":{{"session":"ses_00000000000000000000000001","reason":"sleep 60000"}}}}}}"#
            );
            to.write_all(&u32::try_from(json.len()).unwrap().to_be_bytes()).await.unwrap();
            to.write_all(json.as_bytes()).await.unwrap();
        }
        to
    });
    let mut busy = 0;
    while busy < 1000 - 256 {
        let mut bytes = vec![0; from.read_u32().await.unwrap() as usize];
        from.read_exact(&mut bytes).await.unwrap();
        busy += usize::from(String::from_utf8(bytes).unwrap().contains("this node is busy"));
    }
    let _to = flood.await.unwrap();
    assert!(!peer.is_closed());
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed() {
    let (_far, peer) = raw_link(QUICK);
    let began = Instant::now();
    let waiting = peer.call(Request::Ping).await;
    assert!(matches!(waiting, Err(LinkError::Closed { .. })), "{waiting:?}");
    assert!(peer.closed().await.starts_with("nothing was heard"));
    assert!(began.elapsed() >= QUICK.dead_after && began.elapsed() < 4 * QUICK.dead_after);
}

#[tokio::test]
async fn a_peer_that_sends_but_never_reads_is_noticed() {
    let (mut far, peer) = raw_link(QUICK);
    let chatter = tokio::spawn(async move {
        loop {
            send(&mut far, r#"{"kind":"alive","call":0,"body":null}"#).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    tokio::time::sleep(2 * QUICK.dead_after).await;
    assert!(!peer.is_closed(), "signs of life keep it up");
    let long = Request::Witness { checkpoint: "x".repeat(100_000), old_size: 1, proof: vec![] };
    let outcome = peer.call(long).await;
    assert!(matches!(outcome, Err(LinkError::Closed { .. })), "{outcome:?}");
    chatter.abort();
}

//! What stands before the calls: TLS, sizes, times, plain HTTP on this machine only.

use std::time::{Duration, Instant};

use halligan_api::{Certificate, ServeError, Serving, router, serve};
use halligan_client::{Client, ClientError, Options, Trust};

use crate::http::{call, raw};
use crate::world::Prepared;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_believes_the_pinned_certificate_and_no_other() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::load_or_make(folder.path(), &[]).unwrap();
    let print = certificate.print();
    let serving = Serving {
        address: "127.0.0.1:0".parse().unwrap(),
        certificate: Some(certificate),
        router: router(world.control.clone()),
    };
    let served = serve(serving).unwrap();
    assert_eq!(served.certificate_print.as_deref(), Some(print.as_str()));
    let client = |trust| {
        let options = Options { trust, ..Options::new(served.url()) };
        Client::new(&options).unwrap()
    };
    let ready = client(Trust::Certificate(print.parse().unwrap())).ready().await.unwrap();
    assert!(ready.ready && ready.ledger_size > 0);
    let authority = std::fs::read_to_string(folder.path().join("api_certificate.pem")).unwrap();
    assert!(client(Trust::Authority(authority)).ready().await.is_ok());
    for wrong in [Trust::System, Trust::Certificate("00".repeat(32).parse().unwrap())] {
        let error = client(wrong).ready().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
    served.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_for_this_machine_alone() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let serving = Serving {
        address: "0.0.0.0:0".parse().unwrap(),
        certificate: None,
        router: router(world.control.clone()),
    };
    assert!(matches!(serve(serving), Err(ServeError::NotLoopback { .. })));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_not_json_is_refused_in_words() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let token = world.facts.tokens["rita"].clone();
    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(300 * 1024));
    let reply = call(world.address, "POST", "/incidents/INC-1/notes", Some(&token), Some(&large), &[]).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(reply.json()["code"], "too_large");
    // Nobody's body is not read at all.
    let reply = call(world.address, "POST", "/incidents/INC-1/notes", None, Some(&large), &[]).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));

    // A body that claims to be endless is refused before it is sent.
    let head = format!(
        "POST /api/v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    );
    assert_eq!(raw(world.address, head.as_bytes()).await.status, 413);

    let text = format!(
        "POST /api/v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    assert_eq!(raw(world.address, text.as_bytes()).await.status, 415);

    for (method, path, status) in
        [("GET", "/nothing", 404), ("DELETE", "/me", 405), ("GET", "/requests?limit=x", 422)]
    {
        let reply = call(world.address, method, path, Some(&token), None, &[]).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let mut many = "GET /api/v1/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_owned();
    for number in 0..200 {
        many.push_str(&format!("X-{number}: y\r\n"));
    }
    many.push_str("\r\n");
    assert_eq!(raw(world.address, many.as_bytes()).await.status, 431);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_hung_up_on() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let begun = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /api/v1/live HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(ended.is_ok(), "still open after {:?}", begun.elapsed());
    world.stop().await;
}

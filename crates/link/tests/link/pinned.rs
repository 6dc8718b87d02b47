//! Who comes in over TLS, as whom, and how fast they are out again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halligan_core::ids::{Name, RecordingId};
use halligan_core::time::Time;
use halligan_link::{
    Hello, KeyPrint, LinkError, LinkListener, NodeKey, Request, Response, Role, Timing, connect,
    keep_connected,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::node::{Listening, Node, QUICK, gateway, info, sleep_request};

#[tokio::test]
async fn an_unknown_key_is_refused_on_either_side() {
    let mut control = Listening::start(Timing::default()).await;
    let key = NodeKey::make().unwrap();
    let refused = connect(&control.destination(), &key, Node::new(), Timing::default()).await.unwrap_err();
    assert!(matches!(refused, LinkError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains(&key.print().to_string()), "{refused}");

    control.allowed.allow(key.print(), gateway());
    let impostor = Listening::start(Timing::default()).await;
    impostor.allowed.allow(key.print(), gateway());
    let wrong = control.destination_at(impostor.listener.address());
    let refused = connect(&wrong, &key, Node::new(), Timing::default()).await.unwrap_err();
    let LinkError::WrongKey { found, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*found, impostor.key.print().to_string());

    let accepted =
        tokio::time::timeout(Duration::from_millis(300), control.listener.accept(Node::new())).await;
    assert!(accepted.is_err(), "nobody came in");
    let destination = control.destination();
    let dialled = connect(&destination, &key, Node::new(), Timing::default());
    let (at_gateway, at_control) = tokio::join!(dialled, control.listener.accept(Node::new()));
    assert!(at_gateway.is_ok() && at_control.is_ok(), "the same key, once allowed, comes in");
}

/// What a client hears that shows `certificate` (or none) signed for by `key`. `Ok`: it was let in.
async fn knock(
    to: SocketAddr,
    protocol: &[u8],
    shown: Option<(&rcgen::Certificate, &rcgen::KeyPair)>,
) -> std::io::Result<[u8; 8]> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider.clone())));
    let mut config = match shown {
        Some((certificate, key)) => {
            let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
            let key = provider.key_provider.load_private_key(der.into()).unwrap();
            let shown = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(to).await?;
    let name = rustls_pki_types::ServerName::try_from("x").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let mut word = [0; 8];
    stream.read_exact(&mut word).await?;
    Ok(word)
}

#[tokio::test]
async fn a_certificate_without_its_key_or_none_at_all_is_refused() {
    let control = Listening::start(Timing::default()).await;
    let address = control.listener.address();
    for protocol in [&b"halligan-link/1"[..], b"halligan-join/1", b"h2"] {
        assert!(knock(address, protocol, None).await.is_err(), "{}", String::from_utf8_lossy(protocol));
    }
    let make = || rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let (owner, thief) = (make(), make());
    let certificate = rcgen::CertificateParams::default().self_signed(&owner).unwrap();
    let print = KeyPrint::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&owner));
    control.allowed.allow(print, gateway());
    assert!(knock(address, b"halligan-link/1", Some((&certificate, &thief))).await.is_err());
    assert!(knock(address, b"h2", Some((&certificate, &owner))).await.is_err());
    assert_eq!(&knock(address, b"halligan-link/1", Some((&certificate, &owner))).await.unwrap(), b"HLGLINK1");
}

#[derive(Debug)]
struct Anything(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_peer_is_who_its_key_says_whatever_it_calls_itself() {
    let mut control = Listening::start(Timing::default()).await;
    let key = NodeKey::make().unwrap();
    control.allowed.allow(key.print(), gateway());
    let destination = control.destination();
    let (at_gateway, at_control) = tokio::join!(
        connect(&destination, &key, Node::new(), Timing::default()),
        control.listener.accept(Node::new()),
    );
    let lie = Hello {
        protocol: 1,
        version: "0".to_owned(),
        role: Role::Control,
        name: Name::new("control").unwrap(),
        ledger_size: 0,
        time: Time::from_micros(0),
        roster: 0,
        ledger_key: String::new(),
        leases: vec![],
        listeners: std::collections::BTreeMap::new(),
    };
    let answer = at_gateway.unwrap().call(Request::Hello(lie)).await.unwrap();
    assert_eq!(answer, Response::error("I see gateway gw-1 of main"));
    assert_eq!(*at_control.unwrap().info(), gateway());
}

#[tokio::test]
async fn an_expelled_node_is_out_within_a_second_and_stays_out() {
    let mut control = Listening::start(Timing::default()).await;
    let (key, bystander) = (NodeKey::make().unwrap(), NodeKey::make().unwrap());
    control.allowed.allow(key.print(), gateway());
    control.allowed.allow(bystander.print(), info("gw-2", Role::Gateway));
    let destination = control.destination();
    let mut links = Vec::new();
    for key in [&key, &bystander] {
        let (out, into) = tokio::join!(
            connect(&destination, key, Node::new(), Timing::default()),
            control.listener.accept(Node::new()),
        );
        links.push((out.unwrap(), into.unwrap()));
    }
    let (expelled, at_control) = links.remove(0);
    let waiting = tokio::spawn({
        let peer = expelled.clone();
        async move { peer.call(sleep_request(5000)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    control.allowed.expel(&gateway().name);
    let ended = tokio::time::timeout(Duration::from_secs(1), at_control.closed()).await;
    assert_eq!(ended.unwrap(), "this node was expelled, or this key of it");
    assert!(expelled.closed().await.contains("expelled"));
    assert!(matches!(waiting.await.unwrap(), Err(LinkError::Closed { .. })));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let again = connect(&destination, &key, Node::new(), Timing::default()).await;
    assert!(matches!(again, Err(LinkError::Refused { .. })), "{again:?}");
    assert_eq!(links.remove(0).0.call(Request::Ping).await.unwrap(), Response::Ok, "others stay");

    let (out, into) = tokio::join!(
        connect(&destination, &bystander, Node::new(), Timing::default()),
        control.listener.accept(Node::new()),
    );
    control.allowed.allow(bystander.print(), info("gw-2", Role::Connector));
    assert_eq!(into.unwrap().closed().await, "the entry of this node in the roster has changed");
    out.unwrap().closed().await;
}

/// Carries bytes both ways until told to freeze; then it holds the sockets open and carries nothing.
async fn freezing_pipe(to: SocketAddr, frozen: oneshot::Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = frozen => {}
        }
        std::future::pending::<()>().await;
    });
    address
}

#[tokio::test]
async fn a_half_open_link_is_noticed_at_both_ends() {
    let mut control = Listening::start(QUICK).await;
    let key = NodeKey::make().unwrap();
    control.allowed.allow(key.print(), gateway());
    let (freeze, frozen) = oneshot::channel();
    let pipe = freezing_pipe(control.listener.address(), frozen).await;
    let destination = control.destination_at(pipe);
    let (out, into) =
        tokio::join!(connect(&destination, &key, Node::new(), QUICK), control.listener.accept(Node::new()),);
    let (out, into) = (out.unwrap(), into.unwrap());
    tokio::time::sleep(2 * QUICK.dead_after).await;
    assert_eq!(out.call(Request::Ping).await.unwrap(), Response::Ok, "an idle link stays up");
    freeze.send(()).unwrap();
    let began = Instant::now();
    let call = out.call(Request::NodeTime).await;
    assert!(matches!(call, Err(LinkError::Closed { .. })), "{call:?}");
    assert!(into.closed().await.starts_with("nothing was heard"));
    assert!(began.elapsed() < 4 * QUICK.dead_after, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_kept_link_comes_back_by_itself_and_ends_with_its_owner() {
    let Listening { mut listener, key: control_key, allowed } = Listening::start(QUICK).await;
    let address = listener.address();
    let key = NodeKey::make().unwrap();
    allowed.allow(key.print(), gateway());
    let destination = halligan_link::Destination {
        info: info("control", Role::Control),
        addresses: vec!["127.0.0.1:1".to_owned(), address.to_string()],
        keys: vec![control_key.print()],
    };
    let kept = keep_connected(destination, key, Node::new(), QUICK);
    let first = listener.accept(Node::new()).await.unwrap();
    let mine = kept.wait(Duration::from_secs(5)).await.unwrap();
    assert_eq!(mine.call(Request::Ping).await.unwrap(), Response::Ok);

    drop(listener);
    first.close("control restarts");
    mine.closed().await;
    let down = kept.wait(Duration::from_millis(100)).await.unwrap_err().to_string();
    assert!(down.contains("control restarts") || down.contains("failed to"), "{down}");

    let mut listener =
        LinkListener::bind(&address.to_string(), &control_key, allowed.clone(), QUICK).await.unwrap();
    let second = listener.accept(Node::new()).await.unwrap();
    let mine = kept.wait(Duration::from_secs(5)).await.unwrap();
    let asked = mine.call(Request::RecordingEnd { recording: RecordingId::from_bits(1) }).await.unwrap();
    assert_eq!(asked, Response::error("I see gateway gw-1 of main"));
    drop(kept);
    assert!(second.closed().await.contains("no longer keeps the link"));
    let nobody = tokio::time::timeout(Duration::from_millis(700), listener.accept(Node::new())).await;
    assert!(nobody.is_err(), "an owner that is gone dials no more");
}

#[tokio::test]
async fn connections_that_never_speak_do_not_keep_others_out() {
    let mut control = Listening::start(Timing::default()).await;
    let key = NodeKey::make().unwrap();
    control.allowed.allow(key.print(), gateway());
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(control.listener.address()).await.unwrap());
    }
    silent[0].write_all(b"SSH-2.0-lost\r\n").await.unwrap();
    let destination = control.destination();
    let began = Instant::now();
    let (out, into) = tokio::join!(
        connect(&destination, &key, Node::new(), Timing::default()),
        control.listener.accept(Node::new()),
    );
    assert!(out.is_ok() && into.is_ok());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

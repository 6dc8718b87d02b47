//! Probe is not proof: what a client may claim without having the key.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{self, AuthResult};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use support::{LOGIN, World, random_key};

struct AnyHost;

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Signs with a key of its own, whatever key it was asked to sign with.
struct Forger(PrivateKey);

impl russh::Signer for Forger {
    type Error = russh::AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let mut blob = Vec::new();
        self.0.try_sign(&to_sign).unwrap().encode_prefixed(&mut blob).unwrap();
        let mut answer = to_sign;
        answer.extend_from_slice(&blob);
        Ok(answer)
    }
}

async fn connect(world: &World) -> client::Handle<AnyHost> {
    client::connect(Arc::default(), ("127.0.0.1", world.port), AnyHost).await.unwrap()
}

fn rejected(result: Result<AuthResult, russh::Error>) -> bool {
    !matches!(result, Ok(AuthResult::Success))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_key_without_its_signature_is_nobody() {
    let world = World::new().await;
    let known = PublicKey::from_openssh(&world.responder.public().unwrap()).unwrap();
    let own = random_key();

    let mut handle = connect(&world).await;
    assert!(rejected(handle.authenticate_none(LOGIN).await), "none is never enough");
    assert!(rejected(handle.authenticate_password(LOGIN, "anything").await), "passwords are not offered");
    let forged =
        handle.authenticate_publickey_with(LOGIN, known.clone(), None, &mut Forger(own.clone())).await;
    assert!(!matches!(forged, Ok(AuthResult::Success)), "a signature by another key was accepted");
    // After offering the known key, log in with the unknown one: nothing of the offer may stick.
    let other = PrivateKeyWithHashAlg::new(Arc::new(own), None);
    assert!(rejected(handle.authenticate_publickey(LOGIN, other).await));
    assert!(handle.channel_open_session().await.is_err(), "a channel before login");
    assert!(world.control.logins.lock().unwrap().is_empty(), "no login was even asked for");
    assert!(world.control.sessions.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_was_proven_counts_and_not_the_one_before() {
    let world = World::new().await;
    let text = std::fs::read_to_string(world.responder.path()).unwrap();
    let key = Arc::new(PrivateKey::from_openssh(&text).unwrap());
    let mut handle = connect(&world).await;
    assert!(rejected(handle.authenticate_none("root+everything").await));
    let mut signer = Forger((*key).clone());
    let mut honest = connect(&world).await;
    let signed = honest.authenticate_publickey_with(LOGIN, key.public_key().clone(), None, &mut signer);
    assert!(matches!(signed.await, Ok(AuthResult::Success)), "with the right key the same signer gets in");
    let forged = handle
        .authenticate_publickey_with(LOGIN, key.public_key().clone(), None, &mut Forger(random_key()))
        .await;
    assert!(!matches!(forged, Ok(AuthResult::Success)));
    // A true signature, but for another system: the login stands, the system does not open.
    let result = handle.authenticate_publickey("app+other-host", PrivateKeyWithHashAlg::new(key, None)).await;
    assert!(!rejected(result));
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, "id").await.unwrap();
    let mut said = String::new();
    while let Some(message) = channel.wait().await {
        if let russh::ChannelMsg::ExtendedData { data, .. } = message {
            said.push_str(&String::from_utf8_lossy(&data));
        }
    }
    assert!(said.contains("no active grant"), "{said}");
    assert!(world.control.sessions.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_and_unknown_names_take_the_same_time() {
    let world = World::new().await;
    let mut times = Vec::new();
    for name in [LOGIN, "nobody+nowhere", "\u{0}\r\n../x+y"] {
        let mut handle = connect(&world).await;
        let started = Instant::now();
        let asked = handle.authenticate_keyboard_interactive_start(name, None).await.unwrap();
        assert!(
            matches!(asked, client::KeyboardInteractiveAuthResponse::InfoRequest { ref prompts, .. } if prompts.len() == 1),
            "{name:?}"
        );
        let answer = handle.authenticate_keyboard_interactive_respond(vec!["guess".into()]).await.unwrap();
        assert!(matches!(answer, client::KeyboardInteractiveAuthResponse::Failure { .. }));
        times.push(started.elapsed());
    }
    let (least, most) = (times.iter().min().expect("three"), times.iter().max().expect("three"));
    assert!(*least >= Duration::from_millis(250), "{times:?}");
    assert!(*most < *least + Duration::from_millis(150), "{times:?}");
}

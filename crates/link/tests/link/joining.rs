//! A node joins with a token that works once, rotates its key and goes on.

use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use halligan_core::time::{Span, Time};
use halligan_link::{
    Admission, AllowedNodes, BoxFuture, Handler, JoinAttempt, JoinRefused, JoinToken, LinkError,
    LinkListener, NodeKey, PeerInfo, PendingJoin, Request, Response, RootFile, Timing, Welcome, connect,
    join, rotate,
};
use halligan_session::roster::{Roster, SignedRoster};

use crate::node::{Node, control, gateway, info};

const NOW: Time = Time::from_micros(1_000_000_000);

/// Control as far as joining and rotating go.
struct Control {
    key: NodeKey,
    lease_key: SigningKey,
    allowed: Arc<AllowedNodes>,
    pending: Mutex<Vec<PendingJoin>>,
    /// What control claims to sign rosters with; another key makes it a liar.
    claimed: SigningKey,
    call_it: PeerInfo,
}

impl Admission for Control {
    fn admit<'a>(&'a self, attempt: JoinAttempt) -> BoxFuture<'a, Result<Welcome, String>> {
        Box::pin(async move {
            let mut pending = self.pending.lock().unwrap();
            let found = pending.iter_mut().find(|pending| pending.digest == attempt.digest);
            let found = found.ok_or_else(|| JoinRefused::Unknown.to_string())?;
            let info = found.take(attempt.key, NOW).map_err(|refused| refused.to_string())?;
            self.allowed.allow(attempt.key, info);
            let roster = Roster { version: 1, serial: 3, ..Roster::default() };
            Ok(Welcome {
                root: RootFile {
                    version: 1,
                    name: self.call_it.name.clone(),
                    role: self.call_it.role,
                    site: self.call_it.site.clone(),
                    control: control(),
                    control_addresses: vec![],
                    control_node_keys: vec![self.key.print()],
                    control_lease_key: hex::encode(self.claimed.verifying_key().to_bytes()),
                    control_ledger_key: "control+00000000+AAAA".to_owned(),
                },
                roster: SignedRoster::sign(&roster, &self.lease_key).unwrap(),
            })
        })
    }
}

impl Handler for Control {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let Request::RotateKey { public_key, proof } = request else { return Response::error("no") };
            match rotate::check(peer, &public_key, &proof) {
                Ok(print) => {
                    self.allowed.allow(print, peer.clone());
                    Response::Ok
                }
                Err(say) => Response::Error { say },
            }
        })
    }
}

async fn start(change: impl FnOnce(&mut Control)) -> (Arc<Control>, LinkListener) {
    let lease_key = SigningKey::from_bytes(&[5; 32]);
    let mut control = Control {
        key: NodeKey::make().unwrap(),
        claimed: lease_key.clone(),
        lease_key,
        allowed: Arc::new(AllowedNodes::new()),
        pending: Mutex::default(),
        call_it: gateway(),
    };
    change(&mut control);
    let control = Arc::new(control);
    let listener = LinkListener::bind_with_joins(
        "127.0.0.1:0",
        &control.key,
        control.allowed.clone(),
        control.clone(),
        Timing::default(),
    )
    .await
    .unwrap();
    (control, listener)
}

fn token(control: &Control, listener: &LinkListener, expires: Time) -> JoinToken {
    let addresses = vec![listener.address().to_string()];
    let token = JoinToken::make(gateway(), addresses, control.key.print(), expires).unwrap();
    control.pending.lock().unwrap().push(token.pending());
    token
}

fn why(outcome: Result<Welcome, LinkError>) -> String {
    outcome.map(|welcome| format!("{welcome:?}")).unwrap_err().to_string()
}

#[tokio::test]
async fn a_token_lets_one_node_in_once() {
    let (control, mut listener) = start(|_| {}).await;
    let token = token(&control, &listener, NOW.plus(Span::minutes(15)));
    let text = token.text();
    let carried: JoinToken = text.parse().unwrap();
    let shown = format!("{carried:?}{:?}", control.pending.lock().unwrap());
    assert!(!shown.contains(text.split('.').nth(1).unwrap()) && shown.contains("gw-1"), "{shown}");

    let folder = tempfile::tempdir().unwrap();
    let key = NodeKey::load_or_make(folder.path()).unwrap();
    assert!(RootFile::load(folder.path()).unwrap().is_none());
    let welcome = join(&carried, &key, folder.path()).await.unwrap();
    assert_eq!(RootFile::load(folder.path()).unwrap().unwrap(), welcome.root);
    assert_eq!(control.pending.lock().unwrap()[0].used_by, Some(key.print()));

    let thief = tempfile::tempdir().unwrap();
    let thief_key = NodeKey::make().unwrap();
    assert!(why(join(&carried, &thief_key, thief.path()).await).contains("was used before"));
    assert!(RootFile::load(thief.path()).unwrap().is_none());
    assert!(why(join(&carried, &key, thief.path()).await).contains("was used before"));

    let mut destination = welcome.root.control();
    destination.addresses = vec![listener.address().to_string()];
    let (out, into) = tokio::join!(
        connect(&destination, &key, Node::new(), Timing::default()),
        listener.accept(control.clone()),
    );
    assert_eq!(*into.unwrap().info(), gateway());

    let next = NodeKey::make_next(folder.path()).unwrap();
    let link = out.unwrap();
    let forged = rotate::request(&info("gw-2", gateway().role), &next).unwrap();
    assert!(link.ask(forged).await.unwrap_err().to_string().contains("has not proved"));
    link.ask(rotate::request(&gateway(), &next).unwrap()).await.unwrap();
    let key = NodeKey::take_next(folder.path()).unwrap();
    assert_eq!(key.print(), next.print());
    let (out, into) = tokio::join!(
        connect(&destination, &key, Node::new(), Timing::default()),
        listener.accept(control.clone()),
    );
    assert!(out.is_ok());
    assert_eq!(*into.unwrap().info(), gateway());
}

#[tokio::test]
async fn expired_and_unknown_tokens_are_refused_and_no_token_is_used_up_by_it() {
    let (control, listener) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let key = NodeKey::make().unwrap();
    let late = token(&control, &listener, NOW);
    assert!(why(join(&late, &key, folder.path()).await).contains("has expired"));
    let good = token(&control, &listener, NOW.plus(Span::seconds(1)));
    control.pending.lock().unwrap().remove(0);
    assert!(why(join(&late, &key, folder.path()).await).contains("does not know this token"));
    assert!(RootFile::load(folder.path()).unwrap().is_none());
    join(&good, &key, folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_node_shows_its_token_to_the_pinned_control_only() {
    let (control, listener) = start(|_| {}).await;
    let (impostor, other) = start(|_| {}).await;
    let mut token = token(&control, &listener, NOW.plus(Span::minutes(15)));
    impostor.pending.lock().unwrap().push(token.pending());
    token.control_addresses = vec![other.address().to_string()];
    let folder = tempfile::tempdir().unwrap();
    let outcome = join(&token, &NodeKey::make().unwrap(), folder.path()).await;
    assert!(matches!(outcome, Err(LinkError::WrongKey { .. })), "{outcome:?}");
    assert_eq!(impostor.pending.lock().unwrap()[0].used_by, None, "the secret never left");
}

#[tokio::test]
async fn a_welcome_that_does_not_fit_the_token_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let expires = NOW.plus(Span::minutes(15));
    let (control, listener) = start(|control| control.call_it = info("gw-9", gateway().role)).await;
    let outcome = join(&token(&control, &listener, expires), &NodeKey::make().unwrap(), folder.path()).await;
    assert!(why(outcome).contains("calls this node gateway gw-9"));
    let (control, listener) = start(|control| control.claimed = SigningKey::from_bytes(&[6; 32])).await;
    let outcome = join(&token(&control, &listener, expires), &NodeKey::make().unwrap(), folder.path()).await;
    assert!(why(outcome).contains("not signed"));
    assert!(RootFile::load(folder.path()).unwrap().is_none());
}

#[tokio::test]
async fn a_listener_that_admits_nobody_answers_no_join() {
    let key = NodeKey::make().unwrap();
    let allowed = Arc::new(AllowedNodes::new());
    let listener = LinkListener::bind("127.0.0.1:0", &key, allowed, Timing::default()).await.unwrap();
    let token = JoinToken::make(
        gateway(),
        vec![listener.address().to_string()],
        key.print(),
        NOW.plus(Span::hours(1)),
    );
    let folder = tempfile::tempdir().unwrap();
    assert!(join(&token.unwrap(), &NodeKey::make().unwrap(), folder.path()).await.is_err());
}

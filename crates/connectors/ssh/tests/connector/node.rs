//! The connector as a node of its own: it dials control, learns the roster, dials its site's gateways and serves them.

use std::sync::Arc;
use std::time::Duration;

use halligan_connector::serve;
use halligan_core::ids::SessionId;
use halligan_link::messages::{PeerInfo, Request, Response, Role};
use halligan_link::{AllowedNodes, LinkListener, NodeKey, RootFile, Timing};
use halligan_session::roster::{Roster, RosterNode, SignedRoster};
use tokio_util::sync::CancellationToken;

use crate::rules::{Told, info};
use crate::world::{World, alone, control_key, name};

const SOON: Duration = Duration::from_secs(10);

struct Listening {
    listener: LinkListener,
    key: NodeKey,
}

async fn listen(connector: &NodeKey) -> Listening {
    let key = NodeKey::make().unwrap();
    let allowed = AllowedNodes::new();
    allowed.allow(connector.print(), info("conn-1", Role::Connector, "main"));
    let listener =
        LinkListener::bind("127.0.0.1:0", &key, Arc::new(allowed), Timing::default()).await.unwrap();
    Listening { listener, key }
}

fn gateway(at: &Listening, serial: u64, site: &str) -> SignedRoster {
    let node = RosterNode {
        name: name("gw-1"),
        role: Role::Gateway,
        site: name(site),
        key_sha256: at.key.print().to_string(),
        address: Some(at.listener.address().to_string()),
    };
    let roster = Roster { version: 1, serial, nodes: vec![node], ..Roster::default() };
    SignedRoster::sign(&roster, &control_key()).unwrap()
}

#[tokio::test]
async fn it_dials_control_and_then_the_gateways_that_the_roster_names() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let own = NodeKey::load_or_make(folder.path()).unwrap();
    let (mut control, mut gateway_at) = (listen(&own).await, listen(&own).await);
    let root = RootFile {
        version: 1,
        name: name("conn-1"),
        role: Role::Connector,
        site: name("main"),
        control: PeerInfo { name: name("control"), role: Role::Control, site: name("main") },
        control_addresses: vec![control.listener.address().to_string()],
        control_node_keys: vec![control.key.print()],
        control_lease_key: hex::encode(control_key().verifying_key().as_bytes()),
        control_ledger_key: String::new(),
    };
    let stop = CancellationToken::new();
    let serving = {
        let (connector, folder, stop) = (world.connector.clone(), folder.path().to_owned(), stop.clone());
        tokio::spawn(async move { serve(alone(&connector), &root, &folder, stop).await.unwrap() })
    };
    let told = Arc::new(Told::default());
    let from_connector =
        tokio::time::timeout(SOON, control.listener.accept(told.clone())).await.unwrap().unwrap();
    from_connector.ask(Request::PutRoster { roster: gateway(&gateway_at, 7, "main") }).await.unwrap();
    let older = Request::PutRoster { roster: gateway(&gateway_at, 6, "main") };
    assert!(
        matches!(from_connector.call(older).await.unwrap(), Response::Error { say } if say.contains("overtaken by 7"))
    );

    let at_gateway =
        tokio::time::timeout(SOON, gateway_at.listener.accept(told.clone())).await.unwrap().unwrap();
    let issue = Request::IssueCertificate { lease: world.signed(1), session: SessionId::from_bits(1) };
    assert!(matches!(at_gateway.ask(issue).await.unwrap(), Response::Certificate { .. }));
    let until = tokio::time::Instant::now() + SOON;
    while (told.leaves.lock().unwrap().len() as u64) < world.connector.journal().size() {
        assert!(tokio::time::Instant::now() < until, "the leaves did not reach control");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A gateway that no longer stands in the roster of the site is let go.
    from_connector.ask(Request::PutRoster { roster: gateway(&gateway_at, 8, "paris") }).await.unwrap();
    tokio::time::timeout(SOON, at_gateway.closed()).await.unwrap();
    stop.cancel();
    tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    tokio::time::timeout(SOON, from_connector.closed()).await.unwrap();
}

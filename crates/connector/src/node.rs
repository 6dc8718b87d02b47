//! The connector as a node: it dials control and the gateways of its site, and keeps dialling. It listens nowhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use halligan_core::ids::Name;
use halligan_link::messages::{PeerInfo, Request, Role};
use halligan_link::{
    Destination, Handler, KeptLink, KeyPrint, LinkError, NodeKey, RootFile, Timing, keep_connected,
};
use halligan_session::roster::Roster;
use tokio_util::sync::CancellationToken;

use crate::error::ConnectorError;
use crate::handler::ConnectorHandler;
use crate::kinds::SiteConnectors;

/// Why a connector could not start as a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its key could not be read.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its state could not be read.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
}

/// Runs the connector until `stop`: keeps the links up, answers on them and reports to control. `folder` holds the node's
/// key; `root` says who control is.
pub async fn serve(
    connectors: SiteConnectors,
    root: &RootFile,
    folder: &Path,
    stop: CancellationToken,
) -> Result<(), NodeError> {
    let key = NodeKey::load_or_make(folder)?;
    let handler = Arc::new(ConnectorHandler::new(connectors.clone())?);
    let control = Arc::new(keep_connected(
        root.control(),
        key.clone(),
        Arc::clone(&handler) as Arc<dyn Handler>,
        Timing::default(),
    ));
    let reporting = Arc::clone(&handler).report(Arc::clone(&control));
    let dialling = dial_gateways(Arc::clone(&handler), key);
    tokio::select! {
        () = stop.cancelled() => {}
        () = reporting => {}
        () = dialling => {}
        () = connectors.keep_watch() => {}
    }
    Ok(())
}

/// Keeps a link to each gateway of the site that the roster names, as the roster changes. Never returns.
async fn dial_gateways(handler: Arc<ConnectorHandler>, key: NodeKey) {
    let site = handler.connectors().site().config().site.clone();
    let mut rosters = handler.roster();
    let mut links: BTreeMap<Name, (Destination, Dialled)> = BTreeMap::new();
    loop {
        let wanted =
            rosters.borrow_and_update().as_ref().map(|roster| gateways(roster, &site)).unwrap_or_default();
        links.retain(|name, (held, _)| wanted.get(name).is_some_and(|there| held == there));
        for (name, there) in wanted {
            links.entry(name).or_insert_with(|| {
                let dialled = Dialled::start(there.clone(), key.clone(), Arc::clone(&handler));
                (there, dialled)
            });
        }
        if rosters.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The gateways of a site that listen; two keys of one node (it rotates) are one destination.
fn gateways(roster: &Roster, site: &Name) -> BTreeMap<Name, Destination> {
    let mut found: BTreeMap<Name, Destination> = BTreeMap::new();
    for node in roster.nodes.iter().filter(|node| node.role == Role::Gateway && node.site == *site) {
        let (Some(address), Ok(print)) = (&node.address, node.key_sha256.parse::<KeyPrint>()) else {
            continue;
        };
        let there = found.entry(node.name.clone()).or_insert_with(|| Destination {
            info: PeerInfo::from(node),
            addresses: Vec::new(),
            keys: Vec::new(),
        });
        if !there.addresses.contains(address) {
            there.addresses.push(address.clone());
        }
        there.keys.push(print);
    }
    found
}

/// A link to one gateway, with the greeting that each new link begins with. Ends when dropped.
struct Dialled {
    greeting: tokio::task::JoinHandle<()>,
}

impl Dialled {
    fn start(there: Destination, key: NodeKey, handler: Arc<ConnectorHandler>) -> Self {
        let link = keep_connected(there, key, Arc::clone(&handler) as Arc<dyn Handler>, Timing::default());
        Self { greeting: tokio::spawn(greet(link, handler)) }
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.greeting.abort();
    }
}

async fn greet(link: KeptLink, handler: Arc<ConnectorHandler>) {
    let mut state = link.watch();
    loop {
        if let Some(peer) = link.peer() {
            if let Err(error) = peer.ask(Request::Hello(handler.hello())).await {
                tracing::info!(peer = %peer.info(), %error, "the greeting was not answered");
            }
            peer.closed().await;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

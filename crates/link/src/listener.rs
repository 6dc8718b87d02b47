//! Listening for links. Handshakes run beside one another, bounded in number and time; what comes out of
//! [`LinkListener::accept`] has proved an allowed key. Unknown keys may do one thing, and only where it is offered: join.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::allowed::Allowed;
use crate::error::LinkError;
use crate::join::{self, Admission};
use crate::messages::PeerInfo;
use crate::node_key::{KeyPrint, NodeKey};
use crate::peer::{Handler, Peer, Timing, with_causes};
use crate::tls::{self, ACCEPTED, HANDSHAKE_TIME, JOIN_PROTOCOL, LINK_PROTOCOL};

/// Handshakes at one time; further connections wait in the kernel.
const MOST_HANDSHAKES: usize = 128;

/// Listens for links of allowed nodes. Dropping it stops listening; links that were accepted live on.
pub struct LinkListener {
    address: SocketAddr,
    ready: mpsc::Receiver<Ready>,
    allowed: Arc<dyn Allowed>,
    timing: Timing,
    _stop: DropGuard,
}

impl std::fmt::Debug for LinkListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkListener({})", self.address)
    }
}

/// A connection whose key was proved and allowed.
struct Ready {
    stream: TlsStream<TcpStream>,
    key: KeyPrint,
    from: SocketAddr,
}

struct Door {
    links: Arc<ServerConfig>,
    joins: Option<(Arc<ServerConfig>, Arc<dyn Admission>)>,
    ready: mpsc::Sender<Ready>,
}

impl LinkListener {
    /// Listens at `address` (port 0: any free one) for nodes that `allowed` knows.
    pub async fn bind(
        address: &str,
        key: &NodeKey,
        allowed: Arc<dyn Allowed>,
        timing: Timing,
    ) -> Result<Self, LinkError> {
        Self::open(address, key, allowed, None, timing).await
    }

    /// As [`LinkListener::bind`], and lets new nodes join through `admission`. Control only.
    pub async fn bind_with_joins(
        address: &str,
        key: &NodeKey,
        allowed: Arc<dyn Allowed>,
        admission: Arc<dyn Admission>,
        timing: Timing,
    ) -> Result<Self, LinkError> {
        Self::open(address, key, allowed, Some(admission), timing).await
    }

    async fn open(
        address: &str,
        key: &NodeKey,
        allowed: Arc<dyn Allowed>,
        admission: Option<Arc<dyn Admission>>,
        timing: Timing,
    ) -> Result<Self, LinkError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(LinkError::io(format!("listen for links at {address}")))?;
        let bound = listener.local_addr().map_err(LinkError::io("learn the address of the listener"))?;
        let links = Arc::new(tls::server_config(key, Some(Arc::clone(&allowed)))?);
        let joins = match admission {
            Some(admission) => Some((Arc::new(tls::server_config(key, None)?), admission)),
            None => None,
        };
        let (ready_to, ready) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let door = Arc::new(Door { links, joins, ready: ready_to });
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_open(listener, door)));
        Ok(Self { address: bound, ready, allowed, timing, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next node that came in. Its link ends as soon as its key is no longer allowed, or allowed as somebody else.
    /// Can be dropped while it waits without losing a connection.
    pub async fn accept(&mut self, handler: Arc<dyn Handler>) -> Result<Peer, LinkError> {
        loop {
            let Some(Ready { stream, key, from }) = self.ready.recv().await else {
                return Err(LinkError::Closed {
                    peer: self.address.to_string(),
                    why: "the listener stopped".to_owned(),
                });
            };
            // It may have been expelled since the handshake.
            let Some(info) = self.allowed.find(&key) else { continue };
            tracing::info!(peer = %info, %from, "a node is linked");
            let peer = Peer::start(stream, info.clone(), handler, self.timing);
            tokio::spawn(watch_over(peer.clone(), Arc::clone(&self.allowed), key, info));
            return Ok(peer);
        }
    }
}

/// Ends a link when its key is no longer allowed as the node it was.
async fn watch_over(peer: Peer, allowed: Arc<dyn Allowed>, key: KeyPrint, info: PeerInfo) {
    let mut changes = allowed.changes();
    loop {
        match allowed.find(&key) {
            Some(now) if now == info => {}
            Some(_) => return peer.close("the entry of this node in the roster has changed"),
            None => return peer.close("this node was expelled, or this key of it"),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return peer.close("nobody knows any more which nodes are allowed");
            },
            _ = peer.closed() => return,
        }
    }
}

async fn keep_open(listener: TcpListener, door: Arc<Door>) {
    let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection for a link could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let outcome = timeout(2 * HANDSHAKE_TIME, let_in(tcp, from, &door)).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%from, error = with_causes(&error), "a link was refused"),
                Err(_) => tracing::warn!(%from, "a link was refused: its handshake took too long"),
            }
            drop(place);
        });
    }
}

async fn let_in(tcp: TcpStream, from: SocketAddr, door: &Door) -> Result<(), LinkError> {
    tcp.set_nodelay(true).map_err(LinkError::io("set up the connection"))?;
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let late = || LinkError::Silent { seconds: HANDSHAKE_TIME.as_secs() };
    let start = timeout(HANDSHAKE_TIME, start)
        .await
        .map_err(|_| late())?
        .map_err(LinkError::io("agree on TLS with a node"))?;
    let wants_to_join =
        start.client_hello().alpn().is_some_and(|mut offered| offered.any(|name| name == JOIN_PROTOCOL));
    let (config, admission) = match &door.joins {
        Some((config, admission)) if wants_to_join => (Arc::clone(config), Some(admission)),
        _ => (Arc::clone(&door.links), None),
    };
    let mut stream = timeout(HANDSHAKE_TIME, start.into_stream(config))
        .await
        .map_err(|_| late())?
        .map_err(LinkError::io("agree on TLS with a node"))?;
    let (_, tls) = stream.get_ref();
    let expected = if admission.is_some() { JOIN_PROTOCOL } else { LINK_PROTOCOL };
    if tls.alpn_protocol() != Some(expected) {
        return Err(LinkError::Malformed { detail: "it names no protocol of a Halligan link".to_owned() });
    }
    let certificate = tls
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or_else(|| LinkError::Malformed { detail: "it shows no key".to_owned() })?;
    let key = tls::print_of(certificate).map_err(|source| LinkError::Tls {
        what: "the key of a node".to_owned(),
        source: Box::new(source),
    })?;
    if let Some(admission) = admission {
        return join::receive(stream, key, from, &**admission).await;
    }
    stream.write_all(ACCEPTED).await.map_err(LinkError::io("greet a node"))?;
    stream.flush().await.map_err(LinkError::io("greet a node"))?;
    // A listener that nobody asks for its links holds a few and refuses the rest by time-out.
    let _ = door.ready.send(Ready { stream, key, from }).await;
    Ok(())
}

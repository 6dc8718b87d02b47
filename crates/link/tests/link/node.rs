//! Nodes for the tests: a handler whose requests say how to behave, and links between two of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use halligan_core::ids::{Name, SessionId};
use halligan_core::time::Time;
use halligan_link::{
    AllowedNodes, BoxFuture, Destination, Handler, LinkListener, NodeKey, Peer, PeerInfo, Request, Response,
    Role, Timing, connect, in_process,
};

pub fn info(name: &str, role: Role) -> PeerInfo {
    PeerInfo { name: Name::new(name).unwrap(), role, site: Name::main() }
}

pub fn control() -> PeerInfo {
    info("control", Role::Control)
}

pub fn gateway() -> PeerInfo {
    info("gw-1", Role::Gateway)
}

pub const QUICK: Timing =
    Timing { alive_every: Duration::from_millis(100), dead_after: Duration::from_millis(500) };

/// Does what the request's words say and counts.
#[derive(Default)]
pub struct Node {
    pub running: AtomicUsize,
    pub peak: AtomicUsize,
    pub done: AtomicUsize,
    /// For calling back.
    pub other: OnceLock<Peer>,
}

impl Node {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    async fn behave(&self, peer: &PeerInfo, request: Request) -> Response {
        match request {
            Request::KillSession { reason, .. } => {
                match reason.strip_prefix("sleep ") {
                    Some(millis) => tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await,
                    None => panic!("{reason}"),
                }
                Response::Ok
            }
            Request::Witness { checkpoint, old_size, .. } => {
                Response::Cosigned { note: checkpoint.repeat(usize::try_from(old_size).unwrap()) }
            }
            Request::RecordingChunk { offset, data, .. } => {
                Response::RecordingAt { offset: offset + data.0.len() as u64 }
            }
            Request::NodeTime => Response::NodeTime { time: Time::from_micros(7) },
            Request::Status => match self.other.get().unwrap().call(Request::NodeTime).await {
                Ok(Response::NodeTime { time }) => Response::error(format!("called back, {}", time.micros())),
                other => panic!("{other:?}"),
            },
            _ => Response::error(format!("I see {peer} of {}", peer.site)),
        }
    }
}

impl Handler for Node {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(now, Ordering::SeqCst);
            let answer = self.behave(peer, request).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            self.done.fetch_add(1, Ordering::SeqCst);
            answer
        })
    }
}

pub fn sleep_request(millis: u64) -> Request {
    Request::KillSession { session: SessionId::from_bits(1), reason: format!("sleep {millis}") }
}

/// Control and a gateway with a link between them; `at_control` leads to the gateway and the other way round.
pub struct Linked {
    pub control: Arc<Node>,
    pub gateway: Arc<Node>,
    pub at_control: Peer,
    pub at_gateway: Peer,
    _listener: Option<Listening>,
}

pub struct Listening {
    pub listener: LinkListener,
    pub key: NodeKey,
    pub allowed: Arc<AllowedNodes>,
}

impl Listening {
    pub async fn start(timing: Timing) -> Self {
        let key = NodeKey::make().unwrap();
        let allowed = Arc::new(AllowedNodes::new());
        let listener = LinkListener::bind("127.0.0.1:0", &key, allowed.clone(), timing).await.unwrap();
        Self { listener, key, allowed }
    }

    pub fn destination(&self) -> Destination {
        self.destination_at(self.listener.address())
    }

    pub fn destination_at(&self, address: SocketAddr) -> Destination {
        Destination { info: control(), addresses: vec![address.to_string()], keys: vec![self.key.print()] }
    }
}

pub async fn linked(over_tls: bool) -> Linked {
    let (at_node_a, at_node_b) = (Node::new(), Node::new());
    let (at_control, at_gateway, listening) = if over_tls {
        let mut listening = Listening::start(Timing::default()).await;
        let key = NodeKey::make().unwrap();
        listening.allowed.allow(key.print(), gateway());
        let destination = listening.destination();
        let (at_control, at_gateway) = tokio::join!(
            listening.listener.accept(at_node_a.clone()),
            connect(&destination, &key, at_node_b.clone(), Timing::default()),
        );
        (at_control.unwrap(), at_gateway.unwrap(), Some(listening))
    } else {
        let (a, b) = in_process(at_node_a.clone(), control(), at_node_b.clone(), gateway());
        (a, b, None)
    };
    at_node_a.other.set(at_control.clone()).unwrap();
    at_node_b.other.set(at_gateway.clone()).unwrap();
    Linked { control: at_node_a, gateway: at_node_b, at_control, at_gateway, _listener: listening }
}

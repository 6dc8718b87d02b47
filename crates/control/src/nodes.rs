//! Control's end of every link: which nodes are connected, what they report, and how they join.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use halligan_core::command::{Actor, Command};
use halligan_core::grant::GrantState;
use halligan_core::ids::{Name, RecordingId, SessionId};
use halligan_core::node_event::NodeLeaf;
use halligan_core::time::{Span, Time};
use halligan_ledger::LedgerKey;
use halligan_link::messages::{ClientListener, Hello, PROTOCOL, PeerInfo, Request, Response, Role};
use halligan_link::{
    Admission, AllowedNodes, Handler, JoinAttempt, JoinToken, LinkListener, Peer, PendingJoin, RootFile,
    Welcome,
};
use halligan_session::control_plane::BoxFuture;
use halligan_store::{DocumentKey, DocumentWrite};
use serde::{Deserialize, Serialize};

use crate::cancels::Cancels;
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::effects;
use crate::error::ControlError;
use crate::node_leaves::{command_of, tells_again};
use crate::run::Wish;
use crate::timers::chain;

/// A node that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// Its site.
    pub site: Name,
    /// Print of its link key.
    pub key_sha256: String,
    /// Where it listens for links.
    pub address: Option<String>,
    /// Verifier key of its ledger, pinned at its first hello.
    pub ledger_key: Option<String>,
    /// When it joined.
    pub joined_at: Time,
    /// May not speak any more.
    pub expelled: bool,
    /// Where people's clients come in, by protocol, as a gateway says it.
    #[serde(default)]
    pub listeners: BTreeMap<String, ClientListener>,
}

impl NodeRecord {
    /// Where it lies.
    pub fn key(name: &Name) -> DocumentKey {
        DocumentKey::new("node", name.as_str())
    }
}

/// Connected nodes.
#[derive(Default)]
pub struct Nodes {
    peers: RwLock<HashMap<Name, Peer>>,
    /// Who may connect.
    pub allowed: Arc<AllowedNodes>,
    /// One report of a node at a time.
    reports: tokio::sync::Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
    /// Recordings that are coming in: session and digest as announced.
    announced: RwLock<HashMap<RecordingId, (SessionId, String)>>,
    /// When each was heard last, in this run.
    heard: RwLock<HashMap<Name, Time>>,
    /// Cancel requests that each gateway had passed on of late.
    pub(crate) cancels: Cancels,
}

impl Nodes {
    /// A node has said something.
    pub(crate) fn heard(&self, name: &Name, at: Time) {
        self.heard.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), at);
    }
    /// When it was heard last, in this run.
    pub(crate) fn last_heard(&self, name: &Name) -> Option<Time> {
        self.heard.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// All connected nodes.
    pub fn all(&self) -> Vec<Peer> {
        self.peers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter(|peer| !peer.is_closed())
            .cloned()
            .collect()
    }
}

impl Control {
    /// A connected node by name.
    pub fn peer(&self, name: &Name) -> Option<Peer> {
        let peers = self.0.nodes.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(name).filter(|peer| !peer.is_closed()).cloned()
    }

    /// Connected nodes of a role and site.
    pub fn peers(&self, role: Role, site: &Name) -> Vec<Peer> {
        let of = |peer: &Peer| peer.info().role == role && peer.info().site == *site;
        self.0.nodes.all().into_iter().filter(of).collect()
    }

    /// Takes over the nodes that may connect.
    pub(crate) async fn load_nodes(&self) -> Result<(), ControlError> {
        for node in self.node_records().await?.into_iter().filter(|node| !node.expelled) {
            if let Ok(key) = node.key_sha256.parse() {
                self.0
                    .nodes
                    .allowed
                    .allow(key, PeerInfo { name: node.name, role: node.role, site: node.site });
            }
        }
        Ok(())
    }

    /// What answers nodes.
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(FromNodes(self.clone()))
    }

    /// Registers a node that runs in this process, as if it had joined.
    pub async fn admit_local(
        &self,
        info: &PeerInfo,
        key_sha256: &str,
        address: Option<String>,
    ) -> Result<RootFile, ControlError> {
        let known = self.store().get(&NodeRecord::key(&info.name)).await?;
        let known: Option<NodeRecord> = known.map(|found| parse(&found.key, &found.body)).transpose()?;
        let fits = known.as_ref().is_some_and(|found| {
            found.key_sha256 == key_sha256 && found.address == address && !found.expelled
        });
        if !fits {
            let record = NodeRecord {
                name: info.name.clone(),
                role: info.role,
                site: info.site.clone(),
                key_sha256: key_sha256.to_owned(),
                address,
                ledger_key: known.as_ref().and_then(|found| found.ledger_key.clone()),
                joined_at: self.now(),
                expelled: false,
                listeners: known.map(|found| found.listeners).unwrap_or_default(),
            };
            self.put_node(&record, "joined", "runs in control's process").await?;
        }
        Ok(self.root_file(info))
    }

    /// What a node has to trust.
    pub fn root_file(&self, info: &PeerInfo) -> RootFile {
        RootFile {
            version: 1,
            name: info.name.clone(),
            role: info.role,
            site: info.site.clone(),
            control: self.info(),
            control_addresses: self.options().link_addresses.clone(),
            control_node_keys: vec![self.keys().node.print()],
            control_lease_key: hex::encode(self.keys().lease.verifying_key().as_bytes()),
            control_ledger_key: self.keys().ledger.key().to_string(),
        }
    }

    /// A node is connected: remembers it, gives it the roster and what it missed.
    pub fn connected(&self, peer: Peer) {
        let name = peer.info().name.clone();
        tracing::info!(node = %name, "a node is connected");
        let before = self
            .0
            .nodes
            .peers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), peer.clone());
        if let Some(before) = before {
            before.close("the node has connected anew");
        }
        let control = self.clone();
        self.0.tasks.spawn(async move {
            let greet = async {
                let roster = control.roster().await?;
                if let Err(error) = peer.call(Request::PutRoster { roster }).await {
                    tracing::warn!(node = %name, error = %chain(&error), "failed to give the roster");
                }
                if peer.info().role == Role::Gateway {
                    control.catch_up(&peer).await?;
                    control.give_connect_passwords(&peer).await?;
                }
                Ok::<_, ControlError>(())
            };
            if let Err(error) = greet.await {
                tracing::warn!(node = %name, error = %chain(&error), "failed to bring a node up to date");
            }
            tokio::select! {
                why = peer.closed() => tracing::warn!(node = %name, why, "a node is gone"),
                () = control.0.stop.cancelled() => peer.close("control is stopping"),
            }
            let mut peers = control.0.nodes.peers.write().unwrap_or_else(PoisonError::into_inner);
            if peers.get(&name).is_some_and(Peer::is_closed) {
                peers.remove(&name);
            }
        });
    }

    /// Listens for nodes until control stops. Gives the address.
    pub async fn listen(&self, address: &str) -> Result<std::net::SocketAddr, ControlError> {
        let what = || ControlError::local(format!("listen for nodes at {address}"));
        let allowed = self.0.nodes.allowed.clone();
        let admission: Arc<dyn Admission> = Arc::new(Joins(self.clone()));
        let mut listener =
            LinkListener::bind_with_joins(address, &self.keys().node, allowed, admission, Default::default())
                .await
                .map_err(what())?;
        let bound = listener.address();
        let control = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = control.0.stop.cancelled() => return,
                    accepted = listener.accept(control.handler()) => match accepted {
                        Ok(peer) => control.connected(peer),
                        Err(error) => {
                            tracing::warn!(error = %chain(&error), "failed to accept a node");
                            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                        }
                    },
                }
            }
        });
        Ok(bound)
    }

    /// Makes a token by which one node may join, once. A gateway's `address` is where connectors reach it, `host:port`.
    pub async fn join_token(
        &self,
        info: PeerInfo,
        address: Option<String>,
        lifetime: Span,
    ) -> Result<JoinToken, ControlError> {
        let token = JoinToken::make(
            info,
            self.options().link_addresses.clone(),
            self.keys().node.print(),
            self.now().plus(lifetime),
        )
        .map_err(ControlError::local("make a join token"))?;
        let pending = PendingJoin { address, ..token.pending() };
        let write =
            DocumentWrite::put(DocumentKey::new("join", pending.digest.as_str()), 0, bytes(&pending)?);
        let body = halligan_core::leaf::LeafBody::Node {
            what: "join_token_made".to_owned(),
            node: pending.info.name.to_string(),
            detail: format!("{}, until {}", pending.info, pending.expires),
        };
        self.note(&Actor::Clock, body, vec![write]).await?;
        Ok(token)
    }

    /// Takes a node's right to speak away; its links die at once.
    pub async fn expel(&self, name: &Name) -> Result<(), ControlError> {
        let found = self.store().get(&NodeRecord::key(name)).await?;
        let Some(found) = found else {
            return Err(halligan_core::refusal::Refusal::not_found(format_args!("node {name}")).into());
        };
        let mut record: NodeRecord = parse(&found.key, &found.body)?;
        record.expelled = true;
        self.put_node(&record, "expelled", "").await?;
        self.0.nodes.allowed.expel(name);
        if let Some(peer) = self.peer(name) {
            peer.close("the node was expelled");
        }
        self.push_roster().await
    }
}

struct Joins(Control);

impl Admission for Joins {
    fn admit<'a>(&'a self, attempt: JoinAttempt) -> BoxFuture<'a, Result<Welcome, String>> {
        Box::pin(async move {
            let control = &self.0;
            let failed = |error: ControlError| {
                tracing::warn!(from = %attempt.from, error = %chain(&error), "a node could not join");
                "control could not take the token in; try again".to_owned()
            };
            let key = DocumentKey::new("join", attempt.digest.as_str());
            let found = control.store().get(&key).await.map_err(|error| failed(error.into()))?;
            let Some(found) = found else {
                tracing::warn!(from = %attempt.from, "somebody tried to join with a token that is not known");
                return Err(halligan_link::JoinRefused::Unknown.to_string());
            };
            let mut pending: PendingJoin = parse(&key, &found.body).map_err(failed)?;
            let info = pending.take(attempt.key, control.now()).map_err(|refused| refused.to_string())?;
            let record = NodeRecord {
                name: info.name.clone(),
                role: info.role,
                site: info.site.clone(),
                key_sha256: attempt.key.to_string(),
                address: pending.address.clone(),
                ledger_key: None,
                joined_at: control.now(),
                expelled: false,
                listeners: BTreeMap::new(),
            };
            // Token and node in one commit: a token that was taken by two at once is taken by one.
            let node_key = NodeRecord::key(&info.name);
            let revision = control
                .store()
                .get(&node_key)
                .await
                .map_err(|error| failed(error.into()))?
                .map_or(0, |found| found.revision);
            let writes = vec![
                DocumentWrite::put(key, found.revision, bytes(&pending).map_err(failed)?),
                DocumentWrite::put(node_key, revision, bytes(&record).map_err(failed)?),
            ];
            let body = halligan_core::leaf::LeafBody::Node {
                what: "joined".to_owned(),
                node: info.name.to_string(),
                detail: format!("from {}, version {}, key {}", attempt.from, attempt.version, attempt.key),
            };
            control.note(&Actor::Clock, body, writes).await.map_err(failed)?;
            control.0.nodes.allowed.allow(attempt.key, info.clone());
            let roster = control.roster().await.map_err(failed)?;
            // The others learn of it, or they would not let it in; this one need not wait for that.
            let others = control.clone();
            control.0.tasks.spawn(async move {
                if let Err(error) = others.push_roster().await {
                    tracing::warn!(error = %chain(&error), "failed to tell the nodes of a new one");
                }
            });
            Ok(Welcome { root: control.root_file(&info), roster })
        })
    }
}

struct FromNodes(Control);

impl Handler for FromNodes {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            self.0.0.nodes.heard(&peer.name, self.0.now());
            match self.answer(peer, request).await {
                Ok(response) => response,
                Err(error) => Response::error(chain(&error)),
            }
        })
    }
}

impl FromNodes {
    async fn answer(&self, peer: &PeerInfo, request: Request) -> Result<Response, ControlError> {
        let control = &self.0;
        Ok(match request {
            Request::Hello(hello) => self.welcome(peer, &hello).await?,
            Request::Ping => Response::Ok,
            Request::NodeTime => Response::NodeTime { time: control.now() },
            Request::IsGrantActive { grant } => match effects::grant(control, grant).await? {
                Some(found) => {
                    let deadline = found.deadline.unwrap_or_default();
                    Response::GrantState {
                        active: found.state == GrantState::Active && control.now() < deadline,
                        deadline,
                    }
                }
                None => Response::GrantState { active: false, deadline: Time::default() },
            },
            Request::LedgerEntries { from, entries, checkpoint } => {
                let entries = entries.into_iter().map(|blob| blob.0).collect();
                Response::LedgerAck { size: self.report(peer, from, entries, checkpoint).await? }
            }
            Request::RecordingBegin { recording, session, bytes: _, sha256 } => {
                if peer.role != Role::Gateway {
                    return Ok(Response::error("only gateways send recordings"));
                }
                self.begin(recording, session, sha256).await?
            }
            Request::RecordingChunk { recording, offset, data } => {
                let known = control
                    .0
                    .nodes
                    .announced
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains_key(&recording);
                if peer.role != Role::Gateway || !known {
                    return Ok(Response::error("this recording was not announced"));
                }
                let taken = control.clone();
                let offset = blocking(move || taken.recordings().take(recording, offset, &data.0)).await?;
                Response::RecordingAt { offset }
            }
            Request::RecordingEnd { recording } => self.end(recording).await?,
            Request::ConnectPasswordUsed { entitlement: _, password, client } => {
                if peer.role != Role::Gateway {
                    return Ok(Response::error("only gateways take passwords"));
                }
                control.connect_password_used(&peer.name, &peer.site, &password, client).await?;
                Response::Ok
            }
            Request::PassCancel { process, key, client } => {
                if peer.role != Role::Gateway {
                    return Ok(Response::error("only gateways pass cancel requests on"));
                }
                control.pass_cancel(peer, process, key, client);
                Response::Ok
            }
            Request::RotateKey { public_key, proof } => {
                let key = halligan_link::rotate::check(peer, &public_key, &proof)
                    .map_err(|say| ControlError::said("take the new key", say))?;
                let found = control.store().get(&NodeRecord::key(&peer.name)).await?;
                let Some(found) = found else {
                    return Ok(Response::error("control does not know this node"));
                };
                let mut record: NodeRecord = parse(&found.key, &found.body)?;
                record.key_sha256 = key.to_string();
                control.put_node(&record, "rotated", &key.to_string()).await?;
                control.0.nodes.allowed.allow(key, peer.clone());
                control.push_roster().await?;
                Response::Ok
            }
            other => Response::error(format!("control does not answer {}", other.name())),
        })
    }

    async fn welcome(&self, peer: &PeerInfo, hello: &Hello) -> Result<Response, ControlError> {
        let control = &self.0;
        self.pin_ledger(peer, &hello.ledger_key).await?;
        if peer.role == Role::Gateway {
            control.keep_listeners(peer, &hello.listeners).await?;
        }
        let acknowledged = control.0.mirrors.size(&peer.name)?;
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Control,
            name: control.options().name.clone(),
            ledger_size: control.store().head().await?.size,
            time: control.now(),
            roster: 0,
            ledger_key: control.keys().ledger.key().to_string(),
            leases: Vec::new(),
            listeners: std::collections::BTreeMap::new(),
        };
        Ok(Response::Welcome { hello, acknowledged })
    }

    /// The first ledger key that a joined node names is its key from then on.
    async fn pin_ledger(&self, peer: &PeerInfo, key: &str) -> Result<(), ControlError> {
        let found = self.0.store().get(&NodeRecord::key(&peer.name)).await?;
        let Some(found) = found else {
            return Err(ControlError::said("greet the node", "control does not know it"));
        };
        let mut record: NodeRecord = parse(&found.key, &found.body)?;
        match &record.ledger_key {
            Some(pinned) if pinned == key => Ok(()),
            Some(_) => Err(ControlError::said(
                "greet the node",
                "its ledger has another key than before; see `halligan ledger recover`",
            )),
            None => {
                key.parse::<LedgerKey>().map_err(ControlError::local("read the node's ledger key"))?;
                record.ledger_key = Some(key.to_owned());
                self.0.put_node(&record, "ledger_key_pinned", key).await
            }
        }
    }

    /// Takes leaves in, then carries out what they mean, in order.
    async fn report(
        &self,
        peer: &PeerInfo,
        from: u64,
        leaves: Vec<Vec<u8>>,
        checkpoint: String,
    ) -> Result<u64, ControlError> {
        let control = &self.0;
        let lock = control.0.nodes.reports.lock().await.entry(peer.name.clone()).or_default().clone();
        let _one_at_a_time = lock.lock().await;
        let found = control.store().get(&NodeRecord::key(&peer.name)).await?;
        let Some(found) = found else {
            return Err(ControlError::said("take the report", "control does not know this node"));
        };
        let record: NodeRecord = parse(&found.key, &found.body)?;
        let key: LedgerKey = record
            .ledger_key
            .as_deref()
            .unwrap_or_default()
            .parse()
            .map_err(ControlError::local("read the node's ledger key"))?;
        let taken = control.clone();
        let name = peer.name.clone();
        let size = blocking(move || taken.0.mirrors.take(&name, &key, from, leaves, &checkpoint)).await?;
        self.digest(peer, size).await?;
        Ok(size)
    }

    /// Carries out what mirrored leaves mean, from where it stopped the last time.
    async fn digest(&self, peer: &PeerInfo, size: u64) -> Result<(), ControlError> {
        let control = &self.0;
        let cursor = format!("report/{}", peer.name);
        let done = control.store().meta_get(&cursor).await?.and_then(|bytes| String::from_utf8(bytes).ok());
        let mut at: u64 = done.and_then(|text| text.parse().ok()).unwrap_or(0);
        while at < size {
            let reader = control.clone();
            let name = peer.name.clone();
            let leaves = blocking(move || reader.0.mirrors.read(&name, at, 256)).await?;
            if leaves.is_empty() {
                break;
            }
            for bytes in leaves {
                if let Ok(leaf) = serde_json::from_slice::<NodeLeaf>(&bytes) {
                    self.carry_out(peer, leaf, at).await?;
                }
                at += 1;
            }
            control.store().meta_put(&cursor, at.to_string().as_bytes()).await?;
        }
        Ok(())
    }

    /// One leaf of a node as a command. A rule's refusal is noted and does not stop the report; trouble with the store does.
    /// What was carried out and not noted, because control was killed between the two, comes again and changes nothing.
    async fn carry_out(&self, peer: &PeerInfo, leaf: NodeLeaf, index: u64) -> Result<(), ControlError> {
        let Some(command) = command_of(peer, leaf) else { return Ok(()) };
        let idempotency = (!tells_again(&command)).then(|| format!("report/{}/{index}", peer.name));
        let wish = Wish { actor: Actor::Node { name: peer.name.clone() }, command, idempotency };
        match self.0.run_wish(&wish).await {
            Ok(_) => Ok(()),
            Err(ControlError::Refused(refusal)) => {
                tracing::warn!(node = %peer.name, why = %refusal, "a report was refused");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn begin(
        &self,
        recording: RecordingId,
        session: SessionId,
        sha256: String,
    ) -> Result<Response, ControlError> {
        let control = &self.0;
        if control.recordings().has(recording) {
            let reader = control.clone();
            let held = blocking(move || reader.recordings().digest(recording)).await?;
            if held == sha256 {
                return self.stored(session, held).await;
            }
            control.recordings().forget(recording)?;
        }
        let announced = &control.0.nodes.announced;
        announced.write().unwrap_or_else(PoisonError::into_inner).insert(recording, (session, sha256));
        Ok(Response::RecordingAt { offset: control.recordings().held(recording) })
    }

    async fn end(&self, recording: RecordingId) -> Result<Response, ControlError> {
        let control = &self.0;
        let found =
            control.0.nodes.announced.read().unwrap_or_else(PoisonError::into_inner).get(&recording).cloned();
        let Some((session, sha256)) = found else {
            return Ok(Response::error("this recording was not announced"));
        };
        let taken = control.clone();
        let held = blocking(move || taken.recordings().finish(recording)).await?;
        if held != sha256 {
            control.recordings().forget(recording)?;
            return Ok(Response::error("what arrived is not what was announced; send it again"));
        }
        let answer = self.stored(session, held).await?;
        control.0.nodes.announced.write().unwrap_or_else(PoisonError::into_inner).remove(&recording);
        Ok(answer)
    }

    /// The recording is here and was read back: the session is complete once the gateway's ledger names the same digest.
    async fn stored(&self, session: SessionId, sha256: String) -> Result<Response, ControlError> {
        let actor = Actor::Clock;
        let command = Command::ReportRecordingStored { session, sha256: sha256.clone() };
        self.0.run(&actor, command).await?;
        Ok(Response::RecordingStored { sha256 })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(ControlError::local("finish work on the disk"))?
}

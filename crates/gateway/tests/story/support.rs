//! A gateway, a control and a connector in one process, with clocks that can jump.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use halligan_core::catalog::{OnPartition, ProofPolicy, RecordingPolicy, SshCapabilities, SystemKind};
use halligan_core::ids::{EntitlementName, GrantId, Name, RecordingId, SessionId};
use halligan_core::time::{Span, Time};
use halligan_gateway::{Clock, Gateway, Options, SystemClock};
use halligan_link::messages::{Role, Seed};
use halligan_link::{Handler, Hello, Peer, PeerInfo, Request, Response, in_process};
use halligan_recording::{Identity, Record, RecordKind, RecordingReader};
use halligan_session::control_plane::{
    BoxFuture, ClientConnection, ControlPlane as _, LoginProof, Person, Refusal,
};
use halligan_session::lease::{Lease, SignedLease, Target};
use halligan_session::node_event::{NodeEvent, NodeLeaf};
use halligan_session::roster::{Roster, RosterPerson};
use halligan_session::{Session, SignedRoster};
use sha2::Digest as _;

pub const ANA_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIANA";
pub const BO_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBO";

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
pub fn entitlement() -> EntitlementName {
    "orders-host/root".parse().unwrap()
}
pub fn grant(number: u128) -> GrantId {
    GrantId::from_bits(number)
}
pub fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}
pub fn client() -> ClientConnection {
    ClientConnection { client: "192.0.2.7:50022".parse().unwrap(), gateway: name("gw-1") }
}
pub fn output(text: &str) -> RecordKind {
    RecordKind::Output { channel: 0, bytes: text.as_bytes().to_vec().into() }
}

/// The machine's clocks, moved.
#[derive(Default)]
pub struct Shifted {
    pub wall: AtomicI64,
    pub boot: AtomicU64,
}
impl Shifted {
    pub fn move_wall(&self, seconds: i64) {
        self.wall.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
    pub fn move_boot(&self, seconds: u64) {
        self.boot.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}
impl Clock for Shifted {
    fn wall(&self) -> Time {
        Time::from_micros(SystemClock.wall().micros() + self.wall.load(Ordering::SeqCst))
    }
    fn boot(&self) -> u64 {
        SystemClock.boot() + self.boot.load(Ordering::SeqCst)
    }
    fn boot_id(&self) -> &str {
        SystemClock.boot_id()
    }
}

/// Control, as far as a gateway sees it.
#[derive(Default)]
pub struct Control {
    pub leaves: Mutex<Vec<Vec<u8>>>,
    pub recordings: Mutex<HashMap<RecordingId, Vec<u8>>>,
    pub stored: Mutex<HashMap<RecordingId, String>>,
    pub grants_stand: AtomicBool,
    pub asked: AtomicU64,
    /// Connect passwords that were used for the first time, and from where.
    pub used: Mutex<Vec<(String, std::net::IpAddr)>>,
}
impl Control {
    pub fn events(&self) -> Vec<NodeEvent> {
        let leaves = self.leaves.lock().unwrap();
        leaves.iter().map(|leaf| serde_json::from_slice::<NodeLeaf>(leaf).unwrap().event).collect()
    }
}
impl Handler for Control {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            assert_eq!(peer.role, Role::Gateway);
            match request {
                Request::Hello(hello) => {
                    let acknowledged = self.leaves.lock().unwrap().len() as u64;
                    Response::Welcome { hello: Hello { role: Role::Control, ..hello }, acknowledged }
                }
                Request::LedgerEntries { from, entries, checkpoint } => {
                    let mut leaves = self.leaves.lock().unwrap();
                    assert!(checkpoint.starts_with("halligan/gateway/gw-1\n"), "{checkpoint}");
                    if from == leaves.len() as u64 {
                        leaves.extend(entries.into_iter().map(|blob| blob.0));
                    }
                    Response::LedgerAck { size: leaves.len() as u64 }
                }
                Request::RecordingBegin { recording, bytes, sha256, .. } => {
                    let mut all = self.recordings.lock().unwrap();
                    let held = all.entry(recording).or_default();
                    self.stored.lock().unwrap().insert(recording, sha256);
                    assert!(held.len() as u64 <= bytes);
                    Response::RecordingAt { offset: held.len() as u64 }
                }
                Request::RecordingChunk { recording, offset, data } => {
                    let mut all = self.recordings.lock().unwrap();
                    let held = all.get_mut(&recording).unwrap();
                    assert_eq!(held.len() as u64, offset);
                    held.extend_from_slice(&data.0);
                    Response::RecordingAt { offset: held.len() as u64 }
                }
                Request::RecordingEnd { recording } => {
                    let all = self.recordings.lock().unwrap();
                    Response::RecordingStored { sha256: hex::encode(sha2::Sha256::digest(&all[&recording])) }
                }
                Request::IsGrantActive { .. } => {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    Response::GrantState {
                        active: self.grants_stand.load(Ordering::SeqCst),
                        deadline: Time::from_micros(i64::MAX),
                    }
                }
                Request::ConnectPasswordUsed { password, client, .. } => {
                    self.used.lock().unwrap().push((password, client));
                    Response::Ok
                }
                other => Response::error(format!("the test's control was asked to `{}`", other.name())),
            }
        })
    }
}

/// A connector that signs nothing real: what it hands out is only passed through here.
#[derive(Default)]
pub struct Connector {
    /// Database users that it made.
    pub made: AtomicU64,
    /// Sessions whose backends it ended.
    pub ended: Mutex<Vec<SessionId>>,
    /// It answers nothing about databases.
    pub hangs: AtomicBool,
}
impl Handler for Connector {
    fn handle<'a>(&'a self, _: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match request {
                Request::IssueCertificate { lease, session } => {
                    lease.verify(&control_key().verifying_key()).unwrap();
                    Response::Certificate {
                        seed: Seed::new([5; 32]),
                        openssh: format!("certificate for {session}"),
                        serial: 42,
                    }
                }
                Request::IssueDatabaseUser { lease, renew, .. } => {
                    lease.verify(&control_key().verifying_key()).unwrap();
                    if self.hangs.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                    let renewed = if renew { " renewed" } else { "" };
                    Response::DatabaseUser {
                        user: format!("halligan_{number}{renewed}"),
                        client_key: Seed::new([9; 32]),
                        server_key: Seed::new([9; 32]),
                    }
                }
                Request::EndDatabaseSession { session, .. } => {
                    self.ended.lock().unwrap().push(session);
                    Response::Ok
                }
                other => Response::error(other.name()),
            }
        })
    }
}

fn info(text: &str, role: Role) -> PeerInfo {
    PeerInfo { name: name(text), role, site: Name::main() }
}

/// A gateway with its links.
pub struct Site {
    pub gateway: Gateway,
    pub clock: Arc<Shifted>,
    pub control: Arc<Control>,
    pub connector: Arc<Connector>,
    pub auditor: Identity,
    /// Leads from control to the gateway.
    pub from_control: Option<Peer>,
    pub from_connector: Option<Peer>,
    peers: Vec<Peer>,
    pub folder: PathBuf,
}

impl Site {
    pub fn options(folder: &Path) -> Options {
        let mut options = Options::new(folder.to_owned(), name("gw-1"), control_key().verifying_key());
        options.disk_reserve_bytes = halligan_gateway::LEAST_DISK_RESERVE;
        options
    }

    /// Starts a gateway that is alone.
    pub fn alone(folder: &Path) -> Self {
        Self::with(Self::options(folder), Arc::new(Shifted::default()))
    }

    pub fn with(options: Options, clock: Arc<Shifted>) -> Self {
        let folder = options.folder.clone();
        let mut started = Gateway::start(options.clone(), clock.clone() as Arc<dyn Clock>);
        // A gateway that was dropped a moment ago may still be closing its ledger.
        let until = Instant::now() + Duration::from_secs(5);
        while started.is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            started = Gateway::start(options.clone(), clock.clone() as Arc<dyn Clock>);
        }
        Self {
            gateway: started.unwrap(),
            clock,
            control: Arc::new(Control::default()),
            connector: Arc::new(Connector::default()),
            auditor: "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33"
                .parse()
                .unwrap(),
            from_control: None,
            from_connector: None,
            peers: Vec::new(),
            folder,
        }
    }

    /// Starts a gateway that is linked with control and a connector, with a roster.
    pub async fn linked(folder: &Path) -> Self {
        let mut site = Self::alone(folder);
        site.link_control();
        site.link_connector();
        site.put_roster(1).await;
        site
    }

    pub fn link_control(&mut self) {
        let (at_gateway, at_control) = in_process(
            self.gateway.handler(),
            info("gw-1", Role::Gateway),
            Arc::clone(&self.control) as Arc<dyn Handler>,
            info("control", Role::Control),
        );
        self.gateway.control_joined(at_gateway.clone());
        self.peers.push(at_gateway);
        self.from_control = Some(at_control);
    }

    pub fn link_connector(&mut self) {
        let (at_gateway, at_connector) = in_process(
            self.gateway.handler(),
            info("gw-1", Role::Gateway),
            Arc::clone(&self.connector) as Arc<dyn Handler>,
            info("con-1", Role::Connector),
        );
        self.gateway.connector_joined(at_gateway.clone());
        self.peers.push(at_gateway);
        self.from_connector = Some(at_connector);
    }

    /// Control goes away.
    pub fn cut_control(&mut self) {
        self.from_control.take().unwrap().close("control goes away");
    }

    /// Ends this gateway without any farewell, as far as one process can.
    pub async fn vanish(self) {
        for peer in self.peers.iter().chain(&self.from_control).chain(&self.from_connector) {
            peer.close("gone");
        }
        drop(self);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    pub async fn ask(&self, request: Request) -> Response {
        self.from_control.as_ref().unwrap().call(request).await.unwrap()
    }

    pub fn roster(serial: u64) -> SignedRoster {
        let person = |id: &str, key: &str| RosterPerson {
            id: name(id),
            name: id.to_uppercase(),
            ssh_keys: vec![key.to_owned()],
        };
        let roster = Roster {
            version: 1,
            serial,
            issued_at: SystemClock.wall(),
            people: vec![person("ana", ANA_KEY), person("bo", BO_KEY)],
            ..Roster::default()
        };
        SignedRoster::sign(&roster, &control_key()).unwrap()
    }

    pub async fn put_roster(&self, serial: u64) {
        assert_eq!(self.ask(Request::PutRoster { roster: Self::roster(serial) }).await, Response::Ok);
    }

    /// A lease of Ana's that runs this long from now, by the gateway's wall clock.
    pub fn lease(&self, number: u128, fencing: u64, remaining: Span) -> Lease {
        let now = self.clock.wall();
        Lease {
            version: 1,
            grant: grant(number),
            fencing,
            person: name("ana"),
            person_name: "ANA".to_owned(),
            entitlement: entitlement(),
            incident: None,
            emergency: true,
            reason: "the pager".to_owned(),
            target: Target {
                system: name("orders-host"),
                kind: SystemKind::Ssh,
                address: "127.0.0.1:22".to_owned(),
                site: Name::main(),
                account: "root".to_owned(),
                host_keys: vec![],
                postgres: None,
            },
            ssh: SshCapabilities::default(),
            postgres: Default::default(),
            recording: RecordingPolicy::default(),
            recipients: vec![self.auditor.recipient().to_string()],
            proof: ProofPolicy::default(),
            on_partition: OnPartition::Keep,
            idle_limit: None,
            issued_at: now,
            deadline: now.plus(remaining),
            remaining,
            most_sessions: 3,
            policy_digest: String::new(),
            approvals: vec![],
        }
    }

    pub async fn put(&self, lease: &Lease) -> Response {
        let lease = SignedLease::sign(lease, &control_key()).unwrap();
        self.ask(Request::PutLease { lease }).await
    }

    pub async fn hold(&self, lease: &Lease) {
        assert_eq!(self.put(lease).await, Response::Held);
    }

    pub async fn revoke(&self, number: u128, fencing: u64) -> Response {
        self.ask(Request::RevokeLease {
            grant: grant(number),
            fencing,
            reason: "no longer needed".to_owned(),
        })
        .await
    }

    pub async fn ana(&self) -> Person {
        self.gateway.login(LoginProof::PublicKey { openssh: ANA_KEY.to_owned() }, &client()).await.unwrap()
    }

    pub async fn try_open(&self) -> Result<Session, Refusal> {
        self.gateway.open(&self.ana().await, &entitlement(), &client()).await
    }

    pub async fn open(&self) -> Session {
        self.try_open().await.unwrap()
    }

    /// Waits until control has been told of an event like this one.
    pub async fn told(&self, like: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(found) = self.control.events().into_iter().find(&like) {
                return found;
            }
            assert!(Instant::now() < until, "control was told only {:#?}", self.control.events());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until control has stored a recording, and reads it as the auditor.
    pub async fn stored(&self, recording: RecordingId) -> Vec<Record> {
        let until = Instant::now() + Duration::from_secs(10);
        while self.folder.join(format!("spool/{recording}.slip")).exists() {
            assert!(Instant::now() < until, "the recording was not sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let bytes = self.control.recordings.lock().unwrap()[&recording].clone();
        read(&bytes, &self.auditor)
    }
}

pub fn read(bytes: &[u8], auditor: &Identity) -> Vec<Record> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    RecordingReader::open_as(file.path(), auditor).unwrap().map(|record| record.unwrap()).collect()
}

/// Waits for something, two seconds at most.
pub async fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(4);
    while !is() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

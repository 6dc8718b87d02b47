//! A gateway with its engine, a listener, a real PostgreSQL behind it, and a connector that makes real roles there. Control
//! is played by the test: it puts leases and passwords, and takes ledgers and recordings.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use halligan_core::catalog::{
    OnPartition, PostgresCapabilities, PostgresTarget as Target, ProofPolicy, RecordingPolicy,
    SshCapabilities, SystemKind,
};
use halligan_core::ids::{EntitlementName, GrantId, Name, RecordingId, SessionId};
use halligan_core::time::Span;
use halligan_gateway::{Clock as _, Gateway, Options, SystemClock};
use halligan_link::messages::{Role, Seed};
use halligan_link::{Handler, Hello, Peer, PeerInfo, Request, Response, in_process};
use halligan_protocol_postgres::{PostgresConfig, PostgresListener};
use halligan_recording::{Identity, RecordKind, RecordingReader};
use halligan_session::control_plane::{BoxFuture, ControlPlane as _};
use halligan_session::lease::{Lease, SignedLease, Target as LeaseTarget};
use halligan_session::node_event::{NodeEvent, NodeLeaf};
use halligan_session::roster::{Roster, RosterNode, RosterPerson};
use halligan_session::{ScramKeys, Secret, SignedRoster};
use halligan_testkit::postgres_target::{Builder, PostgresTarget};
use sha2::Digest as _;
use tokio_util::sync::CancellationToken;

pub use crate::programs::*;

pub const LOGIN: &str = "work+orders-db";
pub const PASSWORD: &str = "correct-horse-battery-staple-0123456789";

/// The standing role that certificates open.
pub const STANDING: &str = "halligan_prep_01_orders_write";

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn entitlement() -> EntitlementName {
    "orders-db/work".parse().unwrap()
}

fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// Control, as far as a gateway sees it.
#[derive(Default)]
pub struct Control {
    leaves: Mutex<Vec<Vec<u8>>>,
    /// The other gateway, to which cancel requests are passed on.
    pub beside: Mutex<Option<Peer>>,
    recordings: Mutex<HashMap<RecordingId, Vec<u8>>>,
}

impl Control {
    pub fn events(&self) -> Vec<NodeEvent> {
        let leaves = self.leaves.lock().unwrap();
        leaves.iter().map(|leaf| serde_json::from_slice::<NodeLeaf>(leaf).unwrap().event).collect()
    }
}

impl Handler for Control {
    fn handle<'a>(&'a self, _: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match request {
                Request::Hello(hello) => {
                    let acknowledged = self.leaves.lock().unwrap().len() as u64;
                    Response::Welcome { hello: Hello { role: Role::Control, ..hello }, acknowledged }
                }
                Request::LedgerEntries { from, entries, .. } => {
                    let mut leaves = self.leaves.lock().unwrap();
                    if from == leaves.len() as u64 {
                        leaves.extend(entries.into_iter().map(|blob| blob.0));
                    }
                    Response::LedgerAck { size: leaves.len() as u64 }
                }
                Request::PassCancel { process, key, client } => {
                    let beside = self.beside.lock().unwrap().clone();
                    let through = name("gw-1");
                    let passed = Request::CancelStatement { process, key, client, through };
                    match beside {
                        Some(beside) => beside.call(passed).await.unwrap(),
                        None => Response::Ok,
                    }
                }
                Request::ConnectPasswordUsed { .. } => Response::Ok,
                Request::RecordingBegin { recording, .. } => {
                    let mut all = self.recordings.lock().unwrap();
                    Response::RecordingAt { offset: all.entry(recording).or_default().len() as u64 }
                }
                Request::RecordingChunk { recording, data, .. } => {
                    let mut all = self.recordings.lock().unwrap();
                    let held = all.get_mut(&recording).unwrap();
                    held.extend_from_slice(&data.0);
                    Response::RecordingAt { offset: held.len() as u64 }
                }
                Request::RecordingEnd { recording } => {
                    let all = self.recordings.lock().unwrap();
                    Response::RecordingStored { sha256: hex::encode(sha2::Sha256::digest(&all[&recording])) }
                }
                other => Response::error(other.name()),
            }
        })
    }
}

/// Name, client key and server key.
type User = (String, [u8; 32], [u8; 32]);

/// Makes database users as the real one does: a LOGIN role in the group, by its verifier alone.
pub struct Connector {
    target: Arc<PostgresTarget>,
    made: tokio::sync::Mutex<Option<User>>,
    pub renewed: std::sync::atomic::AtomicU32,
    pub ended: Mutex<Vec<SessionId>>,
    /// The numbers of backends that were told with them.
    pub numbers: Mutex<Vec<u32>>,
    /// What the role may beside its group's rights.
    attributes: String,
}

impl Handler for Connector {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match request {
                Request::IssueDatabaseUser { lease, renew, .. } => {
                    let lease = lease.verify(&control_key().verifying_key()).unwrap();
                    let mut made = self.made.lock().await;
                    if renew {
                        self.renewed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    if made.is_none() || renew {
                        *made = Some(self.make(&lease, peer));
                    }
                    let (user, client_key, server_key) = made.clone().unwrap();
                    Response::DatabaseUser {
                        user,
                        client_key: Seed::new(client_key),
                        server_key: Seed::new(server_key),
                    }
                }
                Request::IssueDatabaseCertificate { public_key, .. } => {
                    let point = hex::decode(public_key).unwrap();
                    let user = STANDING.to_owned();
                    let certificate = self.target.sign_client_key(&user, &point).unwrap();
                    let valid_before = SystemClock.wall().plus(Span::minutes(2));
                    Response::DatabaseCertificate { user, certificate, serial: 1, valid_before }
                }
                Request::EndDatabaseSession { session, backend, .. } => {
                    self.numbers.lock().unwrap().extend(backend);
                    let sql = format!(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'halligan:{session}'"
                    );
                    let target = Arc::clone(&self.target);
                    tokio::task::spawn_blocking(move || target.sql("postgres", &sql)).await.unwrap().unwrap();
                    self.ended.lock().unwrap().push(session);
                    Response::Ok
                }
                other => Response::error(other.name()),
            }
        })
    }
}

impl Connector {
    fn make(&self, lease: &Lease, peer: &PeerInfo) -> User {
        let (mut client_key, mut server_key, mut salt) = ([0; 32], [0; 32], [0; 16]);
        getrandom::fill(&mut client_key).unwrap();
        getrandom::fill(&mut server_key).unwrap();
        getrandom::fill(&mut salt).unwrap();
        let user = format!("halligan_{}_{}", lease.grant, peer.name).to_lowercase();
        let stored = sha2::Sha256::digest(client_key);
        let verifier = format!(
            "SCRAM-SHA-256$4096:{}${}:{}",
            STANDARD.encode(salt),
            STANDARD.encode(stored),
            STANDARD.encode(server_key)
        );
        let group = &lease.target.account;
        let attributes = &self.attributes;
        let sql = format!(
            "DROP ROLE IF EXISTS \"{user}\"; CREATE ROLE \"{user}\" LOGIN {attributes} PASSWORD '{verifier}' \
             IN ROLE {group}"
        );
        for statement in sql.split(';') {
            self.target.sql("postgres", statement).unwrap();
        }
        (user, client_key, server_key)
    }
}

fn info(text: &str, role: Role) -> PeerInfo {
    PeerInfo { name: name(text), role, site: Name::main() }
}

/// Everything, running.
pub struct World {
    pub target: Arc<PostgresTarget>,
    pub gateway: Gateway,
    pub control: Arc<Control>,
    pub connector: Arc<Connector>,
    pub port: u16,
    pub lease: Lease,
    pub folder: tempfile::TempDir,
    pub shutdown: CancellationToken,
    pub from_control: Peer,
    auditor: Identity,
    _peers: Vec<Peer>,
}

/// How a world differs from the usual one.
pub struct Change {
    pub lease: Box<dyn FnOnce(&mut Lease)>,
    pub config: Box<dyn FnOnce(&mut PostgresConfig)>,
    pub target: Box<dyn FnOnce(Builder) -> Builder>,
    pub options: Box<dyn FnOnce(&mut Options)>,
    pub attributes: &'static str,
    /// The gateway's folder.
    pub folder: Option<PathBuf>,
    /// The gateway's name.
    pub gateway: &'static str,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            lease: Box::new(|_| {}),
            config: Box::new(|_| {}),
            target: Box::new(|builder| builder),
            options: Box::new(|_| {}),
            attributes: "",
            folder: None,
            gateway: "gw-1",
        }
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Change::default()).await
    }

    /// With other capabilities.
    pub async fn may(change: impl FnOnce(&mut PostgresCapabilities) + 'static) -> Self {
        Self::with(Change { lease: Box::new(|lease| change(&mut lease.postgres)), ..Change::default() }).await
    }

    pub async fn with(change: Change) -> Self {
        if std::env::var_os("POSTGRES_TEST_LOG").is_some() {
            let _already = tracing_subscriber::fmt().with_env_filter("debug").with_test_writer().try_init();
        }
        let folder = tempfile::tempdir().unwrap();
        let builder = (change.target)(PostgresTarget::builder().setting("log_statement", "none"));
        let target = Arc::new(tokio::task::spawn_blocking(move || builder.start().unwrap()).await.unwrap());
        let at = change.folder.unwrap_or_else(|| folder.path().join("gateway"));
        std::fs::create_dir_all(&at).unwrap();
        let mut options = Options::new(at.clone(), name(change.gateway), control_key().verifying_key());
        options.disk_reserve_bytes = halligan_gateway::LEAST_DISK_RESERVE;
        (change.options)(&mut options);
        let gateway = Gateway::start(options, Arc::new(SystemClock)).unwrap();
        let control = Arc::new(Control::default());
        let connector = Arc::new(Connector {
            target: Arc::clone(&target),
            made: tokio::sync::Mutex::default(),
            renewed: Default::default(),
            ended: Mutex::default(),
            numbers: Mutex::default(),
            attributes: change.attributes.to_owned(),
        });
        let (at_gateway, from_control) = in_process(
            gateway.handler(),
            info(change.gateway, Role::Gateway),
            Arc::clone(&control) as Arc<dyn Handler>,
            info("control", Role::Control),
        );
        gateway.control_joined(at_gateway.clone());
        let (to_connector, at_connector) = in_process(
            gateway.handler(),
            info(change.gateway, Role::Gateway),
            Arc::clone(&connector) as Arc<dyn Handler>,
            info("con-1", Role::Connector),
        );
        gateway.connector_joined(to_connector.clone());
        let auditor: Identity =
            "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33".parse().unwrap();
        let mut lease = lease(&target, &auditor);
        (change.lease)(&mut lease);
        let mut config = PostgresConfig::new("127.0.0.1:0".parse().unwrap(), name(change.gateway), &at);
        config.drain = Duration::from_millis(300);
        config.plain_from_here = true;
        (change.config)(&mut config);
        let listener = PostgresListener::bind(config, Arc::new(gateway.clone())).await.unwrap();
        let port = listener.local_addr().port();
        std::fs::write(folder.path().join("root.pem"), listener.certificate_pem()).unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(listener.serve(shutdown.clone()));
        let world = Self {
            target,
            gateway,
            control,
            connector,
            port,
            lease,
            folder,
            shutdown,
            from_control,
            auditor,
            _peers: vec![at_gateway, to_connector, at_connector],
        };
        world.put_roster().await;
        world.put_lease().await;
        world.put_password(PASSWORD).await;
        world
    }

    pub async fn ask(&self, request: Request) -> Response {
        self.from_control.call(request).await.unwrap()
    }

    async fn put_roster(&self) {
        self.put_roster_as(1, |_| {}).await;
    }

    /// Another roster.
    pub async fn put_roster_as(&self, serial: u64, change: impl FnOnce(&mut Roster)) {
        let mut roster = Roster {
            version: 1,
            serial,
            issued_at: SystemClock.wall(),
            people: vec![RosterPerson { id: name("ana"), name: "Ana".to_owned(), ssh_keys: vec![] }],
            scram_salt_key: "5a".repeat(32),
            ..Roster::default()
        };
        let gateway = |gateway: &str| RosterNode {
            name: name(gateway),
            role: Role::Gateway,
            site: Name::main(),
            key_sha256: "00".repeat(32),
            address: None,
        };
        roster.nodes = vec![gateway("gw-1"), gateway("gw-2")];
        change(&mut roster);
        let roster = SignedRoster::sign(&roster, &control_key()).unwrap();
        assert_eq!(self.ask(Request::PutRoster { roster }).await, Response::Ok);
    }

    pub async fn put_lease(&self) {
        let lease = SignedLease::sign(&self.lease, &control_key()).unwrap();
        assert_eq!(self.ask(Request::PutLease { lease }).await, Response::Held);
    }

    pub async fn put_password(&self, password: &str) {
        let keys =
            ScramKeys::from_password(&Secret::new(password.to_owned()), &self.gateway.scram_salt(LOGIN));
        let request = Request::PutConnectPassword {
            person: name("ana"),
            entitlement: entitlement(),
            grant: self.lease.grant,
            stored_key: Seed::new(keys.stored_key),
            server_key: Seed::new(keys.server_key),
            expires: SystemClock.wall().plus(Span::minutes(10)),
            client: None,
        };
        assert_eq!(self.ask(request).await, Response::Ok);
    }

    /// Waits until control has been told of all that happened at the gateway.
    pub async fn all_told(&self) {
        let until = Instant::now() + Duration::from_secs(15);
        loop {
            let status = self.gateway.status();
            if status.acknowledged >= status.ledger_size {
                return;
            }
            assert!(Instant::now() < until, "control was not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The last session that was opened, as far as control was told.
    pub fn last_session(&self) -> (SessionId, RecordingId) {
        let opened = |event| match event {
            NodeEvent::SessionOpened { session, recording, .. } => Some((session, recording)),
            _ => None,
        };
        self.control.events().into_iter().filter_map(opened).next_back().unwrap()
    }

    pub async fn kill(&self, session: SessionId, why: &str) {
        let answer = self.ask(Request::KillSession { session, reason: why.to_owned() }).await;
        assert_eq!(answer, Response::Ok);
    }

    /// Waits until a session is live, and gives it.
    pub async fn told_of_session(&self) -> SessionId {
        self.told(|event| matches!(event, NodeEvent::ChannelOpened { .. })).await;
        self.last_session().0
    }

    /// Waits until control has been told of an event like this one.
    pub async fn told(&self, like: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        let until = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(found) = self.control.events().into_iter().rev().find(&like) {
                return found;
            }
            assert!(Instant::now() < until, "control was told only {:#?}", self.control.events());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the last session has ended and was stored, and reads what it recorded.
    pub async fn records(&self) -> Vec<RecordKind> {
        self.all_told().await;
        let (session, recording) = self.last_session();
        self.told(
            |event| matches!(event, NodeEvent::SessionEnded { session: ended, .. } if *ended == session),
        )
        .await;
        let NodeEvent::RecordingFinished { bytes, .. } = self
            .told(
                |event| matches!(event, NodeEvent::RecordingFinished { recording: it, .. } if *it == recording),
            )
            .await
        else {
            unreachable!()
        };
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let held = self.control.recordings.lock().unwrap().get(&recording).cloned().unwrap_or_default();
            if held.len() as u64 == bytes {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), held).unwrap();
                let reader = RecordingReader::open_as(file.path(), &self.auditor).unwrap();
                return reader.map(|record| record.unwrap().kind).collect();
            }
            assert!(Instant::now() < until, "the recording was not sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As the target's superuser, beside the gateway.
    pub async fn direct(&self, text: &str) -> String {
        let (target, text) = (Arc::clone(&self.target), text.to_owned());
        tokio::task::spawn_blocking(move || target.sql("orders", &text).unwrap()).await.unwrap()
    }

    /// Waits until a query beside the gateway gives this.
    pub async fn direct_until(&self, text: &str, wanted: &str, within: Duration) {
        let until = Instant::now() + within;
        loop {
            let got = self.direct(text).await;
            if got == wanted {
                return;
            }
            assert!(Instant::now() < until, "{text}: still {got}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A driver's connection on loopback, without TLS.
    pub async fn driver(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(LOGIN).password(PASSWORD).dbname("orders");
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn lease(target: &PostgresTarget, auditor: &Identity) -> Lease {
    let now = SystemClock.wall();
    Lease {
        version: 1,
        grant: GrantId::from_bits(77),
        fencing: 1,
        person: name("ana"),
        person_name: "Ana".to_owned(),
        entitlement: entitlement(),
        incident: None,
        emergency: true,
        reason: "orders stand still".to_owned(),
        target: LeaseTarget {
            system: name("orders-db"),
            kind: SystemKind::Postgres,
            address: target.address().to_string(),
            site: Name::main(),
            account: PostgresTarget::WRITERS.to_owned(),
            host_keys: vec![],
            postgres: Some(Target {
                databases: target.databases().to_vec(),
                server_ca: target.ca_pem().to_owned(),
                server_name: Some(PostgresTarget::SERVER_NAME.to_owned()),
            }),
        },
        ssh: SshCapabilities::default(),
        postgres: PostgresCapabilities::default(),
        recording: RecordingPolicy::default(),
        recipients: vec![auditor.recipient().to_string()],
        proof: ProofPolicy::default(),
        on_partition: OnPartition::Keep,
        idle_limit: None,
        issued_at: now,
        deadline: now.plus(Span::hours(1)),
        remaining: Span::hours(1),
        most_sessions: 100,
        policy_digest: String::new(),
        approvals: vec![],
    }
}

/// Texts of all statements that were begun.
pub fn statements(records: &[RecordKind]) -> Vec<String> {
    let begun = |record: &RecordKind| match record {
        RecordKind::StatementBegin { text, .. } => Some(text.clone()),
        _ => None,
    };
    records.iter().filter_map(begun).collect()
}

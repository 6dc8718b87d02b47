//! A gateway's worth of surroundings for these tests: a real ledger and real recordings in temporary folders, a CA, a
//! roster that is really signed, a real sshd behind and stock clients before the listener.

#![expect(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use halligan_core::catalog::{OnPartition, ProofPolicy, RecordingPolicy, SshCapabilities, SystemKind};
use halligan_core::ids::{EntitlementName, FreshIds, Name, SessionId};
use halligan_core::time::{Span, Time};
use halligan_ledger::{FileLedger, LedgerSigner};
use halligan_protocol_ssh::{SshConfig, SshListener};
use halligan_recording::{
    Budget, Class, DataKey, Durability, Record, RecordKind, RecordingMeta, RecordingReader, RecordingWriter,
};
use halligan_session::control_plane::BoxFuture;
use halligan_session::lease::Target;
use halligan_session::roster::{LOGIN_PRINCIPAL, RosterPerson};
use halligan_session::{
    Answer, ClientConnection, ControlPlane, DatabaseCredential, EndReason, Ended, Lease, LoginProof,
    NodeEvent, Person, Question, Refusal, Roster, ScramSalt, Secret, Session, SessionParts, SignedRoster,
    SshCredential, VerifiedRoster,
};
use halligan_testkit::ssh_client::SshClient;
use halligan_testkit::ssh_keys::SshKey;
use halligan_testkit::sshd::{Builder, TestSshd};
use russh::keys::ssh_key::certificate::{Builder as CertificateBuilder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub const ACCOUNT: &str = "halligan-app";
pub const LOGIN: &str = "app+orders-host";

pub struct World {
    pub control: Arc<TestControl>,
    pub sshd: TestSshd,
    pub port: u16,
    pub responder: SshKey,
    pub host_key: String,
    pub folder: tempfile::TempDir,
    pub shutdown: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|lease| lease, |sshd| sshd, |_| {}).await
    }

    pub async fn with(
        change: impl FnOnce(Lease) -> Lease,
        sshd: impl FnOnce(Builder) -> Builder,
        config: impl FnOnce(&mut SshConfig),
    ) -> Self {
        if std::env::var_os("SSH_TEST_LOG").is_some() {
            let _already = tracing_subscriber::fmt().with_env_filter("debug").with_test_writer().try_init();
        }
        let folder = tempfile::tempdir().unwrap();
        let responder = SshKey::generate(folder.path(), "responder").unwrap();
        let authority = random_key();
        let ca_line = authority.public_key().to_openssh().unwrap();
        let builder =
            TestSshd::builder().trust_ca(&ca_line).principals(ACCOUNT, ["halligan:orders-host:halligan-app"]);
        let sshd = sshd(builder).start().await.unwrap();
        let lease = change(lease(sshd.address(), sshd.host_key_openssh().unwrap()));
        let control = TestControl::new(folder.path(), authority, &responder, lease);
        let mut settings =
            SshConfig::new("127.0.0.1:0".parse().unwrap(), name("gw-1"), folder.path().join("host_key"));
        settings.drain = Duration::from_millis(300);
        config(&mut settings);
        let listener =
            SshListener::bind(settings, Arc::clone(&control) as Arc<dyn ControlPlane>).await.unwrap();
        let port = listener.local_addr().port();
        let host_key = listener.host_key_openssh().to_owned();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(listener.serve(shutdown.clone()));
        Self { control, sshd, port, responder, host_key, folder, shutdown, serving }
    }

    /// The responder's machine.
    pub fn client(&self) -> SshClient {
        SshClient::new()
            .unwrap()
            .trust_host(self.port, &self.host_key)
            .unwrap()
            .identity(&self.responder)
            .timeout(Duration::from_secs(90))
    }

    /// `ssh` with the responder's key, for a shell's command line; the address is still to come.
    pub fn plain_ssh(&self) -> String {
        format!(
            "ssh -F /dev/null -p {} -oUser={LOGIN} -oIdentityFile={} -oIdentitiesOnly=yes -oStrictHostKeyChecking=no \
             -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR -oKexAlgorithms=curve25519-sha256",
            self.port,
            self.responder.path().display(),
        )
    }

    /// A folder that the account at the target can write to.
    pub fn remote(&self) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    /// Waits until every session has ended and gives all records of the last one.
    pub async fn records(&self) -> Vec<RecordKind> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let last = self.control.sessions.lock().unwrap().last().cloned();
            if let Some(last) = last
                && let Some(path) = last.finished.lock().unwrap().clone()
            {
                let reader = RecordingReader::open(&path, &last.key).unwrap();
                return reader.map(|record| record.unwrap().kind).collect();
            }
            assert!(Instant::now() < until, "the session did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All milestones of the gateway's ledger so far.
    pub fn milestones(&self) -> Vec<NodeEvent> {
        let ledger = &self.control.ledger;
        let leaves = ledger.read(0..ledger.size()).unwrap();
        leaves.iter().map(|leaf| serde_json::from_slice(leaf).unwrap()).collect()
    }

    /// What was refused, according to the ledger.
    pub fn refusals(&self) -> Vec<String> {
        let refused = |event| match event {
            NodeEvent::Refused { what, .. } => Some(what),
            _ => None,
        };
        self.milestones().into_iter().filter_map(refused).collect()
    }

    pub fn last_session(&self) -> Arc<Parts> {
        self.control.sessions.lock().unwrap().last().cloned().expect("no session was opened")
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn random_key() -> PrivateKey {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "").unwrap()
}

fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

fn fresh() -> FreshIds {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).unwrap();
    FreshIds::new(seed, Time::from_micros(now_micros()))
}

fn lease(address: SocketAddr, host_key: String) -> Lease {
    let now = Time::from_micros(now_micros());
    Lease {
        version: 1,
        grant: fresh().make(),
        fencing: 1,
        person: name("rita"),
        person_name: "Rita Responder".into(),
        entitlement: EntitlementName { system: name("orders-host"), role: name("app") },
        incident: Some(fresh().make()),
        emergency: true,
        reason: "orders stand still".into(),
        target: Target {
            system: name("orders-host"),
            kind: SystemKind::Ssh,
            address: address.to_string(),
            site: Name::main(),
            account: ACCOUNT.into(),
            host_keys: vec![host_key],
            postgres: None,
        },
        ssh: SshCapabilities::default(),
        postgres: Default::default(),
        recording: RecordingPolicy::default(),
        recipients: Vec::new(),
        proof: ProofPolicy::default(),
        on_partition: OnPartition::default(),
        idle_limit: None,
        issued_at: now,
        deadline: now.plus(Span::hours(1)),
        remaining: Span::hours(1),
        most_sessions: 100,
        policy_digest: String::new(),
        approvals: Vec::new(),
    }
}

/// The control plane as one gateway would hold it, with one person and one lease.
pub struct TestControl {
    roster: VerifiedRoster,
    authority: PrivateKey,
    pub login_ca: PrivateKey,
    pub lease: Mutex<Option<Lease>>,
    pub password: Mutex<Option<String>>,
    pub ledger: Arc<FileLedger>,
    folder: PathBuf,
    pub sessions: Mutex<Vec<Arc<Parts>>>,
    pub logins: Mutex<Vec<String>>,
    pub credentials: Arc<AtomicU64>,
}

impl TestControl {
    fn new(folder: &Path, authority: PrivateKey, responder: &SshKey, lease: Lease) -> Arc<Self> {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let login_ca = random_key();
        let roster = Roster {
            version: 1,
            login_ca: vec![login_ca.public_key().to_openssh().unwrap()],
            people: vec![RosterPerson {
                id: name("rita"),
                name: "Rita Responder".into(),
                ssh_keys: vec![responder.public().unwrap()],
            }],
            ..Roster::default()
        };
        let signed = SignedRoster::sign(&roster, &signer).unwrap();
        let ledger = folder.join("ledger");
        std::fs::create_dir(&ledger).unwrap();
        let recordings = folder.join("recordings");
        std::fs::create_dir(&recordings).unwrap();
        Arc::new(Self {
            roster: VerifiedRoster::check(&signed, &signer.verifying_key()).unwrap(),
            authority,
            login_ca,
            lease: Mutex::new(Some(lease)),
            password: Mutex::default(),
            ledger: Arc::new(
                FileLedger::open(&ledger, LedgerSigner::generate("gateway.test").unwrap()).unwrap(),
            ),
            folder: recordings,
            sessions: Mutex::default(),
            logins: Mutex::default(),
            credentials: Arc::default(),
        })
    }

    fn check_certificate(&self, openssh: &str) -> Option<Person> {
        let certificate = Certificate::from_openssh(openssh).ok()?;
        let ours = certificate.signature_key() == self.login_ca.public_key().key_data();
        let principal = certificate.valid_principals().iter().any(|name| name == LOGIN_PRINCIPAL);
        (ours && principal).then(|| {
            self.roster.person_by_id(&name(certificate.key_id()), "login certificate".into(), None)
        })?
    }
}

impl ControlPlane for TestControl {
    fn knows_key(&self, openssh: &str) -> bool {
        self.roster.person_by_key(openssh, String::new()).is_some()
    }

    fn scram_salt(&self, login: &str) -> ScramSalt {
        ScramSalt::of_login(&[7; 32], login)
    }

    fn login<'a>(
        &'a self,
        proof: LoginProof,
        _from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Person, Refusal>> {
        Box::pin(async move {
            let person = match proof {
                LoginProof::PublicKey { openssh } => {
                    self.logins.lock().unwrap().push("key".into());
                    self.roster.person_by_key(&openssh, "SSH key".into())
                }
                LoginProof::Certificate { openssh } => {
                    self.logins.lock().unwrap().push("certificate".into());
                    self.check_certificate(&openssh)
                }
                LoginProof::OneTimePassword { login, password } => {
                    self.logins.lock().unwrap().push("password".into());
                    let mut expected = self.password.lock().unwrap();
                    let right = login == LOGIN
                        && expected.as_ref().is_some_and(|expected| password.same_as(expected.as_bytes()));
                    right
                        .then(|| {
                            *expected = None;
                            self.roster.person_by_id(&name("rita"), "one-time password".into(), None)
                        })
                        .flatten()
                }
                // No client of SSH proves itself so.
                LoginProof::Scram { .. } | LoginProof::ClientCertificate { .. } => None,
            };
            person.ok_or_else(|| Refusal::new("the secret reason that no stranger may read"))
        })
    }

    fn open<'a>(
        &'a self,
        person: &'a Person,
        entitlement: &'a EntitlementName,
        from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        Box::pin(async move {
            let lease = self.lease.lock().unwrap().clone();
            let lease = lease
                .filter(|lease| lease.entitlement == *entitlement && lease.person == person.id)
                .ok_or_else(|| Refusal::new("you have no active grant for this: ask for one"))?;
            let id: SessionId = fresh().make();
            let opened = NodeEvent::SessionOpened {
                session: id,
                grant: lease.grant,
                fencing: lease.fencing,
                person: person.id.clone(),
                entitlement: entitlement.clone(),
                recording: fresh().make(),
                client: from.client.to_string(),
                login: person.how.clone(),
            };
            let receipt = self.ledger.append(serde_json::to_vec(&opened).unwrap()).unwrap();
            let key = DataKey::generate().unwrap();
            let meta = RecordingMeta {
                recording_id: id.to_string(),
                session_id: id.to_string(),
                class: Class::Readable,
                started_at_micros: now_micros() as u64,
            };
            let recipient = halligan_recording::Identity::generate().unwrap().recipient();
            let budget = Budget { spool_bytes: lease.recording.spool_budget_bytes };
            let writer = RecordingWriter::create_with_key(
                &self.folder,
                meta,
                &key,
                &[recipient],
                budget,
                Durability::Windowed,
            )
            .unwrap();
            let parts = Arc::new(Parts {
                id,
                lease,
                ledger: Arc::clone(&self.ledger),
                authority: self.authority.clone(),
                key,
                started: Instant::now(),
                writer: Mutex::new(Some(writer)),
                ended: watch::Sender::new(None),
                warnings: watch::Sender::new(None),
                channels: AtomicU32::new(0),
                finished: Mutex::default(),
                credentials: Arc::clone(&self.credentials),
            });
            self.sessions.lock().unwrap().push(Arc::clone(&parts));
            Ok(Session::open(receipt, Box::new(Handle(parts))))
        })
    }
}

pub struct Parts {
    id: SessionId,
    lease: Lease,
    ledger: Arc<FileLedger>,
    authority: PrivateKey,
    key: DataKey,
    started: Instant,
    writer: Mutex<Option<RecordingWriter>>,
    ended: watch::Sender<Option<EndReason>>,
    pub warnings: watch::Sender<Option<String>>,
    channels: AtomicU32,
    finished: Mutex<Option<PathBuf>>,
    credentials: Arc<AtomicU64>,
}

impl Parts {
    pub fn stop(&self, reason: EndReason) {
        self.ended.send_modify(|ended| {
            ended.get_or_insert(reason);
        });
    }

    /// From now on nothing can be recorded.
    pub fn lose_recording(&self) {
        *self.writer.lock().unwrap() = None;
    }

    pub fn reason(&self) -> Option<EndReason> {
        self.ended.borrow().clone()
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

struct Handle(Arc<Parts>);

impl SessionParts for Handle {
    fn id(&self) -> SessionId {
        self.0.id
    }

    fn lease(&self) -> &Lease {
        &self.0.lease
    }

    fn ssh_credential(&self) -> BoxFuture<'_, Result<SshCredential, Refusal>> {
        Box::pin(async move {
            if self.0.reason().is_some() {
                return Err(Refusal::new("the session has ended"));
            }
            let serial = self.0.credentials.fetch_add(1, Ordering::Relaxed) + 1;
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).unwrap();
            let pair = Ed25519Keypair::from_seed(&seed);
            let now = now_micros() as u64 / 1_000_000;
            let mut nonce = [0; CertificateBuilder::RECOMMENDED_NONCE_SIZE];
            getrandom::fill(&mut nonce).unwrap();
            let mut builder = CertificateBuilder::new(nonce, pair.public, now - 60, now + 60).unwrap();
            builder.serial(serial).unwrap();
            builder.cert_type(CertType::User).unwrap();
            builder.key_id("test").unwrap();
            builder.valid_principal(self.0.lease.target.principal()).unwrap();
            builder.critical_option("source-address", "127.0.0.1/32").unwrap();
            builder.extension("permit-pty", "").unwrap();
            let certificate = builder.sign(&self.0.authority).unwrap().to_openssh().unwrap();
            Ok(SshCredential { seed: Secret::new(seed), certificate, serial })
        })
    }

    fn database_credential(&self, _: bool) -> BoxFuture<'_, Result<DatabaseCredential, Refusal>> {
        Box::pin(async { Err(Refusal::new("this is a host")) })
    }

    fn check(&self) -> Result<(), Ended> {
        self.0.reason().map_or(Ok(()), |reason| Err(Ended { reason }))
    }

    fn record_last(&self, records: &[Record]) {
        let _ended = self.record(records);
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Result<Answer, Ended>> {
        Box::pin(async { Ok(Answer::Deny { say: "this is a host".to_owned() }) })
    }

    fn record(&self, records: &[Record]) -> Result<(), Ended> {
        if let Some(reason) = self.0.reason() {
            return Err(Ended { reason });
        }
        let written = match self.0.writer.lock().unwrap().as_mut() {
            Some(writer) => writer.write_batch(records).map_err(|error| error.to_string()),
            None => Err("the disk is gone".to_owned()),
        };
        written.map_err(|why| {
            let reason = EndReason::RecordingLost { why };
            self.0.stop(reason.clone());
            Ended { reason }
        })
    }

    fn milestone(&self, event: NodeEvent) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async move {
            let waiter = self.0.ledger.submit(serde_json::to_vec(&event).unwrap());
            tokio::task::spawn_blocking(move || waiter.wait()).await.unwrap().unwrap();
            Ok(())
        })
    }

    fn next_channel(&self) -> u32 {
        self.0.channels.fetch_add(1, Ordering::Relaxed)
    }

    fn since_start(&self) -> u64 {
        self.0.micros()
    }

    fn closed(&self) -> BoxFuture<'_, EndReason> {
        let mut ended = self.0.ended.subscribe();
        Box::pin(async move { ended.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn warning(&self) -> watch::Receiver<Option<String>> {
        self.0.warnings.subscribe()
    }

    fn end(&self, reason: EndReason) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.0.stop(reason) })
    }

    fn let_go(&self) {
        self.0.stop(EndReason::ClientLeft);
        let reason = self.0.reason().map(|reason| reason.for_ledger()).unwrap_or_default();
        if let Some(writer) = self.0.writer.lock().unwrap().take() {
            let finished = writer.finish(self.0.micros(), &reason).unwrap();
            *self.0.finished.lock().unwrap() = Some(finished.path);
        }
    }
}

/// The digest of a file, and of every transfer on record, for comparison.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Bytes that do not compress and are the same each time.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(count);
    out
}

/// The process's resident memory, in MiB.
pub fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Transfers on record, by path.
pub fn transfers(records: &[RecordKind]) -> HashMap<String, (String, u64, String)> {
    let ended = |record: &RecordKind| match record {
        RecordKind::TransferEnd { path, direction, bytes, sha256, outcome, .. } => {
            Some((path.clone(), (format!("{} {outcome}", direction.word()), *bytes, hex::encode(sha256.0))))
        }
        _ => None,
    };
    records.iter().filter_map(ended).collect()
}

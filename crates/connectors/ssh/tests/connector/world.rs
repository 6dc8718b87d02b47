//! A connector, a real sshd that trusts its CA, and a stock client.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use halligan_connector::{Connector as _, SiteConnectors, system_clock};
use halligan_connector_ssh::{ConnectorConfig, Issued, KrlDelivery, SshConnector};
use halligan_core::catalog::{
    CheckKind, OnPartition, ProofPolicy, RecordingPolicy, SshCapabilities, SystemKind,
};
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::proof::{Check, Evidence};
use halligan_core::time::{Span, Time};
use halligan_session::lease::Target;
use halligan_session::{Lease, NodeEvent, SignedLease};
use halligan_testkit::ssh_client::{Run, SshClient};
use halligan_testkit::sshd::{Builder, TestSshd};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

pub const ACCOUNT: &str = "halligan-app";
pub const GRANT: GrantId = GrantId::from_bits(0x1234);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A connector that serves this kind alone.
pub fn alone(connector: &SshConnector) -> SiteConnectors {
    SiteConnectors::new(Arc::clone(connector.site())).with(Arc::new(connector.clone()))
}

pub fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub struct World {
    pub connector: SshConnector,
    pub config: ConnectorConfig,
    pub sshd: TestSshd,
    /// Microseconds by which the connector's clock runs ahead.
    pub ahead: Arc<AtomicI64>,
    pub folder: tempfile::TempDir,
    /// How long a certificate of these tests opens the door.
    pub window: Span,
    pub revocation_list: bool,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_, _| {}, |sshd, _| sshd).await
    }

    /// `configure` gets the settings and a folder for files; `build` the server's set-up and that folder.
    pub async fn with(
        configure: impl FnOnce(&mut ConnectorConfig, &Path),
        build: impl FnOnce(Builder, &Path) -> Builder,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let mut config = ConnectorConfig::new(
            name("conn-1"),
            name("main"),
            folder.path().join("state"),
            control_key().verifying_key(),
        );
        let (clock, by) = (system_clock(), Arc::clone(&ahead));
        config.clock = Arc::new(move || Time::from_micros(clock().micros() + by.load(Ordering::SeqCst)));
        configure(&mut config, folder.path());
        let connector = SshConnector::open(config.clone()).unwrap();
        let sshd = TestSshd::builder()
            .trust_ca(connector.ca_public_line())
            .principals(ACCOUNT, [format!("halligan:orders-host:{ACCOUNT}")]);
        let sshd = build(sshd, folder.path()).start().await.unwrap();
        Self { connector, config, sshd, ahead, folder, window: Span::seconds(4), revocation_list: false }
    }

    pub fn krl(path: &Path) -> KrlDelivery {
        KrlDelivery { path: Some(path.to_path_buf()), command: vec![] }
    }

    pub fn lease(&self, fencing: u64) -> Lease {
        let issued_at = system_clock()();
        Lease {
            version: 1,
            grant: GRANT,
            fencing,
            person: name("ada"),
            person_name: "Ada".to_owned(),
            entitlement: "orders-host/app".parse().unwrap(),
            incident: None,
            emergency: true,
            reason: "the pager".to_owned(),
            target: Target {
                system: name("orders-host"),
                kind: SystemKind::Ssh,
                address: self.sshd.address().to_string(),
                site: name("main"),
                account: ACCOUNT.to_owned(),
                host_keys: vec![self.sshd.host_key_openssh().unwrap()],
                postgres: None,
            },
            ssh: SshCapabilities::default(),
            postgres: Default::default(),
            recording: RecordingPolicy::default(),
            recipients: vec![],
            proof: ProofPolicy {
                checks: [CheckKind::Credential, CheckKind::GatewayConnections].into(),
                revocation_list: self.revocation_list,
                login_window: self.window,
            },
            on_partition: OnPartition::Keep,
            idle_limit: None,
            issued_at,
            deadline: issued_at.plus(Span::minutes(60)),
            remaining: Span::minutes(60),
            most_sessions: 4,
            policy_digest: String::new(),
            approvals: vec![],
        }
    }

    pub fn signed(&self, fencing: u64) -> SignedLease {
        sign(&self.lease(fencing))
    }

    /// Stops the connector and starts it again on the same folder.
    pub fn restart(mut self) -> Self {
        let Self { connector, .. } = &self;
        let config = connector.config().clone();
        // The ledger's folder is locked until the last handle is gone.
        self.connector = loop_until_open(connector.clone(), config, &mut self.connector);
        self
    }

    pub async fn issue(&self, session: u128) -> Issued {
        self.connector.issue(&self.signed(1), SessionId::from_bits(session)).await.unwrap()
    }

    pub async fn look(&self, fencing: u64) -> Check {
        credential(self.connector.look(GRANT, fencing).await.unwrap())
    }

    /// Waits until the real clock has passed it.
    pub async fn until(&self, time: Time) {
        tokio::time::sleep(time.since(system_clock()()).to_std() + Duration::from_millis(50)).await;
    }

    /// Logs in at the target as the gateway would.
    pub async fn login(&self, issued: &Issued, command: &str) -> Run {
        login_at(self.folder.path(), &self.sshd, issued, command).await
    }

    pub fn events(&self) -> Vec<NodeEvent> {
        self.connector.journal().leaves(0).unwrap().into_iter().map(|leaf| leaf.event).collect()
    }

    /// Sessions that the target has started.
    pub fn sessions_at_target(&self) -> usize {
        self.sshd.log().matches("Starting session").count()
    }
}

fn loop_until_open(old: SshConnector, config: ConnectorConfig, place: &mut SshConnector) -> SshConnector {
    // Another folder keeps the place warm while the first is let go.
    let spare = tempfile::tempdir().unwrap();
    let other = ConnectorConfig { folder: spare.path().to_path_buf(), ..config.clone() };
    *place = SshConnector::open(other).unwrap();
    drop(old);
    SshConnector::open(config).unwrap()
}

pub fn sign(lease: &Lease) -> SignedLease {
    SignedLease::sign(lease, &control_key()).unwrap()
}

pub fn credential(evidence: Evidence) -> Check {
    assert_eq!(evidence.checks.len(), 1, "{evidence:?}");
    let check = evidence.checks.into_iter().next().unwrap();
    assert_eq!(check.kind, CheckKind::Credential);
    check
}

pub async fn login_at(folder: &Path, sshd: &TestSshd, issued: &Issued, command: &str) -> Run {
    let key = folder.join(format!("key-{}", issued.serial));
    let certificate = folder.join(format!("key-{}-cert.pub", issued.serial));
    let pair = Ed25519Keypair::from_seed(issued.seed.expose());
    let text = PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap().to_openssh(LineEnding::LF).unwrap();
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&key).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    std::fs::write(&certificate, &issued.certificate).unwrap();
    let client =
        SshClient::new().unwrap().trust_host(sshd.port(), &sshd.host_key_openssh().unwrap()).unwrap();
    let client = client
        .option("IdentityFile", &key.display().to_string())
        .option("CertificateFile", &certificate.display().to_string());
    client.ssh(sshd.port(), ACCOUNT, command).await.unwrap()
}

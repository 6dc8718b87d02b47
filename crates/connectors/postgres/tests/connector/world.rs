//! A connector, and a real PostgreSQL that was set up for it.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use halligan_connector::{Connector as _, Site, SiteConfig, system_clock};
use halligan_connector_postgres::{
    IssuedUser, LoginCredential, PostgresConfig, PostgresConnector, Setup, session_role, verifier_of_password,
};
use halligan_core::catalog::{
    CheckKind, OnPartition, PostgresCapabilities, PostgresTarget as CatalogTarget, ProofPolicy,
    RecordingPolicy, SshCapabilities, SystemKind,
};
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::proof::{Check, Evidence, Finding};
use halligan_core::time::{Span, Time};
use halligan_session::lease::Target;
use halligan_session::{Lease, NodeEvent, Secret, SignedLease};
use halligan_testkit::postgres_target::{Builder, PostgresTarget};
use halligan_vault::{Vault, VaultKey};

use crate::client::{Connected, Proof, Refused};

pub const GRANT: GrantId = GrantId::from_bits(0x1234);
/// The connector's password in these tests: it must not stand in the server's log.
pub const PASSWORD: &str = "correct-horse-battery-staple-0123456789abcdef";

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn gateway() -> Name {
    name("gw-1")
}

pub fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub struct World {
    pub connector: PostgresConnector,
    pub target: PostgresTarget,
    pub folder: tempfile::TempDir,
    gateways: &'static str,
    /// When its leases were issued.
    begun: Time,
    watch: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub async fn with(build: impl FnOnce(Builder) -> Builder) -> Self {
        Self::at("127.0.0.1/32", build).await
    }

    /// With gateways at an address of this machine; the connector always comes from 127.0.0.1.
    pub async fn at(gateways: &'static str, build: impl FnOnce(Builder) -> Builder) -> Self {
        let target = build(PostgresTarget::builder().database("stock")).start().unwrap();
        let groups = &[PostgresTarget::READERS, PostgresTarget::WRITERS];
        let setup = Setup { gateways: vec![gateways.to_owned()], ..setup(&target, groups) };
        target.install(&setup.script().unwrap(), &setup.hba().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let vault =
            Vault::new(folder.path().to_owned(), VaultKey::read_or_make(&folder.path().join("key")).unwrap());
        vault.put("postgres", PASSWORD.as_bytes()).unwrap();
        let connector = open(folder.path(), gateways);
        Self { connector, target, folder, gateways, begun: system_clock()(), watch: None }
    }

    /// Starts what the connector does unasked.
    pub fn keep_watch(&mut self) {
        let connector = self.connector.clone();
        self.watch = Some(tokio::spawn(async move { connector.keep_watch().await }));
    }

    /// Ends the connector and opens it again on the same folder.
    pub async fn restart(mut self) -> Self {
        if let Some(watch) = self.watch.take() {
            watch.abort();
            let _ = watch.await;
        }
        let spare = tempfile::tempdir().unwrap();
        std::fs::copy(self.folder.path().join("key"), spare.path().join("key")).unwrap();
        let old = std::mem::replace(&mut self.connector, open(spare.path(), self.gateways));
        drop(old);
        // What it had spawned may still hold the folder for a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.connector = open(self.folder.path(), self.gateways);
        self
    }

    pub fn lease(&self, fencing: u64) -> Lease {
        let issued_at = self.begun;
        Lease {
            version: 1,
            grant: GRANT,
            fencing,
            person: name("ada"),
            person_name: "Ada".to_owned(),
            entitlement: "orders-db/write".parse().unwrap(),
            incident: None,
            emergency: true,
            reason: "the pager".to_owned(),
            target: Target {
                system: name("orders-db"),
                kind: SystemKind::Postgres,
                address: self.target.address().to_string(),
                site: name("main"),
                account: PostgresTarget::WRITERS.to_owned(),
                host_keys: vec![],
                postgres: Some(self.catalog_target()),
            },
            ssh: SshCapabilities::default(),
            postgres: PostgresCapabilities { connections: 3, ..PostgresCapabilities::default() },
            recording: RecordingPolicy::default(),
            recipients: vec![],
            proof: ProofPolicy {
                checks: [
                    CheckKind::Credential,
                    CheckKind::GatewayConnections,
                    CheckKind::Backends,
                    CheckKind::Leftovers,
                    CheckKind::DirectPath,
                ]
                .into(),
                ..ProofPolicy::default()
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

    pub fn catalog_target(&self) -> CatalogTarget {
        CatalogTarget {
            databases: self.target.databases().to_vec(),
            server_ca: self.target.ca_pem().to_owned(),
            server_name: Some(PostgresTarget::SERVER_NAME.to_owned()),
        }
    }

    pub fn signed(&self, fencing: u64) -> SignedLease {
        sign(&self.lease(fencing))
    }

    pub async fn issue(&self) -> IssuedUser {
        self.issue_for(GRANT).await
    }

    pub async fn issue_for(&self, grant: GrantId) -> IssuedUser {
        let lease = Lease { grant, ..self.lease(1) };
        self.connector.issue(&sign(&lease), SessionId::from_bits(1), &gateway(), false).await.unwrap()
    }

    pub async fn login(&self, user: &IssuedUser, database: &str) -> Result<Connected, Refused> {
        let startup = [("role", PostgresTarget::WRITERS), ("application_name", "halligan:ses_x")];
        let ca = self.target.ca_pem();
        Connected::login(self.target.address(), ca, database, &user.user, Proof::Keys(user), &startup).await
    }

    pub fn events(&self) -> Vec<NodeEvent> {
        let leaves = self.connector.site().journal().leaves(0).unwrap();
        leaves.into_iter().map(|leaf| leaf.event).collect()
    }

    /// As superuser.
    pub fn sql(&self, text: &str) -> String {
        self.target.sql("orders", text).unwrap()
    }

    pub fn role() -> String {
        session_role(GRANT, &gateway())
    }

    pub fn roles(&self) -> String {
        self.sql("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'halligan_grt%'")
    }

    pub async fn look(&self, fencing: u64) -> Vec<Check> {
        self.connector.look(GRANT, fencing).await.unwrap().checks
    }

    /// A connection as the connector's own account, for what a stolen one could do.
    pub async fn as_connector(&self) -> Connected {
        let (address, ca) = (self.target.address(), self.target.ca_pem());
        Connected::login(address, ca, "orders", "halligan_connector", Proof::Password(PASSWORD), &[])
            .await
            .unwrap()
    }
}

fn open(folder: &std::path::Path, gateways: &str) -> PostgresConnector {
    let site =
        SiteConfig::new(name("conn-1"), name("main"), folder.join("state"), control_key().verifying_key());
    let vault = Vault::new(folder.to_owned(), VaultKey::read(&folder.join("key")).unwrap());
    let credential = LoginCredential::Vault { vault: Arc::new(vault), secret: "postgres".to_owned() };
    let mut config = PostgresConfig::new(credential, vec![gateways.to_owned()]);
    config.sweep = Duration::from_millis(500);
    PostgresConnector::join(Site::open(site).unwrap(), config).unwrap()
}

pub fn setup(target: &PostgresTarget, groups: &[&str]) -> Setup {
    Setup {
        databases: target.databases().to_vec(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        connector: "halligan_connector".to_owned(),
        verifier: Some(verifier_of_password(&Secret::new(PASSWORD.to_owned())).unwrap()),
        gateways: vec!["127.0.0.1/32".to_owned()],
        connectors: vec!["127.0.0.1/32".to_owned()],
        prepared: vec![],
        client_authority: None,
        read_log: false,
    }
}

pub fn sign(lease: &Lease) -> SignedLease {
    SignedLease::sign(lease, &control_key()).unwrap()
}

pub fn of(checks: &[Check], kind: CheckKind) -> &Check {
    checks.iter().find(|check| check.kind == kind).unwrap()
}

pub fn all_proven(evidence: &Evidence) {
    for check in &evidence.checks {
        assert_eq!(check.finding, Finding::Proven, "{check:?}");
    }
}

//! A connector, and a real PostgreSQL that was set up for it.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use halligan_connector::{Connector as _, Site, SiteConfig, system_clock};
use halligan_connector_postgres::{
    ClientAuthority, IssuedCertificate, IssuedUser, LoginCredential, PostgresConfig, PostgresConnector,
    Setup, session_role, verifier_of_password,
};
use halligan_core::catalog::{
    Activation, CheckKind, OnPartition, PostgresCapabilities, PostgresTarget as CatalogTarget, ProofPolicy,
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

/// The server's major that these tests run on.
pub fn major() -> u32 {
    let major = std::env::var(halligan_testkit::postgres_programs::MAJOR_VARIABLE);
    major.ok().and_then(|major| major.parse().ok()).unwrap_or(15)
}

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

    /// With standing roles for both groups, two each, that certificates of three seconds open.
    pub async fn standing(build: impl FnOnce(Builder) -> Builder) -> Self {
        let world = Self::with(build).await;
        let setup = world.standing_setup();
        world.target.trust_clients_of(setup.client_authority.as_deref().unwrap()).unwrap();
        world.target.install(&setup.script().unwrap(), &setup.hba().unwrap()).unwrap();
        world
    }

    pub fn standing_setup(&self) -> Setup {
        let groups = &[PostgresTarget::READERS, PostgresTarget::WRITERS];
        let vault = vault(self.folder.path());
        Setup {
            gateways: vec![self.gateways.to_owned()],
            prepared: groups.iter().map(|group| ((*group).to_owned(), 2)).collect(),
            client_authority: Some(ClientAuthority::new(vault, "postgres-ca").certificate().unwrap()),
            ..setup(&self.target, groups)
        }
    }

    /// A lease of a grant for a standing role.
    pub fn prepared(&self, grant: GrantId, fencing: u64) -> Lease {
        let mut lease = Lease { grant, ..self.lease(fencing) };
        lease.postgres.activation = Activation::Prepared;
        lease
    }

    /// A certificate of a grant with its key, PEM, for a session.
    pub async fn certificate(
        &self,
        grant: GrantId,
        session: u128,
    ) -> Result<(IssuedCertificate, String), String> {
        self.certificate_for(&self.prepared(grant, 1), session).await
    }

    pub async fn certificate_for(
        &self,
        lease: &Lease,
        session: u128,
    ) -> Result<(IssuedCertificate, String), String> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = key.public_key_raw().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let (signed, session) = (sign(lease), SessionId::from_bits(session));
        let issued = self.connector.issue_certificate(&signed, session, &gateway(), &point).await;
        issued.map(|issued| (issued, key.serialize_pem())).map_err(|error| error.sentence())
    }

    pub async fn login_standing(
        &self,
        (issued, key): &(IssuedCertificate, String),
        session: u128,
    ) -> Result<Connected, Refused> {
        let application = format!("halligan:{}", SessionId::from_bits(session));
        let startup = [("role", PostgresTarget::WRITERS), ("application_name", application.as_str())];
        let (at, ca) = (self.target.address(), self.target.ca_pem());
        Connected::login_by_certificate(at, ca, &issued.user, (&issued.certificate, key), &startup).await
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
        let connector = connector_at(folder.path(), gateways);
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
        let old = std::mem::replace(&mut self.connector, connector_at(spare.path(), self.gateways));
        drop(old);
        // What it had spawned may still hold the folder for a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.connector = connector_at(self.folder.path(), self.gateways);
        self
    }

    /// Its connector works elsewhere: the folder is free for another process.
    pub fn closed(mut self) -> Self {
        let spare = tempfile::tempdir().unwrap();
        std::fs::copy(self.folder.path().join("key"), spare.path().join("key")).unwrap();
        drop(std::mem::replace(&mut self.connector, connector_at(spare.path(), self.gateways)));
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

/// The connector of these tests on its folder.
pub fn connector_at(folder: &std::path::Path, gateways: &str) -> PostgresConnector {
    let site =
        SiteConfig::new(name("conn-1"), name("main"), folder.join("state"), control_key().verifying_key());
    let vault = vault(folder);
    let credential = LoginCredential::Vault { vault: Arc::clone(&vault), secret: "postgres".to_owned() };
    let mut config = PostgresConfig::new(credential, vec![gateways.to_owned()]);
    config.sweep = Duration::from_millis(500);
    config.authority = Some(ClientAuthority::new(vault, "postgres-ca"));
    config.certificate_life = Duration::from_secs(3);
    PostgresConnector::join(Site::open(site).unwrap(), config).unwrap()
}

fn vault(folder: &std::path::Path) -> Arc<Vault> {
    Arc::new(Vault::new(folder.to_owned(), VaultKey::read(&folder.join("key")).unwrap()))
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

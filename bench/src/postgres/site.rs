//! Everything around the gateway: a real PostgreSQL with TLS, control and the site's connector in this process, the pooler
//! beside them, and the three ways to the server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use halligan_connector::{Site as ConnectorSite, SiteConfig, SiteConnectors, serve};
use halligan_connector_postgres::{
    LoginCredential, PostgresConfig, PostgresConnector, Setup, verifier_of_password,
};
use halligan_control::Control;
use halligan_control::catalog::{CatalogHead, head_key, system_kind};
use halligan_control::documents::key_of;
use halligan_control::people::account::Account;
use halligan_core::catalog::{PostgresTarget as CatalogTarget, System, SystemKind, Who};
use halligan_core::command::{Actor, DocumentRef};
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{EntitlementName, GrantId, Name};
use halligan_core::leaf::LeafBody;
use halligan_core::time::{Span, Time};
use halligan_link::messages::Seed;
use halligan_link::{NodeKey, Request, Response, Role};
use halligan_session::Secret;
use halligan_session::scram::{ScramKeys, ScramSalt};
use halligan_store::{DocumentKey, DocumentWrite};
use halligan_testkit::postgres_target::PostgresTarget;
use halligan_vault::{Vault, VaultKey};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::gateway::{CONNECTOR, GATEWAY, GatewayProcess, info};
use super::pooler::Pooler;
use crate::organisation;
use crate::story::name;

/// The user of the direct way and of the pooler, and its password.
const BESIDE: &str = "beside";
/// Where Debian keeps the clients.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// A connect password is good for ten minutes; another is made when it is this old.
const RENEW: Duration = Duration::from_secs(300);
/// Seconds after which a run counts as a hang.
const PATIENCE: &str = "240";

/// A way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Straight to it.
    Direct,
    /// Through PgBouncer.
    Pooler,
    /// Through the gateway.
    Ours,
}

/// All of them, the order in which rounds go.
pub const ROUTES: [Route; 3] = [Route::Direct, Route::Pooler, Route::Ours];

/// The installation.
pub struct Site {
    /// Control.
    pub control: Control,
    /// The server.
    pub target: PostgresTarget,
    gateway: GatewayProcess,
    pooler: Pooler,
    port: u16,
    password: Mutex<Option<(Instant, String)>>,
    grants: Vec<GrantId>,
    stop: CancellationToken,
    _folder: TempDir,
}

fn entitlement(number: usize) -> EntitlementName {
    EntitlementName { system: name(&format!("db-{number}")), role: name("operate") }
}

impl Site {
    /// Starts all of it, with a grant for each of so many systems, which are all the same server.
    pub async fn start(systems: usize, scale: u32) -> Result<Self> {
        let folder = crate::disk::folder()?;
        let mut target = tokio::task::spawn_blocking(move || server(scale)).await??;
        let control = organisation::start_control(folder.path()).await?;
        put_catalog(&control, &target, systems).await?;
        let connector = folder.path().join("connector");
        let (connectors, connector_key) = connector_of(&control, &target, &connector)?;
        let mut gateway = GatewayProcess::start(&folder.path().join("gateway"), connector_key.print())?;
        let addresses = vec![control.listen("127.0.0.1:0").await?.to_string()];
        let address = Some(gateway.link_address.clone());
        let mut of_gateway =
            control.admit_local(&info(Role::Gateway, GATEWAY), &gateway.print, address).await?;
        let print = connector_key.print().to_string();
        let mut of_connector = control.admit_local(&info(Role::Connector, CONNECTOR), &print, None).await?;
        of_gateway.control_addresses.clone_from(&addresses);
        of_connector.control_addresses = addresses;
        control.push_roster().await?;
        let port = gateway.join(&of_gateway)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(connectors, &of_connector, &connector, stopped).await {
                eprintln!("the connector failed: {error:#}");
            }
        });
        let (certificate, key) = gateway.certificate()?;
        let pooler = Pooler::start(&mut target, (&certificate, &key), (BESIDE, BESIDE)).await?;
        let mut site = Self {
            control,
            target,
            gateway,
            pooler,
            port,
            password: Mutex::default(),
            grants: Vec::new(),
            stop,
            _folder: folder,
        };
        site.linked().await?;
        for number in 0..systems {
            let grant = site.granted(number).await?;
            site.grants.push(grant);
        }
        site.try_all().await?;
        Ok(site)
    }

    async fn linked(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        let there = |text| self.control.peer(&name(text)).is_some();
        while !(there(GATEWAY) && there(CONNECTOR)) {
            ensure!(Instant::now() < end, "the three roles did not link");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn granted(&self, number: usize) -> Result<GrantId> {
        let incident = u64::try_from(number)? + 1;
        let id = organisation::ask_and_approve(&self.control, entitlement(number), incident).await?;
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.control.store().get(&key_of(&DocumentRef::Grant(id))).await?;
            let grant: Grant = serde_json::from_slice(&found.context("the grant is gone")?.body)?;
            if grant.state == GrantState::Active {
                return Ok(id);
            }
            ensure!(Instant::now() < end, "the grant does not become active: {:?}", grant.state);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Logs in on each way until it works.
    async fn try_all(&self) -> Result<()> {
        for route in ROUTES {
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                let mut psql = self.client(route, "psql").await?;
                let output = psql.args(["-X", "-c", "SELECT 1"]).stderr(Stdio::piped()).output()?;
                if output.status.success() {
                    break;
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(Instant::now() < end, "nobody gets in by the way {route:?}: {said}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// The grant of a system.
    pub fn grant(&self, number: usize) -> Result<GrantId> {
        self.grants.get(number).copied().context("there is no such system")
    }

    /// The process in between, if there is one.
    pub fn pid(&self, route: Route) -> Option<u32> {
        match route {
            Route::Direct => None,
            Route::Pooler => Some(self.pooler.pid()),
            Route::Ours => Some(self.gateway.pid()),
        }
    }

    /// One of PostgreSQL's clients, told to take this way inside TLS. It is ended if it does not end.
    pub async fn client(&self, route: Route, program: &str) -> Result<Command> {
        match route {
            Route::Direct => Ok(self.client_of(program, self.target.address().port(), BESIDE, BESIDE)),
            Route::Pooler => Ok(self.client_of(program, self.pooler.port, BESIDE, BESIDE)),
            Route::Ours => self.client_on(0, program).await,
        }
    }

    /// The same through the gateway, to the system of this number.
    pub async fn client_on(&self, number: usize, program: &str) -> Result<Command> {
        let password = self.connect_password(number).await?;
        Ok(self.client_of(program, self.port, &login(number), &password))
    }

    fn client_of(&self, program: &str, port: u16, user: &str, password: &str) -> Command {
        let path = Path::new(PROGRAMS).join(program);
        let path = if path.is_file() { path } else { program.into() };
        let mut command = Command::new("timeout");
        command
            .args(["-k", "1", PATIENCE])
            .arg(path)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", user)
            .env("PGPASSWORD", password)
            .env("PGDATABASE", "orders")
            .env("PGSSLMODE", "require")
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::null());
        command
    }

    async fn connect_password(&self, number: usize) -> Result<String> {
        let kept = self.password.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((made, password)) = kept
            && number == 0
            && made.elapsed() < RENEW
        {
            return Ok(password);
        }
        let password = random_password()?;
        let salt = ScramSalt::of_login(&*self.control.keys().scram_salt, &login(number));
        let keys = ScramKeys::from_password(&Secret::new(password.clone()), &salt);
        let put = Request::PutConnectPassword {
            person: name("anna"),
            entitlement: entitlement(number),
            grant: self.grant(number)?,
            stored_key: Seed::new(keys.stored_key),
            server_key: Seed::new(keys.server_key),
            expires: self.control.now().plus(Span::minutes(10)),
            client: None,
        };
        let gateway = self.control.peer(&name(GATEWAY)).context("the gateway is not linked")?;
        match gateway.call(put).await? {
            Response::Ok => {}
            other => bail!("the gateway took no connect password: {}", other.name()),
        }
        if number == 0 {
            let mut kept = self.password.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some((Instant::now(), password.clone()));
        }
        Ok(password)
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.gateway.stop();
        // An errand that waits for its turn would hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.control.stop()).await;
    }
}

fn login(number: usize) -> String {
    format!("operate+db-{number}")
}

fn random_password() -> Result<String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(hex::encode(bits))
}

/// Runs a client to its end, and fails when it fails.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// The server with pgbench's tables, set up for the connector.
fn server(scale: u32) -> Result<PostgresTarget> {
    let target = PostgresTarget::builder()
        .setting("log_statement", "none")
        .setting("log_connections", "off")
        .setting("max_connections", "500")
        .setting("shared_buffers", "256MB")
        .start()?;
    let writers = PostgresTarget::WRITERS;
    target.sql("postgres", &format!("CREATE ROLE {BESIDE} LOGIN PASSWORD '{BESIDE}' IN ROLE {writers}"))?;
    let setup = Setup {
        databases: target.databases().to_vec(),
        groups: vec![writers.to_owned()],
        connector: "halligan_connector".to_owned(),
        verifier: Some(verifier_of_password(&Secret::new(BESIDE.to_owned()))?),
        gateways: vec!["127.0.0.1/32".to_owned()],
        connectors: vec!["127.0.0.1/32".to_owned()],
        prepared: Vec::new(),
        client_authority: None,
        read_log: false,
    };
    target.install(&setup.script()?, &setup.hba()?)?;
    let mut pgbench = Command::new(Path::new(PROGRAMS).join("pgbench"));
    pgbench.args(["-i", "-q", "-s"]).arg(scale.to_string()).arg(target.superuser_url("orders"));
    run(&mut pgbench)?;
    target.sql("orders", &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {writers}"))?;
    target.sql("orders", "VACUUM ANALYZE")?;
    Ok(target)
}

fn connector_of(
    control: &Control,
    target: &PostgresTarget,
    folder: &Path,
) -> Result<(SiteConnectors, NodeKey)> {
    halligan_connector::private_folder(folder)?;
    let key = NodeKey::load_or_make(folder)?;
    let lease_key = control.keys().lease.verifying_key();
    let config = SiteConfig::new(name(CONNECTOR), Name::main(), folder.to_owned(), lease_key);
    let site = ConnectorSite::open(config)?;
    let secrets = folder.join("secrets");
    std::fs::create_dir_all(&secrets)?;
    let vault = Vault::new(secrets.clone(), VaultKey::read_or_make(&folder.join("vault_key"))?);
    vault.put("postgres", BESIDE.as_bytes())?;
    ensure!(!target.databases().is_empty(), "the server has no database");
    let credential = LoginCredential::Vault { vault: Arc::new(vault), secret: "postgres".to_owned() };
    let config = PostgresConfig::new(credential, vec!["127.0.0.1/32".to_owned()]);
    let postgres = PostgresConnector::join(Arc::clone(&site), config)?;
    Ok((SiteConnectors::new(site).with(Arc::new(postgres)), key))
}

async fn put_catalog(control: &Control, target: &PostgresTarget, systems: usize) -> Result<()> {
    let entitlement = json!({
        "account": PostgresTarget::WRITERS,
        "ladder": "operate",
        "requested_by": [{"anyone": true}],
        "emergency_policy": "one",
        "postgres": { "connections": 400 },
    });
    let catalog = organisation::catalog(entitlement)?;
    let head = CatalogHead { version: 1, systems_generation: 1, catalog };
    let account = Account {
        person: name("anna"),
        created_at: Time::default(),
        password_set_at: None,
        totp_enrolled_at: None,
        ssh_keys: Vec::new(),
        disabled: false,
    };
    let writes = vec![
        DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head)?),
        DocumentWrite::put(Account::key(&name("anna")), 0, serde_json::to_vec(&account)?),
    ];
    let all = (0..systems).map(|number| {
        let system = System {
            name: name(&format!("db-{number}")),
            kind: SystemKind::Postgres,
            meaning: String::new(),
            address: target.address().to_string(),
            site: Name::main(),
            labels: BTreeMap::new(),
            owner: vec![Who::Person(name("sofia"))],
            host_keys: Vec::new(),
            postgres: Some(CatalogTarget {
                databases: target.databases().to_vec(),
                server_ca: target.ca_pem().to_owned(),
                server_name: Some(PostgresTarget::SERVER_NAME.to_owned()),
            }),
            standard_policy: None,
            emergency_policy: None,
            entitlements: BTreeMap::new(),
        };
        let key = DocumentKey::new(system_kind(1), system.name.as_str());
        Ok(DocumentWrite::put(key, 0, serde_json::to_vec(&system)?))
    });
    control.store().bulk_put(&system_kind(1), all.collect::<Result<_>>()?).await?;
    let body =
        LeafBody::Identity { what: "set_up".to_owned(), person: "bench".to_owned(), detail: String::new() };
    control.note(&Actor::Clock, body, writes).await?;
    control.refresh_catalog().await?;
    Ok(())
}

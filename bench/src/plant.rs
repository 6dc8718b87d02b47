//! A whole installation around a real sshd: control, a gateway and a connector, linked by mutual TLS over loopback, and the
//! gateway's SSH listener. In this process, or as a process of its own (`as-plant`) whose processor time can be read.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use halligan_connector::{SiteConnectors, serve};
use halligan_connector_ssh::{ConnectorConfig, SshConnector};
use halligan_control::catalog::{CatalogHead, head_key, system_kind};
use halligan_control::documents::key_of;
use halligan_control::people::account::{Account, RegisteredKey};
use halligan_control::{Control, Outcome};
use halligan_core::catalog::{System, SystemKind, Who};
use halligan_core::command::{Actor, Command, DocumentRef};
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{EntitlementName, GrantId, Name};
use halligan_core::leaf::LeafBody;
use halligan_core::time::{Span, Time};
use halligan_gateway::{Gateway, Options as GatewayOptions};
use halligan_link::{AllowedNodes, LinkListener, NodeKey, PeerInfo, Role, Timing, keep_connected};
use halligan_protocol_ssh::{SshConfig, SshListener};
use halligan_store::{DocumentKey, DocumentWrite};
use halligan_testkit::ssh_client::SshClient;
use halligan_testkit::ssh_keys::SshKey;
use halligan_testkit::sshd::TestSshd;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::organisation;
use crate::story::name;

/// The account at the target.
pub const ACCOUNT: &str = "halligan-app";

/// The installation.
pub struct Plant {
    /// Control.
    pub control: Control,
    /// The gateway.
    pub gateway: Gateway,
    /// Port of the gateway's SSH listener.
    pub ssh_port: u16,
    /// Its host key.
    pub host_key: String,
    /// Anna's key; she is the responder. The target takes it too, for the direct way.
    pub anna: SshKey,
    /// The target.
    pub sshd: TestSshd,
    systems: usize,
    stop: CancellationToken,
    folder: TempDir,
    _keys: TempDir,
}

/// The login name of system `number` at the gateway.
pub fn login(number: usize) -> String {
    format!("operate+host-{number}")
}

fn entitlement(number: usize) -> EntitlementName {
    EntitlementName { system: name(&format!("host-{number}")), role: name("operate") }
}

impl Plant {
    /// Starts all of it. All `systems` are the same sshd, under names of their own.
    pub async fn start(systems: usize) -> Result<Self> {
        let folder = crate::disk::folder()?;
        let keys = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let anna = SshKey::generate(keys.path(), "anna")?;
        let authorized = open_to_all(keys.path(), "authorized_keys", &(anna.public()? + "\n"))?;
        let control = organisation::start_control(folder.path()).await?;
        let lease_key = control.keys().lease.verifying_key();
        let at = |part: &str| folder.path().join(part);
        let mut config = ConnectorConfig::new(name("con-1"), Name::main(), at("connector"), lease_key);
        config.settle = Span::seconds(1);
        let connector = SshConnector::open(config)?;
        let principals = (0..systems).map(|number| format!("halligan:host-{number}:{ACCOUNT}"));
        let sshd = TestSshd::builder()
            .option("AuthorizedKeysFile", &authorized.display().to_string())
            .option("MaxStartups", "500")
            .trust_ca(connector.ca_public_line())
            .principals(ACCOUNT, principals)
            .start()
            .await?;
        put_catalog(&control, &sshd, &anna, systems).await?;
        let gateway = Gateway::start(
            GatewayOptions::new(at("gateway"), name("gw-1"), lease_key),
            Arc::new(halligan_gateway::SystemClock),
        )?;
        let stop = CancellationToken::new();
        link(&control, &gateway, connector, &at("connector"), &stop).await?;
        let config = SshConfig::new("127.0.0.1:0".parse()?, name("gw-1"), at("host_key"));
        let listener = SshListener::bind(config, Arc::new(gateway.clone())).await?;
        let (ssh_port, host_key) = (listener.local_addr().port(), listener.host_key_openssh().to_owned());
        tokio::spawn(listener.serve(stop.clone()));
        Ok(Self { control, gateway, ssh_port, host_key, anna, sshd, systems, stop, folder, _keys: keys })
    }

    /// The stock client with Anna's key, for both ways.
    pub fn client(&self) -> Result<SshClient> {
        Ok(SshClient::new()?
            .trust_host(self.ssh_port, &self.host_key)?
            .trust_host(self.sshd.port(), &self.sshd.host_key_openssh()?)?
            .identity(&self.anna))
    }

    /// See [`organisation::does`].
    pub async fn does(&self, who: &str, command: Command) -> Result<Outcome> {
        organisation::does(&self.control, who, command).await
    }

    /// See [`organisation::ask_and_approve`].
    pub async fn ask_and_approve(&self, number: usize) -> Result<GrantId> {
        organisation::ask_and_approve(&self.control, entitlement(number), u64::try_from(number)? + 1).await
    }

    /// Waits until the gateway holds so many leases.
    pub async fn leases(&self, count: usize) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.gateway.status().leases < count {
            if Instant::now() > end {
                bail!("the gateway holds {} leases, not {count}", self.gateway.status().leases);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// The grant as it is stored now.
    pub async fn grant(&self, id: GrantId) -> Result<Grant> {
        let found = self.control.store().get(&key_of(&DocumentRef::Grant(id))).await?;
        Ok(serde_json::from_slice(&found.context("the grant is gone")?.body)?)
    }

    /// Grants for every system, and one login to see that the whole way is there.
    pub async fn open_all(&self) -> Result<()> {
        for number in 0..self.systems {
            let grant = self.ask_and_approve(number).await?;
            self.leases(number + 1).await?;
            if self.grant(grant).await?.state != GrantState::Active {
                bail!("the gateway holds a lease of a grant that is not active");
            }
        }
        self.try_door(0).await
    }

    /// Logs in through the gateway until it works, for up to ten seconds.
    pub async fn try_door(&self, number: usize) -> Result<()> {
        let client = self.client()?;
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let run = client.ssh(self.ssh_port, &login(number), "true").await?;
            if run.success() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("nobody gets in through the gateway: {}\n{}", run.stderr, self.sshd.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it. What looks for proofs is not waited for.
    pub async fn stop(self) {
        self.stop.cancel();
        // An errand that waits for its turn at the target would hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.control.stop()).await;
        drop(self.folder);
    }
}

/// A file that the target's account can read.
fn open_to_all(folder: &Path, file: &str, text: &str) -> Result<PathBuf> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let path = folder.join(file);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    Ok(path)
}

/// Joins the three roles by TLS, each with a key of its own.
async fn link(
    control: &Control,
    gateway: &Gateway,
    connector: SshConnector,
    folder: &Path,
    stop: &CancellationToken,
) -> Result<()> {
    let info = |role, text| PeerInfo { name: name(text), role, site: Name::main() };
    let (gw, con) = (info(Role::Gateway, "gw-1"), info(Role::Connector, "con-1"));
    let (gateway_key, connector_key) = (NodeKey::make()?, NodeKey::load_or_make(folder)?);
    let addresses = vec![control.listen("127.0.0.1:0").await?.to_string()];
    let allowed = Arc::new(AllowedNodes::new());
    allowed.allow(connector_key.print(), con.clone());
    let mut listener = LinkListener::bind("127.0.0.1:0", &gateway_key, allowed, Timing::default()).await?;
    let address = Some(listener.address().to_string());
    let mut of_gateway = control.admit_local(&gw, &gateway_key.print().to_string(), address).await?;
    let mut of_connector = control.admit_local(&con, &connector_key.print().to_string(), None).await?;
    of_gateway.control_addresses.clone_from(&addresses);
    of_connector.control_addresses = addresses;
    control.push_roster().await?;
    gateway.follow_control(Arc::new(keep_connected(
        of_gateway.control(),
        gateway_key,
        gateway.handler(),
        Timing::default(),
    )));
    let door = gateway.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        while let Ok(peer) = listener.accept(door.handler()).await {
            door.connector_joined(peer);
        }
    }));
    let (folder, stop) = (folder.to_owned(), stop.clone());
    tokio::spawn(async move {
        let connector = SiteConnectors::new(Arc::clone(connector.site())).with(Arc::new(connector));
        if let Err(error) = serve(connector, &of_connector, &folder, stop).await {
            eprintln!("the connector failed: {error:#}");
        }
    });
    let end = Instant::now() + Duration::from_secs(10);
    let there = |text| control.peer(&name(text)).is_some();
    while !(there("gw-1") && there("con-1") && gateway.roster().is_some()) {
        if Instant::now() > end {
            bail!("the three roles did not link");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn put_catalog(control: &Control, sshd: &TestSshd, anna: &SshKey, systems: usize) -> Result<()> {
    let entitlement = json!({
        "account": ACCOUNT, "ladder": "operate", "requested_by": [{"anyone": true}], "emergency_policy": "one"
    });
    let catalog = organisation::catalog(entitlement)?;
    let head = CatalogHead { version: 1, systems_generation: 1, catalog };
    let account = Account {
        person: name("anna"),
        created_at: Time::default(),
        password_set_at: None,
        totp_enrolled_at: None,
        ssh_keys: vec![RegisteredKey {
            openssh: halligan_session::roster::without_comment(&anna.public()?),
            label: "laptop".to_owned(),
            added_at: Time::default(),
        }],
        disabled: false,
    };
    let mut writes = vec![
        DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head)?),
        DocumentWrite::put(Account::key(&name("anna")), 0, serde_json::to_vec(&account)?),
    ];
    let hosts = (0..systems).map(|number| {
        let system = System {
            name: name(&format!("host-{number}")),
            kind: SystemKind::Ssh,
            meaning: String::new(),
            address: sshd.address().to_string(),
            site: Name::main(),
            labels: BTreeMap::new(),
            owner: vec![Who::Person(name("sofia"))],
            host_keys: vec![sshd.host_key_openssh()?],
            postgres: None,
            standard_policy: None,
            emergency_policy: None,
            entitlements: BTreeMap::new(),
        };
        let key = DocumentKey::new(system_kind(1), system.name.as_str());
        Ok(DocumentWrite::put(key, 0, serde_json::to_vec(&system)?))
    });
    control.store().bulk_put(&system_kind(1), hosts.collect::<Result<_>>()?).await?;
    let body =
        LeafBody::Identity { what: "set_up".to_owned(), person: "bench".to_owned(), detail: String::new() };
    control.note(&Actor::Clock, body, std::mem::take(&mut writes)).await?;
    control.refresh_catalog().await?;
    Ok(())
}

/// The installation in a process of its own: says where it is in one line of JSON, and ends with its standard input.
pub async fn child(arguments: &[String]) -> Result<()> {
    let systems = arguments.first().and_then(|text| text.parse().ok()).context("no number of systems")?;
    let plant = Plant::start(systems).await?;
    plant.open_all().await?;
    let there = json!({
        "ssh_port": plant.ssh_port,
        "host_key": plant.host_key,
        "target_port": plant.sshd.port(),
        "target_host_key": plant.sshd.host_key_openssh()?,
        "identity": plant.anna.path(),
    });
    println!("{there}");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    plant.stop().await;
    Ok(())
}

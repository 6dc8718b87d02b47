//! A small organisation around a real sshd: control, a gateway and a connector, linked in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use halligan_connector::{ConnectorHandler, SiteConnectors};
use halligan_connector_ssh::{ConnectorConfig, SshConnector};
use halligan_control::catalog::{CatalogHead, head_key, system_key};
use halligan_control::clock::SystemClock;
use halligan_control::people::account::{Account, RegisteredKey};
use halligan_control::{Control, ControlOptions};
use halligan_core::catalog::{
    Catalog, Entitlement, FactorKind, LadderStep, Office, OfficeName, Person, Policy, PolicyRule,
    ProofPolicy, Scenario, Scope, Sensitivity, Severity, Step, System, SystemKind, Who,
};
use halligan_core::command::{Actor, Command, FactorUse};
use halligan_core::ids::Name;
use halligan_core::leaf::LeafBody;
use halligan_core::time::{Span, Time};
use halligan_gateway::{Gateway, Options};
use halligan_link::{KeptLink, PeerInfo, Role, in_process};
use halligan_protocol_ssh::{SshConfig, SshListener};
use halligan_store::{DocumentWrite, SqliteOptions, Store};
use halligan_testkit::ssh_client::SshClient;
use halligan_testkit::ssh_keys::SshKey;
use halligan_testkit::sshd::TestSshd;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| Name::main())
}

/// Everything that runs, and the keys of the responder.
pub struct World {
    pub control: Control,
    _gateway: Gateway,
    _sshd: TestSshd,
    pub folder: TempDir,
    /// Whose key every recording is wrapped to.
    pub auditor: halligan_recording::Identity,
    pub ssh_port: u16,
    pub host_key: String,
    pub anna: SshKey,
    stop: CancellationToken,
}

impl World {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = Store::open_sqlite(SqliteOptions::new(folder.path().join("store.sqlite"))).await?;
        let auditor = halligan_recording::Identity::generate()?;
        let options = ControlOptions {
            name: name("control"),
            site: Name::main(),
            folder: folder.path().join("control"),
            origin: "test.example/halligan".into(),
            auditors: vec![auditor.recipient()],
            link_addresses: Vec::new(),
            clock: Arc::new(SystemClock),
        };
        let control = Control::open(options, store).await?;
        let lease_key = control.keys().lease.verifying_key();

        let mut config =
            ConnectorConfig::new(name("con-1"), Name::main(), folder.path().join("connector"), lease_key);
        config.settle = Span::seconds(1);
        let connector = SshConnector::open(config)?;
        let sshd = TestSshd::builder()
            .trust_ca(connector.ca_public_line())
            .principals("halligan-app", ["halligan:orders-host:halligan-app"])
            .start()
            .await?;
        let anna = SshKey::generate(folder.path(), "anna")?;
        put_catalog(&control, &sshd, &anna).await?;

        let gateway = Gateway::start(
            Options::new(folder.path().join("gateway"), name("gw-1"), lease_key),
            Arc::new(halligan_gateway::SystemClock),
        )?;
        let info = |role, text| PeerInfo { name: name(text), role, site: Name::main() };
        let (gw, con) = (info(Role::Gateway, "gw-1"), info(Role::Connector, "con-1"));
        control.admit_local(&gw, &"11".repeat(32), None).await?;
        control.admit_local(&con, &"22".repeat(32), None).await?;
        control.start();

        let connectors = SiteConnectors::new(Arc::clone(connector.site())).with(Arc::new(connector));
        let handler = Arc::new(ConnectorHandler::new(connectors)?);
        let (to_gateway, from_gateway) =
            in_process(control.handler(), control.info(), gateway.handler(), gw.clone());
        let (to_connector, from_connector) =
            in_process(control.handler(), control.info(), handler.clone(), con.clone());
        let (gateway_to_connector, _connector_to_gateway) =
            in_process(gateway.handler(), gw, handler.clone(), con);
        gateway.connector_joined(gateway_to_connector);
        gateway.control_joined(from_gateway);
        control.connected(to_gateway);
        tokio::spawn(handler.report(Arc::new(KeptLink::fixed(from_connector))));
        control.connected(to_connector);

        let config = SshConfig::new("127.0.0.1:0".parse()?, name("gw-1"), folder.path().join("host_key"));
        let listener = SshListener::bind(config, Arc::new(gateway.clone())).await?;
        let (ssh_port, host_key) = (listener.local_addr().port(), listener.host_key_openssh().to_owned());
        let stop = CancellationToken::new();
        tokio::spawn(listener.serve(stop.clone()));
        Ok(Self { control, _gateway: gateway, _sshd: sshd, ssh_port, host_key, anna, folder, auditor, stop })
    }

    /// The stock client as Anna has it.
    pub fn client(&self) -> Result<SshClient> {
        Ok(SshClient::new()?.trust_host(self.ssh_port, &self.host_key)?.identity(&self.anna))
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.control.stop().await;
    }

    /// Carries a command of a person out, with a second factor shown for it.
    pub async fn does(&self, who: &str, command: Command) -> Result<halligan_control::Outcome> {
        let at = self.control.now();
        let factor =
            FactorUse { kind: FactorKind::Totp, at, enrolled_at: Time::default(), for_this_act: true };
        let actor = Actor::Person { id: name(who), factor: Some(factor), token: false };
        Ok(self.control.run(&actor, command).await?)
    }
}

/// Waits until `probe` gives something.
pub async fn eventually<T, F: AsyncFnMut() -> Result<Option<T>>>(
    what: &str,
    within: Duration,
    mut probe: F,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = probe().await.with_context(|| format!("while waiting for {what}"))? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {within:?} in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

async fn put_catalog(control: &Control, sshd: &TestSshd, anna: &SshKey) -> Result<()> {
    let mut catalog = Catalog { organisation: "Test".into(), ..Catalog::default() };
    catalog.settings.approver_minimum_age = Span::ZERO;
    for id in ["anna", "carla", "dmitri", "sofia", "ines", "paula"] {
        catalog.people.insert(name(id), Person { name: id.to_uppercase(), ..Person::default() });
    }
    let office = |id: &str| Office { people: [name(id)].into(), ..Office::default() };
    catalog.offices.insert(OfficeName::SecurityOfficer, office("sofia"));
    catalog.offices.insert(OfficeName::IncidentLead, office("ines"));
    catalog.offices.insert(OfficeName::PlatformOwner, office("paula"));
    catalog.severities.insert(name("sev1"), Severity { rank: 1, ..Severity::default() });
    catalog.sensitivities.insert(
        name("customer-data"),
        Sensitivity { meaning: String::new(), automatic_approval: false, distinct_approvers: 2 },
    );
    let step = |id: &str, text: &str| Step {
        name: text.into(),
        approvers: vec![Who::Person(name(id))],
        quorum: 1,
        fallback: Vec::new(),
        factors: Default::default(),
        reason_required: false,
        timer: None,
    };
    let rule = PolicyRule {
        steps: vec![step("carla", "lead"), step("dmitri", "data owner")],
        ..PolicyRule::default()
    };
    catalog.policies.insert(name("two"), Policy { rules: vec![rule], ..Policy::default() });
    catalog.scenarios.insert(
        name("db-locked"),
        Scenario {
            invoked_by: vec![Who::Anyone(true)],
            bypassed_by: vec![Who::Person(name("anna"))],
            scope: vec![Scope::default()],
            first_step: LadderStep::Administer,
            ..Scenario::default()
        },
    );
    let entitlement = Entitlement {
        meaning: String::new(),
        account: "halligan-app".into(),
        shared_account: false,
        sensitivity: Some(name("customer-data")),
        ladder: LadderStep::Operate,
        plane: Default::default(),
        subsystem: None,
        requested_by: vec![Who::Anyone(true)],
        standard_policy: None,
        emergency_policy: Some(name("two")),
        emergency: true,
        emergency_only: true,
        durations: Default::default(),
        emergency_durations: BTreeMap::new(),
        link_pattern: None,
        recording: Default::default(),
        ssh: Default::default(),
        postgres: Default::default(),
        proof: ProofPolicy { login_window: Span::seconds(3), ..ProofPolicy::default() },
        on_partition: Default::default(),
        idle_limit: None,
    };
    let system = System {
        name: name("orders-host"),
        kind: SystemKind::Ssh,
        meaning: String::new(),
        address: sshd.address().to_string(),
        site: Name::main(),
        labels: BTreeMap::new(),
        owner: vec![Who::Person(name("paula"))],
        host_keys: vec![sshd.host_key_openssh()?],
        postgres: None,
        standard_policy: None,
        emergency_policy: None,
        entitlements: [(name("operate"), entitlement)].into(),
    };
    let head = CatalogHead { version: 1, systems_generation: 1, catalog };
    let account = Account {
        person: name("anna"),
        created_at: Time::default(),
        password_set_at: None,
        totp_enrolled_at: None,
        ssh_keys: vec![RegisteredKey {
            openssh: anna.public()?.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            label: "laptop".into(),
            added_at: Time::default(),
        }],
        disabled: false,
    };
    let writes = vec![
        DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head)?),
        DocumentWrite::put(system_key(1, &system.name), 0, serde_json::to_vec(&system)?),
        DocumentWrite::put(Account::key(&name("anna")), 0, serde_json::to_vec(&account)?),
    ];
    let body =
        LeafBody::Identity { what: "test_set_up".into(), person: "test".into(), detail: String::new() };
    control.note(&Actor::Clock, body, writes).await?;
    control.refresh_catalog().await?;
    Ok(())
}

//! A connector: its settings, and its links inside one process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use halligan_connector::{ConnectorHandler, Site, SiteConnectors};
use halligan_connector_postgres::PostgresConnector;
use halligan_connector_ssh::{ConnectorConfig, KrlDelivery, SshConnector};
use halligan_control::Control;
use halligan_core::ids::Name;
use halligan_core::time::Span;
use halligan_gateway::Gateway;
use halligan_link::{Handler, KeptLink, NodeKey, PeerInfo, Role, RootFile, in_process};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connector_secrets;
use super::local_links;
use super::process::make_private;
use crate::config::Config;

/// Name of the file that targets trust, in the connector's folder.
pub const CA_FILE: &str = "site_ca.pub";

/// A site's connector with its kinds. Clones are the same connector.
#[derive(Clone, Debug)]
pub struct OpenConnector {
    /// SSH hosts.
    pub ssh: SshConnector,
    kinds: SiteConnectors,
}

impl OpenConnector {
    /// All that it serves.
    pub fn kinds(&self) -> SiteConnectors {
        self.kinds.clone()
    }
}

/// Opens a connector on its folder. Blocks for the disk.
pub fn open(config: &Config, folder: &Path, root: &RootFile) -> anyhow::Result<OpenConnector> {
    let control = root.lease_key().map_err(anyhow::Error::msg)?;
    let mut options = ConnectorConfig::new(root.name.clone(), root.site.clone(), folder.to_owned(), control);
    options.source_addresses.clone_from(&config.connector.source_addresses);
    options.clock_slack = Span::seconds(i64::from(config.connector.clock_slack_seconds));
    options.krl = KrlDelivery {
        path: config.connector.krl.path.clone(),
        command: config.connector.krl.command.clone(),
    };
    let failed = || format!("failed to start the connector {}", root.name);
    let site = Site::open(options.site()).with_context(failed)?;
    let ssh = SshConnector::join(Arc::clone(&site), options).with_context(failed)?;
    let file = folder.join(CA_FILE);
    let line = format!("{}\n", ssh.ca_public_line());
    std::fs::write(&file, line).with_context(|| format!("failed to write {}", file.display()))?;
    let postgres = connector_secrets::postgres(config, folder)?;
    let postgres = PostgresConnector::join(Arc::clone(&site), postgres).with_context(failed)?;
    let kinds = SiteConnectors::new(site).with(Arc::new(ssh.clone())).with(Arc::new(postgres));
    Ok(OpenConnector { ssh, kinds })
}

/// How it is, for operators.
pub fn status(connector: &OpenConnector) -> Value {
    json!({
        "site_ca": connector.ssh.ca_public_line(),
        "ledger_size": connector.ssh.journal().size(),
    })
}

/// A running connector of the server's own process.
pub struct ConnectorRole {
    /// The connector.
    pub connector: OpenConnector,
    _links: Vec<AbortOnDropHandle<()>>,
}

impl ConnectorRole {
    /// Starts it: control knows it, and it is linked with control and with the gateway of this process.
    pub async fn start_local(
        config: &Config,
        control: &Control,
        gateway: Option<&Gateway>,
    ) -> anyhow::Result<Self> {
        let folder = config.connector_folder();
        make_private(&folder)?;
        let key = NodeKey::load_or_make(&folder)?;
        let site = control.options().site.clone();
        let info = PeerInfo { name: Name::new(config.connector.name.as_str())?, role: Role::Connector, site };
        let root = control.admit_local(&info, &key.print().to_string(), None).await?;
        let connector = open(config, &folder, &root)?;
        let handler = Arc::new(ConnectorHandler::new(connector.kinds())?);
        let stop = CancellationToken::new();
        let mut links = vec![to_control(control, &handler, &info, &stop)];
        links.extend(
            gateway
                .map(|gateway| to_gateway(config, control, gateway, &handler, &info, &stop))
                .transpose()?,
        );
        let kinds = connector.kinds();
        links.push(AbortOnDropHandle::new(tokio::spawn(async move { kinds.keep_watch().await })));
        Ok(Self { connector, _links: links })
    }
}

fn to_control(
    control: &Control,
    handler: &Arc<ConnectorHandler>,
    info: &PeerInfo,
    stop: &CancellationToken,
) -> AbortOnDropHandle<()> {
    let (control, handler, info) = (control.clone(), Arc::clone(handler), info.clone());
    local_links::keep(stop.clone(), move || {
        let (at_control, at_connector) = in_process(
            control.handler(),
            control.info(),
            Arc::clone(&handler) as Arc<dyn Handler>,
            info.clone(),
        );
        control.connected(at_control.clone());
        let link = Arc::new(KeptLink::fixed(at_connector.clone()));
        let reporting = tokio::spawn(Arc::clone(&handler).report(link));
        (at_control, at_connector, vec![AbortOnDropHandle::new(reporting)])
    })
}

fn to_gateway(
    config: &Config,
    control: &Control,
    gateway: &Gateway,
    handler: &Arc<ConnectorHandler>,
    info: &PeerInfo,
    stop: &CancellationToken,
) -> anyhow::Result<AbortOnDropHandle<()>> {
    let gateway_info = PeerInfo {
        name: Name::new(config.gateway.name.as_str())?,
        role: Role::Gateway,
        site: control.options().site.clone(),
    };
    let (gateway, handler, info) = (gateway.clone(), Arc::clone(handler), info.clone());
    Ok(local_links::keep(stop.clone(), move || {
        let (at_gateway, at_connector) = in_process(
            gateway.handler(),
            gateway_info.clone(),
            Arc::clone(&handler) as Arc<dyn Handler>,
            info.clone(),
        );
        gateway.connector_joined(at_gateway.clone());
        (at_gateway, at_connector, Vec::new())
    }))
}

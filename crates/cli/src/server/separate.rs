//! A gateway or a connector in a process of its own. What it trusts stands in its root file; it starts, and keeps what it
//! promised, without control.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use halligan_gateway::Gateway;
use halligan_link::{
    AllowedNodes, BoxFuture, KeptLink, LinkListener, NodeKey, Peer, PeerInfo, Role, RootFile, Timing,
    keep_connected,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::admin::{AdminSocket, Answers, Question};
use super::connector_role::{self, OpenConnector};
use super::gateway_role::{self, GatewayRole};
use super::one::setup;
use super::process::{hold, tell_manager};
use super::stop;
use crate::config::Config;

/// How soon a new roster is taken over by the listener for connectors.
const ROSTER_PAUSE: Duration = Duration::from_millis(100);

/// The root file of a folder, for one role.
fn root(config: &Config, role: Role) -> anyhow::Result<RootFile> {
    let folder = &config.server.folder;
    let Some(root) = RootFile::load(folder)? else {
        bail!(
            "{} belongs to no node yet: make a token with `halligan nodes token` and join with `halligan node join FILE \
             --folder {0}`",
            folder.display()
        );
    };
    if root.role != role {
        bail!("{} is the folder of {}: start that instead", folder.display(), root.info());
    }
    Ok(root)
}

/// Runs a gateway until asked to stop.
pub async fn gateway(config: Config) -> anyhow::Result<()> {
    let folder = config.server.folder.clone();
    let _held = hold(&folder)?;
    let root = root(&config, Role::Gateway)?;
    let stop = stop::on_signals().context("failed to listen for signals")?;
    let key = NodeKey::load_or_make(&folder)?;
    let role = GatewayRole::start(&config, &folder, &root).await?;
    let to_control =
        Arc::new(keep_connected(root.control(), key.clone(), role.gateway.handler(), Timing::default()));
    role.gateway.follow_control(Arc::clone(&to_control));
    let allowed = Arc::new(AllowedNodes::new());
    let listener =
        LinkListener::bind(&config.gateway.link_listen, &key, Arc::clone(&allowed) as _, Timing::default())
            .await?;
    let link = listener.address();
    let following = AbortOnDropHandle::new(tokio::spawn(follow_roster(role.gateway.clone(), allowed)));
    let connectors = Connectors::default();
    let accepting = AbortOnDropHandle::new(tokio::spawn(accept(
        listener,
        role.gateway.clone(),
        root.info(),
        connectors.clone(),
    )));
    let addresses = json!({
        "ssh": role.ssh.to_string(),
        "ssh_host_key": role.host_key,
        "postgres": role.postgres.map(|at| at.to_string()),
        "postgres_certificate": role.postgres_certificate,
        "link": link.to_string(),
    });
    let answers = GatewayAsked {
        info: root.info(),
        gateway: role.gateway.clone(),
        to_control: Arc::clone(&to_control),
        connectors,
        addresses,
        stop: stop.soon.clone(),
    };
    let socket = AdminSocket::open(config.socket(), Arc::new(answers))?;
    tell_manager("READY=1");
    tracing::info!(node = %root.info(), ssh = %role.ssh, link = %link, "ready");

    stop.soon.cancelled().await;
    tell_manager("STOPPING=1");
    drop(socket);
    role.stop(&stop).await;
    drop((accepting, following, to_control));
    tracing::info!("stopped");
    Ok(())
}

/// Lets in whom the roster names, and drops whom it no longer names.
async fn follow_roster(gateway: Gateway, allowed: Arc<AllowedNodes>) {
    let mut serial = 0;
    loop {
        if let Some(roster) = gateway.roster()
            && roster.roster().serial != serial
        {
            serial = roster.roster().serial;
            allowed.set_roster(roster.roster());
        }
        tokio::time::sleep(ROSTER_PAUSE).await;
    }
}

/// Connectors that have come in.
#[derive(Clone, Default)]
struct Connectors(Arc<Mutex<Vec<Peer>>>);

impl Connectors {
    fn add(&self, peer: Peer) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|peer| !peer.is_closed());
        held.push(peer);
    }
    fn count(&self) -> usize {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|peer| !peer.is_closed()).count()
    }
}

/// Takes connectors of this site in.
async fn accept(mut listener: LinkListener, gateway: Gateway, own: PeerInfo, connectors: Connectors) {
    loop {
        match listener.accept(gateway.handler()).await {
            Ok(peer) if peer.info().role == Role::Connector && peer.info().site == own.site => {
                connectors.add(peer.clone());
                gateway.connector_joined(peer);
            }
            Ok(peer) => peer.close("only connectors of this gateway's site come in here"),
            Err(error) => {
                tracing::error!(%error, "the listener for connectors is gone");
                return;
            }
        }
    }
}

/// Runs a connector until asked to stop.
pub async fn connector(config: Config) -> anyhow::Result<()> {
    let folder = config.server.folder.clone();
    let _held = hold(&folder)?;
    let root = root(&config, Role::Connector)?;
    let stop = stop::on_signals().context("failed to listen for signals")?;
    let connector = connector_role::open(&config, &folder, &root)?;
    let answers = ConnectorAsked { info: root.info(), connector: connector.clone(), stop: stop.soon.clone() };
    let socket = AdminSocket::open(config.socket(), Arc::new(answers))?;
    tell_manager("READY=1");
    tracing::info!(node = %root.info(), "ready");
    // It listens nowhere and holds nobody's session: there is nothing to drain.
    halligan_connector::serve(connector.kinds(), &root, &folder, stop.soon.clone()).await?;
    tell_manager("STOPPING=1");
    drop(socket);
    tracing::info!("stopped");
    Ok(())
}

struct GatewayAsked {
    info: PeerInfo,
    gateway: Gateway,
    to_control: Arc<KeptLink>,
    connectors: Connectors,
    addresses: Value,
    stop: CancellationToken,
}

impl Answers for GatewayAsked {
    fn answer(&self, question: Question) -> BoxFuture<'_, anyhow::Result<Value>> {
        Box::pin(async move {
            match question {
                Question::Status {} => Ok(json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "process": std::process::id(),
                    "name": self.info.name,
                    "site": self.info.site,
                    "control": self.to_control.peer().is_some(),
                    "trouble": self.to_control.trouble(),
                    "connectors": self.connectors.count(),
                    "addresses": self.addresses,
                    "gateway": gateway_role::status(&self.gateway),
                })),
                Question::Stop {} => {
                    self.stop.cancel();
                    Ok(json!({ "stopping": true }))
                }
                Question::Backup { .. } => bail!("a gateway has no store; ask the server"),
                Question::SshdSetup { .. } => bail!("a gateway has no site CA; ask the connector"),
            }
        })
    }
}

struct ConnectorAsked {
    info: PeerInfo,
    connector: OpenConnector,
    stop: CancellationToken,
}

impl Answers for ConnectorAsked {
    fn answer(&self, question: Question) -> BoxFuture<'_, anyhow::Result<Value>> {
        Box::pin(async move {
            match question {
                Question::Status {} => Ok(json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "process": std::process::id(),
                    "name": self.info.name,
                    "site": self.info.site,
                    "connector": connector_role::status(&self.connector),
                })),
                Question::Stop {} => {
                    self.stop.cancel();
                    Ok(json!({ "stopping": true }))
                }
                Question::Backup { .. } => bail!("a connector has no store; ask the server"),
                Question::SshdSetup { system, account } => setup(&self.connector.ssh, &system, &account),
            }
        })
    }
}

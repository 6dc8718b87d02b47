//! A gateway: the engine, the listeners before it, and how they stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use halligan_control::Control;
use halligan_core::ids::Name;
use halligan_gateway::{Gateway, Options, SystemClock};
use halligan_link::messages::{ClientListener, SSH};
use halligan_link::{NodeKey, PeerInfo, Role, RootFile, in_process};
use halligan_protocol_ssh::{SshConfig, SshListener};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::api::host_of;
use super::local_links;
use super::postgres_listener;
use super::process::make_private;
use super::stop::Stop;
use crate::config::{Config, address_of};

/// Time for the ledger and control to hear of the ends of sessions.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The same when asked to end at once.
const LAST_WORDS_NOW: Duration = Duration::from_millis(500);

/// A running gateway.
pub struct GatewayRole {
    /// The engine.
    pub gateway: Gateway,
    /// Where SSH clients come in.
    pub ssh: SocketAddr,
    /// Its host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// Where PostgreSQL clients come in, if they do.
    pub postgres: Option<SocketAddr>,
    /// The certificate that they see, PEM.
    pub postgres_certificate: Option<String>,
    serving: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
    /// The link to control, inside one process.
    link: Option<AbortOnDropHandle<()>>,
}

impl GatewayRole {
    /// Starts engine and listener on a folder. `root` says who the node is and whom it obeys.
    pub async fn start(config: &Config, folder: &Path, root: &RootFile) -> anyhow::Result<Self> {
        let name = root.name.clone();
        let control = root.lease_key().map_err(anyhow::Error::msg)?;
        let mut options = Options::new(folder.to_owned(), name.clone(), control);
        options.most_sessions = usize::try_from(config.limits.sessions)?;
        options.most_sessions_per_person = usize::try_from(config.limits.sessions_per_person)?;
        options.disk_reserve_bytes = u64::from(config.limits.disk_reserve_mib) * 1024 * 1024;
        let gateway = Gateway::start(options, Arc::new(SystemClock))
            .with_context(|| format!("failed to start the gateway {name}"))?;
        let listen = address_of(&config.gateway.listen)
            .with_context(|| format!("failed to read gateway.listen = \"{}\"", config.gateway.listen))?;
        let mut ssh = SshConfig::new(listen, name.clone(), folder.join("ssh_host_ed25519_key"));
        ssh.host_certificate_file.clone_from(&config.gateway.host_certificate);
        ssh.login_grace = Duration::from_secs(u64::from(config.limits.login_seconds));
        ssh.most_connections = usize::try_from(config.limits.connections)?;
        ssh.drain = Duration::from_secs(config.server.drain_seconds);
        let listener = SshListener::bind(ssh, Arc::new(gateway.clone())).await?;
        let (at, host_key) = (listener.local_addr(), listener.host_key_openssh().to_owned());
        let listener_at = public_address(config, config.gateway.public_address.as_ref(), at)?;
        tracing::info!(address = listener_at, "people's SSH clients are told to come here");
        gateway.listens(SSH, ClientListener { address: listener_at, host_keys: vec![host_key.clone()] });
        let shutdown = CancellationToken::new();
        let mut serving = vec![tokio::spawn(listener.serve(shutdown.clone()))];
        let (mut postgres, mut postgres_certificate) = (None, None);
        if let Some(listener) = postgres_listener::bind(config, folder, &gateway, &name).await? {
            postgres = Some(listener.local_addr());
            postgres_certificate = Some(listener.certificate_pem().to_owned());
            serving.push(tokio::spawn(listener.serve(shutdown.clone())));
        }
        Ok(Self { gateway, ssh: at, host_key, postgres, postgres_certificate, serving, shutdown, link: None })
    }

    /// Starts the gateway of the server's own process: control knows it, and is linked with it.
    pub async fn start_local(config: &Config, control: &Control) -> anyhow::Result<Self> {
        let folder = config.gateway_folder();
        make_private(&folder)?;
        let key = NodeKey::load_or_make(&folder)?;
        let name = Name::new(config.gateway.name.as_str())?;
        let info = PeerInfo { name, role: Role::Gateway, site: control.options().site.clone() };
        let root = control.admit_local(&info, &key.print().to_string(), None).await?;
        let mut this = Self::start(config, &folder, &root).await?;
        let (control, gateway) = (control.clone(), this.gateway.clone());
        // The link outlives the listener: what sessions leave is still reported while they end.
        let link = local_links::keep(CancellationToken::new(), move || {
            let (at_control, at_gateway) =
                in_process(control.handler(), control.info(), gateway.handler(), info.clone());
            control.connected(at_control.clone());
            gateway.control_joined(at_gateway.clone());
            (at_control, at_gateway, Vec::new())
        });
        this.link = Some(link);
        Ok(this)
    }

    /// Takes nobody new, lets sessions go on for the drain time, ends them, and waits until their ends are recorded.
    pub async fn stop(self, stop: &Stop) {
        self.shutdown.cancel();
        let hurry = tokio::select! {
            () = all(self.serving) => false,
            () = stop.now.cancelled() => true,
        };
        let within = if hurry { LAST_WORDS_NOW } else { LAST_WORDS };
        if !self.gateway.drain(within).await {
            tracing::warn!("control has not heard of everything yet; the next start tells it");
        }
        drop(self.link);
    }
}

async fn all(serving: Vec<JoinHandle<()>>) {
    for listener in serving {
        let _panicked = listener.await;
    }
}

/// Where people reach what listens at `bound`, unless the configuration `says`. A listener on all interfaces has no address
/// of its own.
pub fn public_address(config: &Config, says: Option<&String>, bound: SocketAddr) -> anyhow::Result<String> {
    if let Some(address) = says {
        return Ok(address.clone());
    }
    if !bound.ip().is_unspecified() {
        return Ok(bound.to_string());
    }
    let host = match host_of(config.server.public_url.as_deref()) {
        Some(host) => host,
        None => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("failed to learn this machine's name; set gateway.public_address")?;
            name.trim().to_owned()
        }
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(format!("{host}:{}", bound.port()))
}

/// How it is, for operators.
pub fn status(gateway: &Gateway) -> Value {
    let status = gateway.status();
    json!({
        "leases": status.leases,
        "sessions": status.sessions,
        "roster": status.roster,
        "ledger_size": status.ledger_size,
        "acknowledged": status.acknowledged,
        "recordings_to_send": status.spooled,
        "disk_free": status.disk_free,
        "warnings": status.warnings,
    })
}

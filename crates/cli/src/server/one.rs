//! `halligan server`: control, and beside it a gateway and a connector, as tasks of one process. Each has its own folder,
//! key and ledger, and they speak over links as if they were apart.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use halligan_connector_ssh::SshConnector;
use halligan_control::Control;
use halligan_core::ids::Name;
use halligan_link::BoxFuture;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::admin::{AdminSocket, Answers, Question};
use super::connector_role::{self, ConnectorRole, OpenConnector};
use super::gateway_role::GatewayRole;
use super::process::{hold, tell_manager, write_private};
use super::stop::{self, Stop};
use super::{api, control_role, first, join};
use crate::config::Config;

/// Name of the file that says where this server listens.
pub const ADDRESSES_FILE: &str = "addresses.json";

/// Runs until asked to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    let folder = config.server.folder.clone();
    let _held = hold(&folder)?;
    let stop = stop::on_signals().context("failed to listen for signals")?;
    let (control, link) = control_role::start(&config).await?;
    let gateway = match config.gateway.enabled {
        true => Some(GatewayRole::start_local(&config, &control).await?),
        false => None,
    };
    let connector = match config.connector.enabled {
        true => {
            let gateway = gateway.as_ref().map(|role| &role.gateway);
            Some(ConnectorRole::start_local(&config, &control, gateway).await?)
        }
        false => None,
    };
    let secret = first::enrolment(&control, &folder, &config.server.administrator).await?;
    join::write_tokens(&control, &config).await?;
    // Last: whoever reaches it finds everything else in place.
    let api = api::start(&control, &config, &stop).await?;

    let addresses = json!({
        "api": api.url,
        "api_certificate": api.certificate,
        "ssh": gateway.as_ref().map(|role| role.ssh.to_string()),
        "ssh_host_key": gateway.as_ref().map(|role| role.host_key.clone()),
        "postgres": gateway.as_ref().and_then(|role| role.postgres).map(|at| at.to_string()),
        "postgres_certificate": gateway.as_ref().and_then(|role| role.postgres_certificate.clone()),
        "link": link.map(|address| address.to_string()),
        "site_ca": connector.as_ref().map(|role| role.connector.ssh.ca_public_line().to_owned()),
    });
    write_private(&folder.join(ADDRESSES_FILE), &format!("{addresses:#}\n"))?;
    let answers = Asked {
        control: control.clone(),
        connector: connector.as_ref().map(|role| role.connector.clone()),
        gateway: gateway.as_ref().map(|role| role.gateway.clone()),
        addresses: addresses.clone(),
        stop: stop.soon.clone(),
    };
    let socket = AdminSocket::open(config.socket(), Arc::new(answers))?;
    tell_manager("READY=1");
    let of = |key: &str| addresses.get(key).and_then(Value::as_str).map(str::to_owned);
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        folder = %folder.display(),
        api = of("api"),
        ssh = of("ssh"),
        link = of("link"),
        milliseconds,
        "ready"
    );
    greet(&folder, &config, &addresses, secret.as_ref().map(|secret| secret.as_str()));

    stop.soon.cancelled().await;
    tell_manager("STOPPING=1");
    drop(socket);
    end(api, gateway, connector, &control, &stop).await;
    let _ = std::fs::remove_file(folder.join(ADDRESSES_FILE));
    tracing::info!("stopped");
    Ok(())
}

/// The outside first, control last: what ends is still recorded and reported.
async fn end(
    api: api::ApiRole,
    gateway: Option<GatewayRole>,
    connector: Option<ConnectorRole>,
    control: &Control,
    stop: &Stop,
) {
    let people = async {
        if let Some(gateway) = gateway {
            gateway.stop(stop).await;
        }
    };
    tokio::join!(api.stop(stop), people);
    drop(connector);
    let last = std::time::Duration::from_secs(5);
    if tokio::time::timeout(last, control.stop()).await.is_err() {
        tracing::warn!("something did not end in time; what is recorded is on disk");
    }
}

/// For the person who started it by hand.
fn greet(folder: &Path, config: &Config, addresses: &Value, secret: Option<&str>) {
    use std::io::IsTerminal as _;
    if !std::io::stdout().is_terminal() {
        return;
    }
    let of = |key: &str| addresses.get(key).and_then(Value::as_str).unwrap_or("nowhere").to_owned();
    println!(
        "\nHalligan is ready.\n  API         {}\n  SSH         {}\n  PostgreSQL  {}\n  folder      {}",
        of("api"),
        of("ssh"),
        of("postgres"),
        folder.display()
    );
    if let Some(secret) = secret {
        println!(
            "\nFirst administrator `{}`: enrol within 30 minutes with this one-time secret, and keep it to yourself:\n  {secret}",
            config.server.administrator
        );
    }
    println!("\nStop with Ctrl-C.");
}

/// Answers at the local socket.
struct Asked {
    control: Control,
    gateway: Option<halligan_gateway::Gateway>,
    connector: Option<OpenConnector>,
    addresses: Value,
    stop: CancellationToken,
}

impl Answers for Asked {
    fn answer(&self, question: Question) -> BoxFuture<'_, anyhow::Result<Value>> {
        Box::pin(async move {
            match question {
                Question::Status {} => self.status().await,
                Question::Stop {} => {
                    self.stop.cancel();
                    Ok(json!({ "stopping": true }))
                }
                Question::Backup { to } => {
                    self.control.store().backup(&to).await.context("failed to copy the store")?;
                    let head = self.control.store().head().await?;
                    Ok(
                        json!({ "file": to, "leaves": head.size, "checkpoint": head.signed.map(|signed| signed.note) }),
                    )
                }
                Question::SshdSetup { system, account } => {
                    let connector = self.connector.as_ref().context("no connector runs in this process")?;
                    setup(&connector.ssh, &system, &account)
                }
            }
        })
    }
}

/// What to install at a target, as text.
pub fn setup(connector: &SshConnector, system: &str, account: &str) -> anyhow::Result<Value> {
    let text = connector.sshd_setup(&Name::new(system)?, account);
    Ok(json!({ "text": text, "site_ca": connector.ca_public_line() }))
}

impl Asked {
    async fn status(&self) -> anyhow::Result<Value> {
        let control = &self.control;
        let nodes: Vec<Value> = control
            .node_records()
            .await?
            .into_iter()
            .map(|node| {
                json!({
                    "name": node.name,
                    "role": node.role,
                    "site": node.site,
                    "connected": control.peer(&node.name).is_some(),
                    "expelled": node.expelled,
                    "address": node.address,
                })
            })
            .collect();
        let head = control.store().head().await?;
        let outbox = control.store().outbox_stats().await?;
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "name": control.options().name,
            "site": control.options().site,
            "store": control.store().engine(),
            "leaves": head.size,
            "signed": head.signed.as_ref().map(|signed| signed.size),
            "checkpoint": head.signed.map(|signed| signed.note),
            "errands": outbox.count,
            "catalog": control.in_force().head.version,
            "addresses": self.addresses,
            "nodes": nodes,
            "gateway": self.gateway.as_ref().map(super::gateway_role::status),
            "connector": self.connector.as_ref().map(connector_role::status),
        }))
    }
}

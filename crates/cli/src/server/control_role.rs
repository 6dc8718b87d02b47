//! Control: its store, its keys, its listener for nodes.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use halligan_control::clock::SystemClock;
use halligan_control::{Control, ControlOptions};
use halligan_core::ids::Name;
use halligan_store::{PostgresOptions, SqliteOptions, Store};

use super::process::make_private;
use super::{api, first, recover};
use crate::config::{Config, StoreKind};

/// Opens the store that the configuration names.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    match config.store.kind {
        StoreKind::Sqlite => {
            let path = config.store_path();
            Store::open_sqlite(SqliteOptions::new(&path))
                .await
                .with_context(|| format!("failed to open the store {}", path.display()))
        }
        StoreKind::Postgres => {
            let mut options = PostgresOptions::new(config.store.url.clone().unwrap_or_default());
            options.password_file.clone_from(&config.store.password_file);
            options.root_certificate.clone_from(&config.store.root_certificate);
            Store::open_postgres(options).await.context("failed to open the store in PostgreSQL")
        }
    }
}

/// Opens control and starts it. Gives where it listens for nodes, if it does.
pub async fn start(config: &Config) -> anyhow::Result<(Control, Option<SocketAddr>)> {
    let folder = config.control_folder();
    make_private(&folder)?;
    let auditors = first::auditors(config)?;
    let store = open_store(config).await?;
    let listen = config.link.listen.as_deref().map(settled).transpose()?;
    let link_addresses = match (&listen, config.link.addresses.as_slice()) {
        (Some(address), []) => vec![address.clone()],
        (_, addresses) => addresses.to_vec(),
    };
    let options = ControlOptions {
        name: Name::new(config.server.name.as_str())?,
        site: Name::new(config.server.site.as_str())?,
        folder,
        origin: recover::origin(&store, &config.ledger.origin).await?,
        auditors,
        link_addresses,
        clock: Arc::new(SystemClock),
    };
    let control = Control::open(options, store).await?;
    // Before anything runs: an alert without a sink would count as delivered.
    api::alerts(&control, config)?;
    control.start();
    let bound = match listen {
        Some(address) => Some(control.listen(&address).await?),
        None => None,
    };
    Ok((control, bound))
}

/// Port 0 becomes a free port, because join tokens must name it.
fn settled(address: &str) -> anyhow::Result<String> {
    match address.parse::<SocketAddr>() {
        Ok(wanted) if wanted.port() == 0 => {
            let taken =
                TcpListener::bind(wanted).with_context(|| format!("failed to listen at {address}"))?;
            Ok(taken.local_addr().context("failed to learn the address of the listener")?.to_string())
        }
        _ => Ok(address.to_owned()),
    }
}

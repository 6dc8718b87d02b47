//! Connections to PostgreSQL: how they are made, what they are told first, how reads share them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, RwLock};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::tls::Tls;
use super::{PostgresOptions, SKIP, closed};
use crate::error::StoreError;
use crate::schema::{self, Dialect};
use crate::store::Written;
use crate::value::Row;

/// Longest wait for one read or small write, connecting included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Key of the advisory lock that nodes take while they migrate ("halligan" in ASCII).
const MIGRATION_LOCK: i64 = 0x6861_6c6c_6967_616e;

/// A node that stalls while it holds the head row loses it after five seconds; the others wait ten.
/// Every statement must use its index: statistics of a young table lie. The last line never lowers
/// what the operator chose (`remote_apply`), and never leaves a commit to be lost.
const SESSION: &str = "SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET jit = off; SET enable_seqscan = off; \
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET client_encoding = 'UTF8'; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');";

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    config: Config,
    password_file: Option<PathBuf>,
    tls: Option<Tls>,
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        let mut config: Config = options
            .url
            .parse()
            .map_err(|_| StoreError::refused("failed to read the PostgreSQL connection string"))?;
        config
            .application_name("halligan")
            .connect_timeout(Duration::from_secs(5))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match &options.root_certificate {
            Some(_) if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) => None,
            Some(path) => Some(Tls::trusting(path)?),
            None if stays_here(&config) => None,
            None => {
                return Err(StoreError::refused(
                    "failed to connect to PostgreSQL: over a network it needs TLS; name the file with its root certificate",
                ));
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, password_file: options.password_file.clone(), tls })
    }

    pub(super) async fn connect(&self) -> Result<Client, StoreError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let text = tokio::fs::read_to_string(path).await.map_err(|source| StoreError::File {
                act: "read",
                path: path.clone(),
                source: Arc::new(source),
            })?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                tokio::spawn(watch(connection));
                client
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(watch(connection));
                client
            }
        };
        client.batch_execute(SESSION).await?;
        Ok(client)
    }

    /// Brings the schema up to date; nodes that start together take turns.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let mut client = self.connect().await?;
        client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0;").await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let exists = client.query("SELECT 1 WHERE to_regclass($1) IS NOT NULL", &[&schema::HISTORY]).await?;
        if !exists.is_empty() {
            schema::refuse_newer(client.query_one(schema::FOUND, &[]).await?.try_get(0)?)?;
        }
        schema::runner(Dialect::Postgres)?.run_async(&mut client).await.map_err(schema::migration)?;
        let fsync = client.query_one("SELECT current_setting('fsync')", &[]).await?;
        if fsync.try_get::<_, &str>(0)? == "off" {
            tracing::warn!("PostgreSQL runs with fsync off: a power cut can take back what was recorded");
        }
        // The lock ends with the connection.
        Ok(())
    }
}

async fn watch<F: Future<Output = Result<(), tokio_postgres::Error>>>(connection: F) {
    if let Err(error) = connection.await {
        tracing::warn!(%error, "a connection to PostgreSQL was lost");
    }
}

/// True when no byte leaves this machine.
fn stays_here(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(std::net::IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    })
}

/// One connection with the statements it has prepared.
#[derive(Debug)]
struct Shared {
    client: Client,
    statements: RwLock<HashMap<&'static str, Statement>>,
}

impl Shared {
    async fn statement(&self, text: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.read().await.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&text.replace("/*skip*/", SKIP)).await?;
        self.statements.write().await.insert(text, statement.clone());
        Ok(statement)
    }

    async fn run(
        &self,
        text: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Written, StoreError> {
        let statement = self.statement(text).await?;
        if statement.columns().is_empty() {
            let changed = self.client.execute(&statement, parameters).await?;
            return Ok(Written { changed, rows: Vec::new() });
        }
        let rows = self.client.query(&statement, parameters).await?;
        let rows: Vec<Row> = rows.iter().map(Row::from_postgres).collect::<Result<_, _>>()?;
        Ok(Written { changed: rows.len() as u64, rows })
    }
}

/// Connections on which many callers' single statements are pipelined.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    slots: Vec<Mutex<Slot>>,
    turn: AtomicUsize,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Ready(Arc<Shared>),
    Closed,
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Self {
        let slots = (0..size.max(1)).map(|_| Mutex::new(Slot::Empty)).collect();
        Self { connector, slots, turn: AtomicUsize::new(0) }
    }

    /// Reads may be asked twice: once more when the connection turns out to be dead.
    pub(super) async fn read<P: ToSql + Sync>(
        &self,
        text: &'static str,
        parameters: &[P],
    ) -> Result<Vec<Row>, StoreError> {
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        let first = self.once(text, &parameters).await;
        let written = match first {
            Err((error, true)) => {
                tracing::debug!(%error, "a read is asked again on a new connection");
                self.once(text, &parameters).await
            }
            other => other,
        };
        written.map(|written| written.rows).map_err(|(error, _)| error)
    }

    pub(super) async fn write<P: ToSql + Sync>(
        &self,
        text: &'static str,
        parameters: &[P],
    ) -> Result<Written, StoreError> {
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        self.once(text, &parameters).await.map_err(|(error, _)| error)
    }

    /// The error comes with whether the connection is dead.
    async fn once(
        &self,
        text: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Written, (StoreError, bool)> {
        let work = async {
            let shared = self.connection().await.map_err(|error| (error, false))?;
            shared.run(text, parameters).await.map_err(|error| (error, shared.client.is_closed()))
        };
        match timeout(PATIENCE, work).await {
            Ok(result) => result,
            Err(late) => Err((StoreError::unavailable(late), false)),
        }
    }

    async fn connection(&self) -> Result<Arc<Shared>, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let slot = self.slots.get(turn).ok_or_else(closed)?;
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Closed => return Err(closed()),
            Slot::Ready(shared) if !shared.client.is_closed() => return Ok(Arc::clone(shared)),
            Slot::Ready(_) | Slot::Empty => {}
        }
        let client = self.connector.connect().await?;
        let shared = Arc::new(Shared { client, statements: RwLock::default() });
        *slot = Slot::Ready(Arc::clone(&shared));
        Ok(shared)
    }

    pub(super) async fn close(&self) {
        for slot in &self.slots {
            *slot.lock().await = Slot::Closed;
        }
    }
}

//! The engine for several nodes: one batching writer and a few shared reading connections per node.

mod connection;
mod tls;
mod writer;

use std::fmt;
use std::path::PathBuf;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::error::{Closed, CommitError, StoreError};
use crate::store::Written;
use crate::types::{Commit, CommitDone, DocumentKey};
use crate::value::{Row, Value};
use connection::{Connector, Pool};
use writer::Job;

/// Jobs that may wait for the writer before callers wait themselves.
const QUEUE: usize = 4_096;

/// PostgreSQL's word for "leave the rows that another worker is taking".
const SKIP: &str = "FOR UPDATE SKIP LOCKED";
const GET_MANY: &str = "SELECT d.kind, d.id, d.revision, d.written_by, d.due_at, d.body \
     FROM unnest($1::text[], $2::text[]) AS k(kind, id) JOIN documents d ON d.kind = k.kind AND d.id = k.id";
const CLOCK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// How to reach PostgreSQL.
#[derive(Clone)]
pub struct PostgresOptions {
    /// libpq connection string or URL, with several hosts if there is a standby. Keep the password out of it.
    pub url: String,
    /// File that holds the password; read anew for each connection, so that it can be rotated.
    pub password_file: Option<PathBuf>,
    /// PEM file with the roots that the server's certificate must chain to. With it TLS is required;
    /// without it only a Unix socket or loopback is accepted.
    pub root_certificate: Option<PathBuf>,
    /// Shared reading connections, at least 1.
    pub readers: usize,
}

impl PostgresOptions {
    /// The server at `url`, with four shared reading connections.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), password_file: None, root_certificate: None, readers: 4 }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password against advice.
        f.debug_struct("PostgresOptions")
            .field("password_file", &self.password_file)
            .field("root_certificate", &self.root_certificate)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct PostgresStore {
    jobs: mpsc::Sender<Job>,
    pool: Pool,
    changed: watch::Sender<u64>,
    writer: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl PostgresStore {
    pub(crate) async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let connector = Connector::new(&options)?;
        connector.migrate().await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let changed = watch::Sender::new(0);
        let writer = tokio::spawn(writer::run(connector.clone(), queue, changed.clone()));
        let pool = Pool::new(connector, options.readers);
        Ok(Self { jobs, pool, changed, writer: Mutex::new(Some(writer)) })
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Result<CommitDone, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Commit { commit, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn write(
        &self,
        text: &'static str,
        parameters: Vec<Value>,
    ) -> Result<Written, StoreError> {
        self.pool.write(text, &parameters).await
    }

    pub(crate) async fn read(
        &self,
        text: &'static str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.pool.read(text, &parameters).await
    }

    pub(crate) async fn get_many(&self, keys: &[DocumentKey]) -> Result<Vec<Row>, StoreError> {
        let kinds: Vec<&str> = keys.iter().map(|key| key.kind.as_str()).collect();
        let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
        self.pool.read(GET_MANY, &[kinds, ids]).await
    }

    pub(crate) async fn clock(&self) -> Result<i64, StoreError> {
        let mut rows = self.read(CLOCK, Vec::new()).await?;
        rows.pop().ok_or_else(|| StoreError::damaged("the database tells no time"))?.int()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.jobs.send(Job::Stop { done }).await.is_ok() {
            // The task sends nothing when it had already ended: both mean closed.
            let _ = ended.await;
        }
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the store's writer had failed");
        }
        self.pool.close().await;
    }
}

fn closed() -> StoreError {
    StoreError::unavailable(Closed)
}

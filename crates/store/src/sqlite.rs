//! The embedded engine: one file, one writing thread, a few reading connections.

mod files;
mod readers;
mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Closed, CommitError, StoreError};
use crate::schema::{self, Dialect};
use crate::sql;
use crate::store::Written;
use crate::types::{Commit, CommitDone, DocumentKey};
use crate::value::{Row, Value};
use readers::Readers;
use writer::{Job, Writer};

/// Jobs that may wait for the writer before callers wait themselves.
const QUEUE: usize = 4_096;

/// Where the embedded store lives.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file; its folder must exist. Two files stand beside it (`-wal`, `-shm`), and a lock.
    pub path: PathBuf,
    /// Reading connections, at least 1.
    pub readers: usize,
}

impl SqliteOptions {
    /// The store in `path`, with four readers.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 4 }
    }
}

#[derive(Debug)]
pub(crate) struct SqliteStore {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    changed: watch::Sender<u64>,
}

impl SqliteStore {
    pub(crate) async fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        blocking(move || Self::open_now(options)).await
    }

    fn open_now(options: SqliteOptions) -> Result<Self, StoreError> {
        let path = options.path;
        let lock = files::lock(&path)?;
        files::make_private(&path)?;
        let mut connection = Connection::open(&path)?;
        configure_writer(&connection)?;
        migrate(&mut connection)?;
        let readers = Readers::open(&path, options.readers)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let changed = watch::Sender::new(0);
        Writer::new(connection, lock, changed.clone()).spawn(queue).map_err(StoreError::unavailable)?;
        Ok(Self { path, jobs, readers, changed })
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
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Write { text, parameters, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn read(
        &self,
        text: &'static str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.readers.run(move |connection| query(connection, text, &parameters)).await
    }

    pub(crate) async fn get_many(&self, keys: &[DocumentKey]) -> Result<Vec<Row>, StoreError> {
        let keys = keys.to_vec();
        self.readers
            .run(move |connection| {
                let moment = connection.transaction()?;
                let mut rows = Vec::with_capacity(keys.len());
                for key in &keys {
                    let parameters = [key.kind.as_str().into(), key.id.as_str().into()];
                    rows.extend(query(&moment, sql::GET, &parameters)?);
                }
                Ok(rows)
            })
            .await
    }

    pub(crate) async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.path.clone(), to.to_owned());
        blocking(move || files::copy(&from, &to)).await
    }

    pub(crate) fn clock(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.jobs.send(Job::Stop { done }).await.is_ok() {
            // The thread sends nothing when it had already ended: both mean closed.
            let _ = ended.await;
        }
        self.readers.close().await;
    }
}

fn closed() -> StoreError {
    StoreError::unavailable(Closed)
}

/// Runs what waits for the disk off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(StoreError::unavailable)?
}

/// Durable means `synchronous = FULL`: the write-ahead log is synced before a commit returns.
fn configure_writer(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::refused(format!(
            "failed to open the store: its folder cannot hold a write-ahead log (journal mode {mode})"
        )));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; \
         PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; \
         PRAGMA cache_size = -65536;",
    )?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let exists: i64 = connection.query_row(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
        [schema::HISTORY],
        |row| row.get(0),
    )?;
    if exists > 0 {
        schema::refuse_newer(connection.query_row(schema::FOUND, [], |row| row.get(0))?)?;
    }
    schema::runner(Dialect::Sqlite)?.run(connection).map_err(schema::migration)?;
    Ok(())
}

/// Runs one reading statement.
fn query(connection: &Connection, text: &str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
    let mut statement = connection.prepare_cached(text)?;
    let columns = statement.column_count();
    let mut found = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(Row::from_sqlite(row, columns)?);
    }
    Ok(rows)
}

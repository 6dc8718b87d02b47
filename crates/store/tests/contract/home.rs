//! Where a story's store lives, so that it can be opened again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use halligan_store::{
    Commit, CommitDone, CommitError, DocumentKey, DocumentWrite, PostgresOptions, SqliteOptions, Store,
};
use halligan_testkit::postgres::TestPostgres;
use tempfile::TempDir;

/// One server for the stories that run at the same time; it ends with the last of them.
static SERVER: Mutex<Weak<TestPostgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

pub enum Home {
    Sqlite(TempDir),
    Postgres { url: String, server: Arc<TestPostgres> },
}

impl Home {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        let mut running = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let server = running.upgrade().unwrap_or_else(|| Arc::new(TestPostgres::start().unwrap()));
        *running = Arc::downgrade(&server);
        drop(running);
        let name = format!("story{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        Self::Postgres { url: server.create_database(&name).unwrap(), server }
    }

    pub async fn open(&self) -> Store {
        match self {
            Self::Sqlite(folder) => {
                Store::open_sqlite(SqliteOptions::new(folder.path().join("db"))).await.unwrap()
            }
            Self::Postgres { url, server } => {
                assert!(server.port() > 0);
                Store::open_postgres(PostgresOptions::new(url)).await.unwrap()
            }
        }
    }
}

pub fn key(id: &str) -> DocumentKey {
    DocumentKey::new("thing", id)
}

/// One document written, one leaf that says so.
pub fn put(id: &str, expected: u64, body: &str) -> Commit {
    Commit {
        leaves: vec![format!("{id}={body}").into_bytes()],
        documents: vec![DocumentWrite::put(key(id), expected, body.into())],
        ..Commit::default()
    }
}

pub fn is_conflict(outcome: &Result<CommitDone, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Conflict { .. }))
}

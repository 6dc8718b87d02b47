//! The schema of both engines from one set of migrations, applied by refinery.

use std::error::Error;
use std::sync::Arc;

use refinery::{Migration, Runner};

use crate::error::StoreError;

/// Every migration ever released, in order. A released text never changes: refinery compares checksums.
const MIGRATIONS: &[(&str, &str)] =
    &[("V1__documents_leaves_outbox", include_str!("../migrations/V1__documents_leaves_outbox.sql"))];

/// Highest schema version of this binary.
pub(crate) const VERSION: u64 = MIGRATIONS.len() as u64;

/// How an engine spells the three column types.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// `INTEGER PRIMARY KEY` makes an SQLite table its own index; ids are listed in byte order on both.
    fn spell(self, text: &str) -> String {
        match self {
            Self::Sqlite => text.replace(" BIGINT", " INTEGER").replace("/*keyed*/", "WITHOUT ROWID"),
            Self::Postgres => text.replace(" TEXT", " TEXT COLLATE \"C\"").replace(" BLOB", " BYTEA"),
        }
    }
}

pub(crate) fn runner(dialect: Dialect) -> Result<Runner, StoreError> {
    let migrations: Result<Vec<_>, _> = MIGRATIONS
        .iter()
        .map(|(name, text)| {
            let statements: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
            Migration::unapplied(name, &dialect.spell(&statements.join("\n")))
        })
        .collect();
    Ok(Runner::new(&migrations.map_err(migration)?))
}

/// Table in which refinery notes what it has applied.
pub(crate) const HISTORY: &str = "refinery_schema_history";
/// The schema version of a store that has a history.
pub(crate) const FOUND: &str =
    "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM refinery_schema_history";

/// Refuses a store that a newer release has written, in words that say what to do.
pub(crate) fn refuse_newer(found: i64) -> Result<(), StoreError> {
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    Ok(())
}

pub(crate) fn migration(source: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Migration { source: Arc::new(source) }
}

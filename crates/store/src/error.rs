//! What can go wrong, in words for the person who operates the node.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use crate::types::DocumentKey;

/// A cause that several waiting commits can share.
pub type Fault = Arc<dyn Error + Send + Sync>;

/// Why a commit was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A document in the read set, or one to be written, has moved. Nothing was written: read again, decide again.
    #[error("{key} has changed since it was read")]
    Conflict {
        /// The first document that had moved.
        key: DocumentKey,
    },
    /// A commit with this idempotency key is already recorded. Nothing was written now.
    #[error("this was already recorded")]
    Duplicate {
        /// What the first commit answered.
        answer: Vec<u8>,
    },
    /// The outcome is unknown: the commit may or may not have been recorded. Asking again with the
    /// same idempotency key settles it.
    #[error("failed to record: the store is unavailable")]
    Unavailable {
        /// What the engine said.
        #[source]
        source: Fault,
    },
    /// The commit itself is wrong. Nothing was written, and asking again will not help.
    #[error("failed to record: {reason}")]
    Refused {
        /// Which rule it breaks.
        reason: String,
    },
}

/// Why a store could not be opened, read or maintained.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store was written by a newer release.
    #[error(
        "failed to open the store: its schema is version {found}, this binary knows versions up to {known}; \
         start the newer release"
    )]
    Newer {
        /// Schema version in the store.
        found: u64,
        /// Highest schema version of this binary.
        known: u64,
    },
    /// Another process has the SQLite store open.
    #[error("failed to open the store: another process holds {path}")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of the store could not be made, locked or synced.
    #[error("failed to {act} {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The migrations could not be applied.
    #[error("failed to bring the store's schema up to date")]
    Migration {
        /// What the engine said.
        #[source]
        source: Fault,
    },
    /// The engine does not answer, or answered with an error.
    #[error("the store is unavailable")]
    Unavailable {
        /// What the engine said.
        #[source]
        source: Fault,
    },
    /// A row has a shape that this binary never writes.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The call itself is wrong.
    #[error("{reason}")]
    Refused {
        /// Which rule it breaks.
        reason: String,
    },
}

impl StoreError {
    pub(crate) fn unavailable(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { source: Arc::new(source) }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::unavailable(source)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(source: tokio_postgres::Error) -> Self {
        Self::unavailable(source)
    }
}

/// The writer is gone: the store was closed, or its thread ended.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
pub(crate) struct Closed;

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { source } => Self::Unavailable { source },
            other => Self::Unavailable { source: Arc::new(other) },
        }
    }
}

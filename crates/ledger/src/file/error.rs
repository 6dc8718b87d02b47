//! What can go wrong with a file ledger, for the person who reads it at night.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::hash::Hash;
use crate::note::NoteError;
use crate::tiles::TileError;

/// Largest leaf in bytes. Bigger things are logged by digest.
pub const MAX_LEAF_BYTES: usize = 32 * 1024;

/// Why a file ledger refuses. Cloned to everybody who waited for the same sync.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "failed to append to the ledger: the leaf has {bytes} bytes, at most 32768 are taken; log its digest instead"
    )]
    LeafTooLarge { bytes: usize },
    #[error(
        "failed to open the ledger: its signed head says {head} entries, but only {data} are on disk; data was lost or set back, run `halligan ledger recover`"
    )]
    HeadAheadOfData { head: u64, data: u64 },
    #[error(
        "failed to open the ledger: its signed head of {size} entries has root {signed}, the entries give {found}; the data was changed, run `halligan ledger recover`"
    )]
    HeadMismatch { size: u64, signed: Hash, found: Hash },
    #[error(
        "failed to read the ledger: entry {index} at byte {offset} is damaged, and acknowledged entries follow it"
    )]
    Damaged { index: u64, offset: u64 },
    #[error("failed to open the ledger in {path}: its log file has no valid header")]
    BadHeader { path: String },
    #[error("failed to open the ledger: it belongs to {found}, not to {expected}")]
    WrongOrigin { expected: String, found: String },
    #[error("failed to open the ledger in {path}: another process has it open")]
    InUse { path: String },
    #[error(
        "failed to write to the ledger: an earlier write or sync failed, so nothing more can be acknowledged until a restart"
    )]
    Poisoned {
        #[source]
        source: Arc<io::Error>,
    },
    #[error("failed to append to the ledger: the disk is full")]
    DiskFull,
    #[error("failed to append to the ledger: too much is waiting for the disk")]
    Overloaded,
    #[error("failed to append to the ledger: it is closed")]
    Closed,
    #[error("failed to read entries {start} to {end} of the ledger: it has {size}")]
    OutOfRange { start: u64, end: u64, size: u64 },
    #[error("failed to {doing} {path}")]
    Io {
        doing: &'static str,
        path: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("failed to use the ledger's checkpoint")]
    Note(#[source] Arc<NoteError>),
    #[error("failed to export the ledger")]
    Tiles(#[from] TileError),
    #[error("failed to recover the ledger: {why}")]
    Recovery { why: String },
}

impl From<NoteError> for LedgerError {
    fn from(error: NoteError) -> Self {
        Self::Note(Arc::new(error))
    }
}

impl LedgerError {
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::Io { doing, path: path.display().to_string(), source: Arc::new(source) }
    }
}

//! Where a control node keeps what it must not lose: documents, the ledger's leaves, the outbox.
//!
//! One [`Store`], two engines: SQLite for one node, PostgreSQL for several. Everything goes in by
//! [`Store::commit`], one transaction that is durable when it returns; the rest are small reads.
//! It must never know a domain type, acknowledge what is not on disk, give two leaves one index,
//! or accept a commit whose read set has moved. Tiles, checkpoints and signatures are made elsewhere.
//!
//! Start reading at `types.rs` (what goes in and out), then `plan.rs` (how a batch of commits is
//! judged: pure, shared by both engines), then `sqlite/writer.rs` and `postgres/writer.rs` (how it
//! is written), then `store.rs` (all else). Every SQL text is in `sql.rs` or in the two writers.

mod error;
mod plan;
mod postgres;
mod schema;
mod sql;
mod sqlite;
mod store;
mod types;
mod value;

pub use error::{CommitError, Fault, StoreError};
pub use postgres::PostgresOptions;
pub use sqlite::SqliteOptions;
pub use store::Store;
pub use types::{
    Claimed, Commit, CommitDone, Document, DocumentKey, DocumentWrite, LedgerHead, Order, OutboxRow,
    OutboxStats, ReadSet, SignedHead,
};

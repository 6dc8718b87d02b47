//! Evidence: one incident as one file for an auditor (`export.rs`, from what `collect.rs` finds), and whether the store
//! still holds the documents that the ledger's events make (`check.rs`).
//!
//! The form of the file and everything that verifies belongs to `halligan-verify`.

mod check;
mod collect;
mod export;

pub use check::{Fault, check_store};
pub use export::{Summary, export};

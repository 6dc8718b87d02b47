//! The offline verifier: what an auditor runs on a machine that has never seen the server.
//!
//! [`verify_bundle`] checks one incident's evidence bundle; [`verify_ledger`] a whole ledger as a folder of tiles;
//! [`replay`](replay::replay) leads from leaves to documents, so that an edit of the store shows. The same crate says
//! how a bundle is written, so that there is one place that knows its form.
//!
//! It must never trust what it reads, allocate what a file merely claims, talk to a network, or depend on the server.
//! Every fault is named with what and where. Start reading at `bundle.rs`, then `bundle/`, then `ledger.rs`, `replay.rs`.

pub mod bundle;
pub mod chains;
pub mod container;
mod drawing;
pub mod findings;
pub mod layout;
pub mod ledger;
pub mod page;
pub mod replay;
pub mod story;
pub mod write;

pub use bundle::{Options, verify_bundle};
pub use findings::{Check, Counts, Faults, Report};
pub use ledger::{verify_consistency, verify_ledger};
pub use replay::{Replay, Replayed, replay};
pub use write::{Contents, LedgerPart, WriteError, Written, write_bundle};

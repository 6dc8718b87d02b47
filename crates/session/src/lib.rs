//! All that a protocol may know of the control plane: who somebody is, the [`lease`] in the gateway's hand, the session
//! that records and ends, and the words in which nodes report.
//!
//! It must never know a protocol, a database or the control plane's insides. A session cannot be opened without the
//! audit receipt of the gateway's own ledger. Start reading at `lease.rs`, then `node_event.rs`.

pub mod lease;
pub mod node_event;
pub use halligan_core::proof;

//! Links as nodes use them: the same contract over both adapters, TLS by pinned keys, joining, and bytes of a hostile peer.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod contract;
mod hostile;
mod joining;
mod node;
mod pinned;
mod reporting;

//! The proof that a leaf is on disk. Its constructor is private to the file ledger: only a sync that
//! completed makes one.

use std::sync::Arc;

use crate::hash::Hash;

/// A leaf is synced: in this ledger, at this index. Consumed by what it permits, so it is neither `Clone` nor
/// serialisable; on the wire travel leases and [`crate::InclusionReceipt`]s.
#[derive(Debug, PartialEq, Eq)]
pub struct AuditReceipt {
    origin: Arc<str>,
    index: u64,
    leaf_hash: Hash,
}

impl AuditReceipt {
    pub(super) fn new(origin: Arc<str>, index: u64, leaf_hash: Hash) -> Self {
        Self { origin, index, leaf_hash }
    }

    /// Origin of the ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Index of the leaf, from zero.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hash of the leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }
}

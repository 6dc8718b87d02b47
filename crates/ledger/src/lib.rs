//! The ledger: an append-only Merkle log whose head is signed, and everything that proves or checks it.
//!
//! Hashing is RFC 6962; tiles, checkpoints, cosignatures, proofs and trust files are those of C2SP, so that
//! stock tools can read them. Two back ends share this crate: rows (the store keeps leaves, this crate does
//! the arithmetic) and [`FileLedger`], the synced files of gateway and connector.
//!
//! What it must never do: sign two trees under one origin, acknowledge a leaf that is not synced, repair
//! silently, interpret a leaf (a leaf is bytes), or know an async runtime.
//!
//! Start reading at [`merkle`] (the arithmetic), then [`checkpoint`] (what is signed), then [`file`] (what is
//! synced). [`recover`] says what happens when a signed head is ahead of the data.

pub mod checkpoint;
pub mod disk;
pub mod escape;
pub mod file;
pub mod hash;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod proof;
pub mod recover;
pub mod tile_folder;
pub mod tiles;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, Cosigned, Opened, cosign, open, open_note, sign};
pub use escape::{escape_bytes, escape_controls};
pub use file::{
    AuditReceipt, Callback, FileLedger, FileLedgerOptions, LedgerError, LedgerStats, MAX_LEAF_BYTES, Waiter,
};
pub use hash::{Hash, empty_root, leaf_hash, node_hash};
pub use keys::{KeyKind, LedgerKey, LedgerSigner};
pub use merkle::{Frontier, ProofError, root_of, verify_consistency, verify_inclusion};
pub use note::{NoteError, NoteSignature, SignedNote};
pub use policy::{PolicyError, TrustPolicy, Trusted};
pub use proof::{InclusionReceipt, ReceiptError};
pub use recover::{EpochRequest, EpochStart, new_epoch, survey};
pub use tile_folder::{TileFolder, TileWriter};
pub use tiles::{TileError, TileId};
pub use tree::{MemoryTree, TileReader, TreeError};
pub use witness::{Accepted, AddCheckpoint, Verdict, judge};

//! Recordings of sessions: what happened, in order, sealed, and in a form where every change shows.
//!
//! A recording is one file: a clear header, the data key wrapped to its recipients as an `age` file, and
//! frames. Each frame is sealed on its own under the data key and bound to the recording, to its number
//! and to everything before it. Digests can be checked without any key; reading needs the data key.
//!
//! This crate must never let a record be lost in silence: what cannot be written is an error, and after
//! an error a writer refuses everything. It never holds a private key while writing, never interprets
//! what a target sent, and knows no clock, no network and no async runtime: times come from the caller.
//!
//! Start reading at [`record`] (what is recorded), then [`frame`] (how it is sealed), [`writer`], [`reader`].

pub mod age_file;
pub mod asciicast;
mod codec;
pub mod digest;
pub mod frame;
pub mod hash;
pub mod header;
pub mod index;
pub mod json_lines;
pub mod key;
pub mod player;
pub mod reader;
pub mod record;
pub mod search;
pub mod text;
pub mod transcript;
pub mod writer;

pub use age_file::{Identity, Recipient};
pub use digest::{Digest, recover, verify_digest};
pub use hash::Hash;
pub use header::{Class, Header};
pub use key::DataKey;
pub use reader::{ReadError, RecordingReader};
pub use record::{Direction, Outcome, Record, RecordKind};
pub use writer::{Budget, Durability, Finished, RecordingError, RecordingMeta, RecordingWriter};

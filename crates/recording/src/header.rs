//! The clear beginning of a recording file: magic, header as JSON, the wrapped data key.
//!
//! Layout: 8 bytes magic, u32 length and header, u32 length and `age` file; lengths are big-endian. All of
//! it is covered by the hash that the first frame is sealed with.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::age_file;
use crate::hash::Hash;
use crate::reader::ReadError;

const MAGIC: &[u8; 8] = b"HLGNREC\x01";
/// Version of the file's layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Longest header, in bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Who can read a finished recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The auditors, and those whom Halligan authorises for playback.
    Readable,
    /// The auditors' offline keys only.
    Sealed,
}

/// What stands in clear at the beginning: ids and digests, never content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Layout version, [`FORMAT`].
    pub format: u32,
    pub recording_id: String,
    pub session_id: String,
    pub class: Class,
    /// Microseconds since 1970-01-01 UTC.
    pub started_at_micros: u64,
    /// SHA-256 of the wrapped key that follows.
    pub key_digest: Hash,
    /// The public keys, as `age1…`, that the data key is wrapped to.
    pub recipients: Vec<String>,
}

/// Header and wrapped key as read from a file, with the running hash of these bytes.
pub struct Preamble {
    pub header: Header,
    /// The data key as an `age` file; see [`crate::age_file::unwrap`].
    pub wrapped_key: Vec<u8>,
    /// Bytes up to the first frame.
    pub bytes: u64,
    pub(crate) running: Sha256,
}

pub(crate) fn encode(header: &Header, wrapped_key: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(header)?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(json.len() as u32).to_be_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&(wrapped_key.len() as u32).to_be_bytes());
    out.extend_from_slice(wrapped_key);
    Ok(out)
}

impl Preamble {
    /// Reads up to the first frame. Needs no key.
    pub fn read(input: &mut impl Read) -> Result<Self, ReadError> {
        let mut running = Sha256::new();
        let mut magic = [0_u8; 8];
        fill(input, &mut magic)?;
        if &magic != MAGIC {
            return Err(ReadError::NotARecording);
        }
        running.update(magic);
        let json = block(input, &mut running, "header", MAX_HEADER_BYTES)?;
        let wrapped_key = block(input, &mut running, "wrapped key", age_file::MAX_BYTES)?;
        let header: Header = serde_json::from_slice(&json).map_err(ReadError::Header)?;
        if header.format != FORMAT {
            return Err(ReadError::Format { format: header.format });
        }
        if Hash::of(&wrapped_key) != header.key_digest {
            return Err(ReadError::KeyDigest);
        }
        let bytes = (8 + 4 + json.len() + 4 + wrapped_key.len()) as u64;
        Ok(Self { header, wrapped_key, bytes, running })
    }
}

fn block(
    input: &mut impl Read,
    running: &mut Sha256,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut length = [0_u8; 4];
    fill(input, &mut length)?;
    running.update(length);
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(ReadError::TooLarge { what, bytes: length, limit });
    }
    let mut block = vec![0; length];
    fill(input, &mut block)?;
    running.update(&block);
    Ok(block)
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), ReadError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::ShortHeader,
        _ => ReadError::Read(error),
    })
}

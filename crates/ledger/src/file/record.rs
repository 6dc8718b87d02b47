//! The log file: a header that names the ledger, then one record for each leaf.
//!
//! A record is 32 bytes of head and the leaf. Its check covers the leaf's hash, its index, how many entries
//! were synced when it was written, and the file's random salt, so that no leaf can imitate a record. The
//! synced count tells a torn tail (nothing was acknowledged) from damage in the middle (something was).

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::disk;
use crate::file::error::{LedgerError, MAX_LEAF_BYTES};
use crate::hash::{Hash, leaf_hash, sha256};
use crate::keys::check_name;

const FILE_MAGIC: &[u8; 16] = b"HALLIGANLEDGER1\n";
const RECORD_MAGIC: &[u8; 4] = b"HLr1";
pub const HEAD_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
const MAX_HEADER_BYTES: u64 = 512;

/// No batch is larger, so that a torn tail is not either (one record may go over).
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What the log file's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub salt: [u8; SALT_BYTES],
    pub origin: String,
}

impl Header {
    /// Writes a new log file with nothing but a header.
    pub fn create(path: &Path, origin: &str) -> Result<Self, LedgerError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| crate::note::NoteError::NoRandomness)?;
        let header = Self { salt, origin: origin.to_owned() };
        disk::write_atomic(path, &header.encode(), 0o600).map_err(LedgerError::io("create", path))?;
        Ok(header)
    }

    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(LedgerError::io("open", path))?;
        file.take(MAX_HEADER_BYTES).read_to_end(&mut bytes).map_err(LedgerError::io("read", path))?;
        Self::decode(&bytes).ok_or_else(|| LedgerError::BadHeader { path: path.display().to_string() })
    }

    /// Bytes before the first record.
    pub fn length(&self) -> u64 {
        u64::try_from(self.encode().len()).unwrap_or(MAX_HEADER_BYTES)
    }

    fn encode(&self) -> Vec<u8> {
        let length = u8::try_from(self.origin.len()).unwrap_or(u8::MAX);
        let mut bytes = [FILE_MAGIC.as_slice(), &self.salt, &[length], self.origin.as_bytes()].concat();
        let check: Vec<u8> = sha256(&[&bytes]).into_iter().take(CHECK_BYTES).collect();
        bytes.extend_from_slice(&check);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (salt, rest) = bytes.strip_prefix(FILE_MAGIC)?.split_first_chunk::<SALT_BYTES>()?;
        let (length, rest) = rest.split_first()?;
        let origin = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
        check_name(origin).ok()?;
        let header = Self { salt: *salt, origin: origin.to_owned() };
        bytes.starts_with(&header.encode()).then_some(header)
    }

    /// Appends one record's bytes to a batch.
    pub fn push_record(&self, batch: &mut Vec<u8>, index: u64, synced: u64, leaf: &[u8], hash: &Hash) {
        let length = u32::try_from(leaf.len()).unwrap_or(u32::MAX);
        batch.extend_from_slice(RECORD_MAGIC);
        batch.extend_from_slice(&length.to_be_bytes());
        batch.extend_from_slice(&index.to_be_bytes());
        batch.extend_from_slice(&synced.to_be_bytes());
        batch.extend_from_slice(&self.check(index, synced, hash));
        batch.extend_from_slice(leaf);
    }

    fn check(&self, index: u64, synced: u64, hash: &Hash) -> [u8; CHECK_BYTES] {
        let [a, b, c, d, e, f, g, h, ..] =
            sha256(&[&self.salt, &index.to_be_bytes(), &synced.to_be_bytes(), hash.as_bytes()]);
        [a, b, c, d, e, f, g, h]
    }

    /// The record at the start of these bytes, if it is whole and its check holds.
    pub fn parse_record(&self, bytes: &[u8]) -> Option<Record> {
        let head = RecordHead::parse(bytes)?;
        let leaf = bytes.get(HEAD_BYTES..HEAD_BYTES.checked_add(head.length)?)?.to_vec();
        self.accept(&head, leaf)
    }

    fn accept(&self, head: &RecordHead, leaf: Vec<u8>) -> Option<Record> {
        let hash = leaf_hash(&leaf);
        let holds = self.check(head.index, head.synced, &hash) == head.check && head.synced <= head.index;
        holds.then_some(Record { index: head.index, synced: head.synced, leaf, hash })
    }

    /// The record at this byte of the file; `None` when there is no valid one.
    pub fn read_at(&self, file: &File, offset: u64) -> io::Result<Option<Record>> {
        let mut head = [0; HEAD_BYTES];
        if !read_exactly(file, &mut head, offset)? {
            return Ok(None);
        }
        let Some(head) = RecordHead::parse(&head) else { return Ok(None) };
        let mut leaf = vec![0; head.length];
        if !read_exactly(file, &mut leaf, offset + HEAD_BYTES as u64)? {
            return Ok(None);
        }
        Ok(self.accept(&head, leaf))
    }
}

/// Like `read_exact_at`, with `false` for a file that ends before.
fn read_exactly(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

struct RecordHead {
    length: usize,
    index: u64,
    synced: u64,
    check: [u8; CHECK_BYTES],
}

impl RecordHead {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.strip_prefix(RECORD_MAGIC)?.split_first_chunk::<4>()?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (synced, rest) = rest.split_first_chunk::<8>()?;
        let check = *rest.first_chunk::<CHECK_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (index, synced) = (u64::from_be_bytes(*index), u64::from_be_bytes(*synced));
        (length <= MAX_LEAF_BYTES).then_some(Self { length, index, synced, check })
    }
}

/// A record whose check held.
#[derive(Debug)]
pub struct Record {
    pub index: u64,
    pub synced: u64,
    pub leaf: Vec<u8>,
    pub hash: Hash,
}

impl Record {
    /// Bytes in the log file.
    pub fn length(&self) -> u64 {
        (HEAD_BYTES + self.leaf.len()) as u64
    }
}

/// How a run over the log file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the end of the file.
    Clean,
    /// In a batch that was never acknowledged.
    Torn,
    /// Before entries that were acknowledged.
    Damaged,
}

/// Reads records one after the other from `offset`, where entry `index` starts, and gives each to `visit`.
/// Returns the next index, the byte where it would start, and how the run ended. Changes nothing.
pub fn scan(
    header: &Header,
    path: &Path,
    mut index: u64,
    mut offset: u64,
    mut visit: impl FnMut(u64, Record) -> Result<(), LedgerError>,
) -> Result<(u64, u64, End), LedgerError> {
    let failed = LedgerError::io("read", path);
    let mut file = File::open(path).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    file.seek(SeekFrom::Start(offset)).map_err(&failed)?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    while offset < length {
        let Some(record) =
            next_record(header, &mut reader).map_err(&failed)?.filter(|next| next.index == index)
        else {
            return Ok((index, offset, broken(header, path, index, offset, length)?));
        };
        let start = offset;
        offset += record.length();
        index += 1;
        visit(start, record)?;
    }
    // A log that ends before the offset asked for is short, not clean.
    Ok((index, offset, if offset == length { End::Clean } else { End::Torn }))
}

fn next_record(header: &Header, reader: &mut impl io::Read) -> io::Result<Option<Record>> {
    let mut head = [0; HEAD_BYTES];
    let mut fill = |bytes: &mut [u8]| match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !fill(&mut head)? {
        return Ok(None);
    }
    let Some(head) = RecordHead::parse(&head) else { return Ok(None) };
    let mut leaf = vec![0; head.length];
    Ok(if fill(&mut leaf)? { header.accept(&head, leaf) } else { None })
}

/// Judges what follows a place where no valid record `index` stands: a batch is written only after the one
/// before it was synced, so a later record that knows of more synced entries shows that `index` was one.
fn broken(header: &Header, path: &Path, index: u64, offset: u64, length: u64) -> Result<End, LedgerError> {
    let failed = LedgerError::io("read", path);
    let limit = (MAX_BATCH_BYTES + HEAD_BYTES + MAX_LEAF_BYTES) as u64;
    let rest = length - offset;
    if rest > limit {
        return Ok(End::Damaged);
    }
    let mut bytes = vec![0; usize::try_from(rest).unwrap_or(0)];
    let file = File::open(path).map_err(&failed)?;
    file.read_exact_at(&mut bytes, offset).map_err(&failed)?;
    let places = bytes.windows(RECORD_MAGIC.len()).enumerate().filter(|(_, window)| *window == RECORD_MAGIC);
    let later = places.filter_map(|(place, _)| header.parse_record(bytes.get(place..)?));
    let acknowledged = later.into_iter().any(|record| record.synced > index);
    Ok(if acknowledged { End::Damaged } else { End::Torn })
}

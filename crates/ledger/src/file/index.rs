//! Where entries stand in the log, and the hashes of their tiles: everything here can be made again from the
//! log, so it is synced only before a checkpoint and trusted only as far as a checkpoint goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::file::error::LedgerError;
use crate::hash::{HASH_BYTES, Hash};
use crate::merkle::Frontier;
use crate::tiles::TileId;
use crate::tree::TileReader;

/// Five levels hold 2^40 entries and more.
const LEVELS: u8 = 5;
const OFFSET_BYTES: u64 = 8;

/// The files `offsets` and `hashes.0` to `hashes.4`.
#[derive(Debug)]
pub struct Index {
    offsets: File,
    levels: Vec<File>,
}

/// What a batch adds to the index, collected while its leaves are hashed.
#[derive(Debug, Default)]
pub struct IndexBatch {
    offsets: Vec<u8>,
    first: u64,
    /// For each level the place of the first hash, and the bytes.
    levels: Vec<(u64, Vec<u8>)>,
}

impl IndexBatch {
    /// A batch that starts at entry `first`.
    pub fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Adds a leaf that starts at this byte of the log, and moves the frontier on.
    pub fn push(&mut self, frontier: &mut Frontier, offset: u64, hash: Hash) {
        self.offsets.extend_from_slice(&offset.to_be_bytes());
        let levels = &mut self.levels;
        frontier.push_emitting(hash, |level, index, hash| {
            let row = usize::from(level);
            if level >= LEVELS {
                return;
            }
            if levels.len() <= row {
                levels.resize_with(row + 1, || (u64::MAX, Vec::new()));
            }
            if let Some((first, bytes)) = levels.get_mut(row) {
                *first = (*first).min(index);
                bytes.extend_from_slice(hash.as_bytes());
            }
        });
    }

    /// Entries in it.
    pub fn entries(&self) -> usize {
        self.offsets.len() / 8
    }
}

impl Index {
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let open = |name: &str| {
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(&path).map_err(LedgerError::io("open", &path))
        };
        let offsets = open("offsets")?;
        let levels = (0..LEVELS).map(|level| open(&format!("hashes.{level}"))).collect::<Result<_, _>>()?;
        Ok(Self { offsets, levels })
    }

    /// Forgets everything.
    pub fn clear(&self) -> io::Result<()> {
        self.offsets.set_len(0)?;
        self.levels.iter().try_for_each(|file| file.set_len(0))
    }

    pub fn write(&self, batch: &IndexBatch) -> io::Result<()> {
        self.offsets.write_all_at(&batch.offsets, batch.first * OFFSET_BYTES)?;
        for (file, (first, bytes)) in self.levels.iter().zip(&batch.levels) {
            if !bytes.is_empty() {
                file.write_all_at(bytes, first * HASH_BYTES as u64)?;
            }
        }
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.offsets.sync_data()?;
        self.levels.iter().try_for_each(File::sync_data)
    }

    /// Byte of the log where entry `index` starts.
    pub fn offset(&self, index: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.offsets.read_exact_at(&mut bytes, index * OFFSET_BYTES)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

impl TileReader for Index {
    type Error = io::Error;

    fn read_tile(&self, tile: TileId) -> io::Result<Vec<Hash>> {
        let file = self.levels.get(usize::from(tile.level)).ok_or(io::ErrorKind::Unsupported)?;
        let mut bytes = vec![0; usize::from(tile.width) * HASH_BYTES];
        file.read_exact_at(&mut bytes, tile.index * 256 * HASH_BYTES as u64)?;
        let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
        Ok(hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect())
    }
}

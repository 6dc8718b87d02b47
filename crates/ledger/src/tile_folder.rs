//! A log as a folder of static files (C2SP tlog-tiles): writing it, and reading it back. Serves exports and
//! mirrors; any web server can serve the folder as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::hash::{HASH_BYTES, Hash, leaf_hash};
use crate::merkle::Frontier;
use crate::note::{MAX_NOTE_BYTES, SignedNote};
use crate::tiles::{
    MAX_ENTRY_BYTES, TILE_WIDTH, TileError, TileId, bundle_path, decode_bundle, decode_tile, encode_bundle,
    encode_tile, tile_path,
};
use crate::tree::{TileReader, TreeError};

const CHECKPOINT: &str = "checkpoint";
const MAX_TILE_BYTES: u64 = TILE_WIDTH as u64 * HASH_BYTES as u64;
const MAX_BUNDLE_BYTES: u64 = TILE_WIDTH as u64 * (MAX_ENTRY_BYTES as u64 + 2);

/// Reads a folder of tiles. Nothing it returns is trusted: check it against a verified checkpoint.
#[derive(Debug, Clone)]
pub struct TileFolder {
    folder: PathBuf,
}

impl TileFolder {
    /// The folder that holds `checkpoint` and `tile/`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The checkpoint as stored, if there is one.
    ///
    /// # Errors
    /// When it cannot be read or is no note.
    pub fn checkpoint(&self) -> Result<Option<SignedNote>, TileError> {
        let path = self.folder.join(CHECKPOINT);
        let Some(bytes) =
            disk::read_if_present(&path, MAX_NOTE_BYTES as u64).map_err(io_error("read", &path))?
        else {
            return Ok(None);
        };
        let bad = |why: String| TileError::BadCheckpoint { why };
        let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
        SignedNote::parse(&text).map(Some).map_err(|error| bad(error.to_string()))
    }

    /// The entries of bundle `index`, at least `width` of them are there and exactly `width` are returned.
    ///
    /// # Errors
    /// When the bundle cannot be read or is torn.
    pub fn read_bundle(&self, index: u64, width: u16) -> Result<Vec<Vec<u8>>, TileError> {
        let partial = self.folder.join(bundle_path(index, width));
        if let Some(bytes) =
            disk::read_if_present(&partial, MAX_BUNDLE_BYTES).map_err(io_error("read", &partial))?
        {
            return decode_bundle(&bytes, width);
        }
        // A partial bundle may have been pruned since the full one is there.
        let full = self.folder.join(bundle_path(index, TILE_WIDTH));
        let bytes = disk::read_limited(&full, MAX_BUNDLE_BYTES).map_err(io_error("read", &full))?;
        let mut entries = decode_bundle(&bytes, TILE_WIDTH)?;
        entries.truncate(usize::from(width));
        Ok(entries)
    }
}

impl TileReader for TileFolder {
    type Error = TileError;

    fn read_tile(&self, tile: TileId) -> Result<Vec<Hash>, TileError> {
        let partial = self.folder.join(tile_path(tile));
        if let Some(bytes) =
            disk::read_if_present(&partial, MAX_TILE_BYTES).map_err(io_error("read", &partial))?
        {
            return decode_tile(&bytes);
        }
        let full = self.folder.join(tile_path(TileId { width: TILE_WIDTH, ..tile }));
        decode_tile(&disk::read_limited(&full, MAX_TILE_BYTES).map_err(io_error("read", &full))?)
    }
}

/// Appends to a folder of tiles. Full tiles and bundles are written as they fill; [`TileWriter::commit`]
/// writes the partial ones and then the checkpoint, so that a published checkpoint always finds its tiles.
#[derive(Debug)]
pub struct TileWriter {
    folder: PathBuf,
    frontier: Frontier,
    /// The unfinished tile of each level.
    edges: Vec<Vec<Hash>>,
    bundle: Vec<Vec<u8>>,
}

impl TileWriter {
    /// Opens a folder, making it if need be, and goes on after its checkpoint.
    ///
    /// # Errors
    /// When the folder cannot be read, or its tiles do not lead to its checkpoint's root.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, TileError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        let reader = TileFolder::new(&folder);
        let Some(note) = reader.checkpoint()? else {
            return Ok(Self { folder, frontier: Frontier::new(), edges: Vec::new(), bundle: Vec::new() });
        };
        let head = Checkpoint::parse(note.body())
            .map_err(|error| TileError::BadCheckpoint { why: error.to_string() })?;
        let frontier = reader.frontier_at(head.size).map_err(|error| match error {
            TreeError::Reader(error) => error,
            other => TileError::BadCheckpoint { why: other.to_string() },
        })?;
        let mut writer = Self { folder, frontier, edges: Vec::new(), bundle: Vec::new() };
        writer.expect_tree(&head)?;
        for level in 0_u8..8 {
            let hashes = head.size >> (8 * u32::from(level));
            let tile = TileId::for_tree(level, hashes / u64::from(TILE_WIDTH), head.size);
            let mut row = tile.map(|tile| reader.read_tile(tile)).transpose()?.unwrap_or_default();
            row.truncate(tile.map_or(0, |tile| usize::from(tile.width)));
            writer.edges.push(row);
        }
        if let Ok(width @ 1..) = u16::try_from(head.size % u64::from(TILE_WIDTH)) {
            writer.bundle = reader.read_bundle(head.size / u64::from(TILE_WIDTH), width)?;
        }
        Ok(writer)
    }

    /// Number of leaves, with those not yet committed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root, with the leaves not yet committed.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Adds one leaf. Writes whatever becomes full, synced.
    ///
    /// # Errors
    /// When the leaf is too large or a file cannot be written; drop the writer then and open it again.
    pub fn append(&mut self, leaf: Vec<u8>) -> Result<(), TileError> {
        if leaf.len() > MAX_ENTRY_BYTES {
            return Err(TileError::EntryTooLarge { bytes: leaf.len() });
        }
        let mut full = Vec::new();
        let (hash, edges) = (leaf_hash(&leaf), &mut self.edges);
        self.frontier.push_emitting(hash, |level, index, hash| {
            let row = usize::from(level);
            if edges.len() <= row {
                edges.resize_with(row + 1, Vec::new);
            }
            if let Some(edge) = edges.get_mut(row) {
                edge.push(hash);
                if edge.len() == usize::from(TILE_WIDTH) {
                    let index = index / u64::from(TILE_WIDTH);
                    full.push((TileId { level, index, width: TILE_WIDTH }, std::mem::take(edge)));
                }
            }
        });
        self.bundle.push(leaf);
        if self.bundle.len() == usize::from(TILE_WIDTH) {
            let bundle = std::mem::take(&mut self.bundle);
            let index = self.frontier.size() / u64::from(TILE_WIDTH) - 1;
            self.write(&bundle_path(index, TILE_WIDTH), &encode_bundle(&bundle)?)?;
            self.prune(&bundle_path(index, TILE_WIDTH))?;
        }
        for (tile, hashes) in full {
            self.write(&tile_path(tile), &encode_tile(&hashes))?;
            self.prune(&tile_path(tile))?;
        }
        Ok(())
    }

    /// Writes the partial tiles and publishes this checkpoint, which must be of exactly this tree. The caller
    /// has verified its signatures.
    ///
    /// # Errors
    /// When the checkpoint is of another tree or a file cannot be written.
    pub fn commit(&mut self, note: &SignedNote) -> Result<(), TileError> {
        let head = Checkpoint::parse(note.body())
            .map_err(|error| TileError::BadCheckpoint { why: error.to_string() })?;
        self.expect_tree(&head)?;
        if !self.bundle.is_empty() {
            let width = u16::try_from(self.bundle.len()).unwrap_or(TILE_WIDTH);
            let path = bundle_path(head.size / u64::from(TILE_WIDTH), width);
            self.write(&path, &encode_bundle(&self.bundle)?)?;
        }
        for (level, edge) in (0_u8..).zip(&self.edges) {
            let index = (head.size >> (8 * u32::from(level))) / u64::from(TILE_WIDTH);
            if let Some(tile) = TileId::for_tree(level, index, head.size).filter(|_| !edge.is_empty()) {
                self.write(&tile_path(tile), &encode_tile(edge))?;
            }
        }
        self.write(CHECKPOINT, note.to_string().as_bytes())
    }

    fn expect_tree(&self, head: &Checkpoint) -> Result<(), TileError> {
        let (found_size, found_root) = (self.size(), self.root());
        if head.size == found_size && head.root == found_root {
            return Ok(());
        }
        Err(TileError::OtherTree { size: head.size, root: head.root, found_size, found_root })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TileError> {
        let path = self.folder.join(name);
        let folder = disk::folder_of(&path);
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(io_error("make", folder))?;
            // New names on the way down must survive a power cut as well as the file.
            for parent in folder.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.folder)) {
                disk::sync_folder(parent).map_err(io_error("sync", parent))?;
            }
        }
        disk::write_atomic(&path, bytes, 0o644).map_err(io_error("write", &path))
    }

    /// Removes the partial versions of a tile or bundle that is full now.
    fn prune(&self, full: &str) -> Result<(), TileError> {
        let partials = self.folder.join(format!("{full}.p"));
        match fs::remove_dir_all(&partials) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &partials)(error))
            }
            _ => Ok(()),
        }
    }
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> TileError + 'a {
    move |source| TileError::Io { doing, path: path.display().to_string(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::sign;
    use crate::keys::LedgerSigner;
    use crate::tree::MemoryTree;

    #[test]
    fn a_folder_written_in_pieces_equals_the_tree_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let signer = LedgerSigner::generate("example.org/log").unwrap();
        let mut memory = MemoryTree::new();
        let leaves: Vec<Vec<u8>> = (0_u32..1000).map(|n| format!("leaf {n}").into_bytes()).collect();
        let mut written = 0;
        for stop in [1, 2, 255, 256, 257, 512, 700, 1000] {
            let mut writer = TileWriter::open(folder.path()).unwrap();
            assert_eq!(writer.size(), written as u64);
            for leaf in &leaves[written..stop] {
                memory.push(leaf_hash(leaf));
                writer.append(leaf.clone()).unwrap();
            }
            written = stop;
            let head =
                Checkpoint { origin: signer.origin().to_owned(), size: memory.size(), root: memory.root() };
            writer.commit(&sign(&signer, &head).unwrap()).unwrap();
        }
        let reader = TileFolder::new(folder.path());
        assert_eq!(reader.root_at(1000).unwrap(), memory.root());
        for old in 0..=1000 {
            assert_eq!(
                reader.old_root(old, 1000).unwrap(),
                memory.root_at(old).unwrap(),
                "of the first {old}"
            );
        }
        assert!(reader.old_root(1001, 1000).is_err(), "a tree does not know its own future");
        for size in [1, 256, 257, 700, 999] {
            // Partial tiles of sizes that were never published are answered from the fuller ones.
            if let Ok(root) = reader.root_at(size) {
                assert_eq!(root, memory.root_at(size).unwrap());
            }
        }
        assert_eq!(reader.inclusion_proof(300, 1000).unwrap(), memory.inclusion_proof(300, 1000).unwrap());
        assert_eq!(reader.read_bundle(3, 232).unwrap(), leaves[768..].to_vec());
        assert_eq!(reader.read_bundle(0, 5).unwrap(), leaves[..5].to_vec());
        assert!(!folder.path().join("tile/0/000.p").exists(), "partial tiles go when the full one is there");
        let other = Checkpoint { origin: "example.org/log".into(), size: 1000, root: leaf_hash(b"other") };
        let mut writer = TileWriter::open(folder.path()).unwrap();
        let refused = writer.commit(&sign(&signer, &other).unwrap());
        assert!(matches!(refused, Err(TileError::OtherTree { .. })));
    }

    #[test]
    fn a_changed_tile_is_found_when_the_folder_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let signer = LedgerSigner::generate("example.org/log").unwrap();
        let mut writer = TileWriter::open(folder.path()).unwrap();
        writer.append(b"one".to_vec()).unwrap();
        let head = Checkpoint { origin: "example.org/log".into(), size: 1, root: writer.root() };
        writer.commit(&sign(&signer, &head).unwrap()).unwrap();
        fs::write(folder.path().join("tile/0/000.p/1"), [7; 32]).unwrap();
        assert!(matches!(TileWriter::open(folder.path()), Err(TileError::OtherTree { .. })));
    }
}

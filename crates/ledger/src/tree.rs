//! Making proofs from stored tile hashes, whoever stores them.
//!
//! A reader answers for one tile at a time ([`TileReader`]). A caller that can only read asynchronously asks
//! first which tiles a proof needs ([`tiles_for_inclusion`] and its sisters), fetches them all at once and
//! answers from memory.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use crate::hash::{Hash, empty_root, node_hash};
use crate::merkle::{Frontier, MAX_SIZE, fold};
use crate::tiles::{TILE_WIDTH, TileId};

/// Reads tiles of one log.
pub trait TileReader {
    type Error: std::error::Error;

    /// The hashes of this tile, at least `tile.width` of them, in order.
    ///
    /// # Errors
    /// When the tile cannot be read.
    fn read_tile(&self, tile: TileId) -> Result<Vec<Hash>, Self::Error>;

    /// Root of the first `size` leaves.
    ///
    /// # Errors
    /// When a tile cannot be read.
    fn root_at(&self, size: u64) -> Result<Hash, TreeError<Self::Error>> {
        if size == 0 {
            return Ok(empty_root());
        }
        Session::new(self, size)?.range((0, size))
    }

    /// Root of the first `old` leaves, read off the tiles of a tree of `size` leaves: an older tree's own partial tiles need
    /// not be there any more.
    ///
    /// # Errors
    /// When `old` is outside or a tile cannot be read.
    fn old_root(&self, old: u64, size: u64) -> Result<Hash, TreeError<Self::Error>> {
        if old > size {
            return Err(TreeError::Outside { asked: old, size });
        }
        Session::new(self, size)?.range((0, old))
    }

    /// The right edge after the first `size` leaves, to go on appending from there.
    ///
    /// # Errors
    /// When a tile cannot be read.
    fn frontier_at(&self, size: u64) -> Result<Frontier, TreeError<Self::Error>> {
        let mut session = Session::new(self, size)?;
        let peaks = cover((0, size)).into_iter().map(|tree| session.subtree(tree));
        let peaks = peaks.collect::<Result<Vec<_>, _>>()?;
        Frontier::from_parts(size, peaks).ok_or(TreeError::TooLarge { size })
    }

    /// Inclusion proof of leaf `index` in the tree of `size` leaves, sibling of the leaf first (RFC 6962
    /// section 2.1.1).
    ///
    /// # Errors
    /// When the index is outside or a tile cannot be read.
    fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, TreeError<Self::Error>> {
        if index >= size {
            return Err(TreeError::Outside { asked: index, size });
        }
        let mut session = Session::new(self, size)?;
        inclusion_ranges(index, size).into_iter().map(|range| session.range(range)).collect()
    }

    /// Consistency proof from `old` to `new` leaves (RFC 6962 section 2.1.2).
    ///
    /// # Errors
    /// When `old` is larger than `new` or a tile cannot be read.
    fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, TreeError<Self::Error>> {
        if old > new {
            return Err(TreeError::Outside { asked: old, size: new });
        }
        let mut session = Session::new(self, new)?;
        consistency_ranges(old, new).into_iter().map(|range| session.range(range)).collect()
    }
}

/// Why a proof could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E: std::error::Error> {
    #[error("failed to make a proof: {asked} is outside a tree of {size} leaves")]
    Outside { asked: u64, size: u64 },
    #[error("failed to make a proof: no tree has {size} leaves")]
    TooLarge { size: u64 },
    #[error("failed to make a proof: tile {tile:?} holds {found} hashes only")]
    Short { tile: TileId, found: usize },
    #[error("failed to make a proof: a tile cannot be read")]
    Reader(#[source] E),
}

/// A perfect subtree: `2^height` leaves starting at `index * 2^height`.
#[derive(Clone, Copy)]
struct Subtree {
    height: u32,
    index: u64,
}

/// Half-open range of leaves whose RFC 6962 root is wanted.
type Range = (u64, u64);

/// The perfect subtrees that make up a range, largest first. The range starts where its own tree would.
fn cover((begin, end): Range) -> Vec<Subtree> {
    let (mut at, mut trees) = (begin, Vec::new());
    while at < end {
        let height = 63 - (end - at).leading_zeros();
        trees.push(Subtree { height, index: at >> height });
        at += 1 << height;
    }
    trees
}

/// Largest power of two below `n`, for `n` of two or more.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

fn inclusion_ranges(index: u64, size: u64) -> Vec<Range> {
    let (mut begin, mut end, mut ranges) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((begin, middle));
            begin = middle;
        }
    }
    ranges.reverse();
    ranges
}

fn consistency_ranges(old: u64, new: u64) -> Vec<Range> {
    let mut ranges = Vec::new();
    if old == 0 || old == new {
        return ranges;
    }
    let (mut begin, mut end, mut is_old_root) = (0, new, true);
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((begin, middle));
            begin = middle;
            is_old_root = false;
        }
    }
    if !is_old_root {
        ranges.push((begin, end));
    }
    ranges.reverse();
    ranges
}

/// The tile that holds a subtree's hashes, and which of them: `(tile, first, count)`.
fn locate(tree: Subtree, size: u64) -> Option<(TileId, usize, usize)> {
    let level = u8::try_from(tree.height / 8).ok()?;
    let inner = tree.height % 8;
    let first = tree.index << inner;
    let tile = TileId::for_tree(level, first / u64::from(TILE_WIDTH), size)?;
    Some((tile, usize::try_from(first % u64::from(TILE_WIDTH)).ok()?, 1 << inner))
}

fn tiles_of(ranges: &[Range], size: u64) -> BTreeSet<TileId> {
    let trees = ranges.iter().flat_map(|range| cover(*range));
    trees.filter_map(|tree| locate(tree, size)).map(|(tile, _, _)| tile).collect()
}

/// The tiles from which the root of `size` leaves is made.
#[must_use]
pub fn tiles_for_root(size: u64) -> BTreeSet<TileId> {
    tiles_of(&[(0, size)], size)
}

/// The tiles from which this inclusion proof is made; none when the index is outside.
#[must_use]
pub fn tiles_for_inclusion(index: u64, size: u64) -> BTreeSet<TileId> {
    if index < size { tiles_of(&inclusion_ranges(index, size), size) } else { BTreeSet::new() }
}

/// The tiles from which this consistency proof is made; none when the sizes are reversed.
#[must_use]
pub fn tiles_for_consistency(old: u64, new: u64) -> BTreeSet<TileId> {
    if old <= new { tiles_of(&consistency_ranges(old, new), new) } else { BTreeSet::new() }
}

/// One proof being made: remembers tiles, since neighbours share them.
struct Session<'a, R: TileReader + ?Sized> {
    reader: &'a R,
    size: u64,
    seen: HashMap<TileId, Vec<Hash>>,
}

impl<'a, R: TileReader + ?Sized> Session<'a, R> {
    fn new(reader: &'a R, size: u64) -> Result<Self, TreeError<R::Error>> {
        if size >= MAX_SIZE {
            return Err(TreeError::TooLarge { size });
        }
        Ok(Self { reader, size, seen: HashMap::new() })
    }

    fn range(&mut self, range: Range) -> Result<Hash, TreeError<R::Error>> {
        let peaks = cover(range).into_iter().map(|tree| self.subtree(tree)).collect::<Result<Vec<_>, _>>()?;
        Ok(fold(&peaks).unwrap_or_else(empty_root))
    }

    fn subtree(&mut self, tree: Subtree) -> Result<Hash, TreeError<R::Error>> {
        let (tile, first, count) =
            locate(tree, self.size).ok_or(TreeError::Outside { asked: tree.index, size: self.size })?;
        if !self.seen.contains_key(&tile) {
            let hashes = self.reader.read_tile(tile).map_err(TreeError::Reader)?;
            self.seen.insert(tile, hashes);
        }
        let hashes = self.seen.get(&tile).map(Vec::as_slice).unwrap_or_default();
        let short = TreeError::Short { tile, found: hashes.len() };
        let mut row = hashes.get(first..first + count).ok_or(short)?.to_vec();
        while row.len() > 1 {
            row = row
                .chunks(2)
                .filter_map(|pair| match pair {
                    [left, right] => Some(node_hash(left, right)),
                    _ => None,
                })
                .collect();
        }
        row.first().copied().ok_or(TreeError::Short { tile, found: 0 })
    }
}

/// A whole tree in memory: the verifier's, and that of small logs. About 32 bytes a leaf.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Hash>>,
    frontier: Frontier,
}

impl MemoryTree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.frontier.push_emitting(leaf, |level, _, hash| {
            let level = usize::from(level);
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            if let Some(row) = levels.get_mut(level) {
                row.push(hash);
            }
        });
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root now.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Hash of the leaf at `index`.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }
}

impl Extend<Hash> for MemoryTree {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, leaves: T) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

impl TileReader for MemoryTree {
    type Error = Infallible;

    fn read_tile(&self, tile: TileId) -> Result<Vec<Hash>, Infallible> {
        let width = usize::from(TILE_WIDTH);
        let row = self.levels.get(usize::from(tile.level)).map(Vec::as_slice).unwrap_or_default();
        let start = usize::try_from(tile.index).ok().and_then(|index| index.checked_mul(width));
        let tail = start.and_then(|start| row.get(start..)).unwrap_or_default();
        Ok(tail.iter().take(width).copied().collect())
    }
}

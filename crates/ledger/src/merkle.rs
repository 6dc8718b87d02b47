//! The arithmetic of the tree: growing it leaf by leaf, and checking proofs about it.
//!
//! [`Frontier`] keeps the O(log n) hashes on the right edge and gives the root at any time. The verifiers
//! follow RFC 9162 sections 2.1.3.2 and 2.1.4.2 (the trees are those of RFC 6962). Making proofs needs stored
//! hashes and lives in [`crate::tree`].

use serde::{Deserialize, Serialize};

pub use crate::hash::{Hash, empty_root, leaf_hash, node_hash};
pub use crate::tree::{MemoryTree, TileReader, TreeError};

/// A tree has fewer leaves than this, so that no size or index overflows.
pub const MAX_SIZE: u64 = 1 << 62;

/// No proof is longer than this many hashes.
pub const MAX_PROOF: usize = 63;

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("failed to verify inclusion: leaf {index} is not in a tree of {size} leaves")]
    IndexOutside { index: u64, size: u64 },
    #[error(
        "failed to verify consistency: the older tree ({old} leaves) is larger than the newer one ({new})"
    )]
    SizesReversed { old: u64, new: u64 },
    #[error("failed to verify a proof: it has {found} hashes, which does not fit this tree")]
    WrongLength { found: usize },
    #[error("failed to verify inclusion: the proof leads to another root; leaf or log was changed")]
    NotIncluded,
    #[error(
        "failed to verify consistency: the newer tree does not continue the older one; history was rewritten"
    )]
    NotConsistent,
}

/// The right edge of a tree: the roots of its perfect subtrees, largest first. O(log n) memory.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "FrontierParts", into = "FrontierParts")]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontierParts {
    size: u64,
    peaks: Vec<Hash>,
}

impl TryFrom<FrontierParts> for Frontier {
    type Error = String;
    fn try_from(parts: FrontierParts) -> Result<Self, String> {
        Self::from_parts(parts.size, parts.peaks)
            .ok_or_else(|| format!("the number of peaks does not fit a tree of {} leaves", parts.size))
    }
}

impl From<Frontier> for FrontierParts {
    fn from(frontier: Frontier) -> Self {
        Self { size: frontier.size, peaks: frontier.peaks }
    }
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree of `size` leaves from the roots of its perfect subtrees, largest first. `None` if their number
    /// does not fit the size.
    #[must_use]
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        let expected = usize::try_from(size.count_ones()).ok()?;
        (size < MAX_SIZE && peaks.len() == expected).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds one leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_emitting(leaf, |_, _, _| {});
    }

    /// Adds one leaf and tells every tile hash that this completes: `emit(tile level, index in level, hash)`.
    pub fn push_emitting(&mut self, leaf: Hash, mut emit: impl FnMut(u8, u64, Hash)) {
        let (mut hash, mut rest, mut height) = (leaf, self.size, 0_u8);
        emit(0, rest, hash);
        while rest & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            rest >>= 1;
            height += 1;
            if height.is_multiple_of(8) {
                emit(height / 8, rest, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root now.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }
}

impl Extend<Hash> for Frontier {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, leaves: T) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

/// Root over subtree roots that stand largest first.
pub(crate) fn fold(peaks: &[Hash]) -> Option<Hash> {
    peaks.iter().copied().rev().reduce(|right, left| node_hash(&left, &right))
}

/// Root of a tree given all its leaf hashes.
#[must_use]
pub fn root_of(leaf_hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    frontier.extend(leaf_hashes.iter().copied());
    frontier.root()
}

/// Checks that the leaf with this hash stands at `index` in the tree of `size` leaves with this root.
///
/// # Errors
/// When it does not, or the proof has the wrong length.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutside { index, size });
    }
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            skip_missing(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::NotIncluded) }
}

/// Checks that the tree of `new` leaves continues the tree of `old` leaves without changing any of them.
///
/// # Errors
/// When it does not, or the proof has the wrong length.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    let hold = |holds: bool| if holds { Ok(()) } else { Err(ProofError::NotConsistent) };
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        return hold(if old == new { old_root == new_root } else { *old_root == empty_root() });
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut steps = proof.iter();
    // A perfect older tree is a node of the newer one, so that its root is the start and not in the proof.
    let start = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(start) = start else { return Err(wrong_length) };
    let (mut old_hash, mut new_hash) = (*start, *start);
    for step in steps {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            skip_missing(&mut node, &mut last);
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    hold(old_hash == *old_root && new_hash == *new_root)
}

/// On the ragged right edge a node is carried up unpaired until it is a right child.
fn skip_missing(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

//! The arithmetic of the tree against the definitions of RFC 6962 section 2.1, written down naively here, and
//! against the eight leaves that implementations of certificate transparency have been checked with.

#![expect(clippy::indexing_slicing, reason = "test helpers")]

use halligan_ledger::merkle::Frontier;
use halligan_ledger::tree::{tiles_for_consistency, tiles_for_inclusion, tiles_for_root};
use halligan_ledger::{
    Hash, MemoryTree, TileId, TileReader, empty_root, leaf_hash, node_hash, root_of, verify_consistency,
    verify_inclusion,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;

fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (mut path, sibling) = if index < k {
        (naive_path(index, &leaves[..k]), naive_root(&leaves[k..]))
    } else {
        (naive_path(index - k, &leaves[k..]), naive_root(&leaves[..k]))
    };
    path.push(sibling);
    path
}

fn naive_consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let k = split(leaves.len());
    let (mut proof, sibling) = if old <= k {
        (naive_consistency(old, &leaves[..k], whole), naive_root(&leaves[k..]))
    } else {
        (naive_consistency(old - k, &leaves[k..], false), naive_root(&leaves[..k]))
    };
    proof.push(sibling);
    proof
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn tree(leaves: &[Hash]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.extend(leaves.iter().copied());
    tree
}

/// Leaves and roots of the reference tests of certificate transparency (merkle_tree_test).
const VECTORS: [(&str, &str); 8] = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
];

#[test]
fn the_eight_known_leaves_have_the_known_roots() {
    let mut frontier = Frontier::new();
    let mut memory = MemoryTree::new();
    for (size, (leaf, root)) in (1_u64..).zip(VECTORS) {
        let hash = leaf_hash(&hex::decode(leaf).unwrap());
        frontier.push(hash);
        memory.push(hash);
        assert_eq!(frontier.root().to_hex(), root, "{size} leaves");
        assert_eq!(memory.root_at(size).unwrap().to_hex(), root);
    }
    let path = |index, size| -> Vec<String> {
        memory.inclusion_proof(index, size).unwrap().iter().map(Hash::to_hex).collect()
    };
    assert_eq!(
        path(0, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    let proof: Vec<String> = memory.consistency_proof(6, 8).unwrap().iter().map(Hash::to_hex).collect();
    assert_eq!(
        proof,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
}

#[test]
fn every_proof_of_every_small_tree_is_the_naive_one_and_verifies() {
    let leaves = leaves(70);
    let tree = tree(&leaves);
    for size in 1..=leaves.len() {
        let root = naive_root(&leaves[..size]);
        assert_eq!(tree.root_at(size as u64).unwrap(), root);
        assert_eq!(root_of(&leaves[..size]), root);
        for index in 0..size {
            let proof = tree.inclusion_proof(index as u64, size as u64).unwrap();
            assert_eq!(proof, naive_path(index, &leaves[..size]));
            verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &root).unwrap();
            // The same proof holds for no other place.
            for other in (0..size).filter(|other| *other != index) {
                assert!(verify_inclusion(&leaves[index], other as u64, size as u64, &proof, &root).is_err());
            }
        }
        for old in 1..=size {
            let proof = tree.consistency_proof(old as u64, size as u64).unwrap();
            assert_eq!(proof, naive_consistency(old, &leaves[..size], true), "{old} to {size}");
            let old_root = naive_root(&leaves[..old]);
            verify_consistency(old as u64, size as u64, &proof, &old_root, &root).unwrap();
        }
        let from_nothing = tree.consistency_proof(0, size as u64).unwrap();
        verify_consistency(0, size as u64, &from_nothing, &empty_root(), &root).unwrap();
        assert!(verify_consistency(0, size as u64, &[], &root, &root).is_err() || size == 0);
    }
}

/// Remembers which tiles were read.
struct Watched<'a>(&'a MemoryTree, RefCell<BTreeSet<TileId>>);

impl TileReader for Watched<'_> {
    type Error = Infallible;
    fn read_tile(&self, tile: TileId) -> Result<Vec<Hash>, Infallible> {
        self.1.borrow_mut().insert(tile);
        self.0.read_tile(tile)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn large_trees_agree_with_the_definition(size in 1_usize..3000, a in 0_usize..3000, b in 1_usize..3000) {
        let leaves = leaves(size);
        let tree = tree(&leaves);
        let (index, old) = (a % size, 1 + b % size);
        let root = tree.root();
        prop_assert_eq!(root, naive_root(&leaves));
        let proof = tree.inclusion_proof(index as u64, size as u64).unwrap();
        prop_assert_eq!(&proof, &naive_path(index, &leaves));
        prop_assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &root).is_ok());
        let proof = tree.consistency_proof(old as u64, size as u64).unwrap();
        prop_assert_eq!(&proof, &naive_consistency(old, &leaves, true));
        let old_root = naive_root(&leaves[..old]);
        prop_assert!(verify_consistency(old as u64, size as u64, &proof, &old_root, &root).is_ok());
        let frontier = tree.frontier_at(old as u64).unwrap();
        prop_assert_eq!(frontier.root(), old_root);
        let text = serde_json::to_string(&frontier).unwrap();
        prop_assert_eq!(serde_json::from_str::<Frontier>(&text).unwrap(), frontier);
    }

    #[test]
    fn a_changed_proof_is_refused(size in 2_usize..400, a: usize, b: usize, place: usize, bit in 0_usize..256) {
        let leaves = leaves(size);
        let tree = tree(&leaves);
        let (index, old) = (a % size, 1 + b % (size - 1));
        let flip = |proof: &mut Vec<Hash>| {
            let place = place % proof.len();
            let mut bytes = *proof[place].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            proof[place] = Hash::from_bytes(bytes);
        };
        let root = tree.root();
        let good = tree.inclusion_proof(index as u64, size as u64).unwrap();
        let mut bent = good.clone();
        flip(&mut bent);
        prop_assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &bent, &root).is_err());
        prop_assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &good[1..], &root).is_err());
        let longer = [good.as_slice(), &[root]].concat();
        prop_assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &longer, &root).is_err());
        let good = tree.consistency_proof(old as u64, size as u64).unwrap();
        let old_root = naive_root(&leaves[..old]);
        let mut bent = good.clone();
        flip(&mut bent);
        prop_assert!(verify_consistency(old as u64, size as u64, &bent, &old_root, &root).is_err());
        prop_assert!(verify_consistency(old as u64, size as u64, &good[1..], &old_root, &root).is_err());
        // Nor does it hold for a history with another leaf.
        let mut forged = leaves.clone();
        forged[index % old] = leaf_hash(b"forged");
        let forged_root = naive_root(&forged[..old]);
        prop_assert!(verify_consistency(old as u64, size as u64, &good, &forged_root, &root).is_err());
    }

    /// Whoever fetches tiles ahead of time fetches exactly those that are read.
    #[test]
    fn the_tiles_announced_are_the_tiles_read(size in 1_u64..200_000, a: u64, b: u64) {
        let (index, old) = (a % size, b % (size + 1));
        // Hashes do not matter here, so one tree that is large enough serves for all sizes.
        static TREE: std::sync::OnceLock<MemoryTree> = std::sync::OnceLock::new();
        let tree = TREE.get_or_init(|| tree(&vec![empty_root(); 200_000]));
        let watched = || Watched(tree, RefCell::default());
        let reader = watched();
        reader.inclusion_proof(index, size).unwrap();
        prop_assert_eq!(reader.1.into_inner(), tiles_for_inclusion(index, size));
        let reader = watched();
        reader.consistency_proof(old, size).unwrap();
        prop_assert_eq!(reader.1.into_inner(), tiles_for_consistency(old, size));
        let reader = watched();
        reader.root_at(size).unwrap();
        prop_assert_eq!(reader.1.into_inner(), tiles_for_root(size));
    }
}

#[test]
fn hostile_sizes_are_refused_without_work() {
    let root = empty_root();
    assert!(verify_inclusion(&root, u64::MAX, u64::MAX, &[], &root).is_err());
    assert!(verify_inclusion(&root, 5, 5, &[], &root).is_err());
    assert!(verify_inclusion(&root, 0, u64::MAX, &vec![root; 200], &root).is_err());
    assert!(verify_consistency(1, u64::MAX, &vec![root; 200], &root, &root).is_err());
    assert!(verify_consistency(u64::MAX, u64::MAX - 1, &[], &root, &root).is_err());
    assert!(serde_json::from_str::<Frontier>(r#"{"size":3,"peaks":[]}"#).is_err());
    assert!(serde_json::from_str::<Frontier>(r#"{"size":18446744073709551615,"peaks":[]}"#).is_err());
    let memory = tree(&leaves(3));
    assert!(memory.inclusion_proof(2, u64::MAX).is_err());
    assert!(memory.root_at(4).is_err(), "a tree does not know its own future");
}

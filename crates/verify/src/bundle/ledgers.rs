//! The ledgers: whose signatures are trusted, each leaf in its place, the chain without a gap, each node's key named by
//! control's own ledger.

use std::collections::{BTreeMap, HashMap};

use halligan_core::ids::Name;
use halligan_core::leaf::{Leaf, LeafBody};
use halligan_core::node_event::NodeLeaf;
use halligan_ledger::{
    Checkpoint, Hash, SignedNote, TrustPolicy, leaf_hash, root_of, verify_consistency, verify_inclusion,
};

use super::Options;
use super::file::Opened;
use crate::chains::{Chains, Monotonic};
use crate::findings::{Faults, Report, count};
use crate::layout::{
    CONTROL, Earlier, LeafLine, MAX_DOCUMENT_BYTES, MAX_LEAVES_BYTES, POLICY, checkpoint_path, earlier_path,
    leaves_path,
};
use crate::replay::Entry;

/// The leaves of all ledgers, each proved to be where it claims.
pub(super) struct Read {
    pub leaves: Vec<(u64, Hash, Leaf)>,
    pub nodes: BTreeMap<Name, Vec<(u64, NodeLeaf)>>,
    pub heads: Vec<Checkpoint>,
}

/// The policy to trust by: the auditor's, else the bundle's own with a warning.
pub(super) fn policy(opened: &Opened, options: &Options, report: &mut Report) -> Option<TrustPolicy> {
    let mut own = None;
    report.check("trust policy", |faults| {
        if let Some(bytes) = faults.value(opened.archive.read(POLICY, MAX_DOCUMENT_BYTES), POLICY) {
            own = faults.value(TrustPolicy::parse(&bytes), POLICY);
        }
        own.as_ref().map_or_else(String::new, |own| count(own.logs().len(), "ledger", "ledgers"))
    });
    if let Some(theirs) = &options.policy {
        return Some(theirs.clone());
    }
    report.warnings.push(
        "verified by the keys that the bundle itself brings: compare trust.policy with yours, or give it with --policy"
            .to_owned(),
    );
    own
}

pub(super) fn read(opened: &Opened, policy: &TrustPolicy, report: &mut Report) -> Option<Read> {
    let mut read = Read { leaves: Vec::new(), nodes: BTreeMap::new(), heads: Vec::new() };
    let control = part(opened, policy, CONTROL, report)?;
    let mut keys = vec![];
    report.check("leaves of control", |faults| {
        let mut time = Monotonic::default();
        for (index, hash, bytes) in &control.leaves {
            let place = format!("leaf {index} of control");
            if let Some(leaf) = faults.value(serde_json::from_slice::<Leaf>(bytes), &place) {
                faults.unless(leaf.v == 1, || format!("{place} has format {}", leaf.v));
                time.push(*index, leaf.at, faults);
                read.leaves.push((*index, *hash, leaf));
            }
        }
        count(control.leaves.len(), "leaf", "leaves")
    });
    read.heads.push(control.head);
    for name in opened.nodes() {
        let folder = format!("nodes/{name}");
        let Some(found) = part(opened, policy, &folder, report) else { continue };
        report.check("leaves of nodes", |faults| {
            let Some(node) = faults.value(Name::new(name.as_str()), &folder) else { return String::new() };
            let leaves = node_leaves(&node, &found.leaves, faults);
            let said = format!("{} of {node}", count(leaves.len(), "leaf", "leaves"));
            read.nodes.insert(node.clone(), leaves);
            keys.push((node, found.key));
            said
        });
        read.heads.push(found.head);
    }
    chain(opened, &read.leaves, report);
    pinned(&read.leaves, &keys, report);
    report.counts.leaves = (read.leaves.len() + read.nodes.values().map(Vec::len).sum::<usize>()) as u64;
    Some(read)
}

struct Part {
    head: Checkpoint,
    key: String,
    leaves: Vec<(u64, Hash, Vec<u8>)>,
}

/// One ledger's folder: checkpoint, leaves, older checkpoints.
fn part(opened: &Opened, policy: &TrustPolicy, folder: &str, report: &mut Report) -> Option<Part> {
    let mut trusted = None;
    report.check("checkpoint signatures", |faults| {
        let path = checkpoint_path(folder);
        let Some(note) = note(opened, &path, faults) else { return String::new() };
        trusted = faults.value(policy.trust(&note), &path);
        trusted.as_ref().map_or_else(String::new, |trusted| {
            let witnesses = count(trusted.witnesses.len(), "witness", "witnesses");
            let head = &trusted.checkpoint;
            format!(
                "{} at {} leaves, signed by {}, {witnesses}",
                head.origin,
                head.size,
                trusted.ledger.name()
            )
        })
    });
    let trusted = trusted?;
    let head = trusted.checkpoint;
    let mut leaves: Vec<(u64, Hash, Vec<u8>)> = Vec::new();
    report.check("inclusion", |faults| {
        let path = leaves_path(folder);
        for line in lines::<LeafLine>(opened, &path, faults) {
            let hash = leaf_hash(&line.leaf);
            if leaves.last().is_some_and(|(index, ..)| *index >= line.index) {
                faults.say(format!("{path}: leaf {} does not come after the one before it", line.index));
            }
            let place = format!("{path}: leaf {}", line.index);
            faults.value(verify_inclusion(&hash, line.index, head.size, &line.proof, &head.root), &place);
            leaves.push((line.index, hash, line.leaf));
        }
        format!("{} of {}", count(leaves.len(), "leaf", "leaves"), head.origin)
    });
    if leaves.len() as u64 == head.size {
        report.check("root from entries", |faults| {
            let hashes: Vec<Hash> = leaves.iter().map(|(_, hash, _)| *hash).collect();
            let root = root_of(&hashes);
            faults.unless(root == head.root, || {
                format!(
                    "{folder}: all {} leaves give root {root}, the checkpoint says {}",
                    head.size, head.root
                )
            });
            format!("all leaves of {} are here", head.origin)
        });
    }
    if opened.archive.member(&earlier_path(folder)).is_some() {
        report.check("consistency", |faults| {
            let path = earlier_path(folder);
            let older = lines::<Earlier>(opened, &path, faults);
            for (number, earlier) in (1..).zip(&older) {
                let place = format!("{path}: line {number}");
                let Some(old) = faults.value(policy.trust(&earlier.checkpoint), &place) else { continue };
                let old = old.checkpoint;
                faults.unless(old.origin == head.origin, || {
                    format!("{place} is a checkpoint of {}, not of {}", old.origin, head.origin)
                });
                faults.value(
                    verify_consistency(old.size, head.size, &earlier.proof, &old.root, &head.root),
                    &format!("{place}: from {} to {} leaves", old.size, head.size),
                );
            }
            format!("{} of {}", count(older.len(), "older checkpoint", "older checkpoints"), head.origin)
        });
    }
    Some(Part { head, key: trusted.ledger.to_string(), leaves })
}

fn note(opened: &Opened, path: &str, faults: &mut Faults) -> Option<SignedNote> {
    let bytes = faults.value(opened.archive.read(path, MAX_DOCUMENT_BYTES), path)?;
    let text = faults.value(String::from_utf8(bytes), path)?;
    faults.value(SignedNote::parse(&text), path)
}

/// JSON lines.
fn lines<T: serde::de::DeserializeOwned>(opened: &Opened, path: &str, faults: &mut Faults) -> Vec<T> {
    let Some(bytes) = faults.value(opened.archive.read(path, MAX_LEAVES_BYTES), path) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.is_empty() {
            continue;
        }
        if let Some(value) = faults.value(serde_json::from_slice(line), &format!("{path}: line {number}")) {
            found.push(value);
        }
    }
    found
}

fn node_leaves(node: &Name, leaves: &[(u64, Hash, Vec<u8>)], faults: &mut Faults) -> Vec<(u64, NodeLeaf)> {
    let mut time = Monotonic::default();
    let mut found = Vec::new();
    for (index, _, bytes) in leaves {
        let place = format!("leaf {index} of {node}");
        let Some(leaf) = faults.value(serde_json::from_slice::<NodeLeaf>(bytes), &place) else { continue };
        faults.unless(leaf.v == 1, || format!("{place} has format {}", leaf.v));
        faults.unless(leaf.node == *node, || format!("{place} was written by {}", leaf.node));
        time.push(*index, leaf.at, faults);
        found.push((*index, leaf));
    }
    found
}

/// The incident's numbered chain, from its first leaf to the one that closed it.
fn chain(opened: &Opened, leaves: &[(u64, Hash, Leaf)], report: &mut Report) {
    report.check("chain of the incident", |faults| {
        let incident = opened.manifest.incident;
        let mut chains = Chains::default();
        for (index, hash, leaf) in leaves {
            if leaf.chain.as_ref().is_none_or(|link| link.incident == incident) {
                match Entry::of(leaf) {
                    Ok(entry) => chains.push(*index, &entry, hash, faults),
                    Err(why) => faults.say(format!("leaf {index} cannot be read: {why}")),
                }
            }
        }
        let chain = chains.0.remove(&incident).unwrap_or_default();
        faults.unless(chain.count > 0, || format!("there is no leaf of incident {incident}"));
        match chain.closed_at {
            Some(number) => format!(
                "{}, closed by number {number}",
                count(usize::try_from(chain.count).unwrap_or(usize::MAX), "leaf", "leaves")
            ),
            None => {
                faults.say(format!(
                    "the chain of {} leaves has none that closes the incident: the end is missing, or it is not closed",
                    chain.count
                ));
                String::new()
            }
        }
    });
}

/// The key of each node's ledger must be the one that control's ledger named when it first met the node.
fn pinned(leaves: &[(u64, Hash, Leaf)], keys: &[(Name, String)], report: &mut Report) {
    report.check("keys of nodes", |faults| {
        let mut named: HashMap<&str, &str> = HashMap::new();
        for (_, _, leaf) in leaves {
            if let LeafBody::Node { what, node, detail } = &leaf.body
                && what == KEY_PINNED
            {
                named.insert(node, detail);
            }
        }
        for (node, key) in keys {
            match named.get(node.as_str()) {
                None => faults.say(format!("no leaf of control names the key of {node}'s ledger")),
                Some(pinned) if pinned != key => {
                    faults.say(format!(
                        "control's ledger names another key of {node} than the one that signed"
                    ));
                }
                Some(_) => {}
            }
        }
        count(keys.len(), "node", "nodes")
    });
}

/// The word of a leaf by which control names the key of a node's ledger.
pub const KEY_PINNED: &str = "ledger_key_pinned";

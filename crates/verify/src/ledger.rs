//! A whole ledger as a folder of tiles: its root made again from the entries, its tiles, signature, chains and documents.
//!
//! Reading, hashing and parsing is spread over processors; so is comparing documents, of which each replay takes a share.
//! Events are applied in order, by every replay.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use halligan_core::leaf::LeafBody;
use halligan_core::node_event::NodeLeaf;
use halligan_ledger::tiles::TILE_WIDTH;
use halligan_ledger::{
    Checkpoint, Frontier, Hash, SignedNote, TileFolder, TileId, TileReader as _, TrustPolicy, leaf_hash,
    verify_consistency as proof_holds,
};

use crate::chains::{Chains, Monotonic};
use crate::findings::{Faults, Report, chain, count};
use crate::replay::{Entry, History, Replay};

const WIDTH: u64 = TILE_WIDTH as u64;
/// Bundles of entries that wait between two threads.
const AHEAD: usize = 8;

/// Whose ledger it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Control,
    Node,
}

enum Content {
    Control(Box<Entry>),
    Node(Box<NodeLeaf>),
    Unreadable(String),
}

/// One bundle of entries, hashed and parsed.
#[derive(Default)]
struct Block {
    leaves: Vec<(u64, Hash, Content)>,
    faults: Faults,
}

/// Verifies the ledger in this folder against the keys (and witnesses) of a trust policy.
#[must_use]
pub fn verify_ledger(folder: &Path, policy: &TrustPolicy) -> Report {
    let mut report = Report::new(format!("the ledger in {}", folder.display()));
    let tiles = TileFolder::new(folder);
    let Some(head) = trusted_head(&tiles, policy, &mut report) else { return report };
    report.subject = format!("the ledger {}, {} leaves", head.origin, head.size);
    let kind = kind_of(&tiles, head.size);
    let walked = walk(&tiles, &head, kind);
    report.counts.leaves = walked.tree.size();
    report.counts.events = walked.events;
    report.counts.documents = walked.compared;
    let leaves = count(usize::try_from(head.size).unwrap_or(usize::MAX), "leaf", "leaves");
    report.take("entries and tiles", walked.entries, leaves.clone());
    report.check("root from entries", |faults| {
        let (size, root) = (walked.tree.size(), walked.tree.root());
        faults.unless(size == head.size && root == head.root, || {
            format!(
                "the entries give {size} leaves and root {root}, the checkpoint says {} and {}",
                head.size, head.root
            )
        });
        format!("{root}")
    });
    report.take("leaves can be read", walked.form, leaves.clone());
    report.take("time never goes back", walked.time, leaves);
    if kind == Kind::Control {
        report.take("chains of incidents", walked.chains, count(walked.incidents, "incident", "incidents"));
        report.take("documents against events", walked.documents, format!("{} digests", walked.compared));
    }
    report
}

/// The first leaf tells.
fn kind_of(tiles: &TileFolder, size: u64) -> Kind {
    let width = u16::try_from(size.min(WIDTH)).unwrap_or(TILE_WIDTH);
    let first = tiles.read_bundle(0, width).ok().and_then(|entries| entries.into_iter().next());
    match first.map(|leaf| serde_json::from_slice::<NodeLeaf>(&leaf)) {
        Some(Ok(_)) => Kind::Node,
        _ => Kind::Control,
    }
}

/// Verifies that the ledger in this folder continues an older checkpoint, which somebody has kept.
#[must_use]
pub fn verify_consistency(folder: &Path, older: &SignedNote, policy: &TrustPolicy) -> Report {
    let mut report = Report::new(format!("the ledger in {} since an older checkpoint", folder.display()));
    let tiles = TileFolder::new(folder);
    let Some(head) = trusted_head(&tiles, policy, &mut report) else { return report };
    let mut old = None;
    report.check("older checkpoint", |faults| {
        old = faults.value(policy.trust(older), "the older checkpoint").map(|trusted| trusted.checkpoint);
        old.as_ref().map_or_else(String::new, |old| format!("{} leaves of {}", old.size, old.origin))
    });
    let Some(old) = old else { return report };
    report.check("consistency", |faults| {
        consistent(&tiles, &old, &head, faults);
        format!("{} leaves continue {}", head.size, old.size)
    });
    report
}

fn consistent(tiles: &TileFolder, old: &Checkpoint, head: &Checkpoint, faults: &mut Faults) {
    if old.origin != head.origin {
        faults.say(format!("the older checkpoint is of {}, the ledger is {}", old.origin, head.origin));
    } else if old.size > head.size {
        faults.say(format!(
            "the ledger has {} leaves, and {} were signed before: leaves were cut off",
            head.size, old.size
        ));
    } else if let Some(proof) = faults.value(tiles.consistency_proof(old.size, head.size), "the tiles") {
        faults.value(
            proof_holds(old.size, head.size, &proof, &old.root, &head.root),
            &format!("from {} to {} leaves", old.size, head.size),
        );
    }
}

fn trusted_head(tiles: &TileFolder, policy: &TrustPolicy, report: &mut Report) -> Option<Checkpoint> {
    let mut head = None;
    report.check("checkpoint", |faults| {
        let note = match tiles.checkpoint() {
            Ok(Some(note)) => note,
            Ok(None) => {
                faults.say("there is no checkpoint");
                return String::new();
            }
            Err(error) => {
                faults.say(chain(&error));
                return String::new();
            }
        };
        let trusted = faults.value(policy.trust(&note), "the checkpoint");
        head = trusted.as_ref().map(|trusted| trusted.checkpoint.clone());
        trusted.map_or_else(String::new, |trusted| {
            format!(
                "signed by {}, {}",
                trusted.ledger.name(),
                count(trusted.witnesses.len(), "witness", "witnesses")
            )
        })
    });
    head
}

struct Walked {
    tree: Frontier,
    entries: Faults,
    form: Faults,
    time: Faults,
    chains: Faults,
    documents: Faults,
    incidents: usize,
    events: u64,
    compared: u64,
}

fn walk(tiles: &TileFolder, head: &Checkpoint, kind: Kind) -> Walked {
    let processors = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    // Every replay applies all events, and parsing takes as long as comparing: half of the processors is best.
    let replays = if kind == Kind::Control { (processors / 2).clamp(1, 4) } else { 0 };
    let mut walked = Walked {
        tree: Frontier::new(),
        entries: Faults::default(),
        form: Faults::default(),
        time: Faults::default(),
        chains: Faults::default(),
        documents: Faults::default(),
        incidents: 0,
        events: 0,
        compared: 0,
    };
    thread::scope(|scope| {
        let mut readers: Vec<Receiver<Block>> = Vec::new();
        for place in 0..processors {
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || read(tiles, head.size, kind, place as u64, processors as u64, &sender));
            readers.push(receiver);
        }
        let mut shares: Vec<SyncSender<Arc<Block>>> = Vec::new();
        let mut running = Vec::new();
        for place in 0..replays {
            let (sender, receiver) = sync_channel::<Arc<Block>>(AHEAD);
            running.push(scope.spawn(move || compare(&receiver, place as u64, replays as u64)));
            shares.push(sender);
        }
        gather(tiles, head, &readers, &shares, &mut walked);
        drop(shares);
        for replay in running {
            match replay.join() {
                Ok((faults, compared)) => {
                    walked.documents.append(faults);
                    walked.compared += compared;
                }
                Err(_) => walked.documents.say("the replay stopped by a fault of this program"),
            }
        }
    });
    walked
}

/// Reads every `of`-th bundle: entries against their tile of hashes, then their form.
fn read(tiles: &TileFolder, size: u64, kind: Kind, place: u64, of: u64, out: &SyncSender<Block>) {
    let mut bundle = place;
    while bundle * WIDTH < size {
        let width = u16::try_from((size - bundle * WIDTH).min(WIDTH)).unwrap_or(TILE_WIDTH);
        let mut block = Block::default();
        let entries = block.faults.value(tiles.read_bundle(bundle, width), &format!("bundle {bundle}"));
        let tile = tiles.read_tile(TileId { level: 0, index: bundle, width });
        let tile = block.faults.value(tile, &format!("tile {bundle} of level 0")).unwrap_or_default();
        for (offset, entry) in (0_u64..).zip(entries.unwrap_or_default()) {
            let index = bundle * WIDTH + offset;
            let hash = leaf_hash(&entry);
            let listed = usize::try_from(offset).ok().and_then(|offset| tile.get(offset));
            if listed.is_some_and(|listed| *listed != hash) {
                block.faults.say(format!("leaf {index} is not the one whose hash the tiles hold"));
            }
            block.leaves.push((index, hash, content(kind, &entry)));
        }
        if out.send(block).is_err() {
            return;
        }
        bundle += of;
    }
}

fn content(kind: Kind, entry: &[u8]) -> Content {
    let parsed = match kind {
        Kind::Control => Entry::parse(entry).map(|entry| Content::Control(Box::new(entry))),
        Kind::Node => serde_json::from_slice(entry).map(Content::Node).map_err(|error| chain(&error)),
    };
    parsed.unwrap_or_else(Content::Unreadable)
}

/// Takes the blocks in order: tree, tiles of higher levels, chains, time. Passes them on to the replays.
fn gather(
    tiles: &TileFolder,
    head: &Checkpoint,
    readers: &[Receiver<Block>],
    shares: &[SyncSender<Arc<Block>>],
    walked: &mut Walked,
) {
    let (mut chains, mut time, mut upper) = (Chains::default(), Monotonic::default(), Upper::default());
    for bundle in 0..head.size.div_ceil(WIDTH) {
        let place = usize::try_from(bundle % readers.len() as u64).unwrap_or(0);
        let Some(mut block) = readers.get(place).and_then(|reader| reader.recv().ok()) else { break };
        walked.entries.append(std::mem::take(&mut block.faults));
        for (index, hash, content) in &block.leaves {
            walked.tree.push_emitting(*hash, |level, _, hash| upper.push(level, hash));
            match content {
                Content::Control(leaf) => {
                    time.push(*index, leaf.at, &mut walked.time);
                    chains.push(*index, leaf, hash, &mut walked.chains);
                    if let LeafBody::Events { events } = &leaf.body {
                        walked.events += events.len() as u64;
                    }
                }
                Content::Node(leaf) => {
                    time.push(*index, leaf.at, &mut walked.time);
                    walked.events += 1;
                }
                Content::Unreadable(why) => walked.form.say(format!("leaf {index} cannot be read: {why}")),
            }
        }
        upper.settle(tiles, head.size, &mut walked.entries);
        let block = Arc::new(block);
        for share in shares {
            // A replay that has died is reported when it is joined.
            let _ = share.send(Arc::clone(&block));
        }
    }
    upper.finish(tiles, head.size, &mut walked.entries);
    walked.incidents = chains.0.len();
}

/// The unfinished tile of each level above the entries.
#[derive(Default)]
struct Upper {
    rows: Vec<(u64, Vec<Hash>)>,
}

impl Upper {
    fn push(&mut self, level: u8, hash: Hash) {
        let Some(place) = usize::from(level).checked_sub(1) else { return };
        if self.rows.len() <= place {
            self.rows.resize_with(place + 1, Default::default);
        }
        if let Some((_, row)) = self.rows.get_mut(place) {
            row.push(hash);
        }
    }

    /// Compares rows that are full with the tiles of the folder.
    fn settle(&mut self, tiles: &TileFolder, size: u64, faults: &mut Faults) {
        for (level, (index, row)) in (1_u8..).zip(&mut self.rows) {
            if row.len() >= usize::from(TILE_WIDTH) {
                same_tile(tiles, level, *index, size, row, faults);
                *index += 1;
                row.clear();
            }
        }
    }

    fn finish(self, tiles: &TileFolder, size: u64, faults: &mut Faults) {
        for (level, (index, row)) in (1_u8..).zip(self.rows) {
            if !row.is_empty() {
                same_tile(tiles, level, index, size, &row, faults);
            }
        }
    }
}

fn same_tile(tiles: &TileFolder, level: u8, index: u64, size: u64, row: &[Hash], faults: &mut Faults) {
    let Some(tile) = TileId::for_tree(level, index, size) else { return };
    let place = format!("tile {index} of level {level}");
    if let Some(found) = faults.value(tiles.read_tile(tile), &place) {
        faults
            .unless(found.get(..row.len()) == Some(row), || format!("{place} is not what the entries give"));
    }
}

fn compare(blocks: &Receiver<Arc<Block>>, place: u64, of: u64) -> (Faults, u64) {
    let mut replay = Replay::sharing(History::Whole, place, of);
    let mut faults = Faults::default();
    while let Ok(block) = blocks.recv() {
        for (index, _, content) in &block.leaves {
            if let Content::Control(leaf) = content {
                replay.push(*index, leaf, &mut faults);
            }
        }
    }
    let replayed = replay.finish(&mut faults);
    (faults, replayed.compared)
}

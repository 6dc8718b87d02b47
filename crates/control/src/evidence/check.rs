//! Replays the ledger and compares: a document that somebody changed in the store by hand shows, and so does a leaf.

use std::collections::BTreeSet;

use halligan_core::command::DocumentRef;
use halligan_ledger::{Frontier, Hash, SignedNote, leaf_hash, open_note};
use halligan_store::{Document, Order, SignedHead};
use halligan_verify::Faults;
use halligan_verify::replay::{History, Replay, Stored, kind_and_id, reference};
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::documents::key_of;
use crate::error::ControlError;
use crate::timers::chain;

const AT_ONCE: usize = 2048;
/// The kinds of documents that events of the core make.
const KINDS: [&str; 7] = ["request", "grant", "session", "incident", "review", "standing", "change"];
/// A document that is being written while it is looked at is looked at again this often.
const MOST_LOOKS: u32 = 10;

/// Something that is not as the ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `grant grt_…`, `ledger`.
    pub place: String,
    /// What is wrong.
    pub say: String,
}

/// Compares every document of the core with what the ledger's events make of it, and the ledger with its signed head.
/// Work may go on meanwhile. It reads the whole ledger.
pub async fn check_store(control: &Control) -> Result<Vec<Fault>, ControlError> {
    let signed = control.store().head().await?.signed;
    let mut ledger = Ledger {
        replay: Replay::new(History::Whole),
        tree: Frontier::new(),
        root: None,
        faults: Faults::default(),
    };
    let signed_size = signed.as_ref().map_or(0, |signed| signed.size);
    ledger = catch_up(control, ledger, signed_size).await?;
    let mut found = Vec::new();
    let mut seen: BTreeSet<DocumentRef> = BTreeSet::new();
    let mut suspects: BTreeSet<DocumentRef> = BTreeSet::new();
    let expected = ledger.replay.documents();
    for kind in KINDS {
        let mut after: Option<String> = None;
        loop {
            let page = control.store().list(kind, after.as_deref(), AT_ONCE, Order::Ascending).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.id.clone());
            for document in page {
                let Some(reference) = reference(kind, &document.key.id) else {
                    found.push(fault(&document.key, "its id is none"));
                    continue;
                };
                if expected.get(&reference) != Some(&stored(&document)) {
                    suspects.insert(reference.clone());
                }
                seen.insert(reference);
            }
        }
    }
    suspects.extend(expected.keys().filter(|known| !seen.contains(*known)).cloned());
    // What differs was changed while we looked, or by somebody else than Halligan: look again, then catch up.
    for _ in 0..MOST_LOOKS {
        if suspects.is_empty() {
            break;
        }
        let mut again = Vec::new();
        for reference in &suspects {
            again.push((reference.clone(), control.store().get(&key_of(reference)).await?));
        }
        ledger = catch_up(control, ledger, signed_size).await?;
        let expected = ledger.replay.documents();
        for (reference, document) in again {
            if expected.get(&reference).copied() == document.as_ref().map(stored) {
                suspects.remove(&reference);
            }
        }
    }
    let expected = ledger.replay.documents();
    for reference in suspects {
        let say = match (expected.get(&reference), control.store().get(&key_of(&reference)).await?) {
            (Some(_), None) => "the ledger has it, and it is gone from the store".to_owned(),
            (None, Some(_)) => "it is in the store, and no event has made it".to_owned(),
            (Some(known), Some(document)) if known.revision != document.revision => {
                format!(
                    "it has revision {} in the store and {} in the ledger",
                    document.revision, known.revision
                )
            }
            _ => "it was changed in the store: it is not what its events make of it".to_owned(),
        };
        let (kind, id) = kind_and_id(&reference);
        found.push(Fault { place: format!("{kind} {id}"), say });
    }
    ledger.replay.finish(&mut ledger.faults);
    found.extend(
        ledger.faults.said().iter().map(|say| Fault { place: "ledger".to_owned(), say: say.clone() }),
    );
    if let Some(signed) = signed {
        found.extend(signed_head(control, &signed, ledger.root));
    }
    Ok(found)
}

struct Ledger {
    replay: Replay,
    tree: Frontier,
    /// The root at the size that was signed when the check began.
    root: Option<Hash>,
    faults: Faults,
}

/// Replays up to the last leaf there is.
async fn catch_up(control: &Control, mut ledger: Ledger, signed_size: u64) -> Result<Ledger, ControlError> {
    loop {
        let page = control.store().leaves(ledger.tree.size(), AT_ONCE).await?;
        if page.is_empty() {
            return Ok(ledger);
        }
        ledger = tokio::task::spawn_blocking(move || {
            for (index, leaf) in page {
                if index != ledger.tree.size() {
                    ledger.faults.say(format!("leaf {} is missing in the store", ledger.tree.size()));
                    // The tree cannot go on, and its root will not be the signed one.
                    ledger.tree.push(leaf_hash(b""));
                }
                ledger.tree.push(leaf_hash(&leaf));
                if ledger.tree.size() == signed_size {
                    ledger.root = Some(ledger.tree.root());
                }
                ledger.replay.push_bytes(index, &leaf, &mut ledger.faults);
            }
            ledger
        })
        .await
        .map_err(ControlError::local("replay the ledger"))?;
    }
}

fn stored(document: &Document) -> Stored {
    Stored { revision: document.revision, sha256: Sha256::digest(&document.body).into() }
}

fn fault(place: &impl ToString, say: &str) -> Fault {
    Fault { place: place.to_string(), say: say.to_owned() }
}

/// The leaves must give the root that was signed.
fn signed_head(control: &Control, signed: &SignedHead, root: Option<Hash>) -> Vec<Fault> {
    let mut found = Vec::new();
    let opened = SignedNote::parse(&signed.note)
        .and_then(|note| open_note(&note, &[control.keys().ledger.key()]).map(|opened| opened.checkpoint));
    match opened {
        Ok(head) if head.size == signed.size && Some(head.root) == root => {}
        Ok(head) => found.push(Fault {
            place: "ledger".to_owned(),
            say: format!("the leaves do not give the root that was signed over {} of them", head.size),
        }),
        Err(error) => found.push(Fault { place: "signed head".to_owned(), say: chain(&error) }),
    }
    found
}

//! This gateway's own ledger, in its own words: node events go in, audit receipts come out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halligan_core::ids::Name;
use halligan_core::time::Time;
use halligan_ledger::{
    Accepted, AuditReceipt, FileLedger, FileLedgerOptions, LedgerError, LedgerKey, LedgerSigner, LedgerStats,
    NoteError, NoteSignature,
};
use halligan_session::end_reason::printable;
use halligan_session::node_event::{NodeEvent, NodeLeaf};
use sha2::Digest as _;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::live::with_sources;

/// Disk held back for the leaves that say that the disk is full.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// A text in a leaf is cut at this many bytes; its digest follows.
const MOST_TEXT: usize = 4 * 1024;
/// Wait between tries of a leaf that must be written.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The ledger itself refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A leaf could not be put into words, or read.
    #[error("a leaf of this gateway's ledger has no valid form")]
    Form(#[from] serde_json::Error),
}

/// The ledger of one gateway.
pub struct Journal {
    ledger: FileLedger,
    node: Name,
    clock: Arc<dyn Clock>,
    /// Time of the last leaf. Held while a leaf is handed over, so that times never fall.
    last: Mutex<Time>,
    grew: watch::Sender<u64>,
}

/// A leaf that was handed over and is not known to be synced.
#[must_use = "the leaf is not on disk before it is known to be synced"]
pub struct Submitted(oneshot::Receiver<Result<AuditReceipt, LedgerError>>);

/// The name of a gateway's ledger in checkpoints.
pub fn origin(node: &Name) -> String {
    format!("halligan/gateway/{node}")
}

impl Journal {
    /// Opens the ledger, or starts one with a new key.
    pub fn open(
        folder: &Path,
        key_file: &Path,
        node: Name,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let signer = LedgerSigner::load_or_generate(&origin(&node), key_file).map_err(LedgerError::from)?;
        let options = FileLedgerOptions { reserve_bytes: RESERVE_BYTES, ..FileLedgerOptions::default() };
        let ledger = FileLedger::open_with(folder, signer, options)?;
        let size = ledger.size();
        let last = match size.checked_sub(1) {
            Some(index) => {
                let leaves = ledger.read(index..size)?;
                let leaf: Option<NodeLeaf> =
                    leaves.first().map(|leaf| serde_json::from_slice(leaf)).transpose()?;
                leaf.map_or(Time::from_micros(0), |leaf| leaf.at)
            }
            None => Time::from_micros(0),
        };
        Ok(Self { ledger, node, clock, last: Mutex::new(last), grew: watch::channel(size).0 })
    }

    /// The key that signs its checkpoints.
    pub fn key(&self) -> LedgerKey {
        self.ledger.signer().key()
    }
    /// Cosigns a checkpoint that was judged, at this Unix time in seconds.
    pub fn cosign(&self, accepted: &Accepted, time: u64) -> Result<NoteSignature, NoteError> {
        accepted.cosign(self.ledger.signer(), time)
    }
    /// Leaves.
    pub fn size(&self) -> u64 {
        self.ledger.size()
    }
    /// Figures.
    pub fn stats(&self) -> LedgerStats {
        self.ledger.stats()
    }
    /// Tells when it has grown.
    pub fn grew(&self) -> watch::Receiver<u64> {
        self.grew.subscribe()
    }
    /// Wall time, but never before the last leaf.
    pub fn now(&self) -> Time {
        self.clock.wall().max(*self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a leaf; done when it is synced. The leaf stands even if nobody waits any more.
    pub async fn append(&self, event: NodeEvent) -> Result<AuditReceipt, JournalError> {
        self.hand_over(event, false).await
    }

    /// Appends a leaf that closes something: on a full disk it goes into the space kept for that.
    pub async fn append_closing(&self, event: NodeEvent) -> Result<AuditReceipt, JournalError> {
        self.hand_over(event, true).await
    }

    /// As [`Self::append_closing`], tried again until it is written. A ledger that is poisoned takes nothing until the
    /// gateway is started again, which then writes what is missing; that is said and waited for.
    pub async fn append_surely(&self, event: NodeEvent) {
        loop {
            match self.append_closing(event.clone()).await {
                Ok(_receipt) => return,
                Err(error) => tracing::error!("failed to close in the ledger: {}", with_sources(&error)),
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn hand_over(&self, event: NodeEvent, closing: bool) -> Result<AuditReceipt, JournalError> {
        self.synced(self.submit(event, closing)?).await
    }

    /// Hands a leaf over without waiting: it stands in the ledger before any that is handed over later.
    pub fn submit(&self, event: NodeEvent, closing: bool) -> Result<Submitted, JournalError> {
        let (tell, told) = oneshot::channel();
        let callback = Box::new(move |outcome| {
            // Nobody may be waiting any more.
            let _ = tell.send(outcome);
        });
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.wall().max(*last);
        let leaf = NodeLeaf { v: 1, node: self.node.clone(), at, event: fitted(event) };
        let bytes = serde_json::to_vec(&leaf)?;
        if closing {
            self.ledger.append_reserved_with(bytes, callback);
        } else {
            self.ledger.append_with(bytes, callback);
        }
        *last = at;
        Ok(Submitted(told))
    }

    /// Waits for the sync of a leaf that was handed over.
    pub async fn synced(&self, submitted: Submitted) -> Result<AuditReceipt, JournalError> {
        let receipt = submitted.0.await.map_err(|_| LedgerError::Closed)??;
        self.grew.send_if_modified(|size| {
            let grown = receipt.index() + 1 > *size;
            *size = (*size).max(receipt.index() + 1);
            grown
        });
        Ok(receipt)
    }

    /// Leaves from `from` on, exact bytes, at most `most` of them and `most_bytes` in all, but one at least if there is
    /// one. Blocks.
    pub fn page(&self, from: u64, most: u64, most_bytes: usize) -> Result<Vec<Vec<u8>>, JournalError> {
        let size = self.ledger.size();
        let mut leaves = self.ledger.read(from.min(size)..size.min(from.saturating_add(most)))?;
        let mut bytes = 0;
        let fits = leaves
            .iter()
            .take_while(|leaf| {
                bytes += leaf.len();
                bytes <= most_bytes
            })
            .count();
        leaves.truncate(fits.max(1));
        Ok(leaves)
    }

    /// A signed head over all synced leaves. Blocks.
    pub fn checkpoint(&self) -> Result<String, JournalError> {
        Ok(self.ledger.checkpoint()?.to_string())
    }

    /// The leaves from `from` on, one by one, to `look`. Blocks.
    pub fn replay(&self, from: u64, mut look: impl FnMut(u64, NodeLeaf)) -> Result<(), JournalError> {
        let size = self.ledger.size();
        let mut index = from;
        while index < size {
            for bytes in self.ledger.read(index..size.min(index + 512))? {
                look(index, serde_json::from_slice(&bytes)?);
                index += 1;
            }
        }
        Ok(())
    }
}

/// Cuts texts that came from outside, so that a leaf is never refused for its size, and takes the control characters out.
fn fitted(mut event: NodeEvent) -> NodeEvent {
    match &mut event {
        NodeEvent::ChannelOpened { kind, detail, .. } => {
            fit(kind);
            fit(detail);
        }
        NodeEvent::ChannelEnded { outcome, .. } => fit(outcome),
        NodeEvent::TransferEnded { path, direction, .. } => {
            fit(path);
            fit(direction);
        }
        NodeEvent::Refused { what, client, reason, .. } => {
            fit(what);
            fit(client);
            fit(reason);
        }
        NodeEvent::SessionOpened { client, login, .. } => {
            fit(client);
            fit(login);
        }
        NodeEvent::StatementSettled { by, reason, .. } => {
            fit(by);
            fit(reason);
        }
        NodeEvent::DatabaseChanged { what, .. } => fit(what),
        NodeEvent::SessionEnded { reason, .. } | NodeEvent::LeaseEnded { reason, .. } => fit(reason),
        _ => {}
    }
    event
}

fn fit(text: &mut String) {
    if text.len() <= MOST_TEXT && !text.chars().any(char::is_control) {
        return;
    }
    let shown = printable(text, MOST_TEXT);
    if shown.len() <= MOST_TEXT && text.len() <= MOST_TEXT {
        *text = shown;
        return;
    }
    let digest = hex::encode(sha2::Sha256::digest(text.as_bytes()));
    let cut: String = shown
        .char_indices()
        .take_while(|(place, c)| place + c.len_utf8() <= MOST_TEXT)
        .map(|(_, c)| c)
        .collect();
    *text = format!("{cut}… ({} bytes, sha256 {digest})", text.len());
}

#[cfg(test)]
mod tests {
    use halligan_core::ids::SessionId;

    use super::*;
    use crate::clock::SystemClock;

    fn open(folder: &Path) -> Journal {
        let node = Name::new("gw-1").unwrap();
        Journal::open(&folder.join("ledger"), &folder.join("key"), node, Arc::new(SystemClock)).unwrap()
    }

    #[tokio::test]
    async fn leaves_come_back_as_they_went_in_and_huge_texts_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let detail = "ä".repeat(100_000);
        let session = SessionId::from_bits(1);
        let event = NodeEvent::ChannelOpened { session, channel: 0, kind: "exec\x1b".to_owned(), detail };
        let receipt = journal.append(event).await.unwrap();
        assert_eq!(receipt.index(), 0);
        drop(journal);

        let journal = open(folder.path());
        let mut seen = Vec::new();
        journal.replay(0, |index, leaf| seen.push((index, leaf.event))).unwrap();
        let [(0, NodeEvent::ChannelOpened { kind, detail, .. })] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(kind, "exec\u{fffd}");
        assert!(detail.len() < 4_300 && detail.contains("(200000 bytes, sha256 "));
        assert_eq!(journal.page(0, 10, 10).unwrap().len(), 1, "one leaf goes however little is asked for");
        assert!(journal.page(1, 10, 10).unwrap().is_empty());
    }
}

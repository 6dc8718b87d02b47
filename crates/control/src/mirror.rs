//! Control's copies of its nodes' ledgers: each batch is checked against the node's signed checkpoint before it is kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use halligan_core::ids::Name;
use halligan_ledger::{Checkpoint, LedgerKey, SignedNote, TileFolder, TileWriter, open_note};

use crate::error::ControlError;

/// All mirrors of this control node.
pub struct Mirrors {
    folder: PathBuf,
    open: Mutex<HashMap<Name, Arc<Mutex<TileWriter>>>>,
}

impl Mirrors {
    /// Opens the folder of mirrors.
    pub fn open(folder: &Path) -> Result<Self, ControlError> {
        std::fs::create_dir_all(folder).map_err(ControlError::local(format!("make {}", folder.display())))?;
        Ok(Self { folder: folder.to_owned(), open: Mutex::default() })
    }

    /// The folder of one node's mirror, in tlog-tiles layout.
    pub fn folder(&self, node: &Name) -> PathBuf {
        self.folder.join(node.as_str())
    }

    fn writer(&self, node: &Name) -> Result<Arc<Mutex<TileWriter>>, ControlError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.get(node) {
            return Ok(found.clone());
        }
        let writer = TileWriter::open(self.folder(node))
            .map_err(ControlError::local(format!("open the mirror of {node}")))?;
        let made = Arc::new(Mutex::new(writer));
        open.insert(node.clone(), made.clone());
        Ok(made)
    }

    /// Leaves held of this node.
    pub fn size(&self, node: &Name) -> Result<u64, ControlError> {
        let folder = TileFolder::new(self.folder(node));
        let note = folder.checkpoint().map_err(ControlError::local(format!("read the mirror of {node}")))?;
        Ok(match note {
            Some(note) => {
                Checkpoint::parse(note.body()).map_err(ControlError::local("read a checkpoint"))?.size
            }
            None => 0,
        })
    }

    /// Takes leaves in. `from` is the index of the first; those that are held already are skipped. The checkpoint must
    /// be signed by `key` and be of exactly the tree that results. Blocks for the disk. Says how many are held now.
    pub fn take(
        &self,
        node: &Name,
        key: &LedgerKey,
        from: u64,
        leaves: Vec<Vec<u8>>,
        note: &str,
    ) -> Result<u64, ControlError> {
        let what = || format!("take in the ledger of {node}");
        let writer = self.writer(node)?;
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let held = writer.size();
        if from > held {
            return Ok(held);
        }
        let signed = SignedNote::parse(note).map_err(ControlError::local(what()))?;
        let head =
            open_note(&signed, std::slice::from_ref(key)).map_err(ControlError::local(what()))?.checkpoint;
        let fresh = usize::try_from(held - from).unwrap_or(usize::MAX);
        let count = u64::try_from(leaves.len().saturating_sub(fresh)).unwrap_or(0);
        if count == 0 {
            return Ok(held);
        }
        if head.size != held + count {
            return Err(ControlError::said(
                what(),
                format!("its checkpoint is of {} leaves, the batch ends at {}", head.size, held + count),
            ));
        }
        let done = (|| {
            for leaf in leaves.into_iter().skip(fresh) {
                writer.append(leaf)?;
            }
            writer.commit(&signed)
        })();
        if let Err(error) = done {
            // What was appended beyond the last checkpoint is not kept: open anew from what is committed.
            drop(writer);
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
            return Err(ControlError::local(what())(error));
        }
        Ok(writer.size())
    }

    /// Leaves of a node from `from` on, at most `most`.
    pub fn read(&self, node: &Name, from: u64, most: usize) -> Result<Vec<Vec<u8>>, ControlError> {
        let size = self.size(node)?;
        let folder = TileFolder::new(self.folder(node));
        let mut out = Vec::new();
        let mut at = from;
        while at < size && out.len() < most {
            let bundle = at / 256;
            let width = u16::try_from((size - bundle * 256).min(256)).unwrap_or(256);
            let entries = folder
                .read_bundle(bundle, width)
                .map_err(ControlError::local(format!("read the mirror of {node}")))?;
            let skip = usize::try_from(at % 256).unwrap_or(0);
            for entry in entries.into_iter().skip(skip) {
                out.push(entry);
                at += 1;
                if out.len() >= most {
                    break;
                }
            }
        }
        Ok(out)
    }
}

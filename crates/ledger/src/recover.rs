//! When a signed head is ahead of the data: a new epoch, which says what was lost. The old folder is kept.
//!
//! The new ledger has a new origin and a new key, since under the old ones it would be a second tree. Its
//! first leaf names the last head that anyone has seen and the range lost, and is signed by the old key.
//! Who may do this (two people) and whom it alarms is decided elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, open_note};
use crate::disk;
use crate::file::{
    AuditReceipt, FileLedger, FileLedgerOptions, Header, LOG, LedgerError, read_head, scan, take_lock,
};
use crate::hash::Hash;
use crate::keys::{LedgerKey, LedgerSigner};
use crate::merkle::Frontier;
use crate::note::SignedNote;

/// What a ledger's folder holds, looked at without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Whole entries from the beginning, and their root.
    pub data: Checkpoint,
    /// The head that was signed last, if its file is there and readable as a checkpoint.
    pub head: Option<SignedNote>,
    /// Whether the entries give the head's root at the head's size; `None` if they do not reach it.
    pub agrees: Option<bool>,
}

/// Reads a ledger's folder as far as its entries are whole. Does not need, and does not check, the key.
///
/// # Errors
/// When a file cannot be read, or the ledger is in use.
pub fn survey(folder: &Path) -> Result<Survey, LedgerError> {
    let _lock = take_lock(folder)?;
    survey_locked(folder)
}

fn survey_locked(folder: &Path) -> Result<Survey, LedgerError> {
    let head = read_head(folder, None)?;
    let path = folder.join(LOG);
    let mut frontier = Frontier::new();
    let mut at_head = head.as_ref().filter(|(head, _)| head.size == 0).map(|_| frontier.root());
    let mut origin = head.as_ref().map_or_else(String::new, |(head, _)| head.origin.clone());
    if path.exists() {
        let header = Header::read(&path)?;
        scan(&header, &path, 0, header.length(), |_, record| {
            frontier.push(record.hash);
            if head.as_ref().is_some_and(|(head, _)| head.size == frontier.size()) {
                at_head = Some(frontier.root());
            }
            Ok(())
        })?;
        origin = header.origin;
    }
    let data = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
    let agrees = head.as_ref().and_then(|(head, _)| at_head.map(|root| root == head.root));
    Ok(Survey { data, head: head.map(|(_, note)| note), agrees })
}

/// The first leaf of a new epoch, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochStart {
    /// Always `ledger-epoch/v1`.
    pub kind: String,
    pub previous_key: LedgerKey,
    pub key: LedgerKey,
    /// The highest head that anyone has seen, with its ledger's signature (others could be too many for a leaf).
    pub last_head: Option<SignedNote>,
    /// Entries that were still whole, and their root.
    pub kept_size: u64,
    pub kept_root: Hash,
    /// First entry lost and first not lost; equal when the data reaches the head but is of another tree.
    pub lost_from: u64,
    pub lost_to: u64,
    /// Name of the folder the old files were kept under.
    pub kept_as: String,
    pub reason: String,
    /// Ids of the people who opened the epoch.
    pub opened_by: Vec<String>,
    /// Unix time in seconds.
    pub opened_at: u64,
    /// The previous key's signature over all other fields (this one empty), in base64.
    pub previous_signature: String,
}

impl EpochStart {
    const KIND: &'static str = "ledger-epoch/v1";

    /// The leaf's bytes.
    #[must_use]
    pub fn to_leaf(&self) -> Vec<u8> {
        // A struct of strings and numbers always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Signs with the previous epoch's key.
    #[must_use]
    pub fn signed(mut self, previous: &LedgerSigner) -> Self {
        self.previous_signature = STANDARD.encode(previous.sign_bytes(&self.statement()));
        self
    }

    /// Reads a first leaf and checks that the previous epoch's key vouches for it.
    ///
    /// # Errors
    /// When it is no such leaf, names another previous key, or is not signed by it.
    pub fn open(leaf: &[u8], previous: &LedgerKey) -> Result<Self, LedgerError> {
        let bad = |why: &str| LedgerError::Recovery { why: why.to_owned() };
        let start: Self = serde_json::from_slice(leaf).map_err(|error| bad(&error.to_string()))?;
        if start.kind != Self::KIND || start.previous_key != *previous {
            return Err(bad("the first leaf is of another kind, or continues another ledger"));
        }
        let signature = STANDARD.decode(&start.previous_signature).unwrap_or_default();
        if !previous.verifies(&start.statement(), &signature) {
            return Err(bad("the previous key has not signed the new epoch"));
        }
        Ok(start)
    }

    /// Begins with a line that no checkpoint and no cosignature begins with.
    fn statement(&self) -> Vec<u8> {
        let unsigned = Self { previous_signature: String::new(), ..self.clone() };
        [b"halligan ledger epoch/v1\n".as_slice(), &unsigned.to_leaf()].concat()
    }
}

/// What opens a new epoch.
#[derive(Debug)]
pub struct EpochRequest<'a> {
    /// Folder of the ledger; the new epoch takes its place.
    pub folder: &'a Path,
    pub previous: &'a LedgerSigner,
    /// Key of the new epoch, of another origin than the previous one.
    pub next: LedgerSigner,
    /// Heads that others hold: witnesses, gateways, receipts. Those that are not of the previous key are
    /// refused.
    pub heads_seen: &'a [SignedNote],
    pub reason: &'a str,
    pub opened_by: &'a [String],
    /// Unix time in seconds.
    pub opened_at: u64,
    pub options: FileLedgerOptions,
}

/// Opens a new epoch: makes the new ledger with its first leaf beside the old folder, exchanges the two in
/// one step, and keeps the old one as `<folder>.epoch-<n>`. A crash on the way leaves either the old or the
/// new ledger in place, and this can be called again.
///
/// # Errors
/// When the new key is of the old origin or key, a head seen is forged, or a file cannot be written.
pub fn new_epoch(request: EpochRequest<'_>) -> Result<(FileLedger, EpochStart, AuditReceipt), LedgerError> {
    let bad = |why: &str| LedgerError::Recovery { why: why.to_owned() };
    let (previous_key, key) = (request.previous.key(), request.next.key());
    if previous_key.name() == key.name() || previous_key.same_key(&key) {
        return Err(bad("the new epoch needs an origin and a key of its own"));
    }
    let lock = take_lock(request.folder)?;
    let found = survey_locked(request.folder)?;
    if found.data.origin != previous_key.name() {
        let (expected, found) = (previous_key.name().to_owned(), found.data.origin);
        return Err(LedgerError::WrongOrigin { expected, found });
    }
    let mut last_head: Option<(u64, SignedNote)> = None;
    for note in found.head.iter().chain(request.heads_seen) {
        let size = open_note(note, std::slice::from_ref(&previous_key))?.checkpoint.size;
        if last_head.as_ref().is_none_or(|(largest, _)| size > *largest) {
            last_head = Some((size, note.only(&previous_key)));
        }
    }
    let kept = free_name(request.folder)?;
    let kept_as = kept.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let start = EpochStart {
        kind: EpochStart::KIND.to_owned(),
        previous_key,
        key,
        kept_size: found.data.size,
        kept_root: found.data.root,
        lost_from: found.data.size,
        lost_to: last_head.as_ref().map_or(0, |(size, _)| *size).max(found.data.size),
        last_head: last_head.map(|(_, note)| note),
        kept_as,
        reason: request.reason.to_owned(),
        opened_by: request.opened_by.to_vec(),
        opened_at: request.opened_at,
        previous_signature: String::new(),
    }
    .signed(request.previous);
    let fresh = sibling(request.folder, ".new-epoch");
    if fresh.exists() {
        // Left by a crash before the exchange; nobody was told of it.
        fs::remove_dir_all(&fresh).map_err(LedgerError::io("remove", &fresh))?;
    }
    let ledger = FileLedger::open_with(&fresh, request.next, request.options)?;
    let receipt = ledger.append(start.to_leaf())?;
    let next = ledger.signer().duplicate();
    drop(ledger);
    exchange(request.folder, &fresh, &kept)?;
    drop(lock);
    let ledger = FileLedger::open_with(request.folder, next, request.options)?;
    Ok((ledger, start, receipt))
}

fn exchange(folder: &Path, fresh: &Path, kept: &Path) -> Result<(), LedgerError> {
    renameat_with(CWD, folder, CWD, fresh, RenameFlags::EXCHANGE)
        .map_err(|error| LedgerError::io("exchange", folder)(error.into()))?;
    fs::rename(fresh, kept).map_err(LedgerError::io("rename", fresh))?;
    let parent = disk::folder_of(folder);
    disk::sync_folder(parent).map_err(LedgerError::io("sync", parent))
}

fn free_name(folder: &Path) -> Result<PathBuf, LedgerError> {
    (1..10_000)
        .map(|number| sibling(folder, &format!(".epoch-{number}")))
        .find(|path| !path.exists())
        .ok_or_else(|| LedgerError::Recovery {
            why: "there are 9999 old epochs beside the ledger".to_owned(),
        })
}

fn sibling(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

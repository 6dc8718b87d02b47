//! Opening a file ledger: what is on disk against what was signed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::checkpoint::{Checkpoint, open};
use crate::disk;
use crate::file::error::{LedgerError, MAX_LEAF_BYTES};
use crate::file::index::{Index, IndexBatch};
use crate::file::record::{End, HEAD_BYTES, Header, MAX_BATCH_BYTES, scan};
use crate::file::{CHECKPOINT, Committed, LOCK, LOG};
use crate::hash::Hash;
use crate::keys::{LedgerKey, LedgerSigner};
use crate::merkle::Frontier;
use crate::note::{MAX_NOTE_BYTES, NoteError, SignedNote};
use crate::tree::TileReader as _;

const INDEX_BATCH: usize = 8192;

/// Everything that opening found.
pub struct Found {
    pub lock: File,
    pub log: File,
    pub header: Header,
    pub index: Index,
    pub committed: Committed,
    pub head: Option<(Checkpoint, SignedNote)>,
}

/// Opens or makes the folder's files and brings them into agreement, or refuses and changes nothing.
pub fn open_folder(folder: &Path, signer: &LedgerSigner) -> Result<Found, LedgerError> {
    if !folder.is_dir() {
        make_folder(folder)?;
    }
    let lock = take_lock(folder)?;
    let head = read_head(folder, Some(&signer.key()))?;
    let path = folder.join(LOG);
    let header = if path.exists() {
        Header::read(&path)?
    } else if let Some((head, _)) = head.as_ref().filter(|(head, _)| head.size > 0) {
        return Err(LedgerError::HeadAheadOfData { head: head.size, data: 0 });
    } else {
        Header::create(&path, signer.origin())?
    };
    if header.origin != signer.origin() {
        let (expected, found) = (signer.origin().to_owned(), header.origin);
        return Err(LedgerError::WrongOrigin { expected, found });
    }
    let log =
        OpenOptions::new().read(true).write(true).open(&path).map_err(LedgerError::io("open", &path))?;
    let index = Index::open(folder)?;
    let start = head.as_ref().and_then(|(head, _)| resume(&header, &log, &index, head));
    let (committed, end) = catch_up(&header, &path, &index, head.as_ref().map(|(head, _)| head), start)?;
    let failed = LedgerError::io("settle the end of", &path);
    if end == End::Torn {
        log.set_len(committed.end).map_err(&failed)?;
    }
    settle_tail(&log, header.length(), committed.end).map_err(&failed)?;
    Ok(Found { lock, log, header, index, committed, head })
}

/// What a killed process wrote may not be synced yet, and after a failed sync the system may show bytes that
/// it has given up writing. So the last batch, the only one that can be unsynced, is written once more and
/// synced before anything is built upon it.
fn settle_tail(log: &File, start: u64, end: u64) -> io::Result<()> {
    let mut from = end.saturating_sub((MAX_BATCH_BYTES + HEAD_BYTES + MAX_LEAF_BYTES) as u64).max(start);
    let mut bytes = vec![0; 1024 * 1024];
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(bytes.len());
        let (chunk, _) = bytes.split_at_mut(length);
        log.read_exact_at(chunk, from)?;
        log.write_all_at(chunk, from)?;
        from += length as u64;
    }
    log.sync_all()
}

fn make_folder(folder: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(LedgerError::io("make", folder))?;
    let parent = disk::folder_of(folder);
    disk::sync_folder(parent).map_err(LedgerError::io("sync", parent))
}

/// One process has a ledger open at a time. The lock goes with the process, however it ends.
pub fn take_lock(folder: &Path) -> Result<File, LedgerError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(LedgerError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::InUse { path: folder.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(LedgerError::io("lock", &path)(error)),
    }
}

/// The last head that was signed here. With a key its signature is checked.
pub fn read_head(
    folder: &Path,
    key: Option<&LedgerKey>,
) -> Result<Option<(Checkpoint, SignedNote)>, LedgerError> {
    let path = folder.join(CHECKPOINT);
    let limit = MAX_NOTE_BYTES as u64;
    let Some(bytes) = disk::read_if_present(&path, limit).map_err(LedgerError::io("read", &path))? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| NoteError::Malformed { why: "it is not text" })?;
    let note = SignedNote::parse(&text)?;
    let head = match key {
        Some(key) => open(&text, std::slice::from_ref(key))?,
        None => Checkpoint::parse(note.body())?,
    };
    Ok(Some((head, note)))
}

/// The state at the signed head, straight from the index, if index and log agree with the head's root.
fn resume(header: &Header, log: &File, index: &Index, head: &Checkpoint) -> Option<Committed> {
    let last = head.size.checked_sub(1)?;
    let frontier = index.frontier_at(head.size).ok()?;
    let offset = index.offset(last).ok()?;
    let record = header.read_at(log, offset).ok()??;
    let agrees = frontier.root() == head.root && record.index == last;
    agrees.then(|| Committed { frontier, end: offset + record.length() })
}

/// Reads the log from `start` (from its beginning if there is none), completes the index, and judges the end.
fn catch_up(
    header: &Header,
    path: &Path,
    index: &Index,
    head: Option<&Checkpoint>,
    start: Option<Committed>,
) -> Result<(Committed, End), LedgerError> {
    let failed = LedgerError::io("write the index of", path);
    let fresh = start.is_none();
    let Committed { mut frontier, end } =
        start.unwrap_or_else(|| Committed { frontier: Frontier::new(), end: header.length() });
    if fresh {
        index.clear().map_err(&failed)?;
    }
    let mut mismatch: Option<Hash> = None;
    let mut batch = IndexBatch::starting_at(frontier.size());
    let (size, end, how) = scan(header, path, frontier.size(), end, |offset, record| {
        batch.push(&mut frontier, offset, record.hash);
        if let Some(head) = head.filter(|head| fresh && head.size == frontier.size()) {
            mismatch = Some(frontier.root()).filter(|root| *root != head.root);
        }
        if batch.entries() >= INDEX_BATCH {
            index.write(&batch).map_err(&failed)?;
            batch = IndexBatch::starting_at(frontier.size());
        }
        Ok(())
    })?;
    if how == End::Damaged {
        return Err(LedgerError::Damaged { index: size, offset: end });
    }
    if let Some(head) = head {
        if head.size > size {
            return Err(LedgerError::HeadAheadOfData { head: head.size, data: size });
        }
        if let Some(found) = mismatch {
            return Err(LedgerError::HeadMismatch { size: head.size, signed: head.root, found });
        }
    }
    index.write(&batch).map_err(&failed)?;
    Ok((Committed { frontier, end }, how))
}

//! The ledger of gateway and connector: an append-only log of synced files.
//!
//! One thread writes; all that waits shares a sync (group commit), and only a completed sync makes an
//! [`AuditReceipt`]. After a failed write or sync the ledger is poisoned until the process restarts.
//! (size, root) is stored, in the form of the signed checkpoint, before that signature leaves.
//!
//! Files: `log` (the truth: header and records), `offsets` and `hashes.N` (made again from it if need be),
//! `checkpoint` (the last signed head), `reserve` (space for closing records), `lock`.

mod error;
mod index;
mod opening;
mod receipt;
mod record;
mod reserve;
mod writer;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

pub use error::{LedgerError, MAX_LEAF_BYTES};
pub use receipt::AuditReceipt;
pub(crate) use {opening::read_head, opening::take_lock, record::Header, record::scan};

use crate::checkpoint::{Checkpoint, sign};
use crate::disk;
use crate::hash::Hash;
use crate::keys::LedgerSigner;
use crate::merkle::Frontier;
use crate::note::SignedNote;
use crate::proof::InclusionReceipt;
use crate::tile_folder::TileWriter;
use crate::tiles::TileError;
use crate::tree::{TileReader as _, TreeError};
use index::Index;
use record::HEAD_BYTES;
use reserve::Reserve;
use writer::{Pending, Queue, Writer};

pub(crate) const LOG: &str = "log";
pub(crate) const CHECKPOINT: &str = "checkpoint";
const LOCK: &str = "lock";
const RESERVE: &str = "reserve";

/// Called once with the outcome of an append, on the ledger's own thread: it must not block, and must not
/// wait for another append.
pub type Callback = Box<dyn FnOnce(Result<AuditReceipt, LedgerError>) + Send>;

/// How a file ledger is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLedgerOptions {
    /// Disk space held back for [`FileLedger::append_reserved`], in bytes; 0 for none.
    pub reserve_bytes: u64,
    /// Leaves that may wait for the disk, in bytes; more are refused as overload.
    pub max_waiting_bytes: usize,
}

impl Default for FileLedgerOptions {
    fn default() -> Self {
        Self { reserve_bytes: 0, max_waiting_bytes: 64 * 1024 * 1024 }
    }
}

/// Figures for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerStats {
    /// Acknowledged entries.
    pub size: u64,
    /// Syncs of the log since it was opened.
    pub syncs: u64,
    /// Bytes of leaves that wait.
    pub waiting_bytes: usize,
    /// The disk is full: only closing records are taken.
    pub full: bool,
    /// A write or sync failed: nothing is taken.
    pub poisoned: bool,
}

/// What is synced.
#[derive(Clone, Debug)]
struct Committed {
    frontier: Frontier,
    /// Byte of the log where the next record goes.
    end: u64,
}

struct Shared {
    origin: Arc<str>,
    queue: Mutex<Queue>,
    wake: Condvar,
    committed: Mutex<Committed>,
    index: Index,
    syncs: AtomicU64,
    full: AtomicBool,
}

impl Shared {
    /// Nothing more is acknowledged from here on. Returns the error for those who wait.
    fn poison(&self, error: io::Error) -> LedgerError {
        let error = LedgerError::Poisoned { source: Arc::new(error) };
        lock(&self.queue).poisoned.get_or_insert(error).clone()
    }
}

/// An append-only ledger in a folder of its own. Share it as `Arc<FileLedger>`; dropping the last one writes
/// what still waits.
pub struct FileLedger {
    folder: PathBuf,
    signer: LedgerSigner,
    options: FileLedgerOptions,
    header: Header,
    log: File,
    shared: Arc<Shared>,
    /// The last signed head; held while a new one is made, so that heads are signed one after the other.
    head: Mutex<Option<(Checkpoint, SignedNote)>>,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

impl FileLedger {
    /// Opens the ledger in this folder, or starts an empty one. See [`Self::open_with`].
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(folder: impl AsRef<Path>, signer: LedgerSigner) -> Result<Self, LedgerError> {
        Self::open_with(folder, signer, FileLedgerOptions::default())
    }

    /// Opens the ledger in this folder, or starts an empty one. A torn tail, which nobody was told of, is cut
    /// off. Reads only what follows the last checkpoint, unless the index was lost; [`Self::check`] reads all.
    ///
    /// # Errors
    /// When the signed head is ahead of the data or of other data, acknowledged entries are damaged, the
    /// folder is of another origin or in use, or a file cannot be read. Nothing is changed then.
    pub fn open_with(
        folder: impl AsRef<Path>,
        signer: LedgerSigner,
        options: FileLedgerOptions,
    ) -> Result<Self, LedgerError> {
        let folder = folder.as_ref().to_path_buf();
        let found = opening::open_folder(&folder, &signer)?;
        let reserve = Reserve::new(folder.join(RESERVE), options.reserve_bytes);
        let full = match reserve.take() {
            Ok(()) => false,
            Err(error) if disk::is_full(&error) => true,
            Err(error) => return Err(LedgerError::io("reserve space in", &folder)(error)),
        };
        let shared = Arc::new(Shared {
            origin: signer.origin().into(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            committed: Mutex::new(found.committed),
            index: found.index,
            syncs: AtomicU64::new(0),
            full: AtomicBool::new(full),
        });
        let log = found.log.try_clone().map_err(LedgerError::io("open", &folder))?;
        let writer = Writer { shared: shared.clone(), log: found.log, header: found.header.clone(), reserve };
        let writer = thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || writer.run())
            .map_err(LedgerError::io("start the writer of", &folder))?;
        Ok(Self {
            folder,
            signer,
            options,
            header: found.header,
            log,
            shared,
            head: Mutex::new(found.head),
            writer: Some(writer),
            _lock: found.lock,
        })
    }

    /// Origin of this ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The key that signs this ledger's checkpoints and cosigns those of others.
    #[must_use]
    pub fn signer(&self) -> &LedgerSigner {
        &self.signer
    }

    /// Folder of this ledger.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Acknowledged entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.committed().frontier.size()
    }

    /// The right edge over all acknowledged entries.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.committed().frontier
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> LedgerStats {
        let size = self.size();
        let queue = lock(&self.shared.queue);
        LedgerStats {
            size,
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            waiting_bytes: queue.bytes,
            full: self.shared.full.load(Ordering::Acquire),
            poisoned: queue.poisoned.is_some(),
        }
    }

    /// Appends a leaf and waits until it is synced. Blocks the thread: async callers use
    /// [`Self::append_with`].
    ///
    /// # Errors
    /// When the leaf is too large or could not be synced.
    pub fn append(&self, leaf: Vec<u8>) -> Result<AuditReceipt, LedgerError> {
        self.submit(leaf).wait()
    }

    /// Appends a closing record: on a full disk it is written in the space that was reserved.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_reserved(&self, leaf: Vec<u8>) -> Result<AuditReceipt, LedgerError> {
        let (answer, waiter) = channel();
        self.enqueue(leaf, true, answer);
        waiter.wait()
    }

    /// Hands a leaf over and returns at once; the waiter blocks until it is synced.
    #[must_use = "the leaf is not on disk before the waiter says so"]
    pub fn submit(&self, leaf: Vec<u8>) -> Waiter {
        let (answer, waiter) = channel();
        self.enqueue(leaf, false, answer);
        waiter
    }

    /// Hands a leaf over and returns at once; the callback gets the outcome (see [`Callback`]). A refusal may
    /// call it before this returns.
    pub fn append_with(&self, leaf: Vec<u8>, callback: Callback) {
        self.enqueue(leaf, false, callback);
    }

    /// As [`Self::append_with`] for a closing record (see [`Self::append_reserved`]).
    pub fn append_reserved_with(&self, leaf: Vec<u8>, callback: Callback) {
        self.enqueue(leaf, true, callback);
    }

    fn enqueue(&self, leaf: Vec<u8>, reserved: bool, answer: Callback) {
        if leaf.len() > MAX_LEAF_BYTES {
            return answer(Err(LedgerError::LeafTooLarge { bytes: leaf.len() }));
        }
        let cost = leaf.len() + HEAD_BYTES;
        let mut queue = lock(&self.shared.queue);
        let refusal = match &queue.poisoned {
            Some(error) => Some(error.clone()),
            None if queue.closed => Some(LedgerError::Closed),
            // A closing record is never refused for the crowd before it.
            None if !reserved && queue.bytes + cost > self.options.max_waiting_bytes => {
                Some(LedgerError::Overloaded)
            }
            None => None,
        };
        if let Some(error) = refusal {
            drop(queue);
            return answer(Err(error));
        }
        queue.bytes += cost;
        queue.waiting.push_back(Pending { leaf, reserved, answer });
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Reads entries, each checked against its record. All of them at once: keep ranges small.
    ///
    /// # Errors
    /// When the range goes beyond the acknowledged entries, or an entry is damaged.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, LedgerError> {
        let size = self.size();
        if range.start > range.end || range.end > size {
            return Err(LedgerError::OutOfRange { start: range.start, end: range.end, size });
        }
        let mut entries = Vec::new();
        let failed = LedgerError::io("read", &self.folder);
        let mut offset = 0;
        for index in range {
            if offset == 0 {
                offset = self.shared.index.offset(index).map_err(&failed)?;
            }
            let record = self.header.read_at(&self.log, offset).map_err(&failed)?;
            let record = record
                .filter(|record| record.index == index)
                .ok_or(LedgerError::Damaged { index, offset })?;
            offset += record.length();
            entries.push(record.leaf);
        }
        Ok(entries)
    }

    /// Signs the head of all acknowledged entries. The head is on disk before this returns, so no other tree
    /// of this size can ever be signed here. Blocks for a few syncs.
    ///
    /// # Errors
    /// When the head could not be stored; except for a full disk the ledger is poisoned then.
    pub fn checkpoint(&self) -> Result<SignedNote, LedgerError> {
        let mut head = lock(&self.head);
        if let Some(error) = &lock(&self.shared.queue).poisoned {
            return Err(error.clone());
        }
        let frontier = self.committed().frontier;
        if let Some((last, note)) = head.as_ref().filter(|(last, _)| last.size >= frontier.size()) {
            let (size, signed, found) = (last.size, last.root, frontier.root());
            let same = size == frontier.size() && signed == found;
            return if same {
                Ok(note.clone())
            } else {
                Err(LedgerError::HeadMismatch { size, signed, found })
            };
        }
        let next =
            Checkpoint { origin: self.origin().to_owned(), size: frontier.size(), root: frontier.root() };
        let note = sign(&self.signer, &next)?;
        let path = self.folder.join(CHECKPOINT);
        let store = || {
            self.shared.index.sync()?;
            disk::write_atomic(&path, note.to_string().as_bytes(), 0o600)
        };
        match store() {
            Ok(()) => {
                *head = Some((next, note.clone()));
                Ok(note)
            }
            Err(error) if disk::is_full(&error) => Err(LedgerError::DiskFull),
            Err(error) => Err(self.shared.poison(error)),
        }
    }

    /// The last head that was signed, if any.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<SignedNote> {
        lock(&self.head).as_ref().map(|(_, note)| note.clone())
    }

    /// A receipt for the entry at `index` under the given checkpoint of this ledger (with cosignatures, if
    /// it has any).
    ///
    /// # Errors
    /// When the checkpoint is of another tree or does not cover the entry.
    pub fn receipt(&self, index: u64, note: &SignedNote) -> Result<InclusionReceipt, LedgerError> {
        let head = Checkpoint::parse(note.body())?;
        self.expect_tree(&head)?;
        let hashes = self.inclusion_proof(index, head.size)?;
        Ok(InclusionReceipt { index, hashes, note: note.clone(), extra: None })
    }

    /// Inclusion proof of an entry in the tree of `size` acknowledged entries.
    ///
    /// # Errors
    /// When index or size is outside.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        self.within(index, size)?;
        self.shared.index.inclusion_proof(index, size).map_err(|error| self.tree_error(error))
    }

    /// Consistency proof between two sizes, for a witness.
    ///
    /// # Errors
    /// When a size is outside.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LedgerError> {
        self.within(old, new)?;
        self.shared.index.consistency_proof(old, new).map_err(|error| self.tree_error(error))
    }

    /// Root of the first `size` acknowledged entries.
    ///
    /// # Errors
    /// When the size is outside.
    pub fn root_at(&self, size: u64) -> Result<Hash, LedgerError> {
        self.within(0, size)?;
        self.shared.index.root_at(size).map_err(|error| self.tree_error(error))
    }

    /// Writes the log up to its last checkpoint as a folder of C2SP tiles, going on where an earlier export
    /// ended.
    ///
    /// # Errors
    /// When the folder holds another log or cannot be written.
    pub fn export_tiles(&self, folder: &Path) -> Result<SignedNote, LedgerError> {
        let note = self.checkpoint()?;
        let head = Checkpoint::parse(note.body())?;
        let mut writer = TileWriter::open(folder)?;
        if writer.size() > head.size || writer.root() != self.root_at(writer.size())? {
            let (found_size, found_root) = (writer.size(), writer.root());
            let (size, root) = (head.size, head.root);
            return Err(TileError::OtherTree { size, root, found_size, found_root }.into());
        }
        while writer.size() < head.size {
            let end = head.size.min(writer.size() + 1024);
            for leaf in self.read(writer.size()..end)? {
                writer.append(leaf)?;
            }
        }
        writer.commit(&note)?;
        Ok(note)
    }

    /// Reads the whole log again and compares it with the tree in use. Takes about a second for each 500 MB.
    ///
    /// # Errors
    /// When an entry is damaged or was changed.
    pub fn check(&self) -> Result<Checkpoint, LedgerError> {
        let Committed { frontier: expected, .. } = self.committed();
        let mut found = Frontier::new();
        let path = self.folder.join(LOG);
        let (size, offset, _) = scan(&self.header, &path, 0, self.header.length(), |_, record| {
            if found.size() < expected.size() {
                found.push(record.hash);
            }
            Ok(())
        })?;
        if size < expected.size() {
            return Err(LedgerError::Damaged { index: size, offset });
        }
        let (size, root) = (found.size(), found.root());
        if root != expected.root() {
            return Err(LedgerError::HeadMismatch { size, signed: expected.root(), found: root });
        }
        Ok(Checkpoint { origin: self.origin().to_owned(), size, root })
    }

    fn committed(&self) -> Committed {
        lock(&self.shared.committed).clone()
    }

    fn within(&self, start: u64, end: u64) -> Result<(), LedgerError> {
        let size = self.size();
        if start <= end && end <= size { Ok(()) } else { Err(LedgerError::OutOfRange { start, end, size }) }
    }

    fn expect_tree(&self, head: &Checkpoint) -> Result<(), LedgerError> {
        let found = self.root_at(head.size)?;
        if head.origin != self.origin() {
            let (expected, found) = (self.origin().to_owned(), head.origin.clone());
            return Err(LedgerError::WrongOrigin { expected, found });
        }
        if found == head.root {
            return Ok(());
        }
        Err(LedgerError::HeadMismatch { size: head.size, signed: head.root, found })
    }

    fn tree_error(&self, error: TreeError<io::Error>) -> LedgerError {
        match error {
            TreeError::Reader(source) => LedgerError::io("read the index of", &self.folder)(source),
            TreeError::Outside { asked, size } => LedgerError::OutOfRange { start: asked, end: asked, size },
            TreeError::TooLarge { size } => {
                LedgerError::OutOfRange { start: size, end: size, size: self.size() }
            }
            TreeError::Short { tile, .. } => LedgerError::Damaged { index: tile.index, offset: 0 },
        }
    }
}

impl Drop for FileLedger {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A callback may own the last reference: the writer cannot wait for itself.
            if writer.thread().id() != thread::current().id() {
                let _ = writer.join();
            }
        }
    }
}

impl fmt::Debug for FileLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileLedger({}, {:?})", self.origin(), self.stats())
    }
}

/// Waits for one append.
#[derive(Debug)]
pub struct Waiter(Receiver<Result<AuditReceipt, LedgerError>>);

impl Waiter {
    /// Blocks until the leaf is synced or refused.
    ///
    /// # Errors
    /// When it was refused.
    pub fn wait(self) -> Result<AuditReceipt, LedgerError> {
        self.0.recv().unwrap_or(Err(LedgerError::Closed))
    }
}

fn channel() -> (Callback, Waiter) {
    let (sender, receiver) = sync_channel(1);
    // Nobody may be waiting any more; the leaf is on disk all the same.
    let answer = move |result| drop(sender.send(result));
    (Box::new(answer), Waiter(receiver))
}

/// A panic elsewhere does not make the state wrong: it is only ever replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

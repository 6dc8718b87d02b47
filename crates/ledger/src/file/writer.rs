//! The one thread that writes. It takes everything that waits, writes it at once, syncs once, and only then
//! answers. After an error nothing is tried again: what a failed sync left behind cannot be known.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::disk;
use crate::file::error::LedgerError;
use crate::file::index::IndexBatch;
use crate::file::receipt::AuditReceipt;
use crate::file::record::{HEAD_BYTES, Header, MAX_BATCH_BYTES};
use crate::file::reserve::Reserve;
use crate::file::{Callback, Committed, Shared, lock};
use crate::hash::leaf_hash;

/// A leaf that waits for its sync.
pub struct Pending {
    pub leaf: Vec<u8>,
    pub reserved: bool,
    pub answer: Callback,
}

/// What waits, and whether anything is still taken.
#[derive(Default)]
pub struct Queue {
    pub waiting: VecDeque<Pending>,
    pub bytes: usize,
    pub closed: bool,
    pub poisoned: Option<LedgerError>,
}

/// The writer's own state.
pub struct Writer {
    pub shared: Arc<Shared>,
    pub log: File,
    pub header: Header,
    pub reserve: Reserve,
}

impl Writer {
    /// Runs until the ledger is closed and everything that waited is answered.
    pub fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.commit(batch);
        }
    }

    fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut queue = lock(&self.shared.queue);
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < MAX_BATCH_BYTES {
            let Some(pending) = queue.waiting.pop_front() else { break };
            let cost = pending.leaf.len() + HEAD_BYTES;
            bytes += cost;
            queue.bytes = queue.bytes.saturating_sub(cost);
            batch.push(pending);
        }
        Some(batch)
    }

    fn commit(&mut self, batch: Vec<Pending>) {
        // Clones the error and lets the guard go: answers must not run under the lock.
        let poisoned = lock(&self.shared.queue).poisoned.clone();
        if let Some(error) = poisoned {
            return refuse(batch, &error);
        }
        if self.shared.full.load(Ordering::Acquire) && self.reserve.take().is_ok() {
            self.shared.full.store(false, Ordering::Release);
        }
        if self.shared.full.load(Ordering::Acquire) {
            return self.commit_reserved(batch);
        }
        match self.write(&batch) {
            Ok(written) => self.sync(batch, written),
            Err(error) if disk::is_full(&error) => match self.cut_back() {
                Ok(()) => {
                    self.shared.full.store(true, Ordering::Release);
                    self.commit_reserved(batch);
                }
                Err(error) => self.poison(batch, error),
            },
            Err(error) => self.poison(batch, error),
        }
    }

    /// On a full disk only the closing records are written, in the space kept for them.
    fn commit_reserved(&mut self, batch: Vec<Pending>) {
        let (reserved, ordinary): (Vec<_>, Vec<_>) = batch.into_iter().partition(|pending| pending.reserved);
        refuse(ordinary, &LedgerError::DiskFull);
        if reserved.is_empty() {
            return;
        }
        if let Err(error) = self.reserve.release() {
            return self.poison(reserved, error);
        }
        match self.write(&reserved) {
            Ok(written) => self.sync(reserved, written),
            Err(error) if disk::is_full(&error) => match self.cut_back() {
                Ok(()) => refuse(reserved, &LedgerError::DiskFull),
                Err(error) => self.poison(reserved, error),
            },
            Err(error) => self.poison(reserved, error),
        }
    }

    /// Writes log and index, unsynced. What would become the new state is returned.
    fn write(&self, batch: &[Pending]) -> io::Result<Committed> {
        let mut next = lock(&self.shared.committed).clone();
        let synced = next.frontier.size();
        let mut index = IndexBatch::starting_at(synced);
        let mut bytes = Vec::new();
        for pending in batch {
            let offset = next.end + bytes.len() as u64;
            let hash = leaf_hash(&pending.leaf);
            self.header.push_record(&mut bytes, next.frontier.size(), synced, &pending.leaf, &hash);
            index.push(&mut next.frontier, offset, hash);
        }
        self.log.write_all_at(&bytes, next.end)?;
        self.shared.index.write(&index)?;
        next.end += bytes.len() as u64;
        Ok(next)
    }

    fn cut_back(&self) -> io::Result<()> {
        self.log.set_len(lock(&self.shared.committed).end)
    }

    /// Syncs, publishes the new size, then answers. The only place where a receipt is made.
    fn sync(&mut self, batch: Vec<Pending>, written: Committed) {
        if let Err(error) = self.log.sync_data() {
            return self.poison(batch, error);
        }
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let first = mem::replace(&mut *lock(&self.shared.committed), written).frontier.size();
        for (index, pending) in (first..).zip(batch) {
            let receipt = AuditReceipt::new(self.shared.origin.clone(), index, leaf_hash(&pending.leaf));
            answer(pending.answer, Ok(receipt));
        }
    }

    fn poison(&self, batch: Vec<Pending>, error: io::Error) {
        let error = self.shared.poison(error);
        refuse(batch, &error);
    }
}

impl Drop for Writer {
    /// Whatever ended the thread: nobody waits for ever, and nobody can append afterwards.
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        let rest: Vec<Pending> = queue.waiting.drain(..).collect();
        drop(queue);
        refuse(rest, &LedgerError::Closed);
    }
}

fn refuse(batch: Vec<Pending>, error: &LedgerError) {
    for pending in batch {
        answer(pending.answer, Err(error.clone()));
    }
}

/// A caller's panic is the caller's alone.
fn answer(callback: Callback, result: Result<AuditReceipt, LedgerError>) {
    let _ = catch_unwind(AssertUnwindSafe(|| callback(result)));
}

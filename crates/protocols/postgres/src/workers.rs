//! The threads that carry conversations. Each has a runtime of its own that nobody else works for: between a client's
//! message and its way on no other thread is woken, which costs more than all that is done with the message.
//!
//! A conversation stays on its thread. Records are written on it; what has to be synced before it goes on (a statement that
//! may change something, strict recordings, much content) is synced elsewhere, and the others of that thread do not wait.
//! Deadlines are kept elsewhere too.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<Handle>,
    next: AtomicUsize,
    _stop: DropGuard,
}

impl Workers {
    /// One for every two processors: the other half is for what recordings, ledger and links want, and a thread that has
    /// several messages to pass at once is woken less often.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
        let stop = CancellationToken::new();
        let start = |number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stopped) = (runtime.handle().clone(), stop.clone());
            thread::Builder::new().name(format!("halligan-pg-{number}")).spawn(move || {
                runtime.block_on(stopped.cancelled());
                // What waits for a disk or a name is not waited for.
                runtime.shutdown_background();
            })?;
            Ok(handle)
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<Handle>>>();
        let guard = stop.drop_guard();
        Ok(Self { threads: threads?, next: AtomicUsize::new(0), _stop: guard })
    }

    /// Runs one more conversation, on the thread whose turn it is.
    pub(crate) fn spawn(&self, tracker: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1);
        match self.threads.get(turn) {
            Some(thread) => tracker.spawn_on(work, thread),
            None => tracker.spawn(work),
        };
    }
}

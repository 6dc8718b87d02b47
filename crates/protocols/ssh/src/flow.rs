//! How much a client may have under way: its window is the backpressure.
//!
//! The SSH library gives window back as soon as it has read bytes, so a fast client and a slow target would fill the
//! memory; and blocking its reader would also hold back the window that lets the other direction move (a deadlock once
//! both are full). The one thing that can be set is how far the next window is refilled. So: as long as the target
//! keeps up, windows are refilled in full. Once a channel has a whole window waiting, refills shrink to a trickle of a
//! few bytes, and each trickle is answered late. The reader never blocks, what waits is bounded, and the first bytes
//! after the jam bring the full window back. (The target's leg needs none of this: it carries one channel at a time, so
//! there a full queue may simply stop the reading.)

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::ChannelId;
use tokio::sync::Notify;

/// Window of one channel, in bytes, on either leg: 24 MB/s over 167 ms.
pub(crate) const WINDOW: u32 = 4 * 1024 * 1024;
/// What a channel may send at a time while its bytes are not taken.
const TRICKLE: u32 = 64;
/// More than this waits only for a client that ignores its window.
const VIOLATION: i64 = 8 * WINDOW as i64;
const SHORT_NAP: u64 = 10;
const LONG_NAP: u64 = 250;

/// What waits on one channel.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Below zero for the moment in which bytes were taken before they were counted.
    bytes: AtomicI64,
    taken: Notify,
    nap: AtomicU64,
    seen_outgoing: AtomicU64,
}

impl Backlog {
    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= i64::from(WINDOW)
    }

    /// The target's leg has taken these.
    pub(crate) fn took(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes as i64, Ordering::AcqRel);
        if before >= i64::from(WINDOW) && before - (bytes as i64) < i64::from(WINDOW) {
            self.taken.notify_waiters();
        }
    }
}

/// All channels of one client.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    channels: Mutex<HashMap<ChannelId, Arc<Backlog>>>,
    outgoing: AtomicU64,
}

/// The client sent far more than its window allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowIgnored;

impl Flow {
    pub(crate) fn add(&self, channel: ChannelId) -> Arc<Backlog> {
        let backlog = Arc::new(Backlog::default());
        self.lock().insert(channel, Arc::clone(&backlog));
        backlog
    }

    pub(crate) fn remove(&self, channel: ChannelId) {
        if let Some(backlog) = self.lock().remove(&channel) {
            backlog.taken.notify_waiters();
        }
    }

    /// Something went to the client: a sign that the other direction moves and must not be slowed.
    pub(crate) fn sent(&self) {
        self.outgoing.fetch_add(1, Ordering::Relaxed);
    }

    /// How far the next window is refilled, asked after `channel` was refilled.
    pub(crate) fn next_window(&self, channel: ChannelId) -> u32 {
        let channels = self.lock();
        let jammed = channels.get(&channel).is_some_and(|own| own.is_full());
        let overflowing =
            channels.values().any(|backlog| backlog.bytes.load(Ordering::Acquire) >= VIOLATION / 2);
        if jammed || overflowing { TRICKLE } else { WINDOW }
    }

    /// Counts what arrived; while the channel is jammed, lets its trickle wait for the target or for a short while.
    pub(crate) async fn arrived(&self, channel: ChannelId, bytes: usize) -> Result<(), WindowIgnored> {
        let (backlog, alone) = {
            let channels = self.lock();
            match channels.get(&channel) {
                Some(backlog) => (Arc::clone(backlog), channels.len() == 1),
                None => return Ok(()),
            }
        };
        let waiting = backlog.bytes.fetch_add(bytes as i64, Ordering::AcqRel) + bytes as i64;
        if waiting > VIOLATION {
            return Err(WindowIgnored);
        }
        if bytes > TRICKLE as usize || waiting < i64::from(WINDOW) {
            return Ok(());
        }
        let outgoing = self.outgoing.load(Ordering::Relaxed);
        let moved = backlog.seen_outgoing.swap(outgoing, Ordering::Relaxed) != outgoing;
        let last = backlog.nap.load(Ordering::Relaxed);
        let nap = if moved || !alone { SHORT_NAP } else { (last * 2).clamp(SHORT_NAP, LONG_NAP) };
        backlog.nap.store(nap, Ordering::Relaxed);
        let taken = backlog.taken.notified();
        if backlog.is_full() {
            // Either way the reader goes on: the time is the limit.
            let _either = tokio::time::timeout(Duration::from_millis(nap), taken).await;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Backlog>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::ssh_encoding::Decode as _;

    fn channel(number: u8) -> ChannelId {
        ChannelId::decode(&mut &[0, 0, 0, number][..]).unwrap()
    }

    #[tokio::test]
    async fn a_jammed_channel_trickles_until_its_bytes_are_taken() {
        let flow = Flow::default();
        let (slow, other) = (channel(1), channel(2));
        let backlog = flow.add(slow);
        flow.add(other);
        assert_eq!(flow.next_window(slow), WINDOW);
        flow.arrived(slow, WINDOW as usize).await.unwrap();
        assert_eq!(flow.next_window(slow), TRICKLE);
        assert_eq!(flow.next_window(other), WINDOW, "the other channel keeps its window");
        let started = std::time::Instant::now();
        flow.arrived(slow, 64).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(SHORT_NAP), "a trickle is answered late");
        backlog.took(WINDOW as usize);
        assert_eq!(flow.next_window(slow), WINDOW);
    }

    #[tokio::test]
    async fn bytes_may_be_taken_before_they_are_counted() {
        let flow = Flow::default();
        let backlog = flow.add(channel(1));
        for _ in 0..1_000 {
            backlog.took(WINDOW as usize);
            flow.arrived(channel(1), WINDOW as usize).await.unwrap();
        }
        assert_eq!(flow.next_window(channel(1)), WINDOW);
    }

    #[tokio::test]
    async fn a_client_that_ignores_its_window_is_found_out() {
        let flow = Flow::default();
        flow.add(channel(1));
        for _ in 0..8 {
            flow.arrived(channel(1), WINDOW as usize).await.unwrap();
        }
        assert_eq!(flow.arrived(channel(1), 1).await, Err(WindowIgnored));
        flow.arrived(channel(9), 1).await.expect("a channel that is gone counts nothing");
    }
}

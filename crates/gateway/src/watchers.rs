//! Live watching: the last records of a session, kept only while somebody watches. A slow watcher loses records; the
//! session never waits for one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use halligan_recording::Record;
use tokio::sync::Notify;

/// Bytes kept for watchers of one session.
const KEEP: usize = 700 * 1024;
/// A session counts as watched this long after a watcher last asked, microseconds.
const INTEREST: u64 = 30_000_000;

/// The window through which a session is watched.
#[derive(Default)]
pub struct Watchers {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    watched_until: u64,
    /// Number of the last record of the session.
    last: u64,
    /// Encoded records, the newest behind; its number is `last`.
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// What a watcher gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Glance {
    /// Encoded records.
    pub records: Vec<Vec<u8>>,
    /// Number of the last of them.
    pub last: u64,
    /// Records missed before them.
    pub lost: u64,
}

impl Watchers {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that were written.
    pub fn push(&self, records: &[Record], boot: u64) {
        let mut state = self.lock();
        if state.watched_until <= boot {
            state.last += records.len() as u64;
            state.kept.clear();
            state.bytes = 0;
            return;
        }
        for record in records {
            let mut encoded = Vec::new();
            // One that does not encode was not written either.
            if record.encode(&mut encoded).is_err() {
                continue;
            }
            state.last += 1;
            state.bytes += encoded.len();
            state.kept.push_back(encoded);
        }
        while state.bytes > KEEP {
            let Some(dropped) = state.kept.pop_front() else { break };
            state.bytes -= dropped.len();
        }
        drop(state);
        self.moved.notify_waiters();
    }

    /// Records so far.
    pub fn count(&self) -> u64 {
        self.lock().last
    }

    /// What came after number `after`, if anything did. Marks the session as watched.
    pub fn glance(&self, after: u64, boot: u64) -> Option<Glance> {
        let mut state = self.lock();
        state.watched_until = boot.saturating_add(INTEREST);
        if state.last <= after {
            return None;
        }
        let first_kept = state.last + 1 - state.kept.len() as u64;
        let from = after.saturating_add(1).max(first_kept);
        let skip = usize::try_from(from - first_kept).unwrap_or(usize::MAX);
        Some(Glance {
            records: state.kept.iter().skip(skip).cloned().collect(),
            last: state.last,
            lost: from - after.saturating_add(1),
        })
    }

    /// Waits for something new.
    pub fn moved(&self) -> tokio::sync::futures::Notified<'_> {
        self.moved.notified()
    }

    /// The session is over: nobody waits any more.
    pub fn over(&self) {
        self.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use halligan_recording::RecordKind;

    use super::*;

    fn output(bytes: usize) -> Record {
        Record::new(0, RecordKind::Output { channel: 0, bytes: vec![b'x'; bytes].into() })
    }

    #[test]
    fn a_slow_watcher_loses_records_and_is_told_how_many() {
        let watchers = Watchers::default();
        watchers.push(&[output(1)], 0);
        let first = watchers.glance(0, 0).unwrap();
        assert_eq!((first.records.len(), first.last, first.lost), (0, 1, 1), "nobody watched yet");
        assert!(watchers.glance(1, 0).is_none());
        for _ in 0..10 {
            watchers.push(&[output(100 * 1024)], 1);
        }
        let second = watchers.glance(1, 1).unwrap();
        assert_eq!(second.last, 11);
        assert_eq!(second.records.len() as u64 + second.lost, 10);
        assert!(second.lost > 0);
        watchers.push(&[output(1)], INTEREST + 2);
        assert_eq!(watchers.glance(11, INTEREST + 2).unwrap().lost, 1, "nobody watches for long for nothing");
    }
}

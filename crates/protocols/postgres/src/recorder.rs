//! What is written down: records before the bytes they are about go on, and milestones for the review behind them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use halligan_recording::{Record, RecordKind};
use halligan_session::end_reason::printable;
use halligan_session::{Ended, NodeEvent, Session, Written};
use tokio::sync::Notify;

use crate::audit::Changed;

/// Milestones of changes are synced leaves: a flood of statements makes one for each thing in this time.
const TOGETHER: Duration = Duration::from_secs(2);
/// COPYs that have a milestone of their own; past that they stand in the recording alone.
const MOST_TRANSFERS: usize = 256;

/// Records one conversation.
#[derive(Debug)]
pub(crate) struct Recorder {
    session: Session,
    channel: u32,
    pending: Mutex<Pending>,
    told: Notify,
    /// One at a time writes milestones.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Changed>,
    /// Where in `changes` a thing stands.
    places: HashMap<String, usize>,
    transfers_in_all: usize,
    /// Milestones on their way into the ledger; one stays until it is there.
    milestones: VecDeque<NodeEvent>,
}

impl Recorder {
    pub(crate) fn new(session: Session, channel: u32) -> Self {
        Self {
            session,
            channel,
            pending: Mutex::default(),
            told: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Writes records. Only then may the bytes go on, and where a sync is owed, only after it.
    pub(crate) fn write(&self, kinds: impl Iterator<Item = RecordKind>, at: u64) -> Result<Written, Ended> {
        let records: Vec<Record> = kinds.map(|kind| Record::new(at, kind)).collect();
        if records.is_empty() {
            return Ok(Written::default());
        }
        let written = self.session.write(&records)?;
        for record in &records {
            if let RecordKind::TransferEnd { channel, path, direction, bytes, sha256, .. } = &record.kind {
                self.transferred(NodeEvent::TransferEnded {
                    session: self.session.id(),
                    channel: *channel,
                    path: printable(path, 1000),
                    direction: direction.word().to_owned(),
                    bytes: *bytes,
                    sha256: hex::encode(sha256.0),
                });
            }
        }
        Ok(written)
    }

    /// Writes what came to its end with the session. Nothing may go on for that.
    pub(crate) fn write_last(&self, kinds: impl Iterator<Item = RecordKind>, at: u64) {
        let records: Vec<Record> = kinds.map(|kind| Record::new(at, kind)).collect();
        self.session.record_last(&records);
    }

    fn transferred(&self, event: NodeEvent) {
        let mut pending = self.lock();
        pending.transfers_in_all += 1;
        if pending.transfers_in_all <= MOST_TRANSFERS {
            pending.milestones.push_back(event);
            self.told.notify_one();
        }
    }

    /// A transaction has changed something.
    pub(crate) fn changed(&self, changes: Vec<Changed>) {
        if changes.is_empty() {
            return;
        }
        let mut pending = self.lock();
        for change in changes {
            let place = pending.places.get(&change.what).copied();
            match place.and_then(|place| pending.changes.get_mut(place)) {
                Some(known) => {
                    known.rows = known.rows.zip(change.rows).map(|(all, more)| all.saturating_add(more));
                    known.statements += change.statements;
                }
                None => {
                    let place = pending.changes.len();
                    pending.places.insert(change.what.clone(), place);
                    pending.changes.push(change);
                }
            }
        }
        drop(pending);
        self.told.notify_one();
    }

    /// Writes milestones as they come, until dropped.
    pub(crate) async fn report(&self) -> std::convert::Infallible {
        loop {
            self.told.notified().await;
            self.report_all().await;
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Writes what milestones are still owed. If it is dropped halfway, the next call goes on where it was: one may be
    /// written twice, and none is lost.
    pub(crate) async fn report_all(&self) {
        let changed = |change: &Changed| NodeEvent::DatabaseChanged {
            session: self.session.id(),
            channel: self.channel,
            what: in_words(change),
        };
        let _one = self.writing.lock().await;
        {
            let mut pending = self.lock();
            let changes = std::mem::take(&mut pending.changes);
            pending.places.clear();
            pending.milestones.extend(changes.iter().map(changed));
        }
        loop {
            let Some(event) = self.lock().milestones.front().cloned() else { return };
            if self.session.milestone(event).await.is_err() {
                return;
            }
            self.lock().milestones.pop_front();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_words(change: &Changed) -> String {
    let statements = match change.statements {
        1 => format!("statement {}", change.first),
        more => format!("{more} statements from {} on", change.first),
    };
    let what = printable(&change.what, 500);
    match change.rows {
        Some(1) => format!("{what}: 1 row ({statements})"),
        Some(rows) => format!("{what}: {rows} rows ({statements})"),
        None => format!("{what} ({statements})"),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::double::Double;

    /// The session's end drops who reports, wherever that is.
    #[tokio::test]
    async fn a_report_that_is_dropped_halfway_stays_owed() {
        let (double, session) = Double::session();
        let recorder = Recorder::new(session, 3);
        let change = |what: &str| Changed { what: what.into(), rows: Some(2), statements: 1, first: 1 };
        recorder.changed(vec![change("insert table a"), change("insert table b")]);
        double.takes.send_replace(false);
        let polled = pin!(recorder.report_all()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the ledger takes its time, and then nobody waits for it any more");
        recorder.changed(vec![change("insert table a")]);
        double.takes.send_replace(true);
        recorder.report_all().await;
        let told: Vec<String> = double
            .ledger
            .lock()
            .unwrap()
            .iter()
            .map(|event| match event {
                NodeEvent::DatabaseChanged { what, channel: 3, .. } => what.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        let line = |what: &str| format!("{what}: 2 rows (statement 1)");
        assert_eq!(told, ["insert table a", "insert table b", "insert table a"].map(line));
    }

    #[test]
    fn a_change_reads_as_a_line() {
        let change = |rows, statements| Changed { what: "insert table t".into(), rows, statements, first: 4 };
        assert_eq!(in_words(&change(Some(1), 1)), "insert table t: 1 row (statement 4)");
        assert_eq!(in_words(&change(Some(9), 3)), "insert table t: 9 rows (3 statements from 4 on)");
        assert_eq!(in_words(&change(None, 1)), "insert table t (statement 4)");
    }
}

//! The state of one conversation: which statement runs with which values, what came of it, and what is recorded.
//!
//! The relay shows it every message before it passes it, and takes the records that come of that; data that is only
//! passed is counted through [`Audit::from_client`] and [`Audit::from_server`]. Client and server run apart
//! (pipelining), so what the client began waits in a queue for the server's answer; an error takes all with it up to
//! the next Sync, as the server does.

mod budget;
mod changed;
mod client;
mod copying;
mod names;
mod outline;
mod queue;
mod rows;
mod server;
mod texts;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use halligan_core::catalog::StatementClass;
use halligan_recording::{Direction, Hash, Outcome, RecordKind};
use sha2::{Digest as _, Sha256};

pub use changed::Changed;
pub use rows::Kept;

use crate::classify::{Classifier, Label};
use crate::codec::{Passing, TransactionStatus};
use budget::Budget;
use names::{Names, Prepared};
use queue::{Expected, Owed, Running};

/// Messages that wait for an answer, and bytes of their texts; more are a reason to stop reading the client for a while.
const MAX_WAITING: usize = 16 * 1024;
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// Longest text in one record, in bytes; the rest follows as content.
const MAX_TEXT_BYTES: usize = 256 * 1024;

/// What a conversation is about.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// The channel's number in the recording.
    pub channel: u32,
    /// The role of the entitlement (the group role), for people who read the record.
    pub role: String,
    pub database: String,
    /// Record bound parameters.
    pub parameters: bool,
    /// Which result rows are kept.
    pub kept: Kept,
    /// Bytes of result rows that are kept in the whole session.
    pub keep_bytes: u64,
}

/// The conversation cannot be followed any further, so it must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    #[error("more than {limit} bytes of prepared statements and portals are open; close some")]
    TooManyNames { limit: usize },
    #[error("names of prepared statements and portals have at most 63 bytes here, all of them ASCII")]
    Name,
}

/// A statement that is about to run: a whole Query, or what is bound with its values and then executed.
#[derive(Debug, Clone)]
pub struct Runs {
    /// Secrets in its text are masked.
    pub statement: Arc<Prepared>,
    /// The statement's own, or of what it executes by name.
    pub label: Arc<Label>,
    /// A JSON array, if the client bound any and they are recorded.
    pub parameters: Option<Arc<str>>,
    /// The guard rails let it be bound as what it is.
    pub judged: bool,
}

impl Runs {
    pub fn class(&self) -> StatementClass {
        self.label.class
    }

    pub fn text(&self) -> &Arc<str> {
        &self.statement.text
    }
}

/// Follows one conversation, from the first ReadyForQuery on.
#[derive(Debug)]
pub struct Audit {
    config: AuditConfig,
    classifier: Classifier,
    texts: texts::Texts,
    names: Names,
    waiting: VecDeque<Owed>,
    in_flight: Budget,
    /// Statements among them that may copy in.
    copies: Budget,
    /// How many Syncs and Queries were sent.
    batch: u64,
    /// The server skips what comes until the next Sync.
    skipping: bool,
    /// A COPY failed that may have swallowed Syncs of the client's: nobody knows how many answers are still owed.
    adrift: bool,
    /// As the server last said, while a text is on its way that may change it.
    escapes: bool,
    transaction: TransactionStatus,
    number: u64,
    keeper: rows::Keeper,
    changed: changed::Ledger,
    /// COPY data that came before the server said that it copies.
    early: copying::Copying,
    records: Vec<RecordKind>,
}

impl Audit {
    pub fn new(config: AuditConfig) -> Self {
        Self {
            keeper: rows::Keeper::new(config.channel, config.kept, config.keep_bytes),
            config,
            classifier: Classifier::default(),
            texts: texts::Texts::default(),
            names: Names::default(),
            waiting: VecDeque::new(),
            in_flight: Budget::default(),
            copies: Budget::default(),
            batch: 0,
            skipping: false,
            adrift: false,
            escapes: false,
            transaction: TransactionStatus::Idle,
            number: 0,
            changed: changed::Ledger::default(),
            early: copying::Copying::new(Direction::Upload, String::new()),
            records: Vec::new(),
        }
    }

    /// What is to be recorded before the bytes that were shown last go on, in order.
    pub fn records(&mut self) -> std::vec::Drain<'_, RecordKind> {
        self.keeper.flush(&mut self.records);
        self.records.drain(..)
    }

    /// What committed transactions have changed since this was asked last.
    pub fn changes(&mut self) -> Vec<Changed> {
        self.changed.take()
    }

    /// Where the transaction stood when the server last said so.
    pub fn transaction(&self) -> TransactionStatus {
        self.transaction
    }

    /// True while nothing that the client sent waits for the server.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True while no statement runs, and none may end that the server has not said so of: [`Self::transaction`] is how
    /// it stands, and every name that was sent in an earlier batch is what it is.
    pub fn is_settled(&self) -> bool {
        !self.waiting.iter().any(|owed| {
            owed.what.running().is_some() || matches!(owed.what, Expected::Sync | Expected::Refused)
        })
    }

    /// So much waits for the server that the client should not be read for now.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
            || (self.in_flight.taken() > MAX_WAITING_BYTES && !self.may_copy_in())
    }

    /// A statement may be reading the client's data.
    fn may_copy_in(&self) -> bool {
        self.copies.taken() > 0
    }

    /// Only the server's answer to a question of ours tells which of its answers belongs to what.
    pub fn is_adrift(&self) -> bool {
        self.adrift
    }

    /// True while the server has answered everything.
    pub fn is_answered(&self) -> bool {
        self.waiting.iter().all(|owed| matches!(owed.what, Expected::CopyEnd))
    }

    /// The number of the statement that was begun last; 0 before the first.
    pub fn begun(&self) -> u64 {
        self.number
    }

    /// Something of this batch failed: the server skips what comes until the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The question was answered.
    pub fn found(&mut self) {
        self.adrift = false;
        self.skipping = false;
    }

    /// The statement that the server is at, by its number.
    pub fn running(&self) -> Option<u64> {
        self.waiting.iter().find_map(|owed| owed.what.number())
    }

    /// The connection is over: what still waits has an unknown outcome.
    pub fn finish(&mut self, reason: &str, at: u64) {
        let mut failed = Vec::new();
        for owed in std::mem::take(&mut self.waiting) {
            match owed.what {
                Expected::Bind { now, .. } => failed.extend(now.run().take()),
                other => failed.extend(other.into_running()),
            }
        }
        failed.extend(self.names.take_portals().into_iter().filter_map(|portal| portal.run().take()));
        failed.sort_by_key(|running| running.number);
        for running in failed {
            self.end(running, Some(Outcome::Failed { reason: reason.to_owned() }), at);
        }
    }

    /// Takes data on its way from the client.
    pub fn from_client(&mut self) -> impl Passing + '_ {
        copying::FromClient(self)
    }

    /// Takes data on its way from the server.
    pub fn from_server(&mut self) -> impl Passing + '_ {
        copying::FromServer(self)
    }

    fn begin(&mut self, runs: Runs, at: u64) -> Running {
        self.number += 1;
        let whole = Arc::clone(runs.text());
        let (text, rest) = halves(&whole);
        let cut = |text: &str| match halves(text) {
            (all, "") => all.to_owned(),
            (_, _) => {
                format!(r#"[{{"bytes":{},"sha256":"{}"}}]"#, text.len(), hex::encode(Sha256::digest(text)))
            }
        };
        let text = match rest {
            "" => text.to_owned(),
            _ => {
                let digest = hex::encode(Sha256::digest(whole.as_bytes()));
                format!("{text}\u{2026} ({} bytes, sha256 {digest}; the rest follows)", whole.len())
            }
        };
        self.records.push(RecordKind::StatementBegin {
            channel: self.config.channel,
            number: self.number,
            class: runs.label.class.word().to_owned(),
            role: self.config.role.clone(),
            database: self.config.database.clone(),
            text,
            parameters: runs.parameters.as_deref().map(cut),
        });
        for piece in rest.as_bytes().chunks(MAX_TEXT_BYTES) {
            self.records.push(RecordKind::Content {
                channel: self.config.channel,
                direction: Direction::Upload,
                bytes: Bytes::copy_from_slice(piece),
            });
        }
        Running::new(self.number, runs, at)
    }

    fn end(&mut self, mut running: Running, outcome: Option<Outcome>, at: u64) {
        let outcome = outcome.unwrap_or_else(|| running.outcome());
        self.keeper.finish(&mut self.records);
        self.end_copy(running.copy.take(), &outcome);
        let rows = running.rows();
        if outcome == Outcome::Done {
            self.changed.ran(&running.runs.label, rows, running.number);
        }
        self.records.push(RecordKind::StatementEnd {
            channel: self.config.channel,
            number: running.number,
            outcome,
            tag: std::mem::take(&mut running.tags),
            rows,
            duration_micros: at.saturating_sub(running.begun),
        });
    }

    fn begin_copy(&mut self, direction: Direction) {
        let running = self.waiting.iter_mut().find_map(|owed| owed.what.running_mut());
        let Some(running) = running else { return };
        let path = copying::path(running.runs.text(), self.classifier.backslashes());
        running.copy = Some(copying::Copying::new(direction, path.clone()));
        self.records.push(RecordKind::TransferBegin { channel: self.config.channel, path, direction });
    }

    fn end_copy(&mut self, copy: Option<copying::Copying>, outcome: &Outcome) {
        let Some(copy) = copy else { return };
        self.records.push(RecordKind::TransferEnd {
            channel: self.config.channel,
            path: copy.path,
            direction: copy.direction,
            bytes: copy.bytes,
            sha256: Hash(copy.sha256.finalize().into()),
            outcome: outcome.clone(),
        });
    }
}

/// What fits into one record, and the rest.
fn halves(text: &str) -> (&str, &str) {
    let mut end = MAX_TEXT_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

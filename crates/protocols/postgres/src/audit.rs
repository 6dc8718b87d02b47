//! The state of one conversation: which statement runs with which values, what came of it, and what is recorded.
//!
//! The relay shows it every message before it passes it, and takes the records that come of that; data that is only
//! passed is counted through [`Audit::from_client`] and [`Audit::from_server`]. Client and server run apart
//! (pipelining), so what the client began waits in a queue for the server's answer; an error takes all with it up to
//! the next Sync, as the server does.

mod changed;
mod copying;
mod names;
mod queue;
mod rows;
mod server;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use halligan_core::catalog::StatementClass;
use halligan_recording::text::lossless;
use halligan_recording::{Direction, Hash, Outcome, RecordKind};
use sha2::{Digest as _, Sha256};

pub use changed::Changed;
pub use rows::Kept;

use crate::classify::{Classifier, Label, Risk};
use crate::codec::{FromClientMessage, Passing, Target, TransactionStatus};
use crate::lexer::tokens;
use crate::mask::{mask_secrets, secret_parameters};
use crate::parameters;
use names::{Names, Portal, Prepared};
use queue::{Expected, Running};

/// Messages that wait for an answer; more are a reason to stop reading the client for a while.
const MAX_WAITING: usize = 16 * 1024;
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
}

/// A statement that is about to run: a whole Query, or an Execute with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    pub label: Arc<Label>,
    /// Secrets are masked.
    pub text: Arc<str>,
    /// A JSON array, if the client bound any and they are recorded.
    pub parameters: Option<Arc<str>>,
}

impl Runs {
    pub fn class(&self) -> StatementClass {
        self.label.class
    }
}

/// Follows one conversation, from the first ReadyForQuery on.
#[derive(Debug)]
pub struct Audit {
    config: AuditConfig,
    classifier: Classifier,
    names: Names,
    waiting: VecDeque<Expected>,
    /// The server skips what comes until the next Sync.
    skipping: bool,
    transaction: TransactionStatus,
    number: u64,
    keeper: rows::Keeper,
    changed: changed::Ledger,
    /// The last thing from the client was COPY data.
    copying_in: bool,
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
            names: Names::default(),
            waiting: VecDeque::new(),
            skipping: false,
            transaction: TransactionStatus::Idle,
            number: 0,
            changed: changed::Ledger::default(),
            copying_in: false,
            early: copying::Copying::new(Direction::Upload, String::new()),
            records: Vec::new(),
        }
    }

    /// What is to be recorded before the bytes that were shown last go on, in order.
    pub fn records(&mut self) -> std::vec::Drain<'_, RecordKind> {
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
    /// it stands.
    pub fn is_settled(&self) -> bool {
        !self.waiting.iter().any(|expected| {
            expected.running().is_some() || matches!(expected, Expected::Sync | Expected::Refused)
        })
    }

    /// So much waits for the server that the client should not be read for now.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// The statement that the server is at, by its number.
    pub fn running(&self) -> Option<u64> {
        self.waiting.iter().find_map(Expected::running).map(|running| running.number)
    }

    /// What this message would run, if it runs anything: for the guard rails, before [`Self::client`].
    pub fn runs(&mut self, message: &FromClientMessage) -> Option<Runs> {
        match message {
            FromClientMessage::Query { sql } => {
                let prepared = self.prepare(sql, Vec::new());
                Some(Runs { label: prepared.label, text: prepared.text, parameters: None })
            }
            FromClientMessage::Execute { portal, .. } => {
                let runs = match self.names.portal(portal) {
                    Some(portal) => {
                        let statement = &portal.statement;
                        let label = self.of_execute(statement);
                        Runs {
                            label,
                            text: Arc::clone(&statement.text),
                            parameters: portal.parameters.clone(),
                        }
                    }
                    None => unknown(&format!("-- a portal that is not known: {}", lossless(portal))),
                };
                Some(runs)
            }
            FromClientMessage::FunctionCall { function } => {
                Some(unknown(&format!("-- function call by number: {function}")))
            }
            _ => None,
        }
    }

    /// Takes a message of the client's that now goes on. `runs` is what [`Self::runs`] gave for it; `at` is in
    /// microseconds since the recording's start.
    pub fn client(
        &mut self,
        message: &FromClientMessage,
        runs: Option<Runs>,
        at: u64,
    ) -> Result<(), AuditError> {
        use FromClientMessage as M;
        self.copying_in = false;
        match message {
            M::Query { .. } | M::Execute { .. } | M::FunctionCall { .. } => {
                let Some(runs) = runs.or_else(|| self.runs(message)) else { return Ok(()) };
                if let Some(name) = names::prepared_by_sql(&runs.text) {
                    let whole = Prepared::new(runs.text.clone(), runs.label.clone(), Vec::new(), Vec::new());
                    let _before = self.names.put_statement(Bytes::from(name), Some(Arc::new(whole)));
                }
                let running = self.begin(runs, at);
                if self.skipping {
                    let not_run =
                        Outcome::Failed { reason: "not run: the server skips to the next Sync".to_owned() };
                    self.end(running, Some(not_run), at);
                } else {
                    self.waiting.push_back(match message {
                        M::Query { .. } => Expected::Query(Box::new(running)),
                        M::Execute { .. } => Expected::Execute(Box::new(running)),
                        _ => Expected::Call(Box::new(running)),
                    });
                }
            }
            M::Sync => {
                self.skipping = false;
                self.waiting.push_back(Expected::Sync);
            }
            M::CopyDone | M::CopyFail { .. } => self.waiting.push_back(Expected::CopyMark),
            _ if self.skipping => {}
            M::Parse { name, sql, types } => {
                let prepared = Arc::new(self.prepare(sql, types.clone()));
                let before = self.names.put_statement(name.clone(), Some(prepared.clone()));
                self.waiting.push_back(Expected::Parse { name: name.clone(), now: prepared, before });
            }
            M::Bind(bind) => {
                let statement = match self.names.statement(&bind.statement) {
                    Some(statement) => Arc::clone(statement),
                    None => {
                        let text = format!(
                            "-- a prepared statement that is not known: {}",
                            lossless(&bind.statement)
                        );
                        Arc::new(Prepared::new(
                            text.into(),
                            Prepared::default().label,
                            Vec::new(),
                            Vec::new(),
                        ))
                    }
                };
                let shown = self.config.parameters && !bind.parameters.is_empty();
                let values = shown.then(|| parameters::to_json(bind, &statement.types(), &statement.secret));
                let portal = Arc::new(Portal { statement, parameters: values.map(Arc::from) });
                let before = self.names.put_portal(bind.portal.clone(), Some(portal.clone()));
                self.waiting.push_back(Expected::Bind { name: bind.portal.clone(), now: portal, before });
            }
            M::Describe(Target::Statement(name)) => {
                self.waiting.push_back(Expected::Describe { statement: self.names.statement(name).cloned() });
            }
            M::Close(Target::Statement(name)) => {
                let before = self.names.put_statement(name.clone(), None);
                self.waiting.push_back(Expected::CloseStatement { name: name.clone(), before });
            }
            M::Close(Target::Portal(name)) => {
                let _before = self.names.put_portal(name.clone(), None);
            }
            M::Describe(Target::Portal(_)) | M::Terminate | M::Password { .. } => {}
        }
        self.names.check()
    }

    /// A statement that is not let through: recorded as refused, with the reason. Its bytes do not go on; what goes in their
    /// place fails.
    pub fn refused(&mut self, message: &FromClientMessage, runs: Runs, reason: &str, at: u64) {
        let running = self.begin(runs, at);
        self.end(running, Some(Outcome::Refused { reason: reason.to_owned() }), at);
        // In the middle of a batch that failed the server skips it like any other, up to the Sync.
        if !matches!(message, FromClientMessage::Execute { .. }) && !self.skipping {
            self.waiting.push_back(Expected::Refused);
        }
    }

    /// The connection is over: what still waits has an unknown outcome.
    pub fn finish(&mut self, reason: &str, at: u64) {
        for expected in std::mem::take(&mut self.waiting) {
            if let Some(running) = expected.into_running() {
                self.end(running, Some(Outcome::Failed { reason: reason.to_owned() }), at);
            }
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

    fn prepare(&mut self, sql: &[u8], types: Vec<u32>) -> Prepared {
        let sql = lossless(sql);
        let backslashes = self.classifier.backslashes();
        let mut label = self.classifier.label(&sql);
        let secret = secret_parameters(&sql, backslashes);
        if label.risks.contains(&Risk::RunsPrepared) {
            label = self.of_execute_by_sql(&sql, label);
        }
        Prepared::new(mask_secrets(&sql, backslashes).into(), label, secret, types)
    }

    /// `EXECUTE name` is what was prepared under the name when it runs, not when it was parsed.
    fn of_execute(&self, statement: &Prepared) -> Arc<Label> {
        if statement.label.risks.contains(&Risk::RunsPrepared) {
            return self.of_execute_by_sql(&statement.text, Arc::clone(&statement.label));
        }
        Arc::clone(&statement.label)
    }

    fn of_execute_by_sql(&self, sql: &str, label: Arc<Label>) -> Arc<Label> {
        let name = tokens(sql, self.classifier.backslashes()).nth(1).map(|token| names::folded(&token));
        let known = name.and_then(|name| self.names.statement(&Bytes::from(name)));
        match known {
            Some(prepared) if label.statements == 1 => Arc::new(Label {
                class: prepared.label.class,
                changes: prepared.label.changes.clone(),
                ..Label::clone(&label)
            }),
            _ => label,
        }
    }

    fn begin(&mut self, runs: Runs, at: u64) -> Running {
        self.number += 1;
        let (text, rest) = halves(&runs.text);
        let cut = |text: &str| match halves(text) {
            (all, "") => all.to_owned(),
            (_, _) => {
                format!(r#"[{{"bytes":{},"sha256":"{}"}}]"#, text.len(), hex::encode(Sha256::digest(text)))
            }
        };
        let text = match rest {
            "" => text.to_owned(),
            _ => {
                let digest = hex::encode(Sha256::digest(runs.text.as_bytes()));
                format!("{text}\u{2026} ({} bytes, sha256 {digest}; the rest follows)", runs.text.len())
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
        let Some(running) = self.waiting.iter_mut().find_map(Expected::running_mut) else { return };
        let path = copying::path(&running.runs.text, self.classifier.backslashes());
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

fn unknown(text: &str) -> Runs {
    Runs { label: Prepared::default().label, text: text.into(), parameters: None }
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

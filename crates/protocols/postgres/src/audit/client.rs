//! What the client sends: what it would run, and what of it the server owes an answer.

use std::sync::Arc;

use bytes::Bytes;
use halligan_recording::Outcome;
use halligan_recording::text::lossless;

use super::names::{self, Portal, Prepared};
use super::queue::{Expected, Owed, Running};
use super::texts::{ByName, folded};
use super::{Audit, AuditError, Runs};
use crate::classify::{Backslashes, Label, Risk};
use crate::codec::{Bind, FromClientMessage, Target};
use crate::lexer::tokens;
use crate::parameters;

/// What an answer that is owed costs beside its text, in bytes.
const OWED_BYTES: usize = 256;

impl Audit {
    /// Nobody can say yet what this message means: the server's answers to earlier ones decide that.
    pub fn is_unsure(&self, message: &FromClientMessage, runs: Option<&Runs>) -> bool {
        use FromClientMessage as M;
        let named = |name: &Bytes| !name.is_empty() && self.names.is_statement_open(name, self.batch);
        let open = match message {
            M::Parse { name, .. } | M::Close(Target::Statement(name)) => named(name),
            M::Bind(bind) => {
                self.names.is_statement_open(&bind.statement, self.batch)
                    || (!bind.portal.is_empty() && self.names.is_portal_open(&bind.portal, self.batch))
            }
            M::Describe(Target::Statement(name)) => self.names.is_statement_open(name, self.batch),
            M::Execute { portal: name, .. } | M::Describe(Target::Portal(name)) => {
                self.names.is_portal_open(name, self.batch)
            }
            M::Close(Target::Portal(name)) => !name.is_empty() && self.names.is_portal_open(name, self.batch),
            M::Query { .. } | M::FunctionCall { .. } => false,
            // Read by a COPY like its data.
            M::Sync | M::CopyDone | M::CopyFail { .. } | M::Terminate | M::Password { .. } => return false,
        };
        // `EXECUTE name` may name what is on its way.
        let by_name = || runs.is_some_and(|runs| runs.label.risks.contains(&Risk::RunsPrepared));
        // A server that copies in reads what comes next as a part of that.
        open || ((by_name() || self.may_copy_in()) && !self.is_settled())
    }

    /// What this message would run, if it runs anything: for the guard rails, before [`Self::client`]. To bind a statement is
    /// to plan it, which can run code.
    pub fn runs(&mut self, message: &FromClientMessage) -> Option<Runs> {
        let unknown = |text: String| Arc::new(Prepared::unknown(text));
        match message {
            FromClientMessage::Query { sql } => {
                let statement = Arc::new(self.prepare(sql, Vec::new()));
                let label = self.of_execute(&statement);
                Some(Runs { statement, label, parameters: None, judged: false })
            }
            FromClientMessage::Bind(bind) => {
                let statement = self.names.statement(&bind.statement).cloned();
                let statement = statement.unwrap_or_else(|| {
                    let name = lossless(&bind.statement);
                    unknown(format!("-- a prepared statement that is not known: {name}"))
                });
                let shown = self.config.parameters && !bind.parameters.is_empty();
                let values = shown.then(|| parameters::to_json(bind, &statement.types(), &statement.secret));
                let label = self.of_execute(&statement);
                Some(Runs { statement, label, parameters: values.map(Arc::from), judged: false })
            }
            FromClientMessage::Execute { portal, .. } => {
                let Some(known) = self.names.portal(portal).cloned() else {
                    let statement = unknown(format!("-- a portal that is not known: {}", lossless(portal)));
                    let label = Arc::clone(&statement.label);
                    return Some(Runs { statement, label, parameters: None, judged: false });
                };
                let label = self.of_execute(&known.statement);
                Some(Runs {
                    statement: Arc::clone(&known.statement),
                    judged: known.class == label.class,
                    label,
                    parameters: known.parameters.clone(),
                })
            }
            FromClientMessage::FunctionCall { function } => {
                let statement = unknown(format!("-- function call by number: {function}"));
                let label = Arc::clone(&statement.label);
                Some(Runs { statement, label, parameters: None, judged: false })
            }
            _ => None,
        }
    }

    /// The values of a Bind as a second person must see them: all of them, and whole. None if they cannot be shown so.
    pub fn values_to_show(&self, bind: &Bind, runs: &Runs) -> Option<String> {
        if !runs.statement.secret.is_empty() {
            return None;
        }
        let shown = parameters::whole(bind, &runs.statement.types())?;
        (!self.classifier.is_ambiguous(&shown)).then_some(shown)
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
        check_names(message)?;
        match message {
            M::Query { .. } | M::FunctionCall { .. } => {
                let Some(runs) = runs.or_else(|| self.runs(message)) else { return Ok(()) };
                self.reads_otherwise(&runs.statement, at);
                let running = self.begin(runs, at);
                if self.skipping {
                    self.not_run(running, at);
                } else {
                    let cost = running.runs.text().len();
                    let what = match message {
                        M::Query { .. } => Expected::Query(Box::new(running)),
                        _ => Expected::Call(Box::new(running)),
                    };
                    self.owe(what, cost);
                    self.batch += 1;
                }
            }
            M::Execute { portal, .. } => {
                let Some(runs) = runs.or_else(|| self.runs(message)) else { return Ok(()) };
                let begun = self.names.portal(portal).and_then(|portal| portal.run().take());
                let asked = self.names.portal(portal).map_or_else(Vec::new, |portal| portal.asked.clone());
                let mut running = match begun {
                    Some(begun) if begun.runs.class() == runs.class() => begun,
                    // `EXECUTE name`, of another statement than when it was bound.
                    Some(begun) => {
                        self.bound_only(begun, at);
                        self.begin(runs, at)
                    }
                    None => self.begin(runs, at),
                };
                running.asked = Some(asked);
                self.reads_otherwise(&Arc::clone(&running.runs.statement), at);
                if self.skipping {
                    self.not_run(running, at);
                } else {
                    self.owe(Expected::Execute(Box::new(running)), 0);
                }
            }
            M::Sync => {
                self.skipping = false;
                if !self.adrift {
                    self.owe(Expected::Sync, 0);
                    self.batch += 1;
                }
            }
            M::CopyDone | M::CopyFail { .. } => {
                if self.may_copy_in() {
                    self.owe(Expected::CopyEnd, 0);
                }
            }
            _ if self.skipping => {}
            M::Parse { name, sql, types } => {
                let prepared = Arc::new(self.prepare(sql, types.clone()));
                self.reads_otherwise(&prepared, at);
                let before = self.names.put_statement(name, Some(prepared.clone()));
                self.names.ask_statement(name, self.batch);
                let cost = prepared.text.len();
                self.owe(Expected::Parse { name: kept(name), now: prepared, before }, cost);
            }
            M::Bind(bind) => {
                let Some(runs) = runs.or_else(|| self.runs(message)) else { return Ok(()) };
                let (statement, class) = (Arc::clone(&runs.statement), runs.class());
                let parameters = runs.parameters.clone();
                let cost = parameters.as_ref().map_or(0, |values| values.len());
                let running = self.begin(runs, at);
                let asked = bind.result_formats.clone();
                let portal = Portal::new(statement, parameters, class, asked, running, &self.names.held);
                let portal = Arc::new(portal);
                let before = self.names.put_portal(&bind.portal, Some(portal.clone()));
                self.names.ask_portal(&bind.portal, self.batch);
                self.owe(Expected::Bind { name: kept(&bind.portal), now: portal, before }, cost);
            }
            M::Describe(Target::Statement(name)) => {
                self.owe(Expected::Describe { statement: self.names.statement(name).cloned() }, 0);
            }
            M::Describe(Target::Portal(name)) => {
                let statement = self.names.portal(name).map(|portal| Arc::clone(&portal.statement));
                self.owe(Expected::DescribeRows { statement }, 0);
            }
            M::Close(Target::Statement(name)) => {
                let before = self.names.put_statement(name, None);
                self.names.ask_statement(name, self.batch);
                self.owe(Expected::CloseStatement { name: kept(name), before }, 0);
            }
            M::Close(Target::Portal(name)) => {
                let before = self.names.put_portal(name, None);
                self.names.ask_portal(name, self.batch);
                self.owe(Expected::ClosePortal { name: kept(name), before }, 0);
            }
            M::Terminate | M::Password { .. } => {}
        }
        self.names.check()
    }

    /// A statement that is not let through: recorded as refused, with the reason. Its bytes do not go on; what goes in their
    /// place fails.
    pub fn refused(&mut self, message: &FromClientMessage, runs: Runs, reason: &str, at: u64) {
        let running = self.begin(runs, at);
        self.end(running, Some(Outcome::Refused { reason: reason.to_owned() }), at);
        if self.skipping {
            return;
        }
        match message {
            // What goes in its place fails, and the server skips what is behind it.
            FromClientMessage::Bind(_) | FromClientMessage::Execute { .. } => self.skipping = true,
            _ => {
                self.owe(Expected::Refused, 0);
                self.batch += 1;
            }
        }
    }

    fn owe(&mut self, what: Expected, bytes: usize) {
        let pin = self.in_flight.pin(OWED_BYTES + bytes);
        let copies = what.running().is_some_and(Running::may_copy_in).then(|| self.copies.pin(1));
        self.waiting.push_back(Owed { what, batch: self.batch, _pin: pin, _copies: copies });
    }

    fn not_run(&mut self, running: Running, at: u64) {
        let reason = "not run: the server skips to the next Sync".to_owned();
        self.end(running, Some(Outcome::Failed { reason }), at);
    }

    /// A portal is gone.
    pub(super) fn close(&mut self, portal: &Portal, at: u64) {
        if let Some(running) = portal.run().take() {
            self.bound_only(running, at);
        }
    }

    /// It was planned and nothing more.
    pub(super) fn bound_only(&mut self, mut running: Running, at: u64) {
        running.tag(b"(bound, not executed)");
        self.end(running, None, at);
    }

    fn prepare(&mut self, sql: &[u8], types: Vec<u32>) -> Prepared {
        Prepared::new(self.texts.read(sql, &mut self.classifier), types, &self.names.held)
    }

    /// A text is on its way that may change how texts are read, or what stands under names.
    fn reads_otherwise(&mut self, statement: &Prepared, at: u64) {
        if statement.moves_cursors {
            for portal in self.names.take_cursors() {
                self.close(&portal, at);
            }
        }
        if statement.touches_reading {
            self.classifier.set_backslashes(Backslashes::Unsure);
        }
        match &statement.by_name {
            ByName::Nothing => {}
            ByName::Prepares(name) => {
                let name = Bytes::copy_from_slice(name.as_bytes());
                self.names.ask_statement(&name, self.batch);
            }
            ByName::Anything => self.names.forget_statements(),
        }
    }

    /// `EXECUTE name` is what was prepared under the name when it runs, not when it was parsed.
    fn of_execute(&self, statement: &Prepared) -> Arc<Label> {
        let label = &statement.label;
        if !label.risks.contains(&Risk::RunsPrepared) {
            return Arc::clone(label);
        }
        let name = tokens(&statement.text, self.classifier.backslashes()).nth(1);
        let known =
            name.and_then(|name| folded(&name)).and_then(|name| self.names.statement(&Bytes::from(name)));
        match known {
            Some(prepared) if label.statements == 1 => Arc::new(Label {
                class: prepared.label.class,
                changes: prepared.label.changes.clone(),
                ..Label::clone(label)
            }),
            _ => Arc::clone(label),
        }
    }
}

/// A copy: it must not keep a whole read buffer alive.
fn kept(name: &Bytes) -> Bytes {
    Bytes::copy_from_slice(name)
}

fn check_names(message: &FromClientMessage) -> Result<(), AuditError> {
    use FromClientMessage as M;
    match message {
        M::Parse { name, .. }
        | M::Describe(Target::Statement(name) | Target::Portal(name))
        | M::Close(Target::Statement(name) | Target::Portal(name))
        | M::Execute { portal: name, .. } => names::check_name(name),
        M::Bind(bind) => names::check_name(&bind.portal).and(names::check_name(&bind.statement)),
        _ => Ok(()),
    }
}

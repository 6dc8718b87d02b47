//! What the server's answers mean for what waits.

use std::sync::Arc;

use bytes::Bytes;
use halligan_recording::{Direction, Outcome, RecordKind};

use super::Audit;
use super::queue::{Expected, Owed};
use super::rows::Layout;
use super::texts::ByName;
use crate::codec::{Column, FromServerMessage, ServerMessage, TransactionStatus, columns};

impl Audit {
    /// Takes a message of the server's that now goes on.
    pub fn server(&mut self, message: &FromServerMessage, at: u64) {
        use FromServerMessage as M;
        match message {
            M::ParseComplete => self.done_through(|owed| matches!(owed, Expected::Parse { .. }), at),
            M::BindComplete => self.done_through(|owed| matches!(owed, Expected::Bind { .. }), at),
            M::CloseComplete => self.done_through(
                |owed| matches!(owed, Expected::CloseStatement { .. } | Expected::ClosePortal { .. }),
                at,
            ),
            M::ParameterDescription { types } => self.described(types),
            M::RowDescription { fields } => {
                self.columns(fields);
                self.done_through(|owed| matches!(owed, Expected::DescribeRows { .. }), at);
            }
            M::NoData => self.done_through(|owed| matches!(owed, Expected::DescribeRows { .. }), at),
            M::CommandComplete { tag } => {
                if tag.as_ref() == b"ROLLBACK" {
                    self.changed.rolled_back();
                }
                self.complete(tag, at);
            }
            M::EmptyQuery => self.complete(b"", at),
            M::PortalSuspended => self.complete(b"(suspended)", at),
            M::CopyIn(_) => {
                self.begin_copy(Direction::Upload);
                self.take_early();
            }
            M::CopyOut(_) | M::CopyBoth => self.begin_copy(Direction::Download),
            M::Error(error) => self.failed(error, at),
            M::Notice(notice) => self.said(notice),
            M::ReadyForQuery(status) => self.ready(*status, at),
            M::ParameterStatus { name, value } => match name.as_ref() {
                b"standard_conforming_strings" => {
                    self.escapes = value.as_ref() == b"off";
                    if self.escapes {
                        self.classifier.set_backslashes(true);
                    }
                }
                b"client_encoding" => self.classifier.set_encoding(&String::from_utf8_lossy(value)),
                _ => {}
            },
            M::Authentication(_)
            | M::BackendKeyData { .. }
            | M::NegotiateProtocolVersion { .. }
            | M::CopyDone
            | M::FunctionCallResponse => {}
        }
    }

    /// Takes everything up to the first of this kind off the queue, not past a Sync or a statement.
    fn done_through(&mut self, is: impl Fn(&Expected) -> bool, at: u64) {
        let stops =
            |owed: &Expected| owed.running().is_some() || matches!(owed, Expected::Sync | Expected::Refused);
        let found = self.waiting.iter().position(|owed| is(&owed.what) || stops(&owed.what));
        if let Some(place) = found.filter(|place| self.waiting.get(*place).is_some_and(|owed| is(&owed.what)))
        {
            for owed in self.waiting.drain(..=place).collect::<Vec<_>>() {
                self.done(owed, at);
            }
        }
    }

    /// The server has done it.
    fn done(&mut self, owed: Owed, at: u64) {
        self.answered(&owed);
        if let Expected::Bind { before: Some(portal), .. }
        | Expected::ClosePortal { before: Some(portal), .. } = owed.what
        {
            self.close(&portal, at);
        }
    }

    /// What stands under its name is known from now on.
    fn answered(&mut self, owed: &Owed) {
        match &owed.what {
            Expected::Parse { name, .. } | Expected::CloseStatement { name, .. } => {
                self.names.statement_answered(name, owed.batch);
            }
            Expected::Bind { name, .. } | Expected::ClosePortal { name, .. } => {
                self.names.portal_answered(name, owed.batch);
            }
            _ => {}
        }
    }

    /// A statement's description has a second part.
    fn described(&mut self, types: &[u32]) {
        let front = self.waiting.front_mut().map(|owed| &mut owed.what);
        if let Some(what @ Expected::Describe { .. }) = front
            && let Expected::Describe { statement } = what
        {
            let statement = statement.take();
            if let Some(statement) = &statement {
                statement.set_types(types);
            }
            *what = Expected::DescribeRows { statement };
        }
    }

    /// The columns of a result are described: of a statement that was asked for, or of what a Query runs.
    fn columns(&mut self, fields: &Bytes) {
        if fields.is_empty() {
            return;
        }
        // A copy: names must not keep a whole read buffer alive. What is odd here is the client's to refuse; its values are
        // kept without names.
        let fields = Bytes::copy_from_slice(fields);
        let columns: Arc<[Column]> = columns(&fields).unwrap_or_default().into();
        let described = |owed: &&Owed| {
            matches!(owed.what, Expected::DescribeRows { .. }) || owed.what.running().is_some()
        };
        match self.waiting.iter().find(described).map(|owed| &owed.what) {
            Some(Expected::DescribeRows { statement: Some(statement) }) => {
                statement.set_columns(columns, fields.len(), &self.names.held);
            }
            Some(Expected::Query(running)) => {
                let layout = Layout { number: running.number, columns, asked: None };
                self.keeper.lay_out(layout, &mut self.records);
            }
            _ => {}
        }
    }

    fn complete(&mut self, tag: &[u8], at: u64) {
        let Some(place) = self.waiting.iter().position(|owed| owed.what.running().is_some()) else {
            return;
        };
        self.copied_in();
        let running = self.waiting.get_mut(place).and_then(|owed| owed.what.running_mut());
        let Some(running) = running else { return };
        running.tag(tag);
        if tag == b"PREPARE"
            && let ByName::Prepares(name) = &running.runs.statement.by_name
        {
            let (name, statement) = (Bytes::copy_from_slice(name.as_bytes()), running.runs.statement.clone());
            let _before = self.names.put_statement(&name, Some(statement));
        }
        if matches!(self.waiting.get(place).map(|owed| &owed.what), Some(Expected::Execute(_))) {
            let ended: Vec<Owed> = self.waiting.drain(..=place).collect();
            for owed in ended {
                match owed.what {
                    Expected::Execute(running) => self.end(*running, None, at),
                    _ => self.done(owed, at),
                }
            }
        } else {
            // One COPY of a Query, which may have more statements.
            let running = self.waiting.get_mut(place).and_then(|owed| owed.what.running_mut());
            let copy = running.and_then(|running| running.copy.take());
            self.end_copy(copy, &Outcome::Done);
        }
    }

    /// A server that copies in ignores each Sync until the data's end: those are owed no answer. Only the statement that
    /// the server is at copies.
    fn copied_in(&mut self) {
        let Some(begin) = self.waiting.iter().position(|owed| owed.what.running().is_some()) else {
            return;
        };
        let running = self.waiting.get(begin).and_then(|owed| owed.what.running());
        let copies = running.and_then(|running| running.copy.as_ref());
        if copies.is_none_or(|copy| copy.direction != Direction::Upload) {
            return;
        }
        let behind = |(place, owed): (usize, &Owed)| {
            (place > begin && matches!(owed.what, Expected::CopyEnd)).then_some(place)
        };
        let end = self.waiting.iter().enumerate().find_map(behind);
        let end = end.unwrap_or(self.waiting.len());
        let mut place = 0;
        self.waiting.retain(|owed| {
            let inside = place > begin && place <= end;
            place += 1;
            !(inside && matches!(owed.what, Expected::Sync | Expected::CopyEnd))
        });
    }

    fn take_early(&mut self) {
        let fresh = super::copying::Copying::new(Direction::Upload, String::new());
        let early = std::mem::replace(&mut self.early, fresh);
        let running = self.waiting.iter_mut().find_map(|owed| owed.what.running_mut());
        if let Some(copy) = running.and_then(|running| running.copy.as_mut()) {
            copy.bytes = early.bytes;
            copy.sha256 = early.sha256;
        }
    }

    fn failed(&mut self, error: &ServerMessage, at: u64) {
        let reason = in_words(error);
        if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
            if self.waiting.iter().all(|owed| owed.what.number().is_none()) {
                self.said(error);
            }
            self.finish(&reason, at);
            return;
        }
        if self.drifts() {
            self.adrift(&reason, at);
            return;
        }
        let first = self.waiting.iter().find(|owed| !matches!(owed.what, Expected::CopyEnd));
        match first.map(|owed| &owed.what) {
            // A simple query ends at its ReadyForQuery.
            Some(Expected::Query(_) | Expected::Call(_)) => {
                let running = self.waiting.iter_mut().find_map(|owed| owed.what.running_mut());
                running.into_iter().for_each(|running| running.error = Some(reason.clone()));
            }
            // On record already.
            Some(Expected::Refused) => {}
            _ => self.batch_failed(error, &reason, at),
        }
    }

    /// Whether what fails copied in, and nobody knows which Syncs it has swallowed.
    fn drifts(&self) -> bool {
        let Some(Owed { what, .. }) = self.waiting.iter().find(|owed| owed.what.running().is_some()) else {
            return false;
        };
        let copies = what.running().and_then(|running| running.copy.as_ref());
        copies.is_some_and(|copy| copy.direction == Direction::Upload)
            && self.waiting.iter().any(|owed| matches!(owed.what, Expected::Sync))
    }

    /// Behind such a COPY there are Syncs and nothing else: see `is_unsure`.
    fn adrift(&mut self, reason: &str, at: u64) {
        self.adrift = true;
        for owed in std::mem::take(&mut self.waiting) {
            self.answered(&owed);
            if let Some(running) = owed.what.into_running() {
                self.end(running, Some(Outcome::Failed { reason: reason.to_owned() }), at);
            }
        }
    }

    /// The server skips to the next Sync, and takes back nothing but what it had not done.
    fn batch_failed(&mut self, error: &ServerMessage, reason: &str, at: u64) {
        let sync = self.waiting.iter().position(|owed| matches!(owed.what, Expected::Sync));
        self.skipping = sync.is_none();
        let end = sync.unwrap_or(self.waiting.len());
        let batch: Vec<Owed> = self.waiting.drain(..end).collect();
        let (mut said, mut undone) = (false, Vec::new());
        for owed in batch {
            let bound = match &owed.what {
                Expected::Bind { now, .. } => now.run().take(),
                _ => None,
            };
            self.answered(&owed);
            let running = match owed.what {
                Expected::Execute(running) | Expected::Query(running) | Expected::Call(running) => {
                    Some(*running)
                }
                other => {
                    undone.push(other);
                    bound
                }
            };
            if let Some(running) = running {
                let reason = match std::mem::replace(&mut said, true) {
                    false => reason.to_owned(),
                    true => "not run: what came before it failed".to_owned(),
                };
                self.end(running, Some(Outcome::Failed { reason }), at);
            }
        }
        for expected in undone.into_iter().rev() {
            self.undo(expected);
        }
        if !said {
            self.said(error);
        }
    }

    /// Only where nothing newer stands under the name: a later batch may be on its way already.
    fn undo(&mut self, expected: Expected) {
        match expected {
            Expected::Parse { name, now, before }
                if self.names.statement(&name).is_some_and(|held| Arc::ptr_eq(held, &now)) =>
            {
                // The unnamed one is gone whatever became of the new.
                let before = before.filter(|_| !name.is_empty());
                let _undone = self.names.put_statement(&name, before);
            }
            Expected::Bind { name, now, before }
                if self.names.portal(&name).is_some_and(|held| std::sync::Arc::ptr_eq(held, &now)) =>
            {
                let before = before.filter(|_| !name.is_empty());
                let _undone = self.names.put_portal(&name, before);
            }
            Expected::CloseStatement { name, before: Some(before) }
                if self.names.statement(&name).is_none() =>
            {
                let _undone = self.names.put_statement(&name, Some(before));
            }
            Expected::ClosePortal { name, before: Some(before) } if self.names.portal(&name).is_none() => {
                let _undone = self.names.put_portal(&name, Some(before));
            }
            _ => {}
        }
    }

    fn ready(&mut self, status: TransactionStatus, at: u64) {
        let answers = |owed: &Owed| {
            matches!(owed.what, Expected::Sync | Expected::Refused | Expected::Query(_) | Expected::Call(_))
        };
        let end = self.waiting.iter().position(answers).map_or(0, |place| place + 1);
        if end == 0 {
            // Whatever was thought of it: this server does not skip.
            self.skipping = false;
        }
        let through: Vec<Owed> = self.waiting.drain(..end).collect();
        let mut forget = false;
        for owed in through {
            match owed.what {
                Expected::Execute(running) | Expected::Query(running) | Expected::Call(running) => {
                    forget |= ["DISCARD ALL", "DEALLOCATE ALL"].iter().any(|tag| running.tags.contains(tag));
                    self.end(*running, None, at);
                }
                _ => self.done(owed, at),
            }
        }
        self.transaction = status;
        if status == TransactionStatus::Idle {
            self.changed.committed();
        }
        // What is on its way may have new names already.
        if self.waiting.is_empty() {
            self.names.all_answered();
            self.classifier.set_backslashes(self.escapes);
            if status == TransactionStatus::Idle {
                for portal in self.names.take_portals() {
                    self.close(&portal, at);
                }
                if forget {
                    self.names.forget_statements();
                }
            }
        }
    }

    fn said(&mut self, message: &ServerMessage) {
        let more = if message.detail.is_empty() { String::new() } else { format!(" ({})", message.detail) };
        self.records.push(RecordKind::Notice {
            channel: self.config.channel,
            severity: message.severity.clone(),
            code: message.code.clone(),
            text: crate::mask::mask_secrets(&format!("{}{more}", message.message), false).into_owned(),
        });
    }
}

fn in_words(error: &ServerMessage) -> String {
    let text = format!("{}: {}", error.code, error.message);
    crate::mask::mask_secrets(&text, false).into_owned()
}

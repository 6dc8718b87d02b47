//! What the server's answers mean for what waits.

use std::sync::Arc;

use halligan_recording::{Direction, Outcome, RecordKind};

use super::Audit;
use super::queue::Expected;
use crate::codec::{FromServerMessage, ServerMessage, TransactionStatus};

impl Audit {
    /// Takes a message of the server's that now goes on.
    pub fn server(&mut self, message: &FromServerMessage, at: u64) {
        use FromServerMessage as M;
        match message {
            M::ParseComplete => self.done_through(|expected| matches!(expected, Expected::Parse { .. })),
            M::BindComplete => self.done_through(|expected| matches!(expected, Expected::Bind { .. })),
            M::ParameterDescription { types } => {
                let describes = |expected: &Expected| match expected {
                    Expected::Describe { statement } => statement.clone(),
                    _ => None,
                };
                if let Some(statement) = self.waiting.iter().find_map(describes) {
                    statement.set_types(types);
                }
                self.done_through(|expected| matches!(expected, Expected::Describe { .. }));
            }
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
                self.swallow_syncs();
            }
            M::CopyOut(_) | M::CopyBoth => self.begin_copy(Direction::Download),
            M::Error(error) => self.failed(error, at),
            M::Notice(notice) => self.said(notice),
            M::ReadyForQuery(status) => self.ready(*status, at),
            M::ParameterStatus { name, value } if name.as_ref() == b"standard_conforming_strings" => {
                self.classifier.set_backslashes(value.as_ref() == b"off");
            }
            M::ParameterStatus { .. }
            | M::Authentication(_)
            | M::BackendKeyData { .. }
            | M::NegotiateProtocolVersion { .. }
            | M::RowDescription { .. }
            | M::CopyDone
            | M::FunctionCallResponse => {}
        }
    }

    /// Takes everything up to the first of this kind off the queue, not past a Sync or a statement.
    fn done_through(&mut self, is: impl Fn(&Expected) -> bool) {
        let stops = |expected: &Expected| {
            expected.running().is_some() || matches!(expected, Expected::Sync | Expected::Refused)
        };
        let found = self.waiting.iter().position(|expected| is(expected) || stops(expected));
        if let Some(place) = found.filter(|place| self.waiting.get(*place).is_some_and(&is)) {
            self.waiting.drain(..=place);
        }
    }

    fn complete(&mut self, tag: &[u8], at: u64) {
        let Some(place) = self.waiting.iter().position(|expected| expected.running().is_some()) else {
            return;
        };
        if let Some(running) = self.waiting.get_mut(place).and_then(Expected::running_mut) {
            running.tag(tag);
        }
        if matches!(self.waiting.get(place), Some(Expected::Execute(_))) {
            self.swallow_syncs();
            let ended = self.waiting.drain(..=place).next_back().and_then(Expected::into_running);
            if let Some(running) = ended {
                self.end(running, None, at);
            }
        } else {
            // One COPY of a Query, which may have more statements.
            self.swallow_syncs();
            let running = self.waiting.get_mut(place).and_then(Expected::running_mut);
            let copy = running.and_then(|running| running.copy.take());
            self.end_copy(copy, &Outcome::Done);
        }
    }

    /// A server that copies in ignores each Sync until the data's end: those are owed no answer.
    fn swallow_syncs(&mut self) {
        // Only the statement that the server is at copies. Nothing else is looked at: much may wait behind it.
        let Some(begin) = self.waiting.iter().position(|expected| expected.running().is_some()) else {
            return;
        };
        let copy =
            self.waiting.get(begin).and_then(Expected::running).and_then(|running| running.copy.as_ref());
        if copy.is_none_or(|copy| copy.direction != Direction::Upload) {
            return;
        }
        let Some(end) = self.waiting.iter().rposition(|expected| matches!(expected, Expected::CopyMark))
        else {
            return;
        };
        let mut place = 0;
        self.waiting.retain(|expected| {
            let inside = place > begin && place <= end;
            place += 1;
            !(inside && matches!(expected, Expected::Sync | Expected::CopyMark))
        });
    }

    fn take_early(&mut self) {
        let early = std::mem::replace(
            &mut self.early,
            super::copying::Copying::new(Direction::Upload, String::new()),
        );
        if let Some(copy) =
            self.waiting.iter_mut().find_map(Expected::running_mut).and_then(|r| r.copy.as_mut())
        {
            copy.bytes = early.bytes;
            copy.sha256 = early.sha256;
        }
    }

    fn failed(&mut self, error: &ServerMessage, at: u64) {
        let reason = in_words(error);
        if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
            if self.waiting.iter().all(|expected| expected.running().is_none()) {
                self.said(error);
            }
            self.finish(&reason, at);
            return;
        }
        self.swallow_syncs();
        let first = self.waiting.iter().find(|expected| !matches!(expected, Expected::CopyMark));
        match first {
            // A simple query ends at its ReadyForQuery.
            Some(Expected::Query(_) | Expected::Call(_)) => {
                let running = self.waiting.iter_mut().find_map(Expected::running_mut);
                running.into_iter().for_each(|running| running.error = Some(reason.clone()));
            }
            // On record already.
            Some(Expected::Refused) => {}
            _ => self.batch_failed(error, &reason, at),
        }
    }

    /// The server skips to the next Sync, and takes back nothing but what it had not done.
    fn batch_failed(&mut self, error: &ServerMessage, reason: &str, at: u64) {
        let sync = self.waiting.iter().position(|expected| matches!(expected, Expected::Sync));
        self.skipping = sync.is_none();
        let end = sync.unwrap_or(self.waiting.len());
        let batch: Vec<Expected> = self.waiting.drain(..end).collect();
        let (mut said, mut undone) = (false, Vec::new());
        for expected in batch {
            match expected {
                Expected::Execute(running) | Expected::Query(running) | Expected::Call(running) => {
                    let reason = match std::mem::replace(&mut said, true) {
                        false => reason.to_owned(),
                        true => "not run: what came before it failed".to_owned(),
                    };
                    self.end(*running, Some(Outcome::Failed { reason }), at);
                }
                other => undone.push(other),
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
                let _undone = self.names.put_statement(name, before);
            }
            Expected::Bind { name, now, before }
                if self.names.portal(&name).is_some_and(|held| Arc::ptr_eq(held, &now)) =>
            {
                let _undone = self.names.put_portal(name, before);
            }
            Expected::CloseStatement { name, before: Some(before) }
                if self.names.statement(&name).is_none() =>
            {
                let _undone = self.names.put_statement(name, Some(before));
            }
            _ => {}
        }
    }

    fn ready(&mut self, status: TransactionStatus, at: u64) {
        let answers = |expected: &Expected| {
            matches!(expected, Expected::Sync | Expected::Refused | Expected::Query(_) | Expected::Call(_))
        };
        let end = self.waiting.iter().position(answers).map_or(0, |place| place + 1);
        let through: Vec<Expected> = self.waiting.drain(..end).collect();
        let mut forget = false;
        for running in through.into_iter().filter_map(Expected::into_running) {
            forget |= ["DISCARD ALL", "DEALLOCATE ALL"].iter().any(|tag| running.tags.contains(tag));
            self.end(running, None, at);
        }
        self.transaction = status;
        if status == TransactionStatus::Idle {
            self.changed.committed();
            // What is on its way may have new names already.
            if self.waiting.is_empty() {
                self.names.forget_portals();
                if forget {
                    self.names.forget_all();
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

//! What the client has sent and the server has not answered yet.

use std::sync::Arc;

use bytes::Bytes;
use halligan_recording::Outcome;

use super::Runs;
use super::budget::Pin;
use super::copying::Copying;
use super::names::{Portal, Prepared};
use crate::codec::rows_of_tag;

/// Longest joined tags of a Query with several statements, in bytes.
const MAX_TAGS_BYTES: usize = 4096;

/// One answer that is owed. Each takes from what may be in flight.
#[derive(Debug)]
pub struct Owed {
    pub what: Expected,
    /// Its batch: how many Syncs and Queries were sent before it.
    pub batch: u64,
    pub _pin: Pin,
    /// It may copy in, and counts as one that does.
    pub _copies: Option<Pin>,
}

#[derive(Debug)]
pub enum Expected {
    Parse {
        name: Bytes,
        now: Arc<Prepared>,
        before: Option<Arc<Prepared>>,
    },
    Bind {
        name: Bytes,
        now: Arc<Portal>,
        before: Option<Arc<Portal>>,
    },
    Describe {
        statement: Option<Arc<Prepared>>,
    },
    /// A portal's rows are to be described, or the rest of a statement's description is to come.
    DescribeRows {
        statement: Option<Arc<Prepared>>,
    },
    CloseStatement {
        name: Bytes,
        before: Option<Arc<Prepared>>,
    },
    ClosePortal {
        name: Bytes,
        before: Option<Arc<Portal>>,
    },
    Execute(Box<Running>),
    Query(Box<Running>),
    Call(Box<Running>),
    Sync,
    /// What stands in place of a whole Query that was refused: an error and a ReadyForQuery are owed, unless it is skipped.
    Refused,
    /// No answer is owed: here the client ended its COPY data.
    CopyEnd,
}

impl Expected {
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Execute(running) | Self::Query(running) | Self::Call(running) => Some(running),
            _ => None,
        }
    }

    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Self::Execute(running) | Self::Query(running) | Self::Call(running) => Some(running),
            _ => None,
        }
    }

    pub fn into_running(self) -> Option<Running> {
        match self {
            Self::Execute(running) | Self::Query(running) | Self::Call(running) => Some(*running),
            _ => None,
        }
    }

    /// The statement that the server is at when it is at this: to bind one is to plan it, which can run code.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Bind { now, .. } => now.run().as_ref().map(|running| running.number),
            other => other.running().map(|running| running.number),
        }
    }
}

/// A statement whose end has not come.
#[derive(Debug)]
pub struct Running {
    pub number: u64,
    pub runs: Runs,
    pub begun: u64,
    /// Rows that went by; and those that the server says it was.
    pub seen: u64,
    told: Option<u64>,
    pub tags: String,
    pub error: Option<String>,
    /// Formats of the values of its result; none where the server describes them.
    pub asked: Option<Vec<i16>>,
    pub copy: Option<Copying>,
}

impl Running {
    pub fn new(number: u64, runs: Runs, begun: u64) -> Self {
        let (tags, asked) = (String::new(), None);
        Self { number, runs, begun, seen: 0, told: None, tags, error: None, asked, copy: None }
    }

    /// One command of it is complete.
    pub fn tag(&mut self, tag: &[u8]) {
        if let Some(rows) = rows_of_tag(tag) {
            self.told = Some(self.told.unwrap_or(0).saturating_add(rows));
        }
        if self.tags.len() < MAX_TAGS_BYTES {
            if !self.tags.is_empty() {
                self.tags.push_str("; ");
            }
            self.tags.push_str(&String::from_utf8_lossy(tag));
        }
    }

    pub fn rows(&self) -> Option<u64> {
        self.told.or((self.seen > 0).then_some(self.seen))
    }

    pub fn outcome(&mut self) -> Outcome {
        match self.error.take() {
            Some(reason) => Outcome::Failed { reason },
            None => Outcome::Done,
        }
    }

    /// May take data from the client.
    pub fn may_copy_in(&self) -> bool {
        self.runs.label.changes.iter().any(|change| change.verb == "copy")
    }
}

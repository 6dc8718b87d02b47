//! What is written down of one channel, before its bytes go on: a terminal's output, what a command moves, an sftp
//! channel's files.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use halligan_core::catalog::RecordingPolicy;
use halligan_recording::{Direction, Hash, Outcome, Record, RecordKind};
use halligan_session::{Ended, NodeEvent, Session};
use sha2::{Digest as _, Sha256};

use crate::naming::CommandTransfer;
use crate::sftp::{SftpAudit, TransferDone, Unreadable};

/// The running count of bulk data is written at least this often while it moves.
const REPORT_BYTES: u64 = 4 * 1024 * 1024;
const REPORT_MICROS: u64 = 1_000_000;

/// Nothing more may pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// What runs in a channel.
#[derive(Debug)]
pub(crate) enum What {
    Shell { terminal: bool },
    Exec { terminal: bool, transfer: Option<CommandTransfer> },
    Sftp,
}

/// Records one channel.
#[derive(Debug)]
pub(crate) struct Recorder {
    session: Session,
    channel: u32,
    input: bool,
    keep: u64,
    mode: Mutex<Mode>,
}

#[derive(Debug)]
enum Mode {
    NotStarted,
    Terminal { typed: Option<Tally> },
    Bulk { up: Tally, down: Tally, transfer: Option<CommandTransfer> },
    Sftp(Box<SftpAudit>),
    Finished,
}

/// Count and digest of one direction.
#[derive(Debug)]
struct Tally {
    direction: Direction,
    bytes: u64,
    hash: Sha256,
    reported: u64,
    reported_at: u64,
    kept: u64,
}

impl Recorder {
    pub(crate) fn new(session: Session, channel: u32) -> Self {
        let RecordingPolicy { input, keep_content_bytes: keep, .. } = session.lease().recording;
        Self { session, channel, input, keep, mode: Mutex::new(Mode::NotStarted) }
    }

    /// From here on it is known what the bytes are.
    pub(crate) fn start(&self, what: What) -> Result<(), Stop> {
        let now = self.session.since_start();
        let transfer_begins = match &what {
            What::Exec { terminal: false, transfer: Some(transfer) } => Some(RecordKind::TransferBegin {
                channel: self.channel,
                path: transfer.path.clone(),
                direction: transfer.direction,
            }),
            _ => None,
        };
        *self.lock() = match what {
            What::Shell { terminal: true } | What::Exec { terminal: true, .. } => {
                Mode::Terminal { typed: None }
            }
            // A script on standard input leaves no echo: count and digest say which one it was.
            What::Shell { terminal: false } => {
                Mode::Terminal { typed: Some(Tally::new(Direction::Upload, now)) }
            }
            What::Exec { terminal: false, transfer } => Mode::Bulk {
                up: Tally::new(Direction::Upload, now),
                down: Tally::new(Direction::Download, now),
                transfer,
            },
            What::Sftp => Mode::Sftp(Box::new(SftpAudit::new(self.channel, self.keep))),
        };
        if let Some(begins) = transfer_begins {
            self.session.record_now(begins)?;
        }
        Ok(())
    }

    /// Records what goes to the target. Returns transfers that ended with it: milestones, to be written before it goes on.
    pub(crate) fn upward(&self, bytes: &Bytes) -> Result<Vec<TransferDone>, Stop> {
        let mut records = Vec::new();
        let mut done = Vec::new();
        let now = self.session.since_start();
        match &mut *self.lock() {
            Mode::Terminal { typed } => {
                if self.input {
                    records.push(RecordKind::Input { channel: self.channel, bytes: bytes.clone() });
                }
                if let Some(typed) = typed {
                    typed.add(self.channel, bytes, if self.input { 0 } else { self.keep }, now, &mut records);
                }
            }
            Mode::Bulk { up, .. } => up.add(self.channel, bytes, self.keep, now, &mut records),
            Mode::Sftp(audit) => {
                audit.upward(bytes)?;
                records = audit.take_records();
                done = audit.take_done();
            }
            Mode::NotStarted | Mode::Finished => {}
        }
        self.write(records, now)?;
        Ok(done)
    }

    /// Records what goes to the person. As [`Recorder::upward`].
    pub(crate) fn downward(&self, pieces: &[Bytes]) -> Result<Vec<TransferDone>, Stop> {
        let mut records = Vec::new();
        let mut done = Vec::new();
        let now = self.session.since_start();
        match &mut *self.lock() {
            Mode::Terminal { .. } => {
                let output =
                    |bytes: &Bytes| RecordKind::Output { channel: self.channel, bytes: bytes.clone() };
                records.extend(pieces.iter().map(output));
            }
            Mode::Bulk { down, .. } => {
                for bytes in pieces {
                    down.add(self.channel, bytes, self.keep, now, &mut records);
                }
            }
            Mode::Sftp(audit) => {
                for bytes in pieces {
                    audit.downward(bytes)?;
                }
                records = audit.take_records();
                done = audit.take_done();
            }
            Mode::NotStarted | Mode::Finished => {}
        }
        self.write(records, now)?;
        Ok(done)
    }

    /// Records standard error, which has a place of its own in every kind of channel.
    pub(crate) fn stderr(&self, bytes: &Bytes) -> Result<(), Stop> {
        let record = RecordKind::Stderr { channel: self.channel, bytes: bytes.clone() };
        self.write(vec![record], self.session.since_start())
    }

    /// The channel has ended: final counts, and transfers that nobody closed.
    pub(crate) fn finish(
        &self,
        exit_status: Option<u32>,
        signal: Option<String>,
    ) -> Result<Vec<TransferDone>, Stop> {
        let mut records = Vec::new();
        let mut done = Vec::new();
        let now = self.session.since_start();
        match std::mem::replace(&mut *self.lock(), Mode::Finished) {
            Mode::Terminal { typed } => records.extend(typed.map(|typed| typed.report(self.channel))),
            Mode::Bulk { up, down, transfer } => {
                records.extend([&up, &down].map(|tally| tally.report(self.channel)));
                if let Some(CommandTransfer { tool, direction, path }) = transfer {
                    let moved = if direction == Direction::Upload { &up } else { &down };
                    let (bytes, sha256) = (moved.bytes, moved.digest());
                    let outcome = match (exit_status, &signal) {
                        (Some(0), _) => Outcome::Done,
                        (Some(status), _) => {
                            Outcome::Failed { reason: format!("{tool} ended with {status}") }
                        }
                        (None, _) => Outcome::Failed { reason: format!("{tool} did not end by itself") },
                    };
                    records.push(RecordKind::TransferEnd {
                        channel: self.channel,
                        path: path.clone(),
                        direction,
                        bytes,
                        sha256,
                        outcome,
                    });
                    done.push(TransferDone { path: format!("{tool}:{path}"), direction, bytes, sha256 });
                }
            }
            Mode::Sftp(mut audit) => {
                audit.finish();
                records = audit.take_records();
                done = audit.take_done();
            }
            Mode::NotStarted | Mode::Finished => {}
        }
        records.push(RecordKind::ChannelEnd { channel: self.channel, exit_status, signal });
        self.write(records, now)?;
        Ok(done)
    }

    /// The milestone of a transfer that ended.
    pub(crate) async fn transfer_ended(&self, done: TransferDone) -> Result<(), Stop> {
        self.session
            .milestone(NodeEvent::TransferEnded {
                session: self.session.id(),
                channel: self.channel,
                path: done.path,
                direction: done.direction.word().to_owned(),
                bytes: done.bytes,
                sha256: hex::encode(done.sha256.0),
            })
            .await?;
        Ok(())
    }

    fn write(&self, kinds: Vec<RecordKind>, now: u64) -> Result<(), Stop> {
        if kinds.is_empty() {
            return Ok(());
        }
        let records: Vec<Record> = kinds.into_iter().map(|kind| Record::new(now, kind)).collect();
        self.session.record(&records)?;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn new(direction: Direction, now: u64) -> Self {
        Self { direction, bytes: 0, hash: Sha256::new(), reported: 0, reported_at: now, kept: 0 }
    }

    fn add(&mut self, channel: u32, bytes: &Bytes, keep: u64, now: u64, records: &mut Vec<RecordKind>) {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let room = keep.saturating_sub(self.kept).min(bytes.len() as u64);
        if room > 0 {
            self.kept += room;
            let kept = bytes.slice(..room as usize);
            records.push(RecordKind::Content { channel, direction: self.direction, bytes: kept });
        }
        let much = self.bytes.saturating_sub(self.reported) >= REPORT_BYTES;
        if much || now.saturating_sub(self.reported_at) >= REPORT_MICROS {
            self.reported = self.bytes;
            self.reported_at = now;
            records.push(self.report(channel));
        }
    }

    fn digest(&self) -> Hash {
        Hash(self.hash.clone().finalize().into())
    }

    fn report(&self, channel: u32) -> RecordKind {
        RecordKind::Bulk { channel, direction: self.direction, bytes: self.bytes, sha256: self.digest() }
    }
}

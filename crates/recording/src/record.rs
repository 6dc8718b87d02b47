//! What is recorded: one [`Record`] for each thing that happened, and its binary encoding.
//!
//! Encoding, version 1: a 24-bit big-endian length of the body; body = tag byte, time, fields in the order
//! of declaration. Numbers are LEB128, texts and bytes carry their length. A tag that this program does not
//! know becomes [`RecordKind::Unknown`], so a newer writer's extra kinds do not hide the rest.

use bytes::Bytes;

pub use crate::codec::DecodeError;
use crate::codec::{Fields, put_bytes, put_number, put_option};
use crate::hash::Hash;

/// Version of the encoding, the first byte inside every frame.
pub const ENCODING_VERSION: u8 = 1;
/// Longest encoded record, in bytes. Callers split streams and cut texts (keeping a digest) below it.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024 - 64;

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Microseconds since the recording's start.
    pub at_micros: u64,
    pub kind: RecordKind,
}

/// Which way bytes went, seen from the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the person to the target.
    Upload,
    /// From the target to the person.
    Download,
}

/// How an operation came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Halligan did not let it through.
    Refused {
        reason: String,
    },
    /// The target, or the way to it, failed it.
    Failed {
        reason: String,
    },
}

/// What happened. `channel` numbers are the recorder's own, unique in one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    /// The first record: facts about the session as a JSON object.
    SessionStart {
        metadata: String,
    },
    /// What the target wrote to the person's terminal.
    Output {
        channel: u32,
        bytes: Bytes,
    },
    /// What the target wrote to standard error, where the protocol keeps it apart.
    Stderr {
        channel: u32,
        bytes: Bytes,
    },
    /// What the person typed; only where policy says that it is kept.
    Input {
        channel: u32,
        bytes: Bytes,
    },
    /// The terminal's size, in character cells.
    Resize {
        channel: u32,
        columns: u32,
        rows: u32,
    },
    /// A command that was asked for by name (exec, subsystem).
    Command {
        channel: u32,
        text: String,
    },
    /// A channel was opened: `shell`, `exec`, `sftp`, …
    ChannelOpen {
        channel: u32,
        kind: String,
    },
    /// A channel ended, with the exit status or the signal if the target told one.
    ChannelEnd {
        channel: u32,
        exit_status: Option<u32>,
        signal: Option<String>,
    },
    TransferBegin {
        channel: u32,
        path: String,
        direction: Direction,
    },
    /// `sha256` is over the transferred bytes in order of their place in the file.
    TransferEnd {
        channel: u32,
        path: String,
        direction: Direction,
        bytes: u64,
        sha256: Hash,
        outcome: Outcome,
    },
    /// A file operation (`remove`, `rename`, `mkdir`, …); `path2` is the other name where there is one.
    FileOp {
        channel: u32,
        op: String,
        path: String,
        path2: Option<String>,
        outcome: Outcome,
    },
    /// Running count and digest of data that is not terminal text.
    Bulk {
        channel: u32,
        direction: Direction,
        bytes: u64,
        sha256: Hash,
    },
    /// Bulk content, kept up to the limit that policy sets.
    Content {
        channel: u32,
        direction: Direction,
        bytes: Bytes,
    },
    /// A database statement. `parameters` is a JSON array, where policy keeps them.
    Statement {
        channel: u32,
        text: String,
        parameters: Option<String>,
        outcome: Outcome,
        rows: Option<u64>,
        duration_micros: u64,
    },
    /// Rows of statement `number`, kept up to the limit that policy sets. `columns` is a JSON array of their names, empty
    /// where nobody told them; `values` one of an array for each row.
    Result {
        channel: u32,
        number: u64,
        rows: u64,
        columns: String,
        values: String,
    },
    /// Rows of a result, in the protocol's own bytes: what was written before there was [`Self::Result`].
    Rows {
        channel: u32,
        rows: u64,
        bytes: Bytes,
    },
    /// Words of the gateway's own.
    Note {
        text: String,
    },
    /// Something is missing here, and why.
    Gap {
        reason: String,
    },
    /// The last record.
    End {
        reason: String,
    },
    /// A database statement that is about to run. Written before its bytes go on; secrets in it are masked.
    /// `class` is a label (`read`, `write`, `schema`, `privilege`, `unknown`); `parameters` is a JSON array,
    /// where policy keeps them. `number` counts the statements of a channel from 1.
    StatementBegin {
        channel: u32,
        number: u64,
        class: String,
        role: String,
        database: String,
        text: String,
        parameters: Option<String>,
    },
    /// How it came out. `tag` is the server's own word for it (`SELECT 3`); `rows` those that came back, or
    /// that it changed.
    StatementEnd {
        channel: u32,
        number: u64,
        outcome: Outcome,
        tag: String,
        rows: Option<u64>,
        duration_micros: u64,
    },
    /// What the server said beside its results: a warning, a notice, an error outside a statement.
    Notice {
        channel: u32,
        severity: String,
        code: String,
        text: String,
    },
    /// A kind that a newer program wrote.
    Unknown {
        tag: u8,
        body: Bytes,
    },
}

/// The record's encoding is longer than [`MAX_RECORD_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of {bytes} bytes is too long; at most {MAX_RECORD_BYTES} fit")]
pub struct TooLong {
    pub bytes: usize,
}

mod tag {
    pub const SESSION_START: u8 = 1;
    pub const OUTPUT: u8 = 2;
    pub const STDERR: u8 = 3;
    pub const INPUT: u8 = 4;
    pub const RESIZE: u8 = 5;
    pub const COMMAND: u8 = 6;
    pub const CHANNEL_OPEN: u8 = 7;
    pub const CHANNEL_END: u8 = 8;
    pub const TRANSFER_BEGIN: u8 = 9;
    pub const TRANSFER_END: u8 = 10;
    pub const FILE_OP: u8 = 11;
    pub const BULK: u8 = 12;
    pub const CONTENT: u8 = 13;
    pub const STATEMENT: u8 = 14;
    pub const ROWS: u8 = 15;
    pub const NOTE: u8 = 16;
    pub const GAP: u8 = 17;
    pub const END: u8 = 18;
    pub const STATEMENT_BEGIN: u8 = 19;
    pub const STATEMENT_END: u8 = 20;
    pub const NOTICE: u8 = 21;
    pub const RESULT: u8 = 22;
}

impl Record {
    pub fn new(at_micros: u64, kind: RecordKind) -> Self {
        Self { at_micros, kind }
    }

    /// Appends the encoding to `out`; on error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let start = out.len();
        out.extend_from_slice(&[0; 3]);
        self.encode_body(out);
        let bytes = out.len() - start - 3;
        if bytes > MAX_RECORD_BYTES {
            out.truncate(start);
            return Err(TooLong { bytes });
        }
        let [_, length @ ..] = (bytes as u32).to_be_bytes();
        if let Some(place) = out.get_mut(start..start + 3) {
            place.copy_from_slice(&length);
        }
        Ok(())
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        use RecordKind as K;
        let begin = |out: &mut Vec<u8>, tag: u8| {
            out.push(tag);
            put_number(out, self.at_micros);
        };
        let on = |out: &mut Vec<u8>, tag: u8, channel: u32| {
            begin(out, tag);
            put_number(out, u64::from(channel));
        };
        match &self.kind {
            K::SessionStart { metadata } => {
                begin(out, tag::SESSION_START);
                put_bytes(out, metadata.as_bytes());
            }
            K::Output { channel, bytes } => {
                on(out, tag::OUTPUT, *channel);
                put_bytes(out, bytes);
            }
            K::Stderr { channel, bytes } => {
                on(out, tag::STDERR, *channel);
                put_bytes(out, bytes);
            }
            K::Input { channel, bytes } => {
                on(out, tag::INPUT, *channel);
                put_bytes(out, bytes);
            }
            K::Resize { channel, columns, rows } => {
                on(out, tag::RESIZE, *channel);
                put_number(out, u64::from(*columns));
                put_number(out, u64::from(*rows));
            }
            K::Command { channel, text } => {
                on(out, tag::COMMAND, *channel);
                put_bytes(out, text.as_bytes());
            }
            K::ChannelOpen { channel, kind } => {
                on(out, tag::CHANNEL_OPEN, *channel);
                put_bytes(out, kind.as_bytes());
            }
            K::ChannelEnd { channel, exit_status, signal } => {
                on(out, tag::CHANNEL_END, *channel);
                put_option(out, *exit_status, |out, status| put_number(out, u64::from(status)));
                put_option(out, signal.as_deref(), |out, signal| put_bytes(out, signal.as_bytes()));
            }
            K::TransferBegin { channel, path, direction } => {
                on(out, tag::TRANSFER_BEGIN, *channel);
                put_bytes(out, path.as_bytes());
                out.push(direction.code());
            }
            K::TransferEnd { channel, path, direction, bytes, sha256, outcome } => {
                on(out, tag::TRANSFER_END, *channel);
                put_bytes(out, path.as_bytes());
                out.push(direction.code());
                put_number(out, *bytes);
                out.extend_from_slice(&sha256.0);
                outcome.encode(out);
            }
            K::FileOp { channel, op, path, path2, outcome } => {
                on(out, tag::FILE_OP, *channel);
                put_bytes(out, op.as_bytes());
                put_bytes(out, path.as_bytes());
                put_option(out, path2.as_deref(), |out, path| put_bytes(out, path.as_bytes()));
                outcome.encode(out);
            }
            K::Bulk { channel, direction, bytes, sha256 } => {
                on(out, tag::BULK, *channel);
                out.push(direction.code());
                put_number(out, *bytes);
                out.extend_from_slice(&sha256.0);
            }
            K::Content { channel, direction, bytes } => {
                on(out, tag::CONTENT, *channel);
                out.push(direction.code());
                put_bytes(out, bytes);
            }
            K::Statement { channel, text, parameters, outcome, rows, duration_micros } => {
                on(out, tag::STATEMENT, *channel);
                put_bytes(out, text.as_bytes());
                put_option(out, parameters.as_deref(), |out, json| put_bytes(out, json.as_bytes()));
                outcome.encode(out);
                put_option(out, *rows, put_number);
                put_number(out, *duration_micros);
            }
            K::Result { channel, number, rows, columns, values } => {
                on(out, tag::RESULT, *channel);
                put_number(out, *number);
                put_number(out, *rows);
                put_bytes(out, columns.as_bytes());
                put_bytes(out, values.as_bytes());
            }
            K::Rows { channel, rows, bytes } => {
                on(out, tag::ROWS, *channel);
                put_number(out, *rows);
                put_bytes(out, bytes);
            }
            K::Note { text } => {
                begin(out, tag::NOTE);
                put_bytes(out, text.as_bytes());
            }
            K::Gap { reason } => {
                begin(out, tag::GAP);
                put_bytes(out, reason.as_bytes());
            }
            K::End { reason } => {
                begin(out, tag::END);
                put_bytes(out, reason.as_bytes());
            }
            K::StatementBegin { channel, number, class, role, database, text, parameters } => {
                on(out, tag::STATEMENT_BEGIN, *channel);
                put_number(out, *number);
                for field in [class, role, database, text] {
                    put_bytes(out, field.as_bytes());
                }
                put_option(out, parameters.as_deref(), |out, json| put_bytes(out, json.as_bytes()));
            }
            K::StatementEnd { channel, number, outcome, tag, rows, duration_micros } => {
                on(out, tag::STATEMENT_END, *channel);
                put_number(out, *number);
                outcome.encode(out);
                put_bytes(out, tag.as_bytes());
                put_option(out, *rows, put_number);
                put_number(out, *duration_micros);
            }
            K::Notice { channel, severity, code, text } => {
                on(out, tag::NOTICE, *channel);
                for field in [severity, code, text] {
                    put_bytes(out, field.as_bytes());
                }
            }
            K::Unknown { tag, body } => {
                begin(out, *tag);
                out.extend_from_slice(body);
            }
        }
    }

    /// Takes one record off the front of `input`.
    pub fn decode(input: &mut Bytes) -> Result<Self, DecodeError> {
        let mut outer = Fields { rest: std::mem::take(input) };
        let length = outer.take(3)?;
        let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let mut body = Fields { rest: outer.take(length)? };
        *input = outer.rest;
        let tag = body.byte()?;
        let at_micros = body.number()?;
        let kind = RecordKind::decode(tag, &mut body)?;
        body.end()?;
        Ok(Self { at_micros, kind })
    }
}

impl RecordKind {
    fn decode(tag: u8, body: &mut Fields) -> Result<Self, DecodeError> {
        Ok(match tag {
            tag::SESSION_START => Self::SessionStart { metadata: body.text()? },
            tag::OUTPUT => Self::Output { channel: body.small()?, bytes: body.bytes()? },
            tag::STDERR => Self::Stderr { channel: body.small()?, bytes: body.bytes()? },
            tag::INPUT => Self::Input { channel: body.small()?, bytes: body.bytes()? },
            tag::RESIZE => {
                Self::Resize { channel: body.small()?, columns: body.small()?, rows: body.small()? }
            }
            tag::COMMAND => Self::Command { channel: body.small()?, text: body.text()? },
            tag::CHANNEL_OPEN => Self::ChannelOpen { channel: body.small()?, kind: body.text()? },
            tag::CHANNEL_END => Self::ChannelEnd {
                channel: body.small()?,
                exit_status: body.option(Fields::small)?,
                signal: body.option(Fields::text)?,
            },
            tag::TRANSFER_BEGIN => Self::TransferBegin {
                channel: body.small()?,
                path: body.text()?,
                direction: Direction::decode(body)?,
            },
            tag::TRANSFER_END => Self::TransferEnd {
                channel: body.small()?,
                path: body.text()?,
                direction: Direction::decode(body)?,
                bytes: body.number()?,
                sha256: body.hash()?,
                outcome: Outcome::decode(body)?,
            },
            tag::FILE_OP => Self::FileOp {
                channel: body.small()?,
                op: body.text()?,
                path: body.text()?,
                path2: body.option(Fields::text)?,
                outcome: Outcome::decode(body)?,
            },
            tag::BULK => Self::Bulk {
                channel: body.small()?,
                direction: Direction::decode(body)?,
                bytes: body.number()?,
                sha256: body.hash()?,
            },
            tag::CONTENT => Self::Content {
                channel: body.small()?,
                direction: Direction::decode(body)?,
                bytes: body.bytes()?,
            },
            tag::STATEMENT => Self::Statement {
                channel: body.small()?,
                text: body.text()?,
                parameters: body.option(Fields::text)?,
                outcome: Outcome::decode(body)?,
                rows: body.option(Fields::number)?,
                duration_micros: body.number()?,
            },
            tag::ROWS => Self::Rows { channel: body.small()?, rows: body.number()?, bytes: body.bytes()? },
            tag::NOTE => Self::Note { text: body.text()? },
            tag::GAP => Self::Gap { reason: body.text()? },
            tag::END => Self::End { reason: body.text()? },
            tag::STATEMENT_BEGIN => Self::StatementBegin {
                channel: body.small()?,
                number: body.number()?,
                class: body.text()?,
                role: body.text()?,
                database: body.text()?,
                text: body.text()?,
                parameters: body.option(Fields::text)?,
            },
            tag::STATEMENT_END => Self::StatementEnd {
                channel: body.small()?,
                number: body.number()?,
                outcome: Outcome::decode(body)?,
                tag: body.text()?,
                rows: body.option(Fields::number)?,
                duration_micros: body.number()?,
            },
            tag::NOTICE => Self::Notice {
                channel: body.small()?,
                severity: body.text()?,
                code: body.text()?,
                text: body.text()?,
            },
            tag::RESULT => Self::Result {
                channel: body.small()?,
                number: body.number()?,
                rows: body.number()?,
                columns: body.text()?,
                values: body.text()?,
            },
            tag => Self::Unknown { tag, body: std::mem::take(&mut body.rest) },
        })
    }
}

impl Direction {
    fn code(self) -> u8 {
        match self {
            Self::Upload => 0,
            Self::Download => 1,
        }
    }

    fn decode(body: &mut Fields) -> Result<Self, DecodeError> {
        match body.byte()? {
            0 => Ok(Self::Upload),
            1 => Ok(Self::Download),
            value => Err(DecodeError::Choice { what: "a direction", value }),
        }
    }

    /// `upload` or `download`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

impl Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(0),
            Self::Refused { reason } => {
                out.push(1);
                put_bytes(out, reason.as_bytes());
            }
            Self::Failed { reason } => {
                out.push(2);
                put_bytes(out, reason.as_bytes());
            }
        }
    }

    fn decode(body: &mut Fields) -> Result<Self, DecodeError> {
        match body.byte()? {
            0 => Ok(Self::Done),
            1 => Ok(Self::Refused { reason: body.text()? }),
            2 => Ok(Self::Failed { reason: body.text()? }),
            value => Err(DecodeError::Choice { what: "an outcome", value }),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;

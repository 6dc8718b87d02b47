//! What a server sends.

use bytes::Bytes;

use super::error::CodecError;
use super::frame::{Flow, MAX_AUTHENTICATION_BYTES, Rule};
use super::read::Body;

/// The direction from the server.
#[derive(Debug)]
pub enum FromServer {}

/// Longest message that the server may have read for us, in bytes; an error or notice that is longer is read as
/// far as [`SAID`] bytes.
const READ: usize = 1024 * 1024;
const SAID: usize = 64 * 1024;

/// How the server wants to know who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    Ok,
    CleartextPassword,
    Md5Password,
    Sasl {
        mechanisms: Vec<Bytes>,
    },
    SaslContinue {
        data: Bytes,
    },
    SaslFinal {
        data: Bytes,
    },
    /// A method that is never used here, by its number.
    Other(u32),
}

/// Where a transaction stands (ReadyForQuery).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    Open,
    Failed,
}

/// Error or notice, by its fields; what is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMessage {
    /// Not translated, where the server sends it (9.6 and later).
    pub severity: String,
    /// SQLSTATE, five characters.
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// A COPY's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Binary,
}

/// A message that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServerMessage {
    Authentication(Authentication),
    /// The key has four bytes in protocol 3.0, up to 256 in 3.2.
    BackendKeyData {
        process: u32,
        key: Bytes,
    },
    ParameterStatus {
        name: Bytes,
        value: Bytes,
    },
    NegotiateProtocolVersion {
        version: u32,
        unknown: Vec<Bytes>,
    },
    /// Empty if it was too long to be read.
    /// What describes the columns; empty where it is not read (see [`columns`]).
    RowDescription {
        fields: Bytes,
    },
    CommandComplete {
        tag: Bytes,
    },
    EmptyQuery,
    PortalSuspended,
    Error(ServerMessage),
    Notice(ServerMessage),
    ReadyForQuery(TransactionStatus),
    ParseComplete,
    BindComplete,
    /// Types of a statement's parameters.
    ParameterDescription {
        types: Vec<u32>,
    },
    /// The server now takes COPY data.
    CopyIn(CopyFormat),
    /// The server now sends COPY data.
    CopyOut(CopyFormat),
    /// Replication.
    CopyBoth,
    CopyDone,
    FunctionCallResponse,
    /// A Describe found that there are no rows.
    NoData,
    CloseComplete,
}

impl Flow for FromServer {
    type Message = FromServerMessage;

    fn rule(kind: u8, authenticating: bool, hold: usize) -> Option<Rule> {
        let limit = if authenticating { MAX_AUTHENTICATION_BYTES } else { READ };
        match kind {
            b'D' if !authenticating => Some(Rule::Row),
            b'd' if !authenticating => Some(Rule::Copy),
            b'E' | b'N' => Some(Rule::Read { limit: SAID.min(limit), cut: !authenticating }),
            b'R' | b'K' | b'S' | b'v' | b'Z' => Some(Rule::Read { limit, cut: false }),
            _ if authenticating => None,
            b'C' | b'I' | b's' | b'1' | b'2' | b'3' | b'n' | b'G' | b'H' | b'W' | b'c' => {
                Some(Rule::Read { limit, cut: false })
            }
            b't' => Some(Rule::Read { limit, cut: false }),
            b'T' => Some(Rule::Read { limit: hold, cut: true }),
            // What stands in it is not looked at.
            b'V' => Some(Rule::Read { limit: 0, cut: true }),
            // NotificationResponse.
            b'A' => Some(Rule::Pass),
            _ => None,
        }
    }

    fn read(kind: u8, body: Bytes, cut: bool) -> Result<FromServerMessage, CodecError> {
        use FromServerMessage as M;
        let mut body = Body::new(kind, body);
        let message = match kind {
            b'R' => M::Authentication(authentication(&mut body)?),
            b'K' => {
                let process = body.u32()?;
                let key = body.rest();
                if !(4..=256).contains(&key.len()) {
                    return Err(body.wrong("a cancel key has from 4 to 256 bytes"));
                }
                M::BackendKeyData { process, key }
            }
            b'S' => M::ParameterStatus { name: body.text()?, value: body.text()? },
            b'v' => {
                let version = body.u32()?;
                let count = body.u32()?;
                let mut unknown = Vec::new();
                for _ in 0..count {
                    unknown.push(body.text()?);
                }
                M::NegotiateProtocolVersion { version, unknown }
            }
            b'T' => {
                let fields = body.rest();
                M::RowDescription { fields: if cut { Bytes::new() } else { fields } }
            }
            b'C' => M::CommandComplete { tag: body.text()? },
            b'I' => M::EmptyQuery,
            b's' => M::PortalSuspended,
            b'E' => M::Error(said(&mut body)),
            b'N' => M::Notice(said(&mut body)),
            b'Z' => M::ReadyForQuery(match body.u8()? {
                b'I' => TransactionStatus::Idle,
                b'T' => TransactionStatus::Open,
                b'E' => TransactionStatus::Failed,
                _ => return Err(body.wrong("a transaction's state is I, T or E")),
            }),
            b'1' => M::ParseComplete,
            b'2' => M::BindComplete,
            b't' => M::ParameterDescription { types: body.list(4, Body::u32)? },
            b'G' | b'H' | b'W' => {
                let format = if body.u8()? == 0 { CopyFormat::Text } else { CopyFormat::Binary };
                let _formats = body.list(2, Body::i16)?;
                match kind {
                    b'G' => M::CopyIn(format),
                    b'H' => M::CopyOut(format),
                    _ => M::CopyBoth,
                }
            }
            b'c' => M::CopyDone,
            b'n' => M::NoData,
            b'3' => M::CloseComplete,
            b'V' => M::FunctionCallResponse,
            _ => return Err(body.wrong("it is not read")),
        };
        body.end(message)
    }
}

fn authentication(body: &mut Body) -> Result<Authentication, CodecError> {
    Ok(match body.u32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => {
            let _salt = body.bytes(4)?;
            Authentication::Md5Password
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                let name = body.text()?;
                if name.is_empty() {
                    break Authentication::Sasl { mechanisms };
                }
                mechanisms.push(name);
            }
        }
        11 => Authentication::SaslContinue { data: body.rest() },
        12 => Authentication::SaslFinal { data: body.rest() },
        other => {
            let _unread = body.rest();
            Authentication::Other(other)
        }
    })
}

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Bytes,
    pub type_oid: u32,
    /// 0 is text, 1 binary.
    pub format: i16,
}

/// What a RowDescription tells.
pub fn columns(fields: &Bytes) -> Result<Vec<Column>, CodecError> {
    let column = |body: &mut Body| {
        let (name, _table, _number) = (body.text()?, body.u32()?, body.i16()?);
        let (type_oid, _size, _modifier) = (body.u32()?, body.i16()?, body.i32()?);
        Ok(Column { name, type_oid, format: body.i16()? })
    };
    let mut body = Body::new(b'T', fields.clone());
    let columns = body.list(19, column)?;
    body.end(columns)
}

/// Reads as far as it goes: a long one comes cut, and an odd one is no reason to end a session.
fn said(body: &mut Body) -> ServerMessage {
    let rest = body.rest();
    let field =
        |kind| first_field(&rest, kind).map_or(String::new(), |text| String::from_utf8_lossy(text).into());
    let untranslated = field(b'V');
    ServerMessage {
        severity: if untranslated.is_empty() { field(b'S') } else { untranslated },
        code: field(b'C'),
        message: field(b'M'),
        detail: field(b'D'),
        hint: field(b'H'),
    }
}

/// A field of an error's or notice's body, by its letter.
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
pub fn first_field(body: &[u8], kind: u8) -> Option<&[u8]> {
    let mut fields = body.split(|byte| *byte == 0);
    fields.find_map(|field| match field.split_first() {
        Some((letter, text)) if *letter == kind => Some(text),
        _ => None,
    })
}

/// The number of rows that a command tag tells (`SELECT 3`, `INSERT 0 2`, `COPY 5`).
pub fn rows_of_tag(tag: &[u8]) -> Option<u64> {
    let last = tag.rsplit(|byte| *byte == b' ').next()?;
    if last.len() == tag.len() || last.is_empty() || !last.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(last).ok()?.parse().ok()
}

//! What a client sends, once it has started up.

use bytes::Bytes;

use super::error::CodecError;
use super::frame::{Flow, MAX_AUTHENTICATION_BYTES, Rule};
use super::read::Body;

/// The direction from the client.
#[derive(Debug)]
pub enum FromClient {}

/// A prepared statement or a portal; the empty name is the unnamed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Statement(Bytes),
    Portal(Bytes),
}

/// Values for a statement's parameters. Formats: none means text for all, one is for all, else one each
/// (0 text, 1 binary).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub portal: Bytes,
    pub statement: Bytes,
    pub parameter_formats: Vec<i16>,
    /// `None` is NULL.
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// A message that is read. Names and SQL are in the client's encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClientMessage {
    Query {
        sql: Bytes,
    },
    Parse {
        name: Bytes,
        sql: Bytes,
        types: Vec<u32>,
    },
    Bind(Bind),
    /// `max_rows` 0 is no limit.
    Execute {
        portal: Bytes,
        max_rows: i32,
    },
    Describe(Target),
    Close(Target),
    Sync,
    FunctionCall {
        function: u32,
    },
    CopyDone,
    CopyFail {
        reason: Bytes,
    },
    Terminate,
    /// Password, SASLInitialResponse, SASLResponse: which one, the conversation knows.
    Password {
        body: Bytes,
    },
}

impl Flow for FromClient {
    type Message = FromClientMessage;

    fn rule(kind: u8, authenticating: bool, hold: usize) -> Option<Rule> {
        match kind {
            b'p' if authenticating => Some(Rule::Read { limit: MAX_AUTHENTICATION_BYTES, cut: false }),
            b'X' => Some(Rule::Read { limit: 0, cut: false }),
            _ if authenticating => None,
            b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'f' => {
                Some(Rule::Read { limit: hold, cut: false })
            }
            b'S' | b'c' => Some(Rule::Read { limit: 0, cut: false }),
            b'd' => Some(Rule::Copy),
            b'H' => Some(Rule::Pass),
            _ => None,
        }
    }

    fn read(kind: u8, body: Bytes, _cut: bool) -> Result<FromClientMessage, CodecError> {
        use FromClientMessage as M;
        let mut body = Body::new(kind, body);
        let message = match kind {
            b'Q' => M::Query { sql: body.text()? },
            b'P' => M::Parse { name: body.text()?, sql: body.text()?, types: body.list(4, Body::u32)? },
            b'B' => M::Bind(Bind {
                portal: body.text()?,
                statement: body.text()?,
                parameter_formats: body.list(2, Body::i16)?,
                parameters: body.list(4, value)?,
                result_formats: body.list(2, Body::i16)?,
            }),
            b'E' => M::Execute { portal: body.text()?, max_rows: body.i32()? },
            b'D' => M::Describe(target(&mut body)?),
            b'C' => M::Close(target(&mut body)?),
            b'S' => M::Sync,
            b'F' => {
                let function = body.u32()?;
                let _arguments = body.rest();
                M::FunctionCall { function }
            }
            b'c' => M::CopyDone,
            b'f' => M::CopyFail { reason: body.text()? },
            b'X' => M::Terminate,
            b'p' => M::Password { body: body.rest() },
            _ => return Err(body.wrong("it is not read")),
        };
        body.end(message)
    }
}

fn value(body: &mut Body) -> Result<Option<Bytes>, CodecError> {
    match body.i32()? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => body.bytes(length).map(Some),
            Err(_) => Err(body.wrong("a value has a negative length")),
        },
    }
}

fn target(body: &mut Body) -> Result<Target, CodecError> {
    match body.u8()? {
        b'S' => body.text().map(Target::Statement),
        b'P' => body.text().map(Target::Portal),
        _ => Err(body.wrong("it names neither a statement nor a portal")),
    }
}

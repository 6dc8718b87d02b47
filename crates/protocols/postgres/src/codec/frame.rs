//! The scanner that both directions share: finds frames, holds those that are read, passes the rest.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use super::error::{CodecError, Kind};

/// Longest message before the other side has proved who it is, in bytes (PostgreSQL's own bound for the first
/// packet is the same).
pub const MAX_AUTHENTICATION_BYTES: usize = 10_000;

/// What is done with a kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Held until it is whole, then read. Longer than `limit` bytes (type and length not counted): refused, or
    /// if `cut`, read as far as that, the rest passed.
    Read { limit: usize, cut: bool },
    /// A row: passed and counted.
    Row,
    /// Data of a COPY: passed, counted and hashed.
    Copy,
    /// Passed.
    Pass,
}

/// One direction of the protocol.
pub trait Flow {
    type Message;
    /// What to do with messages of this type; `None` if there are none.
    fn rule(kind: u8, authenticating: bool, hold: usize) -> Option<Rule>;
    /// Reads a held message. `body` is without type and length, and cut if `cut`.
    fn read(kind: u8, body: Bytes, cut: bool) -> Result<Self::Message, CodecError>;
}

/// Sees what is passed without being held. Nothing here may fail: the bytes go on.
pub trait Passing {
    /// Whole DataRow frames, `count` of them, one behind the other.
    fn rows(&mut self, frames: &[u8], count: u64) {
        let _ = (frames, count);
    }
    /// A piece of one DataRow frame that is passed before it is whole.
    fn row_part(&mut self, part: &[u8], ends: bool) {
        let _ = (part, ends);
    }
    /// Data of a COPY, without type and length, in pieces of any size.
    fn copy(&mut self, data: &[u8]) {
        let _ = data;
    }
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotKept;
impl Passing for NotKept {}

/// The next of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<M> {
    /// A message that is read, and its very bytes.
    Message { message: M, raw: Bytes },
    /// Bytes to pass on: any number of frames, the first and last of which may be cut.
    Pass(Bytes),
}

/// Where one direction of a connection stands.
#[derive(Debug)]
pub struct Scanner<D> {
    hold: usize,
    /// Rows as long as this are passed whole.
    row: usize,
    authenticating: bool,
    /// What is passed of a frame whose header has gone by.
    left: usize,
    rule: Rule,
    /// How many bytes the buffer must have before there is more to say.
    wants: usize,
    direction: PhantomData<D>,
}

const HEADER: usize = 5;
/// Frames as long as this are passed whole, so that a stream which has to stop stops between two messages.
const WHOLE: usize = 32 * 1024;

impl<D: Flow> Scanner<D> {
    /// Messages that are read may have at most `hold` bytes. Begins in the time before authentication, with
    /// its own, lower bound.
    pub fn new(hold: usize) -> Self {
        let (rule, direction) = (Rule::Pass, PhantomData);
        Self { hold, row: WHOLE, authenticating: true, left: 0, rule, wants: HEADER, direction }
    }

    /// Rows of so many bytes are not passed before they are whole: whoever keeps them has them first.
    pub fn whole_rows(&mut self, bytes: usize) {
        self.row = bytes.max(WHOLE);
    }

    /// The other side is known now.
    pub fn authenticated(&mut self) {
        self.authenticating = false;
    }

    /// True between two messages: here the stream can be cut, and words of our own put in.
    pub fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// How many bytes the buffer has to hold until the next piece comes, if the last call gave none. A reader
    /// reserves this, and no more.
    pub fn wants(&self) -> usize {
        self.wants
    }

    /// The next piece off the front of `buffer`; `None` asks for more bytes. After an error the stream is over.
    pub fn next(
        &mut self,
        buffer: &mut BytesMut,
        passing: &mut impl Passing,
    ) -> Result<Option<Piece<D::Message>>, CodecError> {
        let mut at = 0;
        loop {
            if self.left > 0 {
                at += self.pass_on(buffer.get(at..).unwrap_or_default(), passing);
                if self.left > 0 {
                    self.wants = 1;
                    break;
                }
            }
            let rest = buffer.get(at..).unwrap_or_default();
            let Some((kind, body)) = header(rest)? else {
                self.wants = HEADER;
                break;
            };
            let rule = D::rule(kind, self.authenticating, self.hold)
                .ok_or(CodecError::Unexpected { kind: Kind(kind) })?;
            let whole = if rule == Rule::Row { self.row } else { WHOLE };
            let parted = body <= whole && rest.len() - HEADER < body;
            match rule {
                Rule::Row | Rule::Copy | Rule::Pass if parted => {
                    self.wants = HEADER + body;
                    break;
                }
                Rule::Row => {
                    let (run, count) = run_of_rows(rest, kind)?;
                    if count == 0 {
                        at += self.begin(rest, rule, body, passing);
                    } else {
                        passing.rows(rest.get(..run).unwrap_or_default(), count);
                        at += run;
                    }
                }
                Rule::Copy | Rule::Pass => at += self.begin(rest, rule, body, passing),
                // What stands before it goes first.
                Rule::Read { .. } if at > 0 => break,
                Rule::Read { limit, cut } => return self.hold(buffer, kind, body, limit, cut),
            }
        }
        Ok((at > 0).then(|| Piece::Pass(buffer.split_to(at).freeze())))
    }

    /// Passes a header and what is there of its body; gives how many bytes that is.
    fn begin(&mut self, rest: &[u8], rule: Rule, body: usize, passing: &mut impl Passing) -> usize {
        self.rule = rule;
        self.left = body;
        let (head, rest) = rest.split_at_checked(HEADER).unwrap_or((rest, &[]));
        if rule == Rule::Row {
            passing.row_part(head, body == 0);
        }
        HEADER + self.pass_on(rest, passing)
    }

    fn pass_on(&mut self, rest: &[u8], passing: &mut impl Passing) -> usize {
        let part = rest.get(..self.left).unwrap_or(rest);
        self.left -= part.len();
        if !part.is_empty() {
            match self.rule {
                Rule::Row => passing.row_part(part, self.left == 0),
                Rule::Copy => passing.copy(part),
                Rule::Pass | Rule::Read { .. } => {}
            }
        }
        part.len()
    }

    fn hold(
        &mut self,
        buffer: &mut BytesMut,
        kind: u8,
        body: usize,
        limit: usize,
        cut: bool,
    ) -> Result<Option<Piece<D::Message>>, CodecError> {
        let long = body > limit;
        if long && !cut {
            return Err(CodecError::TooLong { kind: Kind(kind), bytes: body as u64, limit });
        }
        let held = HEADER + body.min(limit);
        if buffer.len() < held {
            self.wants = held;
            return Ok(None);
        }
        let raw = buffer.split_to(held).freeze();
        self.rule = Rule::Pass;
        self.left = body - body.min(limit);
        self.wants = HEADER;
        let message = D::read(kind, raw.slice(HEADER..), long)?;
        Ok(Some(Piece::Message { message, raw }))
    }
}

/// Type and length of the body, if the header is there.
fn header(rest: &[u8]) -> Result<Option<(u8, usize)>, CodecError> {
    let Some([kind, a, b, c, d]) = rest.first_chunk::<HEADER>() else { return Ok(None) };
    let length = i32::from_be_bytes([*a, *b, *c, *d]);
    match usize::try_from(length) {
        Ok(length @ 4..) => Ok(Some((*kind, length - 4))),
        _ => Err(CodecError::Length { length: i64::from(length) }),
    }
}

/// How far whole frames of this kind reach, and how many they are.
fn run_of_rows(rest: &[u8], kind: u8) -> Result<(usize, u64), CodecError> {
    let (mut at, mut count) = (0_usize, 0);
    while let Some((next, body)) = header(rest.get(at..).unwrap_or_default())? {
        if next != kind || rest.len() - at - HEADER < body {
            break;
        }
        at += HEADER + body;
        count += 1;
    }
    Ok((at, count))
}

//! Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 3), found in a stream that comes in any pieces.
//!
//! Nothing is allocated by a length that the peer claims: small packets are gathered up to [`MOST_GATHERED`], the content
//! of reads and writes streams through, and what nobody needs is skipped.

use bytes::Bytes;

/// Longest packet that is gathered whole. OpenSSH's own limit for any packet (`SFTP_MAX_MSG_LENGTH`).
pub(super) const MOST_GATHERED: usize = 256 * 1024;
/// Longest packet at all.
const MOST: usize = 4 * 1024 * 1024;
/// Longest handle (section 6.2).
const MOST_HANDLE: usize = 256;

pub(super) const WRITE: u8 = 6;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

/// The stream is no SFTP that we understand. The session must end: what cannot be read cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file transfer can no longer be followed: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

pub(super) fn unreadable(why: impl Into<String>) -> Unreadable {
    Unreadable(why.into())
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Target,
}

/// Takes what the framer finds.
pub(super) trait Sink {
    /// Whether the names in this reply are needed.
    fn wants_names(&self, id: u32) -> bool;
    /// A whole packet; `body` is what stands after the type.
    fn packet(&mut self, side: Side, kind: u8, body: &[u8]) -> Result<(), Unreadable>;
    /// The head of a WRITE (`handle` and `offset` set) or DATA packet with `length` bytes of content to follow.
    fn content_begins(&mut self, head: ContentHead<'_>) -> Result<(), Unreadable>;
    /// Some of that content.
    fn content(&mut self, bytes: Bytes);
}

/// See [`Sink::content_begins`].
#[derive(Debug)]
pub(super) struct ContentHead<'a> {
    pub id: u32,
    pub write: Option<(&'a [u8], u64)>,
    pub length: u32,
}

#[derive(Debug)]
enum Plan {
    /// Gather this many bytes in all, then look again.
    More(usize),
    /// The packet is complete at this many bytes.
    Whole(usize),
    /// The head is complete at `head` bytes; then this much content streams.
    Content { left: usize },
    /// Nobody needs the rest.
    Skip { left: usize },
}

/// One direction of one channel.
#[derive(Debug)]
pub(super) struct Framer {
    side: Side,
    gathered: Vec<u8>,
    need: usize,
    whole: bool,
    streaming: usize,
    skipping: usize,
}

impl Framer {
    pub(super) fn new(side: Side) -> Self {
        Self { side, gathered: Vec::new(), need: 5, whole: false, streaming: 0, skipping: 0 }
    }

    /// Whether the stream stands between two packets.
    pub(super) fn at_boundary(&self) -> bool {
        self.gathered.is_empty() && self.streaming == 0 && self.skipping == 0
    }

    /// Reads the next piece of the stream.
    pub(super) fn feed(&mut self, chunk: &Bytes, sink: &mut impl Sink) -> Result<(), Unreadable> {
        let mut rest = chunk.clone();
        while !rest.is_empty() {
            if self.streaming > 0 {
                let piece = rest.split_to(self.streaming.min(rest.len()));
                self.streaming -= piece.len();
                sink.content(piece);
            } else if self.skipping > 0 {
                let piece = rest.split_to(self.skipping.min(rest.len()));
                self.skipping -= piece.len();
            } else {
                let missing = self.need.saturating_sub(self.gathered.len());
                let piece = rest.split_to(missing.min(rest.len()));
                self.gathered.extend_from_slice(&piece);
                while self.gathered.len() >= self.need && !self.gathered.is_empty() {
                    self.advance(sink)?;
                }
            }
        }
        Ok(())
    }

    /// As many bytes as were needed are there: deliver, or find out how many more are needed.
    fn advance(&mut self, sink: &mut impl Sink) -> Result<(), Unreadable> {
        if self.whole {
            let kind = self.gathered.get(4).copied().unwrap_or_default();
            sink.packet(self.side, kind, self.gathered.get(5..).unwrap_or_default())?;
            self.restart();
            return Ok(());
        }
        match plan(self.side, &self.gathered, sink)? {
            Plan::More(need) => self.need = need,
            Plan::Whole(need) => {
                self.need = need;
                self.whole = true;
            }
            Plan::Content { left } => {
                self.restart();
                self.streaming = left;
            }
            Plan::Skip { left } => {
                self.restart();
                self.skipping = left;
            }
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.gathered.clear();
        // A long listing must not keep its memory for the rest of the session.
        self.gathered.shrink_to(4 * 1024);
        self.need = 5;
        self.whole = false;
    }
}

fn plan(side: Side, head: &[u8], sink: &mut impl Sink) -> Result<Plan, Unreadable> {
    let mut fields = Fields(head);
    let (Some(length), Some(kind)) = (fields.number(), fields.byte()) else { return Ok(Plan::More(5)) };
    let length = length as usize;
    if length == 0 || length > MOST {
        return Err(unreadable(format!("a packet says that it is {length} bytes long")));
    }
    let total = 4 + length;
    match (side, kind) {
        (Side::Client, WRITE) => {
            let Some(id) = fields.number() else { return Ok(Plan::More(13)) };
            let Some(handle_length) = fields.number() else { return Ok(Plan::More(13)) };
            let handle_length = handle_length as usize;
            if handle_length > MOST_HANDLE {
                return Err(unreadable("a handle is longer than 256 bytes"));
            }
            let prefix = 13 + handle_length + 12;
            if head.len() < prefix {
                return Ok(Plan::More(prefix));
            }
            let (Some(handle), Some(offset), Some(length)) =
                (fields.take(handle_length), fields.long(), fields.number())
            else {
                return Ok(Plan::More(prefix));
            };
            let left = length as usize;
            if total != prefix + left {
                return Err(unreadable("a write's length does not fit its packet"));
            }
            sink.content_begins(ContentHead { id, write: Some((handle, offset)), length })?;
            Ok(Plan::Content { left })
        }
        (Side::Target, DATA) => {
            let (Some(id), Some(length)) = (fields.number(), fields.number()) else {
                return Ok(Plan::More(13));
            };
            let left = length as usize;
            // Version 3 has nothing behind the data.
            if total != 13 + left {
                return Err(unreadable("a reply's data does not fit its packet"));
            }
            sink.content_begins(ContentHead { id, write: None, length })?;
            Ok(Plan::Content { left })
        }
        (Side::Target, NAME | ATTRS | EXTENDED_REPLY) => {
            let Some(id) = fields.number() else { return Ok(Plan::More(9)) };
            if total < 9 {
                return Err(unreadable("a reply is too short"));
            }
            if kind == NAME && sink.wants_names(id) {
                return whole(total);
            }
            // The reply still answers its request.
            sink.packet(side, kind, head.get(5..).unwrap_or_default())?;
            Ok(Plan::Skip { left: total - 9 })
        }
        _ => whole(total),
    }
}

fn whole(total: usize) -> Result<Plan, Unreadable> {
    if total > MOST_GATHERED + 4 {
        return Err(unreadable(format!("a packet of {total} bytes is too long")));
    }
    Ok(Plan::Whole(total))
}

/// Reads fields off the front of a packet's body (RFC 4251, section 5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        self.take(length)
    }
}

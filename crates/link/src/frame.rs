//! Frames: a length (u32, big-endian) and that many bytes of JSON. A length past the limit ends the link before anything
//! is allocated for it, and memory grows with the bytes that arrive, not with what is claimed.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::LinkError;

/// Most bytes in one frame, without its length.
pub const FRAME_MOST_BYTES: usize = 1024 * 1024;
/// Memory is taken in steps of at most this while a frame arrives.
const STEP: usize = 64 * 1024;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A request; `call` names it.
    Ask,
    /// The response to a request.
    Answer,
    /// Nothing but a sign of life.
    Alive,
    /// The last one; the body is a sentence that says why.
    Bye,
    /// From a newer node; passed over.
    #[serde(other)]
    Unknown,
}

/// A frame on its way out.
#[derive(Serialize)]
struct Outgoing<'a, T> {
    kind: Kind,
    call: u64,
    depth: u8,
    body: &'a T,
}

/// A frame that came in. The body is read only after its kind is known.
#[derive(Deserialize)]
pub(crate) struct Incoming<'a> {
    pub kind: Kind,
    pub call: u64,
    /// How many calls this one was made within.
    #[serde(default)]
    pub depth: u8,
    #[serde(borrow)]
    pub body: &'a RawValue,
}

/// The bytes of a frame with its length, or `Err(length)` when it is too long.
pub(crate) fn encode<T: Serialize>(kind: Kind, call: u64, body: &T) -> Result<Bytes, usize> {
    encode_at(kind, call, 0, body)
}

/// As [`encode`], for a call made while `depth` others are being answered.
pub(crate) fn encode_at<T: Serialize>(kind: Kind, call: u64, depth: u8, body: &T) -> Result<Bytes, usize> {
    let mut out = vec![0u8; 4];
    // Serialising our own types into memory cannot fail; an empty frame would be refused by the reader.
    serde_json::to_writer(&mut out, &Outgoing { kind, call, depth, body }).map_err(|_| 0usize)?;
    let length = out.len().saturating_sub(4);
    if length > FRAME_MOST_BYTES {
        return Err(length);
    }
    let prefix = u32::try_from(length).map_err(|_| length)?.to_be_bytes();
    if let Some(head) = out.get_mut(..4) {
        head.copy_from_slice(&prefix);
    }
    Ok(out.into())
}

/// Reads frames off a stream of bytes.
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    most: usize,
    silence: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes frames up to `most` bytes and gives up after `silence` without a single byte.
    pub fn new(stream: R, most: usize, silence: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), most, silence }
    }

    /// The stream, without what was read ahead.
    pub fn into_stream(self) -> R {
        self.stream
    }

    /// The next frame; `None` when the other side closed between two frames.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            let mut wanted = 4usize;
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let claimed = u64::from(u32::from_be_bytes(*head));
                let length = usize::try_from(claimed).unwrap_or(usize::MAX);
                if length > self.most {
                    return Err(LinkError::OversizedFrame { claimed, most: self.most });
                }
                if self.buffer.len() >= length + 4 {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
                wanted = length + 4;
            }
            let missing = wanted.saturating_sub(self.buffer.len());
            self.buffer.reserve(missing.clamp(4096, STEP));
            let read = timeout(self.silence, self.stream.read_buf(&mut self.buffer))
                .await
                .map_err(|_| LinkError::Silent { seconds: self.silence.as_secs() })?
                .map_err(LinkError::io("read from the link"))?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(LinkError::Malformed { detail: "the link ended in the middle of a frame".to_owned() })
                };
            }
        }
    }
}

/// Writes all of `bytes`, giving up when not a single byte could be written for `silence`.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut bytes: &[u8],
    silence: Duration,
) -> Result<(), LinkError> {
    let silent = |_| LinkError::Silent { seconds: silence.as_secs() };
    while !bytes.is_empty() {
        let written = timeout(silence, stream.write(bytes))
            .await
            .map_err(silent)?
            .map_err(LinkError::io("write to the link"))?;
        if written == 0 {
            return Err(LinkError::Malformed { detail: "the link takes no more bytes".to_owned() });
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    timeout(silence, stream.flush()).await.map_err(silent)?.map_err(LinkError::io("write to the link"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_oversized_frame_is_refused_before_memory_is_taken() {
        for claimed in [FRAME_MOST_BYTES as u32 + 1, u32::MAX] {
            let (mut far, near) = tokio::io::duplex(64);
            let mut reader = FrameReader::new(near, FRAME_MOST_BYTES, Duration::from_secs(5));
            far.write_all(&claimed.to_be_bytes()).await.unwrap();
            let refused = reader.next().await;
            assert!(
                matches!(refused, Err(LinkError::OversizedFrame { claimed: c, .. }) if c == u64::from(claimed))
            );
            assert!(reader.buffer.capacity() <= STEP, "{} bytes", reader.buffer.capacity());
        }
    }

    #[tokio::test]
    async fn a_claimed_megabyte_takes_memory_only_as_it_arrives() {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        let mut reader = FrameReader::new(near, FRAME_MOST_BYTES, Duration::from_millis(50));
        far.write_all(&(FRAME_MOST_BYTES as u32).to_be_bytes()).await.unwrap();
        far.write_all(&[b' '; 1000]).await.unwrap();
        assert!(matches!(reader.next().await, Err(LinkError::Silent { .. })));
        assert!(reader.buffer.capacity() <= 2 * STEP, "{} bytes", reader.buffer.capacity());
    }

    #[tokio::test]
    async fn frames_cut_anywhere_are_put_together_again() {
        let first = encode(Kind::Ask, 1, &"one").unwrap();
        let second = encode(Kind::Answer, 2, &"two").unwrap();
        let both = [first, second].concat();
        for cut in 0..both.len() {
            let (mut far, near) = tokio::io::duplex(both.len());
            let mut reader = FrameReader::new(near, FRAME_MOST_BYTES, Duration::from_secs(5));
            let (head, tail) = both.split_at(cut);
            far.write_all(head).await.unwrap();
            far.write_all(tail).await.unwrap();
            drop(far);
            let frame = reader.next().await.unwrap().unwrap();
            let incoming: Incoming<'_> = serde_json::from_slice(&frame).unwrap();
            assert_eq!((incoming.kind, incoming.call, incoming.body.get()), (Kind::Ask, 1, "\"one\""));
            assert!(reader.next().await.unwrap().is_some());
            assert!(reader.next().await.unwrap().is_none());
        }
    }
}

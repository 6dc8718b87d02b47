//! Fields of a message's body.

use bytes::{Buf as _, Bytes};

use super::error::{CodecError, Kind};

/// A body being read from its front.
pub struct Body {
    kind: u8,
    rest: Bytes,
}

impl Body {
    pub fn new(kind: u8, rest: Bytes) -> Self {
        Self { kind, rest }
    }

    pub fn wrong(&self, what: &'static str) -> CodecError {
        CodecError::Malformed { kind: Kind(self.kind), what }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Result<Bytes, CodecError> {
        match count {
            _ if self.rest.len() < count => Err(self.wrong("it ends too early")),
            0 => Ok(Bytes::new()),
            _ => Ok(self.rest.split_to(count)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let array = self.rest.first_chunk::<N>().copied().ok_or_else(|| self.wrong("it ends too early"))?;
        self.rest.advance(N);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, CodecError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, CodecError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Text up to its NUL, which is taken too.
    pub fn text(&mut self) -> Result<Bytes, CodecError> {
        let end = memchr::memchr(0, &self.rest).ok_or_else(|| self.wrong("a text does not end"))?;
        // Most names are empty.
        let text = if end == 0 { Bytes::new() } else { self.rest.split_to(end) };
        self.rest.advance(1);
        Ok(text)
    }

    /// All that is left.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left: what one reader skips the other may obey.
    pub fn end<T>(self, value: T) -> Result<T, CodecError> {
        if self.rest.is_empty() { Ok(value) } else { Err(self.wrong("something follows its end")) }
    }

    /// `count` as the protocol counts, then so many of them. Each takes at least `least` bytes, so a count that
    /// cannot be true reserves nothing.
    pub fn list<T>(
        &mut self,
        least: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = usize::from(self.u16()?);
        if self.rest.len() < count * least {
            return Err(self.wrong("it ends too early"));
        }
        (0..count).map(|_| one(self)).collect()
    }
}

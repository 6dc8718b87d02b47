//! The small alphabet that records are written in: canonical LEB128 numbers, length-prefixed bytes.
//! Reading is total: any input gives a value or an error, and nothing is allocated before it was bounded.

use bytes::Bytes;

use crate::hash::Hash;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("it ends in the middle of a field")]
    Short,
    #[error("a number is too large or not written in its shortest form")]
    Number,
    #[error("a text is not UTF-8")]
    Text,
    #[error("{what} has the unknown value {value}")]
    Choice { what: &'static str, value: u8 },
    #[error("{bytes} bytes are left over after its last field")]
    LeftOver { bytes: usize },
    #[error("its encoding is version {version}, which this program is too old to read")]
    Version { version: u8 },
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads fields off the front of `rest`. Byte fields share the memory they came from.
pub(crate) struct Fields {
    pub(crate) rest: Bytes,
}

impl Fields {
    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if count > self.rest.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.rest.split_to(count))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take(1)?.first().copied().ok_or(DecodeError::Short)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Number);
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                // A last group of zeros would be a second way to write the same number.
                return if part == 0 && shift > 0 { Err(DecodeError::Number) } else { Ok(number) };
            }
        }
        Err(DecodeError::Number)
    }

    pub(crate) fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_large| DecodeError::Number)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_large| DecodeError::Short)?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_bytes| DecodeError::Text)
    }

    pub(crate) fn hash(&mut self) -> Result<Hash, DecodeError> {
        let bytes = self.take(32)?;
        bytes.as_ref().try_into().map(Hash).map_err(|_length| DecodeError::Short)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            value => Err(DecodeError::Choice { what: "an optional field", value }),
        }
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver { bytes: self.rest.len() }) }
    }
}

pub(crate) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<u64, DecodeError> {
        Fields { rest: Bytes::copy_from_slice(bytes) }.number()
    }

    #[test]
    fn numbers_round_trip_and_have_one_form_only() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(read(&out), Ok(number));
        }
        assert_eq!(read(&[0x80, 0x00]), Err(DecodeError::Number));
        assert_eq!(read(&[0xff; 11]), Err(DecodeError::Number));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            Err(DecodeError::Number)
        );
        assert_eq!(read(&[0x80]), Err(DecodeError::Short));
    }

    #[test]
    fn a_claimed_length_is_checked_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_number(&mut out, u64::MAX);
        assert_eq!(Fields { rest: Bytes::from(out) }.bytes(), Err(DecodeError::Short));
    }
}

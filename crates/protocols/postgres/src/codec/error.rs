//! Why a stream is no PostgreSQL stream, or one that is not let through.

/// The stream cannot go on. The text is fit for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A length counts itself, so it is at least four, and it is no negative number.
    #[error("a message says that it is {length} bytes long, which no message can be")]
    Length { length: i64 },
    #[error("a message of kind {kind} has {bytes} bytes; at most {limit} are taken")]
    TooLong { kind: Kind, bytes: u64, limit: usize },
    #[error("a message of kind {kind} is not known, or not expected here")]
    Unexpected { kind: Kind },
    #[error("a message of kind {kind} is not formed as the protocol has it: {what}")]
    Malformed { kind: Kind, what: &'static str },
    #[error("the first packet has {bytes} bytes; from 8 to {limit} are taken")]
    FirstLength { bytes: i64, limit: usize },
    #[error("the first packet is not formed as the protocol has it: {what}")]
    First { what: &'static str },
    #[error("protocol version {major}.{minor} is not spoken here; 3.0 to 3.2 are")]
    Version { major: u16, minor: u16 },
    /// The class of CVE-2021-23222: bytes in clear that would later pass for encrypted ones.
    #[error("{bytes} bytes came before the encryption they should have waited for")]
    Surplus { bytes: usize },
}

/// A message's type byte, shown as a letter where it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u8);

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "'{}'", char::from(self.0))
        } else {
            write!(f, "0x{:02x}", self.0)
        }
    }
}

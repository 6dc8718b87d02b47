//! The first packets of a connection, which have no type byte, and which version is spoken then.

use bytes::{Bytes, BytesMut};

use super::error::CodecError;
use super::read::Body;

/// Longest first packet, in bytes; PostgreSQL's own bound.
pub const MAX_STARTUP_BYTES: usize = 10_000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;
/// Type of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A protocol version, such as 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    pub const V3_2: Self = Self { major: 3, minor: 2 };
}

/// What a client wants, and as whom. Names and values are in the client's own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    pub version: Version,
    pub parameters: Vec<(Bytes, Bytes)>,
}

impl Startup {
    /// A parameter's value; where a name stands twice the server obeys the last.
    pub fn parameter(&self, name: &str) -> Option<&Bytes> {
        self.parameters.iter().rev().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value)
    }
}

/// The first packet of a connection, or of what follows a refused or finished encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// TLS begins at once, without asking (nothing has been taken off the buffer).
    Tls,
    /// Answer `S` or `N`; then a first packet comes again.
    SslRequest,
    /// Answer `N`; then a first packet comes again.
    GssencRequest,
    Cancel {
        process: u32,
        key: Bytes,
    },
    Startup(Startup),
}

/// Reads a connection's first packet off `buffer`; `None` asks for more bytes.
///
/// After a request for encryption nothing may follow in clear: what does is an error. The caller must not go on
/// reading before it has answered.
pub fn read_first(buffer: &mut BytesMut) -> Result<Option<First>, CodecError> {
    if buffer.first() == Some(&TLS_HANDSHAKE) {
        return Ok(Some(First::Tls));
    }
    let Some(length) = buffer.first_chunk().copied().map(i32::from_be_bytes) else { return Ok(None) };
    let wrong_length = CodecError::FirstLength { bytes: i64::from(length), limit: MAX_STARTUP_BYTES };
    let length = usize::try_from(length).map_err(|_| wrong_length.clone())?;
    if !(8..=MAX_STARTUP_BYTES).contains(&length) {
        return Err(wrong_length);
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let packet = buffer.split_to(length).freeze();
    let mut body = Body::new(0, packet.slice(4..));
    let code = body.u32()?;
    let request = match code {
        SSL => First::SslRequest,
        GSSENC => First::GssencRequest,
        CANCEL => {
            let process =
                body.u32().map_err(|_| CodecError::First { what: "a cancel request has a number" })?;
            let key = body.rest();
            if !(4..=256).contains(&key.len()) {
                return Err(CodecError::First { what: "a cancel key has from 4 to 256 bytes" });
            }
            return Ok(Some(First::Cancel { process, key }));
        }
        version => {
            return startup(version, body).map(First::Startup).map(Some);
        }
    };
    if !body.is_empty() {
        return Err(CodecError::First { what: "a request for encryption has 8 bytes" });
    }
    if !buffer.is_empty() {
        return Err(CodecError::Surplus { bytes: buffer.len() });
    }
    Ok(Some(request))
}

fn startup(version: u32, mut body: Body) -> Result<Startup, CodecError> {
    let version = Version { major: (version >> 16) as u16, minor: (version & 0xffff) as u16 };
    if version.major != 3 {
        return Err(CodecError::Version { major: version.major, minor: version.minor });
    }
    let short = |_| CodecError::First { what: "a parameter does not end" };
    let mut parameters = Vec::new();
    loop {
        let name = body.text().map_err(short)?;
        if name.is_empty() {
            break;
        }
        parameters.push((name, body.text().map_err(short)?));
    }
    if !body.is_empty() {
        return Err(CodecError::First { what: "something follows its end" });
    }
    Ok(Startup { version, parameters })
}

/// What is spoken with a client, and what it has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub version: Version,
    /// Send NegotiateProtocolVersion with [`Self::version`] and these options: the client asked for more.
    pub tell: Option<Vec<Bytes>>,
}

/// Settles on the newest version that both speak: 3.2 if asked for 3.2 or later, else 3.0 (3.1 was never a
/// version). Options with the prefix `_pq_.` belong to the protocol; none is known.
pub fn negotiate(startup: &Startup) -> Negotiated {
    let version = if startup.version >= Version::V3_2 { Version::V3_2 } else { Version::V3_0 };
    let unknown: Vec<Bytes> = startup
        .parameters
        .iter()
        .filter(|(name, _)| name.starts_with(b"_pq_."))
        .map(|(name, _)| name.clone())
        .collect();
    let tell = (version != startup.version || !unknown.is_empty()).then_some(unknown);
    Negotiated { version, tell }
}

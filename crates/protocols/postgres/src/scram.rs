//! SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677), both ends, as messages: what they say, how they are checked.
//!
//! No password is known here. The server's end gives the auth message and the client's proof to whoever keeps the
//! verifiers; the client's end proves with keys that stand in place of a password. Channel binding is
//! `tls-server-end-point` (RFC 5929), as PostgreSQL has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

mod client;
mod server;

pub use client::{ClientFirst, ClientKeys, ClientSent};
pub use server::{ServerFirst, ServerStarted};

/// Names of the mechanisms.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The exchange cannot go on. Said to the other end as a plain "authentication failed".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramError {
    #[error("a SCRAM message is not formed as RFC 5802 has it: {what}")]
    Malformed { what: &'static str },
    #[error("the mechanism {name:?} is not offered here")]
    Mechanism { name: String },
    /// The client could have used channel binding and was led to believe that it could not.
    #[error(
        "the client supports channel binding, and was told that the server does not: somebody stands between"
    )]
    Downgrade,
    #[error("the channel binding does not match this TLS connection: somebody stands between")]
    Binding,
    #[error("the nonce is not the one of this exchange")]
    Nonce,
    #[error("the server did not prove that it knows the verifier")]
    Server,
    #[error("the server refused: {why}")]
    Refused { why: String },
}

fn malformed(what: &'static str) -> ScramError {
    ScramError::Malformed { what }
}

/// The value of the attribute `letter` at the front of `message`, and what follows its comma.
fn attribute<'a>(
    message: &'a str,
    letter: &str,
    what: &'static str,
) -> Result<(&'a str, &'a str), ScramError> {
    let value = message.strip_prefix(letter).and_then(|rest| rest.strip_prefix('='));
    let value = value.ok_or_else(|| malformed(what))?;
    Ok(value.split_once(',').unwrap_or((value, "")))
}

fn base64_of(text: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| malformed(what))
}

fn words(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

/// Printable, without a comma (RFC 5802 section 7).
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty()
        && nonce.len() <= 256
        && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A nonce from random bytes.
pub fn nonce(random: &[u8; 18]) -> String {
    STANDARD.encode(random)
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;

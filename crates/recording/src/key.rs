//! The data key of one recording.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Seals the frames of exactly one recording (frame numbers are its nonces, so it is never used for two).
/// Wiped when dropped, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes for a key")]
pub struct NoRandomness(#[source] pub getrandom::Error);

impl DataKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(NoRandomness)?;
        Ok(key)
    }

    /// A key from its 32 bytes; the caller wipes its own copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(redacted)")
    }
}

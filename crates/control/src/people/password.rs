//! Passwords: Argon2id (RFC 9106, second recommended option: 64 MiB, 3 passes), compared in constant time.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::ControlError;

const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Shortest password.
pub const SHORTEST: usize = 10;
/// Longest password in bytes: refused before any work is done.
pub const LONGEST: usize = 1024;

/// A password's digest.
#[derive(Clone, Serialize, Deserialize)]
pub struct PasswordHash {
    salt: String,
    hash: String,
    memory_kib: u32,
    passes: u32,
}

impl PasswordHash {
    /// Hashes a new password. Takes some 100 ms; runs on a thread of its own.
    pub async fn make(password: Zeroizing<String>) -> Result<Self, ControlError> {
        if password.chars().count() < SHORTEST || password.len() > LONGEST {
            return Err(halligan_core::refusal::Refusal::new(
                halligan_core::refusal::RefusalCode::Incomplete,
                format!("a password has {SHORTEST} to {LONGEST} characters"),
            )
            .into());
        }
        let mut salt = [0u8; 16];
        getrandom::fill(&mut salt).map_err(ControlError::local("draw randomness"))?;
        let hash = digest(password, salt, MEMORY_KIB, PASSES).await?;
        Ok(Self { salt: hex::encode(salt), hash: hex::encode(*hash), memory_kib: MEMORY_KIB, passes: PASSES })
    }

    /// Whether this is the password.
    pub async fn fits(&self, password: Zeroizing<String>) -> Result<bool, ControlError> {
        let mut salt = [0u8; 16];
        let mut hash = [0u8; 32];
        hex::decode_to_slice(&self.salt, &mut salt)
            .map_err(ControlError::local("read a password's digest"))?;
        hex::decode_to_slice(&self.hash, &mut hash)
            .map_err(ControlError::local("read a password's digest"))?;
        let found = digest(password, salt, self.memory_kib, self.passes).await?;
        Ok(found.ct_eq(&hash).into())
    }

    /// The work of [`PasswordHash::fits`] for somebody who has no password, so that nobody can tell from the time taken.
    pub async fn pretend(password: Zeroizing<String>) -> Result<(), ControlError> {
        digest(password, [7; 16], MEMORY_KIB, PASSES).await.map(drop)
    }
}

async fn digest(
    password: Zeroizing<String>,
    salt: [u8; 16],
    memory: u32,
    passes: u32,
) -> Result<Zeroizing<[u8; 32]>, ControlError> {
    tokio::task::spawn_blocking(move || {
        let failed = |error: argon2::Error| ControlError::said("hash a password", error.to_string());
        let params = Params::new(memory, passes, 1, Some(32)).map_err(failed)?;
        let mut out = Zeroizing::new([0u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt, &mut *out)
            .map_err(failed)?;
        Ok(out)
    })
    .await
    .map_err(ControlError::local("hash a password"))?
}

//! The key: in a file that its owner alone reads, such as one that systemd hands to the service (`LoadCredential=`).

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use halligan_ledger::disk;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::VaultError;

const FILE_MOST_BYTES: u64 = 256;

/// 256 bits. Debug shows its id only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

impl VaultKey {
    /// Reads it: 64 hexadecimal digits, surrounding white space allowed. Refused if others than its owner may read the
    /// file. systemd hands a credential over as root's file with an access list, whose mask shows as the group's right to
    /// read: so that one bit counts only in a file of our own.
    pub fn read(path: &Path) -> Result<Self, VaultError> {
        let file = |source| VaultError::File { act: "read the key", path: path.to_owned(), source };
        let data = fs::metadata(path).map_err(file)?;
        let mode = data.mode() & 0o777;
        let ours = data.uid() == rustix::process::geteuid().as_raw();
        if mode & (if ours { 0o077 } else { 0o037 }) != 0 {
            return Err(VaultError::Open { path: path.to_owned(), mode });
        }
        let text = Zeroizing::new(disk::read_limited(path, FILE_MOST_BYTES).map_err(file)?);
        let mut key = Self([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut key.0)
            .map_err(|_| VaultError::NoKey(path.to_owned()))?;
        Ok(key)
    }

    /// Reads it, or makes one where there is no file.
    pub fn read_or_make(path: &Path) -> Result<Self, VaultError> {
        if path.exists() {
            return Self::read(path);
        }
        let key = Self::make()?;
        let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key.0))));
        disk::write_atomic(path, text.as_bytes(), 0o600).map_err(|source| VaultError::File {
            act: "write the key",
            path: path.to_owned(),
            source,
        })?;
        Ok(key)
    }

    /// A new one.
    pub fn make() -> Result<Self, VaultError> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(|_| VaultError::Randomness)?;
        Ok(key)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Names the key without giving it away: the first eight bytes of a SHA-256 over a domain and the key.
    pub fn id(&self) -> [u8; 8] {
        let digest =
            Sha256::new().chain_update(b"halligan-vault-key-id-v1\0").chain_update(self.0).finalize();
        let mut id = [0; 8];
        for (to, from) in id.iter_mut().zip(digest) {
            *to = from;
        }
        id
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKey({})", hex::encode(self.id()))
    }
}

//! A folder of sealed secrets.
//!
//! A file is `HLVT`, version 1, the key's id (8 bytes), a nonce (24 bytes), and XChaCha20-Poly1305 over the secret
//! (draft-irtf-cfrg-xchacha-03). The associated data are everything before the nonce and the secret's name, so that no file
//! can stand for another.

use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use halligan_ledger::disk;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::key::VaultKey;

/// The longest secret.
pub const SECRET_MOST_BYTES: usize = 64 * 1024;
const MAGIC: &[u8; 5] = b"HLVT\x01";
const CONTEXT: &[u8] = b"halligan-vault-v1\0";
const HEAD: usize = MAGIC.len() + 8;
const NONCE: usize = 24;

/// See the module. Opening it touches no file.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    key: VaultKey,
}

impl Vault {
    /// Secrets in `folder`, under this key.
    pub const fn new(folder: PathBuf, key: VaultKey) -> Self {
        Self { folder, key }
    }

    /// Keeps a secret under a name, in place of the one before; durable when this returns.
    pub fn put(&self, name: &str, secret: &[u8]) -> Result<(), VaultError> {
        let path = self.path(name)?;
        if secret.is_empty() || secret.len() > SECRET_MOST_BYTES {
            return Err(VaultError::Size { name: name.to_owned(), most: SECRET_MOST_BYTES });
        }
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| VaultError::Randomness)?;
        let head = self.head();
        let aad = aad(&head, name);
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad })
            .map_err(|_| VaultError::Broken(name.to_owned()))?;
        let bytes = [head.as_slice(), &nonce, &sealed].concat();
        disk::write_atomic(&path, &bytes, 0o600).map_err(|source| VaultError::File {
            act: "write",
            path,
            source,
        })
    }

    /// The secret of this name, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let path = self.path(name)?;
        let most = (HEAD + NONCE + SECRET_MOST_BYTES + 16) as u64;
        let read = disk::read_if_present(&path, most);
        let Some(bytes) = read.map_err(|source| VaultError::File { act: "read", path, source })? else {
            return Ok(None);
        };
        let broken = || VaultError::Broken(name.to_owned());
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(broken)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(broken)?;
        let id = head.strip_prefix(MAGIC).ok_or_else(broken)?;
        if id != self.key.id() {
            return Err(VaultError::OtherKey {
                name: name.to_owned(),
                sealed: hex::encode(id),
                here: hex::encode(self.key.id()),
            });
        }
        let payload = Payload { msg: sealed, aad: &aad(head, name) };
        let plain = self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| broken())?;
        Ok(Some(Zeroizing::new(plain)))
    }

    /// Where a secret's file stands.
    pub fn path(&self, name: &str) -> Result<PathBuf, VaultError> {
        let good = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if !good {
            return Err(VaultError::BadName(name.chars().take(64).collect()));
        }
        Ok(self.folder.join(format!("{name}.secret")))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn head(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &self.key.id()].concat()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key.bytes()))
    }
}

fn aad(head: &[u8], name: &str) -> Vec<u8> {
    [head, CONTEXT, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_comes_back_and_stands_nowhere_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let vault = Vault::new(folder.path().to_owned(), VaultKey::read_or_make(&key).unwrap());
        assert!(vault.get("postgres").unwrap().is_none());
        vault.put("postgres", b"correct horse").unwrap();
        let again = Vault::new(folder.path().to_owned(), VaultKey::read_or_make(&key).unwrap());
        assert_eq!(again.get("postgres").unwrap().unwrap().as_slice(), b"correct horse");
        let path = again.path("postgres").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|piece| piece == b"correct"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{again:?}").contains(std::fs::read_to_string(&key).unwrap().trim()));
    }

    #[test]
    fn a_changed_or_moved_file_and_another_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::new(folder.path().to_owned(), VaultKey::make().unwrap());
        vault.put("a", b"one").unwrap();
        let path = vault.path("a").unwrap();
        std::fs::copy(&path, vault.path("b").unwrap()).unwrap();
        assert!(matches!(vault.get("b"), Err(VaultError::Broken(_))));
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            vault.get("a").unwrap_err();
        }
        std::fs::write(&path, &good[..HEAD + 3]).unwrap();
        vault.get("a").unwrap_err();
        std::fs::write(&path, &good).unwrap();
        let other = Vault::new(folder.path().to_owned(), VaultKey::make().unwrap());
        assert!(matches!(other.get("a"), Err(VaultError::OtherKey { .. })));
    }

    #[test]
    fn a_key_that_others_read_and_a_name_that_leaves_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        VaultKey::read_or_make(&key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(VaultKey::read(&key), Err(VaultError::Open { .. })));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
        VaultKey::read(&key).unwrap();
        let vault = Vault::new(folder.path().to_owned(), VaultKey::read(&key).unwrap());
        for name in ["../key", "", ".hidden", "a/b", "A"] {
            assert!(matches!(vault.put(name, b"x"), Err(VaultError::BadName(_))), "{name}");
        }
        assert!(matches!(vault.put("long", &vec![0; SECRET_MOST_BYTES + 1]), Err(VaultError::Size { .. })));
    }
}

//! The gateway's own host key: an Ed25519 key in a file that only its owner reads, made on the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Certificate, PrivateKey};
use zeroize::Zeroizing;

/// Why the gateway has no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file could not be read or written.
    #[error("failed to {doing} {path}")]
    Disk {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the key.
    #[error(
        "{path} can be read by others (mode {mode:o}): make it 0600, and replace the key if somebody read it"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path} is no {what}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why.
        #[source]
        source: ssh_key::Error,
    },
    /// The certificate is not one for this key as a host.
    #[error("{path} is no host certificate for the host key beside it")]
    OtherKey {
        /// The certificate's file.
        path: PathBuf,
    },
    /// No randomness.
    #[error("the operating system gave no randomness for a host key")]
    NoRandomness,
}

/// Reads the host key, or makes it if there is no such file.
pub(crate) fn load_or_make(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let disk = |doing, source| HostKeyError::Disk { doing, path: path.to_owned(), source };
    let bad =
        |source| HostKeyError::Unreadable { path: path.to_owned(), what: "OpenSSH private key", source };
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mode = fs::metadata(path).map_err(|error| disk("read", error))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(HostKeyError::Readable { path: path.to_owned(), mode });
            }
            PrivateKey::from_openssh(text.as_str()).map_err(bad)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random_key().ok_or(HostKeyError::NoRandomness)?;
            let text = key.to_openssh(LineEnding::LF).map_err(bad)?;
            // Written beside and linked into place: a crash leaves no half key, and nobody's key is replaced.
            let part = path.with_extension("part");
            let written = (|| {
                let mut file =
                    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                fs::rename(&part, path)?;
                fs::File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
                    .sync_all()
            })();
            written.map_err(|error| disk("write", error))?;
            Ok(key)
        }
        Err(error) => Err(disk("read", error)),
    }
}

fn random_key() -> Option<PrivateKey> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).ok()?;
    private_key(&seed)
}

/// An Ed25519 key from its seed.
pub(crate) fn private_key(seed: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(seed)), "").ok()
}

/// Reads a host certificate and checks that it is one for `key`.
pub(crate) fn load_certificate(path: &Path, key: &PrivateKey) -> Result<Certificate, HostKeyError> {
    let text = fs::read_to_string(path).map_err(|source| HostKeyError::Disk {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    let certificate = Certificate::from_openssh(text.trim()).map_err(|source| HostKeyError::Unreadable {
        path: path.to_owned(),
        what: "OpenSSH certificate",
        source,
    })?;
    let fits = certificate.cert_type().is_host() && certificate.public_key() == key.public_key().key_data();
    if !fits {
        return Err(HostKeyError::OtherKey { path: path.to_owned() });
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host_key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().public_key(), made.public_key());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_make(&path), Err(HostKeyError::Readable { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(load_or_make(&path), Err(HostKeyError::Unreadable { .. })));
    }
}

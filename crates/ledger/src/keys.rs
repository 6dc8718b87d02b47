//! Keys of ledgers and witnesses: Ed25519, named, with the text forms of C2SP signed-note.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::disk;
use crate::hash::sha256;
use crate::note::NoteError;

const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";
/// A name goes into one byte of length in newer signature types, so it stays below 256 bytes.
const MAX_NAME_BYTES: usize = 255;
/// First line of a cosigned message: an origin of this name could be mistaken for one.
pub(crate) const COSIGNATURE_HEADER: &str = "cosignature/v1";

/// What a key signs (the signature type byte of C2SP signed-note; 0x06, ML-DSA-44, is not read yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// 0x01: a ledger signs its own checkpoints.
    Ed25519,
    /// 0x04: a witness cosigns the checkpoints of others, with the time.
    CosignatureV1,
}

impl KeyKind {
    /// The signature type byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, NoteError> {
        match byte {
            0x01 => Ok(Self::Ed25519),
            0x04 => Ok(Self::CosignatureV1),
            kind => Err(NoteError::UnknownKeyKind { kind }),
        }
    }
}

/// A public key with its name: what a verifier trusts. Text form (vkey): `name+hexid+base64(kind‖key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerKey {
    name: String,
    kind: KeyKind,
    id: [u8; 4],
    public: VerifyingKey,
}

impl LedgerKey {
    /// Names a public key.
    ///
    /// # Errors
    /// When the name is no key name or the bytes are no Ed25519 key (or one of small order).
    pub fn new(name: &str, kind: KeyKind, public: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let bad = || NoteError::BadKey { text: name.to_owned() };
        let public = VerifyingKey::from_bytes(public).map_err(|_| bad())?;
        if public.is_weak() {
            return Err(bad());
        }
        let id = key_id(name, kind, public.as_bytes());
        Ok(Self { name: name.to_owned(), kind, id, public })
    }

    /// The key's name; for a ledger its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// First four bytes of SHA-256 over name, newline, kind, key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The bare public key.
    #[must_use]
    pub fn public_bytes(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether both stand for the same underlying key, whatever their names and kinds.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        self.public == other.public
    }

    /// The same key in its other part: as that under which its owner cosigns the checkpoints of others.
    #[must_use]
    pub fn as_cosigner(&self) -> Self {
        let kind = KeyKind::CosignatureV1;
        Self {
            name: self.name.clone(),
            kind,
            id: key_id(&self.name, kind, self.public.as_bytes()),
            public: self.public,
        }
    }

    /// Whether a signature line with this name and id claims to be of this key.
    #[must_use]
    pub fn answers_to(&self, name: &str, id: [u8; 4]) -> bool {
        self.name == name && self.id == id
    }

    /// Strict Ed25519 verification: no malleable, no small-order form is accepted.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        self.public.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = vec![self.kind.byte()];
        material.extend_from_slice(self.public.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), STANDARD.encode(material))
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerKey({self})")
    }
}

impl FromStr for LedgerKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = || NoteError::BadKey { text: text.chars().take(100).collect() };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let material = STANDARD.decode(material).map_err(|_| bad())?;
        let (kind, public) = material.split_first().ok_or_else(bad)?;
        let kind = KeyKind::from_byte(*kind)?;
        let key = Self::new(name, kind, public.try_into().map_err(|_| bad())?)?;
        if hex::encode(key.id) == id { Ok(key) } else { Err(bad()) }
    }
}

impl Serialize for LedgerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LedgerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A ledger's private key with its origin. Wiped from memory when dropped, never shown.
pub struct LedgerSigner {
    origin: String,
    key: SigningKey,
}

impl LedgerSigner {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the origin is no key name, or the system has no randomness.
    pub fn generate(origin: &str) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| NoteError::NoRandomness)?;
        Self::from_seed(origin, &seed)
    }

    /// The key with this seed.
    ///
    /// # Errors
    /// When the origin is no key name.
    pub fn from_seed(origin: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(origin)?;
        Ok(Self { origin: origin.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// Reads what [`Self::to_seed_file`] wrote (the private key line of C2SP's reference tools).
    ///
    /// # Errors
    /// When the file is missing, readable by others than its owner, or no key.
    pub fn from_seed_file(path: &Path) -> Result<Self, NoteError> {
        let failed = |source| NoteError::KeyFile { path: path.display().to_string(), source };
        if fs::metadata(path).map_err(failed)?.mode() & 0o077 != 0 {
            return Err(NoteError::KeyFileOpen { path: path.display().to_string() });
        }
        let bytes = Zeroizing::new(disk::read_limited(path, 4096).map_err(failed)?);
        let bad = || NoteError::BadKeyFile { path: path.display().to_string() };
        let text = std::str::from_utf8(&bytes).map_err(|_| bad())?.trim_end_matches('\n');
        let mut parts = text.strip_prefix(PRIVATE_PREFIX).ok_or_else(bad)?.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let material = Zeroizing::new(STANDARD.decode(material).map_err(|_| bad())?);
        let Some((kind, seed)) = material.split_first() else { return Err(bad()) };
        if *kind != KeyKind::Ed25519.byte() {
            return Err(NoteError::UnknownKeyKind { kind: *kind });
        }
        let signer = Self::from_seed(name, seed.try_into().map_err(|_| bad())?)?;
        if hex::encode(signer.key().id) == id { Ok(signer) } else { Err(bad()) }
    }

    /// Writes the key to a new file that only its owner can read, synced. Never overwrites.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn to_seed_file(&self, path: &Path) -> Result<(), NoteError> {
        let failed = |source| NoteError::KeyFile { path: path.display().to_string(), source };
        let mut material = Zeroizing::new(vec![KeyKind::Ed25519.byte()]);
        material.extend_from_slice(self.key.as_bytes());
        let secret = Zeroizing::new(STANDARD.encode(&*material));
        let id = hex::encode(self.key().id);
        let line = Zeroizing::new(format!("{PRIVATE_PREFIX}{}+{id}+{}\n", self.origin, &*secret));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()?;
            disk::sync_folder(disk::folder_of(path))
        };
        write().map_err(failed)
    }

    /// The key in this file, or a new one written there. The file's origin must be this one.
    ///
    /// # Errors
    /// As [`Self::from_seed_file`] and [`Self::to_seed_file`]; when the file is of another origin.
    pub fn load_or_generate(origin: &str, path: &Path) -> Result<Self, NoteError> {
        match Self::from_seed_file(path) {
            Ok(signer) if signer.origin == origin => Ok(signer),
            Ok(signer) => {
                Err(NoteError::OtherOrigin { expected: origin.to_owned(), found: signer.origin.clone() })
            }
            Err(NoteError::KeyFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let signer = Self::generate(origin)?;
                signer.to_seed_file(path)?;
                Ok(signer)
            }
            Err(error) => Err(error),
        }
    }

    /// The ledger's origin, which is also the key's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public key under which this ledger's checkpoints verify.
    #[must_use]
    pub fn key(&self) -> LedgerKey {
        self.public(KeyKind::Ed25519)
    }

    /// The public key under which this ledger's cosignatures of others verify.
    #[must_use]
    pub fn cosigner_key(&self) -> LedgerKey {
        self.public(KeyKind::CosignatureV1)
    }

    fn public(&self, kind: KeyKind) -> LedgerKey {
        let public = self.key.verifying_key();
        LedgerKey {
            name: self.origin.clone(),
            kind,
            id: key_id(&self.origin, kind, public.as_bytes()),
            public,
        }
    }

    pub(crate) fn duplicate(&self) -> Self {
        Self { origin: self.origin.clone(), key: self.key.clone() }
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for LedgerSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerSigner({}, key hidden)", self.origin)
    }
}

fn key_id(name: &str, kind: KeyKind, public: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[kind.byte()], public]);
    [a, b, c, d]
}

/// Key names are not empty and hold neither space nor plus nor control character (C2SP signed-note).
pub(crate) fn check_name(name: &str) -> Result<(), NoteError> {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != COSIGNATURE_HEADER
        && !name.chars().any(|char| char.is_whitespace() || char.is_control() || char == '+');
    if fits { Ok(()) } else { Err(NoteError::BadName { name: name.chars().take(100).collect() }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

    #[test]
    fn keys_of_the_reference_implementation_are_read_and_written() {
        let key: LedgerKey = GO_VKEY.parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", GO_VKEY));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, GO_SKEY).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let signer = LedgerSigner::from_seed_file(&path).unwrap();
        assert_eq!(signer.key(), key);
        let copy = folder.path().join("copy");
        signer.to_seed_file(&copy).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap().trim_end(), GO_SKEY);
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
        assert!(signer.to_seed_file(&copy).is_err(), "a key file is never overwritten");
        assert!(!format!("{signer:?}").contains("AYEK"));
    }

    #[test]
    fn changed_keys_and_open_key_files_are_refused() {
        for wrong in [
            GO_VKEY.replace("c74f", "c75f"),
            GO_VKEY.replace("Peter", "Petra"),
            GO_VKEY.replace("+ARpc", "+ARpd"),
            GO_VKEY.replace("Peter", "Pe ter"),
            "PeterNeumann+c74f20a3".to_owned(),
        ] {
            assert!(wrong.parse::<LedgerKey>().is_err(), "{wrong}");
        }
        let small_order = [0_u8; 32];
        assert!(LedgerKey::new("x", KeyKind::Ed25519, &small_order).is_err());
        assert!(LedgerSigner::generate("cosignature/v1").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = LedgerSigner::load_or_generate("a/b", &path).unwrap();
        let again = LedgerSigner::load_or_generate("a/b", &path).unwrap();
        assert_eq!(made.key(), again.key());
        assert!(matches!(LedgerSigner::load_or_generate("a/c", &path), Err(NoteError::OtherOrigin { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(LedgerSigner::from_seed_file(&path), Err(NoteError::KeyFileOpen { .. })));
    }
}

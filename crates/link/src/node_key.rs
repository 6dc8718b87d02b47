//! A node's own key (Ed25519) and the print by which others know it.
//!
//! The certificate around the key is made anew at each start and says nothing: no name, no date in it is believed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::LinkError;
use crate::files;

/// Name of the key file in a node's folder.
pub const NODE_KEY_FILE: &str = "node.key";
/// Everything before the 32 bytes of the key in an Ed25519 SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 of a node key's SubjectPublicKeyInfo. Text: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrint([u8; 32]);

impl KeyPrint {
    /// The print of a DER-encoded SubjectPublicKeyInfo.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
    /// The print of a raw Ed25519 public key.
    pub fn of_ed25519(public_key: &[u8; 32]) -> Self {
        Self::of_spki(&[&ED25519_SPKI_HEAD[..], &public_key[..]].concat())
    }
}

impl fmt::Display for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no print of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's print is 64 hexadecimal digits (SHA-256 of its SubjectPublicKeyInfo)")]
pub struct BadKeyPrint;

impl FromStr for KeyPrint {
    type Err = BadKeyPrint;
    fn from_str(text: &str) -> Result<Self, BadKeyPrint> {
        let mut raw = [0u8; 32];
        hex::decode_to_slice(text, &mut raw).map_err(|_| BadKeyPrint)?;
        Ok(Self(raw))
    }
}
impl Serialize for KeyPrint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for KeyPrint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A node's key pair with a certificate around it. Clones share the key.
#[derive(Clone)]
pub struct NodeKey {
    pair: Arc<KeyPair>,
    certificate: CertificateDer<'static>,
    print: KeyPrint,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.print)
    }
}

impl NodeKey {
    /// A new key, in memory only.
    pub fn make() -> Result<Self, LinkError> {
        Self::from_pair(KeyPair::generate_for(&PKCS_ED25519).map_err(cannot("a new node key"))?)
    }

    /// The key of this folder; made there on the first start (`node.key`, mode 0600).
    pub fn load_or_make(folder: &Path) -> Result<Self, LinkError> {
        let path = folder.join(NODE_KEY_FILE);
        if let Some(key) = Self::load(&path)? {
            return Ok(key);
        }
        let key = Self::make()?;
        key.save(&path)?;
        Ok(key)
    }

    /// The key that will replace this folder's; made on the first call, the same one afterwards, so that a rotation that
    /// was cut short can be repeated.
    pub fn make_next(folder: &Path) -> Result<Self, LinkError> {
        let path = next_path(folder);
        if let Some(key) = Self::load(&path)? {
            return Ok(key);
        }
        let key = Self::make()?;
        key.save(&path)?;
        Ok(key)
    }

    /// Puts the next key in the place of this folder's, once control has acknowledged it.
    pub fn take_next(folder: &Path) -> Result<Self, LinkError> {
        let path = folder.join(NODE_KEY_FILE);
        files::promote(&next_path(folder), &path)?;
        Self::load_or_make(folder)
    }

    fn load(path: &Path) -> Result<Option<Self>, LinkError> {
        let Some(pem) = files::read_private(path)? else { return Ok(None) };
        let what = format!("the node key in {}", path.display());
        let pair = KeyPair::from_pem(&pem).map_err(cannot(&what))?;
        if pair.algorithm() != &PKCS_ED25519 {
            return Err(cannot(&what)(std::io::Error::other("it is not an Ed25519 key")));
        }
        Self::from_pair(pair).map(Some)
    }

    fn save(&self, path: &Path) -> Result<(), LinkError> {
        files::write_private(path, &Zeroizing::new(self.pair.serialize_pem()), false)
    }

    fn from_pair(pair: KeyPair) -> Result<Self, LinkError> {
        let certificate =
            CertificateParams::default().self_signed(&pair).map_err(cannot("a node certificate"))?;
        let print = KeyPrint::of_spki(&pair.subject_public_key_info());
        Ok(Self { pair: Arc::new(pair), certificate: certificate.der().clone(), print })
    }

    /// The print by which others know this key.
    pub const fn print(&self) -> KeyPrint {
        self.print
    }

    /// The raw public key, hex.
    pub fn public_key(&self) -> String {
        hex::encode(self.pair.public_key_raw())
    }

    /// Ed25519 signature over `message`. Callers put a domain of their own before what they sign.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.pair.sign(message).map_err(cannot("a signature by the node key"))
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }
}

fn next_path(folder: &Path) -> PathBuf {
    files::sibling(&folder.join(NODE_KEY_FILE), "next")
}

fn cannot<E>(what: &str) -> impl FnOnce(E) -> LinkError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = what.to_owned();
    move |source| LinkError::Tls { what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let made = NodeKey::load_or_make(folder.path()).unwrap();
        let loaded = NodeKey::load_or_make(folder.path()).unwrap();
        assert_eq!(made.print(), loaded.print());
        assert_eq!(made.print().to_string().parse::<KeyPrint>().unwrap(), made.print());
        let mut raw = [0u8; 32];
        hex::decode_to_slice(made.public_key(), &mut raw).unwrap();
        assert_eq!(KeyPrint::of_ed25519(&raw), made.print());

        let next = NodeKey::make_next(folder.path()).unwrap();
        assert_ne!(next.print(), made.print());
        assert_eq!(NodeKey::make_next(folder.path()).unwrap().print(), next.print());
        assert_eq!(NodeKey::load_or_make(folder.path()).unwrap().print(), made.print());
        assert_eq!(NodeKey::take_next(folder.path()).unwrap().print(), next.print());
        assert_eq!(NodeKey::load_or_make(folder.path()).unwrap().print(), next.print());
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        NodeKey::load_or_make(folder.path()).unwrap();
        let path = folder.path().join(NODE_KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(NodeKey::load_or_make(folder.path()).is_err());
    }
}

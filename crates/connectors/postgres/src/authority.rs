//! Who signs the certificates that open standing roles. Its key stands in the connector's vault and nowhere else; a
//! certificate is good for minutes, for one role, and for a key that its gateway made.

use std::fmt;
use std::sync::Arc;

use halligan_connector::ConnectorError;
use halligan_core::time::Time;
use halligan_vault::Vault;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

/// The authority's own certificate is good for this many days.
const DAYS: i64 = 3650;
/// An uncompressed point of P-256 (SEC 1, 2.3.3).
const POINT: usize = 65;

/// See the module. Nothing is read before it is needed.
#[derive(Clone)]
pub struct ClientAuthority {
    vault: Arc<Vault>,
    secret: String,
}

/// What the vault keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Its common name.
    name: String,
    /// PEM.
    certificate: String,
    /// PEM.
    key: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A key that belongs to somebody else.
pub(crate) struct PublicKey([u8; POINT]);

impl PublicKey {
    /// From hex.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut point = [0; POINT];
        let whole = hex::decode_to_slice(text, &mut point).is_ok() && point.first() == Some(&4);
        whole.then_some(Self(point)).ok_or_else(|| "that is no uncompressed point of P-256".to_owned())
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl ClientAuthority {
    /// Kept as this secret.
    pub fn new(vault: Arc<Vault>, secret: &str) -> Self {
        Self { vault, secret: secret.to_owned() }
    }

    /// Its certificate, PEM; made where there is none yet.
    pub fn certificate(&self) -> Result<String, ConnectorError> {
        if let Some(kept) = self.kept()? {
            return Ok(kept.certificate.clone());
        }
        let failed = ConnectorError::key("make the authority of standing roles");
        let mut word = [0; 4];
        getrandom::fill(&mut word).map_err(|_| ConnectorError::Randomness)?;
        // Servers may trust several: each has a name of its own.
        let name = format!("Halligan, standing database roles, {}", hex::encode(word));
        let made = (|| {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = own_params(&name);
            let now = OffsetDateTime::now_utc();
            params.not_before = now - time::Duration::days(1);
            params.not_after = now + time::Duration::days(DAYS);
            let certificate = params.self_signed(&key)?.pem();
            Ok::<_, rcgen::Error>(Kept { name, certificate, key: key.serialize_pem() })
        })();
        let kept = made.map_err(failed)?;
        let bytes = Zeroizing::new(serde_json::to_vec(&kept).map_err(ConnectorError::key("keep a key"))?);
        self.vault.put(&self.secret, &bytes).map_err(ConnectorError::key("open the vault"))?;
        Ok(kept.certificate.clone())
    }

    /// Signs for a role, from `after` until `before`, to the second. PEM.
    pub(crate) fn sign(
        &self,
        role: &str,
        key: &impl PublicKeyData,
        serial: u64,
        after: Time,
        before: Time,
    ) -> Result<String, ConnectorError> {
        const WHAT: &str = "sign a certificate for a standing role";
        let kept = self.kept()?.ok_or_else(|| {
            ConnectorError::refused(
                "this connector signs no certificates for standing roles yet: `halligan connector postgres-setup --prepared` makes its authority",
            )
        })?;
        let signing = KeyPair::from_pem(&kept.key).map_err(ConnectorError::key(WHAT))?;
        let issuer = Issuer::new(own_params(&kept.name), signing);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, role);
        params.serial_number = Some(SerialNumber::from(serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = seconds(after).map_err(ConnectorError::key(WHAT))?;
        params.not_after = seconds(before).map_err(ConnectorError::key(WHAT))?;
        Ok(params.signed_by(key, &issuer).map_err(ConnectorError::key(WHAT))?.pem())
    }

    /// A certificate with a key of our own, for a look: PEM of both.
    pub(crate) fn probe(
        &self,
        role: &str,
        serial: u64,
        after: Time,
        before: Time,
    ) -> Result<(String, Zeroizing<String>, String), ConnectorError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(ConnectorError::key("make a key for a look"))?;
        let certificate = self.sign(role, &key, serial, after, before)?;
        Ok((certificate, Zeroizing::new(key.serialize_pem()), fingerprint(key.public_key_raw())))
    }

    fn kept(&self) -> Result<Option<Kept>, ConnectorError> {
        let found = self.vault.get(&self.secret).map_err(ConnectorError::key("open the vault"))?;
        let read = |bytes: Zeroizing<Vec<u8>>| serde_json::from_slice(&bytes);
        found.map(read).transpose().map_err(ConnectorError::key("read the authority of standing roles"))
    }
}

/// SHA-256 of a point, hex.
pub(crate) fn fingerprint(point: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(point))
}

fn own_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn seconds(at: Time) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(at.micros().div_euclid(1_000_000))
}

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuthority({})", self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halligan_vault::VaultKey;

    #[test]
    fn it_is_made_once_and_its_key_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let key = VaultKey::read_or_make(&folder.path().join("key")).unwrap();
        let vault = Arc::new(Vault::new(folder.path().to_owned(), key));
        let authority = ClientAuthority::new(Arc::clone(&vault), "postgres-ca");
        let (after, before) = (Time::from_micros(0), Time::from_micros(60_000_000));
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let point = PublicKey::read(&hex::encode(other.public_key_raw())).unwrap();
        assert!(authority.sign("r", &point, 1, after, before).is_err(), "signing makes no authority");
        let first = authority.certificate().unwrap();
        assert_eq!(authority.certificate().unwrap(), first);
        let signed = authority.sign("halligan_prep_01_x", &point, 7, after, before).unwrap();
        assert!(signed.contains("BEGIN CERTIFICATE"));
        let sealed = std::fs::read(vault.path("postgres-ca").unwrap()).unwrap();
        assert!(!sealed.windows(7).any(|piece| piece == b"PRIVATE"));
        for bad in ["", "04", &"05".repeat(65), &format!("02{}", "00".repeat(64)), &"zz".repeat(65)] {
            assert!(PublicKey::read(bad).is_err(), "{bad}");
        }
    }
}

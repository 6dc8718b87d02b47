//! The authority that signs client certificates of `halligan login` (X.509): for tools that speak TLS, as databases' do.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_core::ids::PersonId;
use halligan_core::time::{Span, Time};
use halligan_ledger::disk;
use halligan_session::roster::CLIENT_CA_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use zeroize::Zeroizing;

use crate::error::ControlError;

/// What stands before the point in every SubjectPublicKeyInfo of NIST P-256 (RFC 5480): all that is signed here.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The first byte of a point that is not compressed.
const UNCOMPRESSED: u8 = 4;

/// The authority.
pub struct ClientCa {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate: DER, base64.
    certificate: String,
}

/// A key that a person's machine made, of which only this half left it.
struct ClientKey([u8; 65]);

impl PublicKeyData for ClientKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl ClientCa {
    /// Loads the key, or makes one.
    pub fn load_or_make(path: &Path) -> Result<Self, ControlError> {
        let what = || format!("use {}", path.display());
        let key = match disk::read_if_present(path, 4096).map_err(ControlError::local(what()))? {
            Some(text) => {
                let text = Zeroizing::new(text);
                KeyPair::from_pem(std::str::from_utf8(&text).map_err(ControlError::local(what()))?)
                    .map_err(ControlError::local(what()))?
            }
            None => {
                let key =
                    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(ControlError::local(what()))?;
                let text = Zeroizing::new(key.serialize_pem());
                disk::write_atomic(path, text.as_bytes(), 0o600).map_err(ControlError::local(what()))?;
                key
            }
        };
        let mut own = CertificateParams::default();
        own.distinguished_name = named(CLIENT_CA_NAME);
        own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // It stands in a signed roster and goes with it.
        own.not_before = rcgen::date_time_ymd(2020, 1, 1);
        own.not_after = rcgen::date_time_ymd(2120, 1, 1);
        let certificate = STANDARD.encode(own.self_signed(&key).map_err(ControlError::local(what()))?.der());
        Ok(Self { issuer: Issuer::new(own, key), certificate })
    }

    /// Its own certificate, as rosters carry it.
    pub fn certificate(&self) -> String {
        self.certificate.clone()
    }

    /// A certificate (PEM) by which `person` may log in with the key `public` (DER), from `now` for `lifetime`.
    pub fn sign(
        &self,
        person: &PersonId,
        public: &[u8],
        now: Time,
        lifetime: Span,
    ) -> Result<String, ControlError> {
        let point = public.strip_prefix(&P256_PREFIX).and_then(|point| <[u8; 65]>::try_from(point).ok());
        let key = point.filter(|point| point.first() == Some(&UNCOMPRESSED)).map(ClientKey);
        let key =
            key.ok_or_else(|| ControlError::said("sign the key", "only keys of NIST P-256 are taken"))?;
        let mut one = CertificateParams::default();
        one.distinguished_name = named(person.as_str());
        one.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        one.use_authority_key_identifier_extension = true;
        let at = |time: Time| {
            let seconds = u64::try_from(time.micros() / 1_000_000).unwrap_or(0);
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        // Gateways' clocks may be behind.
        one.not_before = at(now.minus(Span::seconds(60)));
        one.not_after = at(now.plus(lifetime));
        let mut serial = [0u8; 16];
        getrandom::fill(&mut serial).map_err(ControlError::local("draw randomness"))?;
        if let Some(first) = serial.first_mut() {
            // Positive, and as long as any other.
            *first = (*first & 0x3f) | 0x40;
        }
        one.serial_number = Some(serial.to_vec().into());
        let made = one.signed_by(&key, &self.issuer).map_err(ControlError::local("make the certificate"))?;
        Ok(made.pem())
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_kept_and_signs_keys_of_one_kind_for_a_name() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client_ca");
        let first = ClientCa::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ClientCa::load_or_make(&path).unwrap();
        let key = |ca: &ClientCa| ca.issuer.key().subject_public_key_info();
        assert_eq!(key(&first), key(&again));
        let person = PersonId::new("ana").unwrap();
        let now = Time::from_micros(1_772_445_600_000_000);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let made = first.sign(&person, &key.subject_public_key_info(), now, Span::hours(1)).unwrap();
        assert!(made.starts_with("-----BEGIN CERTIFICATE-----"));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let cut = key.subject_public_key_info()[1..].to_vec();
        for bad in [other.subject_public_key_info(), cut, Vec::new()] {
            assert!(first.sign(&person, &bad, now, Span::hours(1)).is_err());
        }
    }
}

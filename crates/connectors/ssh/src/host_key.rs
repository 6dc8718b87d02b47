//! Which host keys a target may show: those that the catalog pins, or a certificate of a pinned host authority. Nothing
//! is trusted because it was seen first.

use std::borrow::Cow;

use russh::Preferred;
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

/// The pinned keys of one target.
#[derive(Clone, Debug, Default)]
pub struct HostKeys {
    keys: Vec<KeyData>,
    authorities: Vec<KeyData>,
}

impl HostKeys {
    /// Reads lines `ssh-ed25519 AAAA…` and `@cert-authority ssh-ed25519 AAAA…`. The error says which line is no key.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let mut pinned = Self::default();
        for line in lines {
            let (list, text) = match line.trim().strip_prefix("@cert-authority") {
                Some(rest) => (&mut pinned.authorities, rest.trim()),
                None => (&mut pinned.keys, line.trim()),
            };
            let key = PublicKey::from_openssh(text)
                .map_err(|error| format!("a pinned host key cannot be read: {error}"))?;
            list.push(key.key_data().clone());
        }
        if pinned.keys.is_empty() && pinned.authorities.is_empty() {
            return Err("no host key is pinned for this target".to_owned());
        }
        Ok(pinned)
    }

    /// Whether a host of this name may show this at `now` (seconds since 1970). The key exchange has proved that it holds
    /// the key.
    pub fn accept(&self, shown: &PublicKeyOrCertificate, host: &str, now: u64) -> bool {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.keys.contains(key.key_data()),
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.keys.contains(certificate.public_key()) || self.vouched(certificate, host, now)
            }
        }
    }

    // One level only: the authority is a raw key that stands in the list (an authority that is itself a certificate never
    // does), and an option we do not know makes the certificate void (PROTOCOL.certkeys).
    fn vouched(&self, certificate: &Certificate, host: &str, now: u64) -> bool {
        certificate.cert_type() == CertType::Host
            && self.authorities.contains(certificate.signature_key())
            && certificate.valid_principals().iter().any(|name| name == host)
            && certificate.critical_options().is_empty()
            && certificate
                .validate_at(now, [&certificate.signature_key().fingerprint(HashAlg::Sha256)])
                .is_ok()
    }

    /// Asks the target for a kind of key that is pinned, so that one with several does not show another.
    pub fn preferred(&self) -> Preferred {
        let mut kinds: Vec<Algorithm> = Vec::new();
        for key in &self.keys {
            let these = match key.algorithm() {
                Algorithm::Rsa { .. } => vec![
                    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
                    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
                ],
                other => vec![other],
            };
            kinds.extend(these.into_iter().filter(|kind| !kinds.contains(kind)).collect::<Vec<_>>());
        }
        let mut preferred = Preferred::DEFAULT;
        if !self.authorities.is_empty() {
            preferred.host_key_certificates = preferred.key.clone();
        }
        if !kinds.is_empty() {
            preferred.key = Cow::Owned(kinds);
        }
        preferred
    }
}

/// `SHA256:…`, as OpenSSH prints it.
pub fn fingerprint(shown: &PublicKeyOrCertificate) -> String {
    shown.public_key().fingerprint(HashAlg::Sha256).to_string()
}

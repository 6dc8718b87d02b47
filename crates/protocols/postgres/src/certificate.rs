//! Certificates: the one that clients see, and how a server's is checked. There is no trust on first use.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use halligan_session::roster::CLIENT_CA_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;
use zeroize::Zeroizing;

/// The protocol's name in TLS (ALPN), which clients must say when TLS begins without asking.
pub(crate) const ALPN: &[u8] = b"postgresql";
/// A self-made certificate is good for this many days; clients pin it, so that its dates matter little.
const DAYS: i64 = 3650;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("failed to use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} holds no usable {what} (PEM)", path.display())]
    Content { path: PathBuf, what: &'static str },
    #[error("failed to make a certificate")]
    Make(#[source] rcgen::Error),
    #[error("failed to use the certificate with its key")]
    Fit(#[source] rustls::Error),
}

/// The certificate that clients see.
pub(crate) struct Own {
    pub(crate) tls: Arc<ServerConfig>,
    /// For channel binding; none if there is no hash for its kind of signature.
    pub(crate) binding: Option<Vec<u8>>,
    /// PEM, with who signed it where that is known.
    pub(crate) pem: String,
}

impl Own {
    /// From files; where both are missing they are made, for these names.
    pub(crate) fn load_or_make(chain: &Path, key: &Path, names: &[String]) -> Result<Self, CertificateError> {
        if !chain.exists() && !key.exists() {
            make(chain, key, names)?;
        }
        let wrong = |path: &Path, what| CertificateError::Content { path: path.to_owned(), what };
        let pem = read(chain)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong(chain, "certificate"))?;
        let binding = certificates.first().ok_or_else(|| wrong(chain, "certificate"))?;
        let binding = end_point_hash(binding);
        let secret = Zeroizing::new(read(key)?);
        let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| wrong(key, "private key"))?;
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Fit)?
            .with_client_cert_verifier(Arc::new(Asked::new()))
            .with_single_cert(certificates, secret)
            .map_err(CertificateError::Fit)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL's clients never resume: tickets would be made for nobody.
        tls.send_tls13_tickets = 0;
        Ok(Self { tls: Arc::new(tls), binding, pem: String::from_utf8_lossy(&pem).into_owned() })
    }
}

/// A key for one login by certificate. It is made here and goes nowhere.
pub(crate) struct LoginKey(rcgen::KeyPair);

impl LoginKey {
    pub(crate) fn make() -> Result<Self, CertificateError> {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(CertificateError::Make)
    }

    /// The point, uncompressed, hex.
    pub(crate) fn public(&self) -> String {
        hex::encode(self.0.public_key_raw())
    }

    /// Settings of TLS that show this certificate, with all else as in `checked`.
    pub(crate) fn show(&self, checked: &ClientConfig, certificate: &str) -> Result<ClientConfig, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| "the connector's certificate cannot be read".to_owned())?;
        let key = PrivateKeyDer::Pkcs8(self.0.serialize_der().into());
        let provider = provider();
        let signing = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
        let certified = rustls::sign::CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|_| "the connector's certificate is for another key".to_owned())?;
        let mut config = checked.clone();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        // Nobody resumes what a certificate of minutes has opened.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// Clients are asked for a certificate, and need none. Here it is only seen to that whoever shows one of the login authority's
/// holds its key: whose it is, and whether it is good, is the gateway's to say, by the roster of that moment and with a
/// sentence. What else is shown (as old a form as X.509 version 1) counts as nothing, and stops nobody who has a password.
#[derive(Debug)]
struct Asked {
    provider: Arc<CryptoProvider>,
    whose: Vec<DistinguishedName>,
}

impl Asked {
    fn new() -> Self {
        Self { provider: provider(), whose: vec![DistinguishedName::from(login_authority())] }
    }
}

impl ClientCertVerifier for Asked {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.whose
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !of_login_authority(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !of_login_authority(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate says that the login authority signed it. Others (tools show what lies in `~/.postgresql`) are as
/// good as none.
pub(crate) fn of_login_authority(certificate: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.issuer().as_raw() == login_authority())
}

/// The authority's name as it stands in certificates (RFC 5280 section 4.1.2.4): one CN, a UTF8String.
fn login_authority() -> Vec<u8> {
    let name = CLIENT_CA_NAME.as_bytes();
    let length = |more: usize| (name.len() + more) as u8;
    let around = [0x30, length(11), 0x31, length(9), 0x30, length(7), 6, 3, 0x55, 4, 3, 0x0c, length(0)];
    [&around[..], name].concat()
}

/// A key and certificate that this end shows.
pub(crate) fn shown(
    certificate: &str,
    key: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "the client certificate cannot be read".to_owned())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    Ok((certificates, key.map_err(|_| "the key of the client certificate cannot be read".to_owned())?))
}

/// How a target's certificate is checked: signed by one of these, or one of these itself.
pub(crate) fn client_config(server_ca: &str) -> Result<ClientConfig, String> {
    client_config_with(server_ca, None)
}

/// The same, for an end that shows a certificate (PEM) with its key (PEM).
pub(crate) fn client_config_with(server_ca: &str, own: Option<(&str, &str)>) -> Result<ClientConfig, String> {
    let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(server_ca.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "the catalog's `server_ca` is not PEM".to_owned())?;
    let mut store = RootCertStore::empty();
    let (added, _ignored) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return Err("the catalog's `server_ca` holds no certificate".to_owned());
    }
    let provider = provider();
    let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
        .build()
        .map_err(|error| format!("the catalog's `server_ca` cannot be used: {error}"))?;
    let verifier = Arc::new(Verifier { pinned: roots, signed, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some((certificate, key)) => {
            let (certificates, key) = shown(certificate, key)?;
            config.with_client_auth_cert(certificates, key).map_err(|error| error.to_string())?
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// A server's certificate is good if one of the catalog's signed it for this name, or if it is one of the catalog's:
/// many servers have one that nobody else signed.
#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.signed.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929 section 4.1): the certificate under the hash of its own signature, SHA-256 in place
/// of MD5 and SHA-1. None where the signature has no such hash (Ed25519).
pub(crate) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let oid = match SignatureAlgorithm::try_from(&parsed.signature_algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => parameters.hash_algorithm_oid().to_id_string(),
        _ => parsed.signature_algorithm.algorithm.to_id_string(),
    };
    match oid.as_str() {
        // MD5, SHA-1 and SHA-256: with RSA, with ECDSA, and alone.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "1.3.14.3.2.26"
        | "2.16.840.1.101.3.4.2.1" => Some(Sha256::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(Sha384::digest(certificate).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

fn make(chain: &Path, key: &Path, names: &[String]) -> Result<(), CertificateError> {
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.extend(names.iter().filter(|name| !name.is_empty()).cloned());
    all.sort();
    all.dedup();
    let mut parameters = rcgen::CertificateParams::new(all).map_err(CertificateError::Make)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Halligan, self-made");
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // Clients' clocks may be behind.
    let day = |from_today: i64| {
        let day = today.saturating_add(jiff::Span::new().days(from_today));
        rcgen::date_time_ymd(i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
    };
    parameters.not_before = day(-1);
    parameters.not_after = day(DAYS);
    let pair = rcgen::KeyPair::generate().map_err(CertificateError::Make)?;
    let certificate = parameters.self_signed(&pair).map_err(CertificateError::Make)?;
    let secret = Zeroizing::new(pair.serialize_pem());
    // The key first: a certificate without its key would never be replaced.
    private(key, secret.as_bytes())?;
    private(chain, certificate.pem().as_bytes())
}

/// Writes a file that only its owner reads; whole or not at all.
fn private(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let fresh = path.with_extension("new");
        let _none_before = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_certificate_is_kept_its_key_is_private_and_it_can_be_bound_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("postgres.pem"), folder.path().join("postgres.key"));
        let made = Own::load_or_make(&chain, &key, &["db.example.org".to_owned()]).unwrap();
        let again = Own::load_or_make(&chain, &key, &[]).unwrap();
        assert_eq!(made.pem, again.pem);
        assert_eq!(made.binding.unwrap().len(), 32);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&chain).unwrap();
        assert!(Own::load_or_make(&chain, &key, &[]).is_err(), "half a pair is no reason to make another");
        assert!(client_config(&made.pem).is_ok());
        assert!(client_config("nothing").is_err());
    }
}

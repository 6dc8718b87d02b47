//! Which servers are believed: those of the system's authorities, those of an own authority, or one certificate alone.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};

use crate::error::ClientError;

/// SHA-256 of a certificate (DER), written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificatePrint(pub [u8; 32]);

impl CertificatePrint {
    /// The print of this certificate (DER).
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}
impl fmt::Display for CertificatePrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl fmt::Debug for CertificatePrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for CertificatePrint {
    type Err = ClientError;
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let mut print = [0u8; 32];
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        hex::decode_to_slice(&digits, &mut print).map_err(|_| ClientError::Trust {
            why: "a certificate's print is 64 hexadecimal digits (SHA-256)".to_owned(),
        })?;
        Ok(Self(print))
    }
}

/// Which servers are believed.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Those with a certificate of an authority that this system trusts.
    #[default]
    System,
    /// The one with exactly this certificate; its names and dates do not matter then.
    Certificate(CertificatePrint),
    /// Those with a certificate of this authority (PEM).
    Authority(String),
}

impl Trust {
    pub(crate) fn config(&self) -> Result<ClientConfig, ClientError> {
        let wrong = |why: String| ClientError::Trust { why };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(match self {
            Self::System => builder
                .with_platform_verifier()
                .map_err(|error| wrong(error.to_string()))?
                .with_no_client_auth(),
            Self::Authority(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(wrong("there is no certificate in the authority's file".to_owned()));
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Certificate(print) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { print: *print, provider }))
                .with_no_client_auth(),
        })
    }
}

/// Believes one certificate. The handshake's signature is checked all the same: knowing a certificate is not having its key.
#[derive(Debug)]
struct Pinned {
    print: CertificatePrint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if CertificatePrint::of(end_entity) == self.print {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// As it came, DER. Nobody has vouched for it.
    pub der: Vec<u8>,
}

impl ShownCertificate {
    /// What a person compares, and what is pinned.
    pub fn print(&self) -> CertificatePrint {
        CertificatePrint::of(&self.der)
    }
}

/// Asks a server for its certificate and hangs up: nothing is sent to it. For the first meeting, where a person compares
/// the print with what the server said at its start. None where the address is plain HTTP.
pub async fn look_at_certificate(address: &str) -> Result<Option<ShownCertificate>, ClientError> {
    let wrong = |why: String| ClientError::Trust { why };
    let url = url::Url::parse(address)
        .map_err(|_| ClientError::Address { address: address.chars().take(200).collect() })?;
    if url.scheme() != "https" {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let looker = Arc::new(Looker { seen: Mutex::default(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(looker.clone())
        .with_no_client_auth();
    let http = reqwest::ClientBuilder::new()
        .tls_backend_preconfigured(config)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(10))
        .no_proxy()
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let outcome = http.get(url.clone()).send().await;
    let seen = looker.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, outcome) {
        (Some(der), _) => Ok(Some(ShownCertificate { der })),
        (None, Err(source)) => Err(ClientError::Unreachable {
            server: url.origin().ascii_serialization(),
            source: source.without_url(),
        }),
        (None, Ok(_)) => Err(wrong("the server showed no certificate".to_owned())),
    }
}

/// Keeps the certificate and believes nobody.
#[derive(Debug)]
struct Looker {
    seen: Mutex<Option<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

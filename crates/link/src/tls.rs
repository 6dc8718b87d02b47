//! Mutual TLS 1.3 between nodes. A key is accepted by its print alone, exactly; the handshake's signature proves that the
//! other side holds it. Names, dates and issuers in certificates are not looked at, sessions are never resumed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::allowed::Allowed;
use crate::error::LinkError;
use crate::messages::PeerInfo;
use crate::node_key::{KeyPrint, NodeKey};
use crate::peer::{Handler, Peer, Timing};

/// ALPN of a link.
pub(crate) const LINK_PROTOCOL: &[u8] = b"halligan-link/1";
/// ALPN of a connection that may do nothing but join.
pub(crate) const JOIN_PROTOCOL: &[u8] = b"halligan-join/1";
/// What a listener says first, once it has accepted the key. (In TLS 1.3 the side that dials is done before it knows.)
pub(crate) const ACCEPTED: &[u8; 8] = b"HLGLINK1";
/// For dialling and the handshake, each.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Where a node is and which keys it may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Who it is, from the roster or the root file.
    pub info: PeerInfo,
    /// `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// Prints of its keys; two while it rotates.
    pub keys: Vec<KeyPrint>,
}

/// Dials a node. It has accepted our key when this returns.
pub async fn connect(
    destination: &Destination,
    key: &NodeKey,
    handler: Arc<dyn Handler>,
    timing: Timing,
) -> Result<Peer, LinkError> {
    let mut last = LinkError::Refused {
        address: destination.info.to_string(),
        why: "no address of it is known".to_owned(),
    };
    for address in &destination.addresses {
        match dial_link(address, key, &destination.keys).await {
            Ok(stream) => return Ok(Peer::start(stream, destination.info.clone(), handler, timing)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_link(
    address: &str,
    key: &NodeKey,
    expected: &[KeyPrint],
) -> Result<TlsStream<TcpStream>, LinkError> {
    let mut stream = dial(address, key, expected, LINK_PROTOCOL).await?;
    let mut word = [0u8; ACCEPTED.len()];
    let refused = |why: String| LinkError::Refused { address: address.to_owned(), why };
    let own = key.print();
    match timeout(HANDSHAKE_TIME, stream.read_exact(&mut word)).await {
        Ok(Ok(_)) if word == *ACCEPTED => Ok(stream),
        Ok(Ok(_)) => Err(refused("it speaks something else than a Halligan link".to_owned())),
        Ok(Err(error)) => Err(refused(format!("it may not know this node's key {own} ({error})"))),
        Err(_) => Err(refused(format!(
            "it did not say within {} s whether this node may come in",
            HANDSHAKE_TIME.as_secs()
        ))),
    }
}

/// Dials with TLS and the given ALPN; the other side has proved to hold one of the expected keys.
pub(crate) async fn dial(
    address: &str,
    key: &NodeKey,
    expected: &[KeyPrint],
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, LinkError> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
    let tcp = timeout(HANDSHAKE_TIME, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(LinkError::io(format!("connect to {address}")))?;
    tcp.set_nodelay(true).map_err(LinkError::io(format!("set up the connection to {address}")))?;
    let verifier = Arc::new(PinnedServer {
        keys: expected.to_vec(),
        algorithms: provider().signature_verification_algorithms,
        found: Mutex::default(),
    });
    let connector = TlsConnector::from(Arc::new(client_config(key, Arc::clone(&verifier), protocol)?));
    let name = ServerName::try_from("halligan-node")
        .map_err(|error| LinkError::Tls { what: address.to_owned(), source: Box::new(error) })?;
    let stream = timeout(HANDSHAKE_TIME, connector.connect(name, tcp)).await.unwrap_or_else(|_| Err(late()));
    let wrong = verifier.found.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (stream, wrong) {
        (Ok(stream), None) if stream.get_ref().1.alpn_protocol() == Some(protocol) => Ok(stream),
        (_, Some(found)) => {
            Err(LinkError::WrongKey { address: address.to_owned(), found: found.to_string() })
        }
        (Ok(_), None) => Err(LinkError::Refused {
            address: address.to_owned(),
            why: "it does not speak this protocol of a Halligan link".to_owned(),
        }),
        (Err(error), None) => Err(LinkError::io(format!("agree on TLS with {address}"))(error)),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn tls_error(what: &str) -> impl FnOnce(TlsError) -> LinkError {
    let what = what.to_owned();
    move |source| LinkError::Tls { what, source: Box::new(source) }
}

fn client_config(
    key: &NodeKey,
    verifier: Arc<PinnedServer>,
    protocol: &[u8],
) -> Result<ClientConfig, LinkError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error("dialling"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(key.chain(), key.private())
        .map_err(tls_error("dialling"))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// For a listener: who may come in by which ALPN. Without `allowed` any key may, to join.
pub(crate) fn server_config(
    key: &NodeKey,
    allowed: Option<Arc<dyn Allowed>>,
) -> Result<ServerConfig, LinkError> {
    let protocol = if allowed.is_some() { LINK_PROTOCOL } else { JOIN_PROTOCOL };
    let verifier =
        Arc::new(KnownClient { allowed, algorithms: provider().signature_verification_algorithms });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error("listening"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(key.chain(), key.private())
        .map_err(tls_error("listening"))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session would skip the look at the key.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The print of the key in a certificate, read by the same parser that checks the handshake's signature.
pub(crate) fn print_of(certificate: &CertificateDer<'_>) -> Result<KeyPrint, TlsError> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(KeyPrint::of_spki(&parsed.subject_public_key_info()))
}

fn not_known() -> TlsError {
    TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

fn only_one(intermediates: &[CertificateDer<'_>]) -> Result<(), TlsError> {
    if intermediates.is_empty() { Ok(()) } else { Err(not_known()) }
}

/// Accepts a listener that shows one of the expected keys.
#[derive(Debug)]
struct PinnedServer {
    keys: Vec<KeyPrint>,
    algorithms: WebPkiSupportedAlgorithms,
    /// The key that was refused, for the error message.
    found: Mutex<Option<KeyPrint>>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        only_one(intermediates)?;
        let print = print_of(end_entity)?;
        if self.keys.contains(&print) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(print);
        Err(not_known())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("links speak TLS 1.3 only".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Accepts a node whose key is allowed; or, to join, any key that was proved.
struct KnownClient {
    allowed: Option<Arc<dyn Allowed>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for KnownClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.allowed.is_some() { "KnownClient" } else { "AnyClient" })
    }
}

impl ClientCertVerifier for KnownClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        only_one(intermediates)?;
        let print = print_of(end_entity)?;
        match &self.allowed {
            Some(allowed) if allowed.find(&print).is_none() => Err(not_known()),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("links speak TLS 1.3 only".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

//! TLS to a server whose certificate the pinned authority must have signed, for the name that the catalog gives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use halligan_connector::ConnectorError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as RustlsStream;

/// Whom to trust, by which name.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A client certificate, PEM: chain and key.
pub type ClientCertificate<'a> = Option<(&'a [u8], &'a [u8])>;

impl Tls {
    /// Trusts the certificates of `authority` (PEM), and no others, for this server name.
    pub fn new(authority: &str, name: &str, client: ClientCertificate<'_>) -> Result<Self, ConnectorError> {
        let bad = ConnectorError::refused;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            let certificate =
                certificate.map_err(|error| bad(format!("the pinned server CA cannot be read: {error}")))?;
            roots
                .add(certificate)
                .map_err(|error| bad(format!("the pinned server CA cannot be used: {error}")))?;
        }
        if roots.is_empty() {
            return Err(bad(
                "no server CA is pinned: who signed the server's certificate must stand in the catalog"
                    .to_owned(),
            ));
        }
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| bad(format!("`{name}` is no name that a server's certificate can have")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ConnectorError::key("set up TLS"))?
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.map_err(ConnectorError::key("read the connector's client certificate"))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(ConnectorError::key("read the key of the connector's client certificate"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(ConnectorError::key("use the connector's client certificate"))?
            }
        };
        Ok(Self { config: Arc::new(config), name })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Self;
    type Error = std::convert::Infallible;

    /// The name to dial says nothing about the name to trust.
    fn make_tls_connect(&mut self, _host: &str) -> Result<Self, Self::Error> {
        Ok(self.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let handshake = TlsConnector::from(self.config).connect(self.name, stream);
        Box::pin(async move { Ok(Stream(Box::new(handshake.await?))) })
    }
}

/// An encrypted stream. The type is ours because the trait is not.
pub struct Stream<S>(Box<RustlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is verified by a pinned authority; SCRAM without binding.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! A client that says exactly what a test wants it to say.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use halligan_protocol_postgres::codec::{Version, Writer, first_field};
use halligan_protocol_postgres::scram::{ClientFirst, ClientKeys, nonce};
use halligan_session::Secret;
use halligan_session::scram::{ScramKeys, ScramSalt, client_key_of_password};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::*;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Raw {
    pub stream: Box<dyn Stream>,
    pub buffer: BytesMut,
    /// From BackendKeyData.
    pub key: (u32, Vec<u8>),
}

impl Raw {
    pub async fn plain(world: &World) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        Self { stream: Box::new(stream), buffer: BytesMut::new(), key: (0, Vec::new()) }
    }

    /// TLS from the first byte.
    pub async fn direct_tls(world: &World, alpn: Option<&[u8]>) -> std::io::Result<Self> {
        let root = std::fs::read(world.folder.path().join("root.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        let stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
        Ok(Self { stream: Box::new(stream), buffer: BytesMut::new(), key: (0, Vec::new()) })
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn startup(&mut self, version: Version, parameters: &[(&str, &str)]) {
        let mut out = BytesMut::new();
        Writer(&mut out).startup(version, parameters);
        self.send(&out).await;
    }

    /// The next message: kind and body. None at the end.
    pub async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let within = Duration::from_secs(20);
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize;
                if self.buffer.len() > length {
                    let kind = self.buffer[0];
                    self.buffer.advance(5);
                    return Some((kind, self.buffer.split_to(length - 4).to_vec()));
                }
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(within, read).await.expect("the gateway says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads up to a message of this kind, or to the end; gives the kinds that came, and the last body.
    pub async fn until(&mut self, kind: u8) -> (String, Vec<u8>) {
        let mut kinds = String::new();
        let mut last = Vec::new();
        while let Some((came, body)) = self.message().await {
            kinds.push(char::from(came));
            last = body;
            if came == kind {
                break;
            }
        }
        (kinds, last)
    }

    /// Reads on to an error and gives its code and words.
    pub async fn error(&mut self) -> (String, String) {
        let (kinds, body) = self.until(b'E').await;
        assert!(kinds.ends_with('E'), "no error came: {kinds}");
        let field = |kind| text(first_field(&body, kind).unwrap_or_default());
        (field(b'C'), field(b'M'))
    }

    /// Proves that it knows `password`, after the startup packet.
    pub async fn prove(&mut self, login: &str, password: &str, world: &World) {
        use halligan_session::ControlPlane as _;
        let (kind, _) = self.message().await.unwrap();
        assert_eq!(kind, b'R');
        let salt: ScramSalt = world.gateway.scram_salt(login);
        let secret = Secret::new(password.to_owned());
        let client_key = client_key_of_password(&secret, &salt);
        let keys = ScramKeys::from_password(&secret, &salt);
        let first = ClientFirst::new(&["SCRAM-SHA-256"], None, false, &nonce(&[7; 18])).unwrap();
        let mut out = BytesMut::new();
        Writer(&mut out).sasl_initial_response(first.mechanism, &first.message);
        self.send(&out).await;
        let Some((b'R', challenge)) = self.message().await else { panic!("no challenge") };
        let sent = first
            .prove(
                &challenge[4..],
                ClientKeys { client_key: client_key.expose(), server_key: &keys.server_key },
            )
            .unwrap();
        let mut out = BytesMut::new();
        Writer(&mut out).sasl_response(&sent.message);
        self.send(&out).await;
    }

    /// Logs in and reads up to the first ReadyForQuery.
    pub async fn ready(world: &World, version: Version) -> Self {
        let mut raw = Self::plain(world).await;
        raw.startup(version, &[("user", LOGIN), ("database", "orders")]).await;
        if version != Version::V3_0 && version != Version::V3_2 {
            assert_eq!(raw.message().await.unwrap().0, b'v');
        }
        raw.prove(LOGIN, PASSWORD, world).await;
        loop {
            let (kind, body) = raw.message().await.expect("no login");
            match kind {
                b'K' => raw.key = (u32::from_be_bytes(body[..4].try_into().unwrap()), body[4..].to_vec()),
                b'Z' => return raw,
                b'E' => panic!("{}", text(&body)),
                _ => {}
            }
        }
    }

    pub async fn query(&mut self, sql: &str) {
        let mut out = BytesMut::new();
        Writer(&mut out).query(sql);
        self.send(&out).await;
    }
}

/// Appends a message.
pub fn put(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_u32(4 + body.len() as u32);
    out.put_slice(body);
}

pub fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    put(out, b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat());
}

/// One text parameter.
pub fn bind(out: &mut BytesMut, statement: &str, value: &str) {
    let length = (value.len() as u32).to_be_bytes();
    put(
        out,
        b'B',
        &[b"\0", statement.as_bytes(), b"\0\0\0\0\x01", &length, value.as_bytes(), b"\0\0"].concat(),
    );
}

pub fn execute(out: &mut BytesMut) {
    put(out, b'E', b"\0\0\0\0\0");
}

pub fn sync(out: &mut BytesMut) {
    put(out, b'S', b"");
}

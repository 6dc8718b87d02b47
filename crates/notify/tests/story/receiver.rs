//! A receiver of webhooks: a plain HTTP/1.1 server, with or without TLS, that answers as told and keeps what came.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

#[derive(Clone, Debug)]
pub struct Received {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Receiver {
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    answer: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn plain() -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// On a port that was free a moment ago.
    pub async fn plain_on(port: u16) -> Self {
        Self::start(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), None)
    }

    /// With TLS; its authority is written to `authority`.
    pub async fn tls(authority: &Path) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::<String>::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "webhook authority for tests");
        std::fs::write(authority, root.self_signed(&authority_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(root, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        Self::start(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Some(TlsAcceptor::from(Arc::new(config))),
        )
    }

    fn start(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(Mutex::new(answer("204 No Content", "", "")));
        let (keep, say) = (Arc::clone(&received), Arc::clone(&answer));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, keep, say) = (tls.clone(), Arc::clone(&keep), Arc::clone(&say));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &keep, &say).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &keep, &say).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, received, answer, task }
    }

    /// From now on it answers this: status, further header lines, body.
    pub fn answers(&self, status: &str, headers: &str, body: &str) {
        *self.answer.lock().unwrap() = answer(status, headers, body);
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length =
        if status.starts_with("204") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status}\r\n{length}{headers}\r\n{body}")
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    keep: &Mutex<Vec<Received>>,
    say: &Mutex<String>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        buffer.drain(..end + 4);
        while buffer.len() < length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        let body = buffer.drain(..length).collect();
        keep.lock().unwrap().push(Received { line, headers, body });
        let text = say.lock().unwrap().clone();
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

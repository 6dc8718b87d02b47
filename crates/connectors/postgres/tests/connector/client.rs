//! A client that logs in by SCRAM with keys, as a gateway does, or with a password, as a person would.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_connector_postgres::IssuedUser;
use halligan_session::scram::{client_key_of_password, client_proof, same_signature, server_signature};
use halligan_session::{ScramSalt, Secret};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What opens the door.
pub enum Proof<'a> {
    Keys(&'a IssuedUser),
    Password(&'a str),
}

#[derive(Debug)]
pub struct Connected {
    stream: TlsStream<TcpStream>,
}

/// SQLSTATE and message of a refusal.
#[derive(Debug)]
pub struct Refused {
    pub code: String,
    pub message: String,
}

impl Connected {
    pub async fn login(
        at: SocketAddr,
        ca: &str,
        database: &str,
        user: &str,
        proof: Proof<'_>,
        startup: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let stream = tls(TcpStream::connect(at).await.unwrap(), ca).await;
        Self { stream }.authenticate(database, user, proof, startup).await
    }

    /// By a client certificate and its key, PEM both.
    pub async fn login_by_certificate(
        at: SocketAddr,
        ca: &str,
        user: &str,
        shown: (&str, &str),
        startup: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let chain = vec![CertificateDer::from_pem_slice(shown.0.as_bytes()).unwrap()];
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(shown.1.as_bytes()).unwrap();
        let config = trusting(ca).with_client_auth_cert(chain, key).unwrap();
        let stream = encrypted(TcpStream::connect(at).await.unwrap(), config).await;
        let mut this = Self { stream };
        this.begin("orders", user, startup).await;
        match this.read().await {
            (b'R', body) => assert_eq!(body, [0; 4], "asked for more than the certificate"),
            (b'E', body) => return Err(refused(&body)),
            // TLS ended by an alert.
            (0, _) => return Err(Refused { code: "tls".to_owned(), message: String::new() }),
            (other, _) => panic!("message {other}"),
        }
        this.ready().await
    }

    /// The same from another address of this machine.
    pub async fn login_from(
        from: &str,
        at: SocketAddr,
        ca: &str,
        database: &str,
        user: &str,
        proof: Proof<'_>,
    ) -> Result<Self, Refused> {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let stream = tls(socket.connect(at).await.unwrap(), ca).await;
        Self { stream }.authenticate(database, user, proof, &[]).await
    }

    async fn authenticate(
        mut self,
        database: &str,
        user: &str,
        proof: Proof<'_>,
        startup: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        self.begin(database, user, startup).await;
        self.expect_auth(10).await?;
        let bare = "n=,r=clientnonce0123456789";
        let first = format!("n,,{bare}");
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
        body.extend(first.as_bytes());
        self.write(Some(b'p'), &body).await;
        let server_first = String::from_utf8(self.expect_auth(11).await?).unwrap();
        let part =
            |key: &str| server_first.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned();
        let without_proof = format!("c=biws,r={}", part("r="));
        let message = format!("{bare},{server_first},{without_proof}");
        let salt: Vec<u8> = STANDARD.decode(part("s=")).unwrap();
        let client_key = match proof {
            Proof::Keys(user) => *user.client_key.expose(),
            Proof::Password(password) => {
                let salt =
                    ScramSalt { salt: salt.try_into().unwrap(), iterations: part("i=").parse().unwrap() };
                *client_key_of_password(&Secret::new(password.to_owned()), &salt).expose()
            }
        };
        let proven = STANDARD.encode(client_proof(&client_key, message.as_bytes()));
        self.write(Some(b'p'), format!("{without_proof},p={proven}").as_bytes()).await;
        let last = String::from_utf8(self.expect_auth(12).await?).unwrap();
        if let Proof::Keys(user) = proof {
            let said = STANDARD.decode(last.strip_prefix("v=").unwrap()).unwrap();
            let expected = server_signature(user.server_key.expose(), message.as_bytes());
            assert!(same_signature(&expected, &said), "another server");
        }
        self.expect_auth(0).await?;
        self.ready().await
    }

    async fn begin(&mut self, database: &str, user: &str, startup: &[(&str, &str)]) {
        let mut body = 196_608u32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database)].iter().chain(startup) {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        self.write(None, &body).await;
    }

    async fn ready(mut self) -> Result<Self, Refused> {
        loop {
            match self.read().await {
                (b'Z', _) => return Ok(self),
                (b'E', body) => return Err(refused(&body)),
                (0, _) => return Err(Refused { code: "closed".to_owned(), message: String::new() }),
                _ => {}
            }
        }
    }

    /// Runs one query and gives the first column of each row.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<String>, Refused> {
        self.write(Some(b'Q'), format!("{sql}\0").as_bytes()).await;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            match self.read().await {
                (b'Z', _) => return failed.map_or(Ok(rows), Err),
                (b'E', body) => {
                    let why = refused(&body);
                    if why.code.starts_with("57P") {
                        return Err(why);
                    }
                    failed = Some(why);
                }
                (b'D', body) => {
                    let length = u32::from_be_bytes(body[2..6].try_into().unwrap()) as usize;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                (0, _) => return Err(Refused { code: "closed".to_owned(), message: String::new() }),
                _ => {}
            }
        }
    }

    async fn expect_auth(&mut self, kind: u32) -> Result<Vec<u8>, Refused> {
        match self.read().await {
            (b'R', body) => {
                assert_eq!(u32::from_be_bytes(body[..4].try_into().unwrap()), kind);
                Ok(body[4..].to_vec())
            }
            (b'E', body) => Err(refused(&body)),
            (other, _) => panic!("message {other}"),
        }
    }

    async fn write(&mut self, tag: Option<u8>, body: &[u8]) {
        let mut bytes: Vec<u8> = tag.into_iter().collect();
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        // A server that has hung up says why in what is read next.
        let _ = self.stream.write_all(&bytes).await;
        let _ = self.stream.flush().await;
    }

    async fn read(&mut self) -> (u8, Vec<u8>) {
        let Ok(tag) = self.stream.read_u8().await else { return (0, Vec::new()) };
        let length = self.stream.read_u32().await.unwrap() as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        (tag, body)
    }
}

async fn tls(stream: TcpStream, ca: &str) -> TlsStream<TcpStream> {
    encrypted(stream, trusting(ca).with_no_client_auth()).await
}

async fn encrypted(mut stream: TcpStream, config: rustls::ClientConfig) -> TlsStream<TcpStream> {
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

fn trusting(ca: &str) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

fn refused(body: &[u8]) -> Refused {
    let field = |key: u8| {
        body.split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(&[key]))
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .unwrap_or_default()
    };
    Refused { code: field(b'C'), message: field(b'M') }
}

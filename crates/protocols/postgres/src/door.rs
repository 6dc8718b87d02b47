//! The person's end of the way: a Unix socket in a private folder, behind which any tool finds the database without a
//! password. The door logs in at the gateway for each connection, bound to the gateway's own certificate, and then passes
//! bytes. The connect password is in this process' memory only.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use halligan_session::Secret;
use halligan_session::scram::{ScramKeys, ScramSalt, client_key_of_password};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};

use crate::certificate::{client_config, client_config_with, end_point_hash};
use crate::codec::{
    Authentication, First, FromServerMessage, ServerScanner, Severity, Startup, Writer, read_first,
};
use crate::scram::{self, ClientFirst, ClientKeys, ScramError};
use crate::socket::{Leg, Socket};
use crate::upstream::{Unreachable, Way, next};

/// A tool says what it wants within this time, and the gateway lets it in or not.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);
/// What a gateway of ours asks for; another number is another server's wish to keep us busy.
const ITERATIONS: u32 = halligan_session::scram::ITERATIONS;

/// Where a door leads, and as whom.
pub struct Door {
    way: Way,
    /// `role+system`.
    login: String,
    /// Which database a tool gets that names none.
    database: String,
    proof: Proof,
}

/// By what a door logs in.
enum Proof {
    Password(RwLock<Secret>),
    /// In the handshake already.
    Certificate,
}

impl Door {
    /// A door to a gateway. `address` is `host:port`, `certificate` the PEM of the very certificate that it must show.
    ///
    /// # Errors
    /// When address or certificate cannot be used, in words.
    pub fn new(
        address: &str,
        certificate: &str,
        login: String,
        database: String,
        password: Secret,
    ) -> Result<Self, String> {
        let tls =
            client_config(certificate).map_err(|_| "the gateway's certificate cannot be read".to_owned())?;
        let way = way(address, tls)?;
        Ok(Self { way, login, database, proof: Proof::Password(RwLock::new(password)) })
    }

    /// The same, by a client certificate (`own`: PEM, and its key, PEM) in place of a password: control need not be there.
    ///
    /// # Errors
    /// When address, certificate or key cannot be used, in words.
    pub fn by_certificate(
        address: &str,
        certificate: &str,
        login: String,
        database: String,
        own: (&str, &Secret),
    ) -> Result<Self, String> {
        let tls = client_config_with(certificate, Some((own.0, own.1.expose())))?;
        Ok(Self { way: way(address, tls)?, login, database, proof: Proof::Certificate })
    }

    /// Logs in with another password from now on: each is good for new connections for minutes only.
    pub fn renew(&self, password: Secret) {
        if let Proof::Password(held) = &self.proof {
            *held.write().unwrap_or_else(PoisonError::into_inner) = password;
        }
    }

    /// Lets tools of the same user in until the listener fails. Each connection is one session at the gateway.
    ///
    /// # Errors
    /// When no connection can be accepted any more.
    pub async fn serve(self: Arc<Self>, listener: UnixListener) -> io::Result<()> {
        let me = rustix::process::getuid().as_raw();
        loop {
            let (stream, _) = listener.accept().await?;
            // The folder keeps others out; this keeps them out where the folder's rights were changed.
            if stream.peer_cred()?.uid() != me {
                continue;
            }
            let door = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = door.pass(stream).await {
                    tracing::debug!(%error, "a connection through the door ended");
                }
            });
        }
    }

    async fn pass(&self, stream: UnixStream) -> Result<(), Unreachable> {
        let mut tool = Leg::Plain(Socket::unix(stream));
        let mut read = BytesMut::new();
        let begun = async {
            let Some(startup) = self.asked(&mut tool, &mut read).await? else { return Ok(None) };
            match self.login(&startup, &mut tool).await {
                Ok(gateway) => Ok(Some(gateway)),
                Err(error) => {
                    let mut out = BytesMut::new();
                    // What the gateway said itself was passed on already.
                    if !matches!(error, Unreachable::Refused(_)) {
                        Writer(&mut out).error(Severity::Fatal, "08006", &error.to_string(), None);
                        tool.send(&mut out).await?;
                    }
                    Err(error)
                }
            }
        };
        let begun = tokio::time::timeout(LOGIN_WITHIN, begun).await.map_err(|_| Unreachable::Late)??;
        let Some((mut gateway, mut ahead)) = begun else { return Ok(()) };
        tool.send(&mut ahead).await?;
        gateway.send(&mut read).await?;
        tokio::io::copy_bidirectional(&mut tool, &mut gateway).await?;
        Ok(())
    }

    /// What the tool wants. None if it wanted a statement of another connection cancelled, which is done.
    async fn asked(&self, tool: &mut Leg, read: &mut BytesMut) -> Result<Option<Startup>, Unreachable> {
        loop {
            match read_first(read)? {
                Some(First::Startup(startup)) => return Ok(Some(startup)),
                // Nothing is encrypted inside one machine.
                Some(First::SslRequest | First::GssencRequest) => tool.write_all(b"N").await?,
                Some(First::Cancel { process, key }) => {
                    let mut gateway = self.way.open().await?;
                    let mut out = BytesMut::new();
                    Writer(&mut out).cancel_request(process, &key);
                    gateway.send(&mut out).await?;
                    let mut rest = BytesMut::new();
                    while gateway.more(&mut rest).await? && rest.len() < 1024 {}
                    return Ok(None);
                }
                Some(First::Tls) => return Err(Unreachable::Method("TLS inside one machine")),
                None if !tool.more(read).await? => return Ok(None),
                None => {}
            }
        }
    }

    /// Opens a connection to the gateway. With it comes what the tool is to be told first.
    async fn login(&self, startup: &Startup, tool: &mut Leg) -> Result<(Leg, BytesMut), Unreachable> {
        let mut gateway = self.way.open().await?;
        let Leg::Tls(stream) = &gateway else { return Err(Unreachable::NoTls) };
        let certificates = stream.get_ref().1.peer_certificates();
        let binding = certificates.and_then(<[_]>::first).and_then(|first| end_point_hash(first));
        let mut all = vec![("user", self.login.as_str())];
        if startup.parameter("database").is_none_or(Bytes::is_empty) && !self.database.is_empty() {
            all.push(("database", &self.database));
        }
        for (name, value) in &startup.parameters {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                continue;
            };
            if name != "user" && !(name == "database" && value.is_empty()) {
                all.push((name, value));
            }
        }
        let mut out = BytesMut::new();
        Writer(&mut out).startup(startup.version, &all);
        gateway.send(&mut out).await?;
        let (mut scanner, mut read) = (ServerScanner::new(0), BytesMut::new());
        let mut told = BytesMut::new();
        let (mut first, mut sent) = (None, None);
        // Whom a certificate was shown to is known by its own.
        let mut proved = matches!(self.proof, Proof::Certificate);
        loop {
            let (message, raw) = next(&mut gateway, &mut scanner, &mut read).await?;
            let request = match message {
                FromServerMessage::Authentication(request) => request,
                FromServerMessage::Error(said) => {
                    told.extend_from_slice(&raw);
                    tool.send(&mut told).await?;
                    return Err(Unreachable::Refused(said));
                }
                // Notices, and what the gateway knows of newer versions of the protocol.
                _ => {
                    told.extend_from_slice(&raw);
                    continue;
                }
            };
            match request {
                Authentication::Sasl { mechanisms } if first.is_none() && sent.is_none() => {
                    let mut random = [0; 18];
                    getrandom::fill(&mut random).map_err(io::Error::other)?;
                    let begun =
                        ClientFirst::new(&mechanisms, binding.as_deref(), true, &scram::nonce(&random))?;
                    Writer(&mut out).sasl_initial_response(begun.mechanism, &begun.message);
                    first = Some(begun);
                }
                Authentication::SaslContinue { data } => {
                    let begun =
                        first.take().ok_or(Unreachable::Method("to go on with what has not begun"))?;
                    let salt = salt_of(&data)?;
                    let Proof::Password(held) = &self.proof else {
                        return Err(Unreachable::Method("a password, for it does not know our certificate"));
                    };
                    let password = held.read().unwrap_or_else(PoisonError::into_inner).clone();
                    let client_key = client_key_of_password(&password, &salt);
                    let keys = ScramKeys::from_password(&password, &salt);
                    let keys = ClientKeys { client_key: client_key.expose(), server_key: &keys.server_key };
                    let proof = begun.prove(&data, keys)?;
                    Writer(&mut out).sasl_response(&proof.message);
                    sent = Some(proof);
                }
                Authentication::SaslFinal { data } => {
                    sent.as_ref().ok_or(ScramError::Server)?.check(&data)?;
                    proved = true;
                }
                Authentication::Ok if proved => {
                    told.extend_from_slice(&raw);
                    told.extend_from_slice(&read);
                    return Ok((gateway, told));
                }
                _ => return Err(Unreachable::Method("another way to log in")),
            }
            if !out.is_empty() {
                gateway.send(&mut out).await?;
            }
        }
    }
}

fn way(address: &str, tls: ClientConfig) -> Result<Way, String> {
    let host = address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
    let name = host.ok_or_else(|| format!("{address} is no address; it has no port"))?;
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{address} is neither a name nor an address with a port"))?;
    Ok(Way::new(address.to_owned(), name, Arc::new(tls)))
}

/// The salt in the gateway's challenge.
fn salt_of(challenge: &[u8]) -> Result<ScramSalt, ScramError> {
    let malformed = |what| ScramError::Malformed { what };
    let text = std::str::from_utf8(challenge).map_err(|_| malformed("it is not UTF-8"))?;
    let value = |letter: &str| text.split(',').find_map(|part| part.strip_prefix(letter));
    let salt = value("s=").and_then(|salt| STANDARD.decode(salt).ok());
    let salt = salt.and_then(|salt| salt.try_into().ok()).ok_or_else(|| malformed("a salt is 16 bytes"))?;
    let iterations = value("i=").and_then(|text| text.parse().ok());
    match iterations {
        Some(iterations) if iterations == ITERATIONS => Ok(ScramSalt { salt, iterations }),
        _ => Err(malformed("a gateway asks for 4096 iterations")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_of_a_gateway_is_read_and_one_that_would_keep_us_busy_is_not() {
        let salt = salt_of(b"r=abc,s=AAECAwQFBgcICQoLDA0ODw==,i=4096").unwrap();
        assert_eq!((salt.salt[15], salt.iterations), (15, 4096));
        for bad in [
            &b"r=abc,s=AAECAwQFBgcICQoLDA0ODw==,i=100000000"[..],
            b"r=abc,s=AAEC,i=4096",
            b"r=abc,i=4096",
            b"\xff",
        ] {
            assert!(salt_of(bad).is_err(), "{bad:?}");
        }
    }
}

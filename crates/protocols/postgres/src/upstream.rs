//! The way to the target: one connection per session, TLS checked against the catalog, a proof from keys that stand in
//! place of a password. Nothing is dialled without a session.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use halligan_core::catalog::Activation;
use halligan_session::{DatabaseCredential, Session};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::{LoginKey, client_config, end_point_hash};
use crate::codec::{
    Authentication, CodecError, FromServerMessage, NotKept, Piece, ServerMessage, ServerScanner, Version,
    Writer,
};
use crate::scram::{self, ClientFirst, ClientKeys, ScramError};
use crate::socket::{Leg, Socket};
use crate::startup::Wanted;

/// From dialling to the first ReadyForQuery.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// A cancel request's whole way.
const CANCEL_WITHIN: Duration = Duration::from_secs(3);
/// What the server is asked to do by itself, should this gateway die: look for us while a statement runs, and on an idle
/// connection. (Milliseconds; seconds; seconds; count.) Not `tcp_user_timeout`: to Linux a reader who takes a minute's rest is
/// as good as dead by that.
const WATCH_US: &[(&str, &str)] = &[
    ("client_connection_check_interval", "2000"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];
/// Servers before 14 do not know the first of [`WATCH_US`], and say so with this code.
const UNKNOWN_SETTING: &str = "42704";
/// Bytes that the server may say before it is ready.
const MOST_GREETING: usize = 256 * 1024;

/// Why the target could not be opened. The text is for the person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    Network(#[from] std::io::Error),
    Late,
    Settings(String),
    NoTls,
    Tls(std::io::Error),
    Credential(String),
    Protocol(#[from] CodecError),
    Scram(#[from] ScramError),
    Method(&'static str),
    Refused(ServerMessage),
}

impl Unreachable {
    /// In words, about whom it was.
    pub(crate) fn of(&self, who: &str) -> String {
        match self {
            Self::Network(why) => format!("{who} cannot be reached: {why}"),
            Self::Late => format!("{who} did not answer in time"),
            Self::NoTls => format!("{who} speaks no TLS, and nothing is sent to it without"),
            Self::Tls(why) => format!("the certificate or TLS of {who} was not accepted: {why}"),
            Self::Protocol(why) => format!("the answer of {who} cannot be used: {why}"),
            Self::Scram(why) => format!("{who} did not prove who it is: {why}"),
            Self::Method(what) => format!("{who} wants {what}, which is not done here"),
            Self::Settings(text) | Self::Credential(text) => text.clone(),
            Self::Refused(said) => said.message.clone(),
        }
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.of("the database server"))
    }
}

/// How the target is reached, also for cancel requests.
#[derive(Clone)]
pub(crate) struct Way {
    address: String,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// A connection that is ready for queries.
pub(crate) struct Upstream {
    pub(crate) leg: Leg,
    /// What was read behind ReadyForQuery.
    pub(crate) read: BytesMut,
    /// ParameterStatus messages and notices of the beginning, as they came.
    pub(crate) greeting: BytesMut,
    pub(crate) cancel: Cancel,
    /// `standard_conforming_strings` and the like, for those who read statements.
    pub(crate) statuses: Vec<FromServerMessage>,
}

/// What cancels the running statement of a connection.
#[derive(Clone)]
pub(crate) struct Cancel {
    way: Way,
    process: u32,
    key: Bytes,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({}, {})", self.way.address, self.process)
    }
}

impl Upstream {
    /// Opens the target of this session's lease.
    pub(crate) async fn connect(session: &Session, wanted: &Wanted) -> Result<Self, Unreachable> {
        let opened = tokio::time::timeout(CONNECT_WITHIN, Self::dial(session, wanted))
            .await
            .map_err(|_| Unreachable::Late)??;
        session.database_backend(opened.cancel.process);
        Ok(opened)
    }

    async fn dial(session: &Session, wanted: &Wanted) -> Result<Self, Unreachable> {
        let way = Way::to(session)?;
        if session.lease().postgres.activation == Activation::Prepared {
            return Self::dial_standing(session, wanted, &way).await;
        }
        let credential = async |renew| {
            let made = session.database_credential(renew).await;
            made.map_err(|refusal| Unreachable::Credential(refusal.say))
        };
        // The server is dialled while the connector makes the user.
        let (leg, made) = tokio::join!(way.open(), credential(false));
        let (mut made, mut leg) = (made?, Some(leg?));
        let (mut renewed, mut watched) = (false, true);
        loop {
            let fresh = match leg.take() {
                Some(leg) => leg,
                None => way.open().await?,
            };
            let all = parameters(session, wanted, &made.user, watched);
            let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match Self::start(fresh, &way, &all, Some(&made)).await {
                // Dropped or changed behind the connector's back, or in a restore: once more, anew.
                Err(Unreachable::Refused(said)) if said.code.starts_with("28") && !renewed => {
                    renewed = true;
                    made = credential(true).await?;
                }
                Err(Unreachable::Refused(said)) if said.code == UNKNOWN_SETTING && watched => watched = false,
                other => return other,
            }
        }
    }

    /// By a certificate for a key of this login's own, as a standing role: nothing is written at the server.
    async fn dial_standing(session: &Session, wanted: &Wanted, way: &Way) -> Result<Self, Unreachable> {
        let key = LoginKey::make().map_err(|error| Unreachable::Settings(error.to_string()))?;
        let made = session.database_certificate(key.public()).await;
        let made = made.map_err(|refusal| Unreachable::Credential(refusal.say))?;
        let shown = key.show(&way.tls, &made.certificate).map_err(Unreachable::Settings)?;
        // Cancel requests go without it: it will be over by then, and they need none.
        let with_key = Way { tls: Arc::new(shown), ..way.clone() };
        let mut watched = true;
        loop {
            let all = parameters(session, wanted, &made.user, watched);
            let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match Self::start(with_key.open().await?, way, &all, None).await {
                Err(Unreachable::Refused(said)) if said.code == UNKNOWN_SETTING && watched => watched = false,
                other => return other,
            }
        }
    }

    async fn start(
        mut leg: Leg,
        way: &Way,
        parameters: &[(&str, &str)],
        credential: Option<&DatabaseCredential>,
    ) -> Result<Self, Unreachable> {
        let binding = match &leg {
            Leg::Tls(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                certificates.and_then(<[_]>::first).and_then(|first| end_point_hash(first))
            }
            Leg::Plain(_) => None,
        };
        let mut out = BytesMut::new();
        Writer(&mut out).startup(Version::V3_0, parameters);
        leg.send(&mut out).await?;
        let mut scanner = ServerScanner::new(0);
        let mut read = BytesMut::new();
        authenticate(&mut leg, &mut scanner, &mut read, binding.as_deref(), credential).await?;
        let mut cancel = Cancel { way: way.clone(), process: 0, key: Bytes::new() };
        let mut greeting = BytesMut::new();
        let mut statuses = Vec::new();
        loop {
            let (message, raw) = next(&mut leg, &mut scanner, &mut read).await?;
            match message {
                FromServerMessage::ParameterStatus { .. } => {
                    greeting.extend_from_slice(&raw);
                    statuses.push(message);
                }
                FromServerMessage::Notice(_) => greeting.extend_from_slice(&raw),
                FromServerMessage::BackendKeyData { process, key } => {
                    cancel.process = process;
                    cancel.key = key;
                }
                FromServerMessage::ReadyForQuery(_) => {
                    return Ok(Self { leg, read, greeting, cancel, statuses });
                }
                FromServerMessage::Error(said) => return Err(Unreachable::Refused(said)),
                _ => return Err(Unreachable::Method("something else at the beginning")),
            }
            if greeting.len() > MOST_GREETING {
                return Err(Unreachable::Method("to say more before it begins than there is to say"));
            }
        }
    }
}

async fn authenticate(
    leg: &mut Leg,
    scanner: &mut ServerScanner,
    read: &mut BytesMut,
    binding: Option<&[u8]>,
    credential: Option<&DatabaseCredential>,
) -> Result<(), Unreachable> {
    let (mut first, mut sent, mut proved) = (None, None, false);
    let mut out = BytesMut::new();
    loop {
        let (message, _) = next(leg, scanner, read).await?;
        let request = match message {
            FromServerMessage::Authentication(request) => request,
            FromServerMessage::Error(said) => return Err(Unreachable::Refused(said)),
            FromServerMessage::Notice(_) => continue,
            _ => return Err(Unreachable::Method("something else before it knows us")),
        };
        match request {
            Authentication::Sasl { .. } if credential.is_none() => {
                return Err(Unreachable::Method(
                    "a password of a standing role: `pg_hba.conf` must say `cert` for +halligan_prepared, before other lines",
                ));
            }
            Authentication::Sasl { mechanisms } if first.is_none() && sent.is_none() => {
                let mut random = [0; 18];
                getrandom::fill(&mut random).map_err(std::io::Error::other)?;
                // Bound to the certificate wherever that can be done.
                let begun =
                    ClientFirst::new(&mechanisms, binding, binding.is_some(), &scram::nonce(&random))?;
                Writer(&mut out).sasl_initial_response(begun.mechanism, &begun.message);
                first = Some(begun);
            }
            Authentication::SaslContinue { data } => {
                let begun = first.take().ok_or(Unreachable::Method("to go on with what has not begun"))?;
                let credential = credential.ok_or(Unreachable::Method("a password"))?;
                let keys = ClientKeys {
                    client_key: credential.client_key.expose(),
                    server_key: credential.server_key.expose(),
                };
                let proof = begun.prove(&data, keys)?;
                Writer(&mut out).sasl_response(&proof.message);
                sent = Some(proof);
            }
            Authentication::SaslFinal { data } => {
                sent.as_ref().ok_or(ScramError::Server)?.check(&data)?;
                proved = true;
            }
            // A server that lets anybody in has not proved that it knows our keys. By certificate TLS has proved both.
            Authentication::Ok if proved || credential.is_none() => {
                scanner.authenticated();
                return Ok(());
            }
            Authentication::Ok => return Err(Unreachable::Method("no proof from us (`trust` or `cert`)")),
            Authentication::CleartextPassword => return Err(Unreachable::Method("a password in clear")),
            Authentication::Md5Password => return Err(Unreachable::Method("an MD5 password")),
            _ => return Err(Unreachable::Method("another way of authentication")),
        }
        if !out.is_empty() {
            leg.send(&mut out).await?;
        }
    }
}

pub(crate) async fn next(
    leg: &mut Leg,
    scanner: &mut ServerScanner,
    read: &mut BytesMut,
) -> Result<(FromServerMessage, Bytes), Unreachable> {
    loop {
        match scanner.next(read, &mut NotKept)? {
            Some(Piece::Message { message, raw }) => return Ok((message, raw)),
            Some(Piece::Pass(_)) => {}
            None if !leg.more(read).await? => {
                return Err(Unreachable::Network(std::io::ErrorKind::UnexpectedEof.into()));
            }
            None => {}
        }
    }
}

fn parameters<'a>(
    session: &'a Session,
    wanted: &'a Wanted,
    user: &str,
    watched: bool,
) -> Vec<(&'a str, String)> {
    let mut all = vec![
        ("user", user.to_owned()),
        ("database", wanted.database.clone()),
        ("application_name", format!("halligan:{}", session.id())),
        // What the session makes belongs to the group, not to a user that is gone tomorrow; `RESET ROLE` leads back here.
        ("role", session.lease().target.account.clone()),
    ];
    all.extend(wanted.replication.iter().map(|value| ("replication", value.clone())));
    let brought = |name: &str| wanted.settings.iter().any(|(known, _)| known == name);
    if session.lease().postgres.read_only && !brought("default_transaction_read_only") {
        // For a plain word in time. What holds is the role, which cannot write.
        all.push(("default_transaction_read_only", "on".to_owned()));
    }
    all.extend(wanted.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    if watched {
        all.extend(WATCH_US.iter().map(|(name, value)| (*name, (*value).to_owned())));
    }
    all
}

impl Way {
    /// To an address that shows a certificate for this name which these settings accept.
    pub(crate) const fn new(address: String, name: ServerName<'static>, tls: Arc<ClientConfig>) -> Self {
        Self { address, name, tls }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn to(session: &Session) -> Result<Self, Unreachable> {
        let target = &session.lease().target;
        let settings =
            |text: &str| Unreachable::Settings(format!("{} cannot be opened: {text}", target.system));
        let postgres = target.postgres.as_ref().ok_or_else(|| settings("it is no PostgreSQL server"))?;
        let host = target.address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        let name =
            postgres.server_name.as_deref().or(host).ok_or_else(|| settings("its address has no port"))?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| settings("its `server_name` is neither a name nor an address"))?;
        let tls = checked_by(&postgres.server_ca).map_err(|error| settings(&error))?;
        Ok(Self { address: target.address.clone(), name, tls })
    }

    pub(crate) async fn open(&self) -> Result<Leg, Unreachable> {
        let stream = TcpStream::connect(&self.address).await?;
        let mut socket = Socket::tcp(stream)?;
        let mut out = BytesMut::new();
        Writer(&mut out).ssl_request();
        socket.write_all(&out).await?;
        // One byte, and not one more: what came in clear behind it must not pass for something encrypted.
        let mut answer = [0];
        socket.read_exact(&mut answer).await?;
        match answer {
            [b'S'] if !socket.has_ahead() => {}
            [b'S'] => return Err(CodecError::Surplus { bytes: 1 }.into()),
            _ => return Err(Unreachable::NoTls),
        }
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(self.name.clone(), socket).await.map_err(Unreachable::Tls)?;
        Ok(Leg::Tls(Box::new(stream.into())))
    }
}

impl Cancel {
    /// Of a connection to nowhere: asked, it does nothing.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        let tls = ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        let name = ServerName::try_from("localhost").unwrap();
        let way = Way::new("127.0.0.1:1".to_owned(), name, Arc::new(tls.with_no_client_auth()));
        Self { way, process: 1, key: Bytes::new() }
    }

    /// Asks the server to stop what this connection runs. It gives no answer; whether it was heard shows in the session.
    pub(crate) async fn send(&self) {
        if self.key.is_empty() {
            return;
        }
        let asked = async {
            let mut leg = self.way.open().await?;
            let mut out = BytesMut::new();
            Writer(&mut out).cancel_request(self.process, &self.key);
            leg.send(&mut out).await?;
            // The server closes once it has sent the signal.
            let mut rest = BytesMut::new();
            while leg.more(&mut rest).await? && rest.len() < 1024 {}
            Ok::<_, Unreachable>(())
        };
        match tokio::time::timeout(CANCEL_WITHIN, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "failed to cancel a statement at the target"),
            Err(_) => tracing::warn!("the target took too long to take a cancel request"),
        }
    }
}

/// Settings of TLS are made once for each authority.
fn checked_by(server_ca: &str) -> Result<Arc<ClientConfig>, String> {
    const MOST: usize = 256;
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = known.get(server_ca) {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(client_config(server_ca)?);
    if known.len() >= MOST {
        known.clear();
    }
    known.insert(server_ca.to_owned(), Arc::clone(&config));
    Ok(config)
}

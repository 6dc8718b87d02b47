//! The person's end of the way: a Unix socket in a private folder, behind which any tool finds the database without a
//! password. The door logs in at a gateway for each connection, bound to the gateway's own certificate, and then passes
//! bytes. The connect password is in this process' memory only.
//!
//! A door is left open for hours: gateways go, control goes and comes back, passwords end, addresses change. So it knows all
//! gateways that may lead there and tries one after the other, the one of last time first; and where none lets it in, it asks
//! once for other means before it says so.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use halligan_session::Secret;
use halligan_session::control_plane::BoxFuture;
use halligan_session::scram::{ScramKeys, ScramSalt, client_key_of_password};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::certificate::{client_config, client_config_with, end_point_hash};
use crate::codec::{
    Authentication, First, FromServerMessage, ServerScanner, Severity, Startup, Writer, read_first,
};
use crate::scram::{self, ClientFirst, ClientKeys, ScramError};
use crate::socket::{Leg, Socket};
use crate::upstream::{Unreachable, Way, next};

/// A tool says what it wants within this time.
const ASKED_WITHIN: Duration = Duration::from_secs(30);
/// A gateway that is not reached in this time is away.
const REACHED_WITHIN: Duration = Duration::from_secs(5);
/// It lets a connection in or not: its server is dialled for it, and perhaps a user made there.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);
/// Other means are asked for at most so often.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// After an error of the socket.
const PAUSE: Duration = Duration::from_millis(100);
/// What a gateway of ours asks for; another number is another server's wish to keep us busy.
const ITERATIONS: u32 = halligan_session::scram::ITERATIONS;

/// A gateway, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `host:port`.
    pub address: String,
    /// The very certificate that it must show, PEM.
    pub certificate: String,
}

/// Where a door leads, and by what it logs in there.
pub struct Means {
    /// One at least.
    ways: Vec<Way>,
    /// Which of them let the last connection in.
    last: AtomicUsize,
    proof: Proof,
}

enum Proof {
    Password(Secret),
    /// In the handshake already.
    Certificate,
}

impl Means {
    /// By a connect password, at any of these gateways.
    ///
    /// # Errors
    /// When none of them can be used, in words.
    pub fn password(places: &[Place], password: Secret) -> Result<Self, String> {
        Self::new(places, Self::known, Proof::Password(password))
    }

    /// By a client certificate (PEM, and its key, PEM) in place of a password: control need not be there.
    ///
    /// # Errors
    /// When no gateway, or certificate or key cannot be used, in words.
    pub fn certificate(places: &[Place], certificate: &str, key: &Secret) -> Result<Self, String> {
        let tls = |place: &Place| {
            Self::known(place)?;
            client_config_with(&place.certificate, Some((certificate, key.expose())))
        };
        Self::new(places, tls, Proof::Certificate)
    }

    /// How a gateway is known.
    fn known(place: &Place) -> Result<ClientConfig, String> {
        client_config(&place.certificate)
            .map_err(|_| format!("the certificate of the gateway at {} cannot be read", place.address))
    }

    fn new(
        places: &[Place],
        tls: impl Fn(&Place) -> Result<ClientConfig, String>,
        proof: Proof,
    ) -> Result<Self, String> {
        let all = places.iter().map(|place| way(&place.address, tls(place)?));
        let (mut ways, mut wrong) = (Vec::new(), "no gateway is known".to_owned());
        for one in all {
            match one {
                Ok(way) => ways.push(way),
                Err(why) => wrong = why,
            }
        }
        if ways.is_empty() { Err(wrong) } else { Ok(Self { ways, last: AtomicUsize::new(0), proof }) }
    }

    /// The gateway of last time first, then the others.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Way)> {
        let (before, from) = self.ways.split_at(self.last.load(Ordering::Relaxed).min(self.ways.len()));
        let places = (before.len()..self.ways.len()).chain(0..before.len());
        places.zip(from.iter().chain(before))
    }
}

/// Gives other means, where those at hand let nobody in any more; none if there are none.
pub type Renewal = Box<dyn Fn() -> BoxFuture<'static, Option<Means>> + Send + Sync>;

/// A door for one entitlement.
pub struct Door {
    /// `role+system`.
    login: String,
    /// Which database a tool gets that names none.
    database: String,
    means: RwLock<Arc<Means>>,
    renewal: Renewal,
    /// When other means were last asked for; one at a time does.
    asked: Mutex<Option<Instant>>,
    /// Where the connections went that are open: who cancels one must go there.
    open: std::sync::Mutex<HashMap<Key, Way>>,
}

/// By which a connection can be cancelled: process and secret.
type Key = (u32, Bytes);

/// A connection that was let in.
struct Entered<'a> {
    gateway: Leg,
    /// What the tool is to be told first.
    told: BytesMut,
    cancels: Cancels<'a>,
}

/// Forgets a connection's key when it is dropped.
struct Cancels<'a>(&'a Door, Option<Key>);

impl Drop for Cancels<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.1 {
            self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}

/// Why a connection was not let in.
enum Shut {
    /// A gateway could not be reached, or did not answer as one.
    Away { address: String, why: Unreachable },
    /// It said no: its own words, as they came.
    Refused { code: String, raw: BytesMut },
}

impl Door {
    /// A door that logs in as `login` (`role+system`), to `database` where a tool names none (empty: the first that the
    /// entitlement has).
    pub fn new(login: String, database: String, means: Means, renewal: Renewal) -> Self {
        let means = RwLock::new(Arc::new(means));
        Self { login, database, means, renewal, asked: Mutex::default(), open: std::sync::Mutex::default() }
    }

    fn note(&self, key: Option<Key>, way: &Way) -> Cancels<'_> {
        if let Some(key) = &key {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), way.clone());
        }
        Cancels(self, key)
    }

    /// Where a connection went; where the next would go if it is not one of ours.
    fn way_of(&self, key: &Key) -> Option<Way> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        open.or_else(|| self.means().in_turn().next().map(|(_, way)| way.clone()))
    }

    /// Asks for other means at once, before those at hand end. False if there are none.
    pub async fn renew(&self) -> bool {
        let mut asked = self.asked.lock().await;
        let found = self.ask().await;
        *asked = Some(Instant::now());
        found.is_some()
    }

    async fn ask(&self) -> Option<Arc<Means>> {
        let fresh = Arc::new((self.renewal)().await?);
        *self.means.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Some(fresh)
    }

    fn means(&self) -> Arc<Means> {
        Arc::clone(&self.means.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets tools of the same user in, until dropped. Each connection is one session at the gateway.
    pub async fn serve(self: Arc<Self>, listener: UnixListener) {
        let me = rustix::process::getuid().as_raw();
        loop {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                let peer = stream.peer_cred()?;
                Ok((stream, peer.uid()))
            });
            match accepted {
                // The folder keeps others out; this keeps them out where the folder's rights were changed.
                Ok((_, other)) if other != me => {}
                Ok((stream, _)) => {
                    let door = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = door.pass(stream).await {
                            tracing::debug!(%error, "a connection through the door ended");
                        }
                    });
                }
                // Too many files are open, say: what is open goes on.
                Err(error) => {
                    tracing::debug!(%error, "no connection accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn pass(&self, stream: UnixStream) -> Result<(), Unreachable> {
        let mut tool = Leg::Plain(Socket::unix(stream));
        let mut read = BytesMut::new();
        let asked = timeout(ASKED_WITHIN, self.asked(&mut tool, &mut read)).await;
        let Some(startup) = asked.map_err(|_| Unreachable::Late)?? else { return Ok(()) };
        let Entered { mut gateway, mut told, cancels: _cancels } = match self.enter(&startup).await {
            Ok(entered) => entered,
            Err(shut) => {
                tool.send(&mut shut.in_words()).await?;
                return Ok(());
            }
        };
        tool.send(&mut told).await?;
        gateway.send(&mut read).await?;
        tokio::io::copy_bidirectional(&mut tool, &mut gateway).await?;
        Ok(())
    }

    /// A connection to a gateway that let it in, and what the tool is to be told first.
    async fn enter(&self, startup: &Startup) -> Result<Entered<'_>, Shut> {
        let means = self.means();
        let shut = match self.try_each(&means, startup).await {
            Err(shut) if shut.may_open_otherwise() => shut,
            other => return other,
        };
        match self.other_than(&means).await {
            Some(fresh) => self.try_each(&fresh, startup).await,
            None => Err(shut),
        }
    }

    async fn other_than(&self, refused: &Arc<Means>) -> Option<Arc<Means>> {
        let mut asked = self.asked.lock().await;
        let now = self.means();
        if !Arc::ptr_eq(&now, refused) {
            return Some(now);
        }
        if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN_AFTER) {
            return None;
        }
        let found = self.ask().await;
        // From when it was answered: those that waited for it meanwhile do not ask again.
        *asked = Some(Instant::now());
        found
    }

    async fn try_each(&self, means: &Means, startup: &Startup) -> Result<Entered<'_>, Shut> {
        let mut refused = None;
        for (place, way) in means.in_turn() {
            let away = |why| Shut::Away { address: way.address().to_owned(), why };
            let opened = timeout(REACHED_WITHIN, way.open()).await.unwrap_or(Err(Unreachable::Late));
            let shut = match opened {
                Ok(gateway) => {
                    let login = timeout(LOGIN_WITHIN, self.login(gateway, &means.proof, startup)).await;
                    match login.unwrap_or(Err(Unreachable::Late)) {
                        Ok(Login::In { gateway, told, key }) => {
                            means.last.store(place, Ordering::Relaxed);
                            return Ok(Entered { gateway, told, cancels: self.note(key, way) });
                        }
                        Ok(Login::Refused { code, raw }) => Shut::Refused { code, raw },
                        Err(why) => away(why),
                    }
                }
                Err(why) => away(why),
            };
            match shut {
                // Of another site, or without word of the grant or the password: another may know better.
                Shut::Refused { .. } if shut.may_open_otherwise() => refused = Some(shut),
                Shut::Refused { .. } => return Err(shut),
                Shut::Away { .. } => refused = refused.or(Some(shut)),
            }
        }
        Err(refused.unwrap_or_else(|| Shut::Away { address: String::new(), why: Unreachable::Late }))
    }

    /// What the tool wants. None if it wanted a statement of another connection cancelled, which is done.
    async fn asked(&self, tool: &mut Leg, read: &mut BytesMut) -> Result<Option<Startup>, Unreachable> {
        loop {
            match read_first(read)? {
                Some(First::Startup(startup)) => return Ok(Some(startup)),
                // Nothing is encrypted inside one machine.
                Some(First::SslRequest | First::GssencRequest) => tool.write_all(b"N").await?,
                Some(First::Cancel { process, key }) => {
                    let key = (process, Bytes::copy_from_slice(&key));
                    let Some(way) = self.way_of(&key) else { return Ok(None) };
                    let mut gateway = way.open().await?;
                    let mut out = BytesMut::new();
                    Writer(&mut out).cancel_request(process, &key.1);
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

    /// Logs in. What a gateway says in place of letting it in is no error here.
    async fn login(&self, mut gateway: Leg, proof: &Proof, startup: &Startup) -> Result<Login, Unreachable> {
        let Leg::Tls(stream) = &gateway else { return Err(Unreachable::NoTls) };
        let certificates = stream.get_ref().1.peer_certificates();
        let binding = certificates.and_then(<[_]>::first).and_then(|first| end_point_hash(first));
        let mut all = vec![("user", self.login.as_str())];
        // libpq names the user where nobody names a database.
        let user = startup.parameter("user");
        let named = startup.parameter("database").filter(|database| {
            !database.is_empty() && Some(*database) != user && **database != *self.login.as_bytes()
        });
        if named.is_none() && !self.database.is_empty() {
            all.push(("database", &self.database));
        }
        for (name, value) in &startup.parameters {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                continue;
            };
            if name != "user" && !(name == "database" && named.is_none()) {
                all.push((name, value));
            }
        }
        let mut out = BytesMut::new();
        Writer(&mut out).startup(startup.version, &all);
        gateway.send(&mut out).await?;
        let (mut scanner, mut read) = (ServerScanner::new(0), BytesMut::new());
        let mut told = BytesMut::new();
        let (mut first, mut sent, mut key) = (None, None, None);
        // Whom a certificate was shown to is known by its own.
        let (mut proved, mut known) = (matches!(proof, Proof::Certificate), false);
        loop {
            let (message, raw) = next(&mut gateway, &mut scanner, &mut read).await?;
            let request = match message {
                FromServerMessage::Authentication(request) if !known => request,
                FromServerMessage::Error(said) => {
                    told.extend_from_slice(&raw);
                    return Ok(Login::Refused { code: said.code, raw: told });
                }
                // Notices, and what the gateway knows of newer versions of the protocol; and once it knows us, all up to where
                // the tool may speak: it may know us and have no grant of ours.
                other => {
                    told.extend_from_slice(&raw);
                    match other {
                        FromServerMessage::BackendKeyData { process, key: secret } => {
                            key = Some((process, Bytes::copy_from_slice(&secret)));
                        }
                        FromServerMessage::ReadyForQuery(_) if known => {
                            told.extend_from_slice(&read);
                            return Ok(Login::In { gateway, told, key });
                        }
                        _ => {}
                    }
                    continue;
                }
            };
            match request {
                Authentication::Sasl { mechanisms } if first.is_none() && sent.is_none() => {
                    let mut random = [0; 18];
                    getrandom::fill(&mut random).map_err(io::Error::other)?;
                    // Bound wherever that can be done; not for Ed25519, for which nobody has said how.
                    let must = binding.is_some();
                    let begun =
                        ClientFirst::new(&mechanisms, binding.as_deref(), must, &scram::nonce(&random))?;
                    Writer(&mut out).sasl_initial_response(begun.mechanism, &begun.message);
                    first = Some(begun);
                }
                Authentication::SaslContinue { data } => {
                    let begun =
                        first.take().ok_or(Unreachable::Method("to go on with what has not begun"))?;
                    let salt = salt_of(&data)?;
                    let Proof::Password(password) = proof else {
                        return Err(Unreachable::Method("a password, for it does not know our certificate"));
                    };
                    let client_key = client_key_of_password(password, &salt);
                    let keys = ScramKeys::from_password(password, &salt);
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
                    known = true;
                }
                _ => return Err(Unreachable::Method("another way to log in")),
            }
            if !out.is_empty() {
                gateway.send(&mut out).await?;
            }
        }
    }
}

/// What a gateway made of a login.
enum Login {
    /// With what the tool is to be told first, and the key by which it can be cancelled.
    In { gateway: Leg, told: BytesMut, key: Option<Key> },
    /// Its error, and what it said before.
    Refused { code: String, raw: BytesMut },
}

/// SQLSTATE of a gateway that knows us and has no grant of ours in force, and of a password that is not good (any more).
const NO_ACCESS: &str = "28000";
const WRONG_PASSWORD: &str = "28P01";

impl Shut {
    /// With another password, or at other gateways.
    fn may_open_otherwise(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { code, .. } => [NO_ACCESS, WRONG_PASSWORD].contains(&code.as_str()),
        }
    }

    /// As the tool is told.
    fn in_words(self) -> BytesMut {
        match self {
            Self::Refused { raw, .. } => raw,
            Self::Away { address, why } => {
                let mut out = BytesMut::new();
                let say = format!("Halligan: {}", why.of(&format!("the gateway at {address}")));
                let hint = "This is about the way to the database, not the database. `halligan doctor` looks at every part of it.";
                Writer(&mut out).error(Severity::Fatal, "08006", &say, Some(hint));
                out
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

//! The leg to the target: dialled only with a session in hand, with its credential, to a host whose key is pinned.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halligan_session::lease::Target;
use halligan_session::{Refusal, Session};
use russh::client::{self, AuthResult, ChannelOpenHandle, Msg};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, SshId, cipher};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::flow::WINDOW;
use crate::host_key::private_key;
use crate::socket::Cutter;

/// The whole way to a login at the target.
const DIAL: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Messages that may wait on a channel before its connection is no longer read: its backpressure.
const QUEUE: usize = 128;

/// Why there is no connection to the target: sentences for the person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("the target {system} could not be reached at {address}: {why}")]
    Dial { system: String, address: String, why: String },
    #[error(
        "the target {system} showed a host key that is not pinned for it ({shown}); nothing was sent to it"
    )]
    OtherHost { system: String, shown: String },
    #[error("the catalog pins no usable host key for {system}: {why}")]
    NoPin { system: String, why: String },
    #[error("the target {system} did not accept this session's certificate for the account {account}")]
    NotAccepted { system: String, account: String },
    #[error("{0}")]
    Credential(Refusal),
    #[error("the connection to {system} failed: {why}")]
    Failed { system: String, why: String },
}

/// One connection to the target.
pub(crate) struct Upstream {
    handle: client::Handle<HostCheck>,
    cutter: Cutter,
    /// Channels on it.
    pub(crate) busy: AtomicUsize,
}

/// A claim on a connection: as long as it lives, the connection is not idle.
pub(crate) struct Lane(Arc<Upstream>);

impl Lane {
    pub(crate) fn on(upstream: Arc<Upstream>) -> Self {
        upstream.busy.fetch_add(1, Ordering::AcqRel);
        Self(upstream)
    }

    /// Opens a channel on it; a refusal of the target comes back with its own reason.
    pub(crate) async fn open(&self) -> Result<Channel<Msg>, ChannelOpenFailure> {
        match tokio::time::timeout(HANDSHAKE, self.0.handle.channel_open_session()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(reason),
            Ok(Err(error)) => Err(ChannelOpenFailure::Other { code: 2, reason: error.to_string() }),
            Err(_) => {
                Err(ChannelOpenFailure::Other { code: 2, reason: "the target did not answer".to_owned() })
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Upstream {
    pub(crate) async fn connect(session: &Session) -> Result<Self, Unreachable> {
        let target = &session.lease().target;
        let system = target.system.to_string();
        let pins = Pins::read(target)?;
        // A credential lives for a minute: first reach the target, then ask for it.
        let dialled = tokio::time::timeout(DIAL, TcpStream::connect(target.address.as_str())).await;
        let dial_failed =
            |why: String| Unreachable::Dial { system: system.clone(), address: target.address.clone(), why };
        let stream = dialled
            .map_err(|_| dial_failed(format!("no answer within {} s", DIAL.as_secs())))?
            .map_err(|error| dial_failed(error.to_string()))?;
        let (stream, cutter) = Cutter::new(stream).map_err(|error| dial_failed(error.to_string()))?;

        let (shown, mut refused_key) = mpsc::channel(1);
        let config = Arc::new(config(&pins));
        let handler = HostCheck { pins, refused: shown };
        let failed = |why: String| Unreachable::Failed { system: system.clone(), why };
        let handshake = async {
            let connecting = client::connect_stream(config, stream, handler);
            let (handle, credential) = tokio::join!(connecting, session.ssh_credential());
            let mut handle = handle.map_err(|error| match refused_key.try_recv() {
                Ok(shown) => Unreachable::OtherHost { system: system.clone(), shown },
                Err(_) => failed(error.to_string()),
            })?;
            let credential = credential.map_err(Unreachable::Credential)?;
            let bad = |why: &str| Unreachable::Credential(Refusal::new(why));
            let key =
                private_key(credential.seed.expose()).ok_or_else(|| bad("the session's key is unusable"))?;
            let certificate = Certificate::from_openssh(credential.certificate.trim())
                .map_err(|_| bad("the session's certificate cannot be read"))?;
            let account = target.account.as_str();
            let result = handle.authenticate_openssh_cert(account, Arc::new(key), certificate).await;
            match result.map_err(|error| failed(error.to_string()))? {
                AuthResult::Success => Ok(handle),
                AuthResult::Failure { .. } => {
                    Err(Unreachable::NotAccepted { system: system.clone(), account: account.to_owned() })
                }
            }
        };
        let handle = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| failed(format!("no login within {} s", HANDSHAKE.as_secs())))??;
        Ok(Self { handle, cutter, busy: AtomicUsize::new(0) })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.handle.is_closed()
    }

    /// Ends it at once.
    pub(crate) fn cut(&self) {
        self.cutter.cut();
    }
}

fn config(pins: &Pins) -> client::Config {
    let key_algorithms: Vec<Algorithm> =
        pins.keys.iter().flat_map(|key| algorithms_of(key.algorithm())).collect();
    let certificates = if pins.authorities.is_empty() { Vec::new() } else { certificate_algorithms() };
    // Without a plain key pinned only certificates are taken; the list must not be empty for the negotiation.
    let key_algorithms = if key_algorithms.is_empty() { vec![Algorithm::Ed25519] } else { key_algorithms };
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Halligan")),
        window_size: WINDOW,
        channel_buffer_size: QUEUE,
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        nodelay: true,
        preferred: russh::Preferred {
            key: Cow::Owned(key_algorithms),
            host_key_certificates: Cow::Owned(certificates),
            cipher: Cow::Borrowed(&CIPHERS),
            ..russh::Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// Both legs; none without integrity of its own.
pub(crate) static CIPHERS: [cipher::Name; 3] =
    [cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];

fn algorithms_of(key: Algorithm) -> Vec<Algorithm> {
    match key {
        // Never ssh-rsa with SHA-1.
        Algorithm::Rsa { .. } => {
            [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }).to_vec()
        }
        other => vec![other],
    }
}

fn certificate_algorithms() -> Vec<Algorithm> {
    let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let mut all = vec![Algorithm::Ed25519];
    all.extend(curves.map(|curve| Algorithm::Ecdsa { curve }));
    all.extend(algorithms_of(Algorithm::Rsa { hash: None }));
    all
}

/// Which hosts are the target.
#[derive(Debug)]
struct Pins {
    keys: Vec<PublicKey>,
    authorities: Vec<PublicKey>,
    names: Vec<String>,
}

impl Pins {
    fn read(target: &Target) -> Result<Self, Unreachable> {
        let no_pin =
            |why: &str| Unreachable::NoPin { system: target.system.to_string(), why: why.to_owned() };
        let host = target.address.rsplit_once(':').map_or(target.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut pins = Self {
            keys: Vec::new(),
            authorities: Vec::new(),
            names: vec![host.to_owned(), target.system.to_string()],
        };
        for line in &target.host_keys {
            let (list, text) = match line.trim().strip_prefix("@cert-authority ") {
                Some(rest) => (&mut pins.authorities, rest.trim()),
                None => (&mut pins.keys, line.trim()),
            };
            // As in known_hosts, a pattern may stand before the key.
            let key = PublicKey::from_openssh(text)
                .or_else(|_| PublicKey::from_openssh(text.split_once(' ').map_or("", |(_, key)| key.trim())))
                .map_err(|_| no_pin("a line of it is no OpenSSH public key"))?;
            list.push(key);
        }
        if pins.keys.is_empty() && pins.authorities.is_empty() {
            return Err(no_pin("it names none"));
        }
        Ok(pins)
    }

    fn accept(&self, shown: &PublicKeyOrCertificate, now: u64) -> bool {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.pinned(key.key_data()),
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.accept_certificate(certificate, now) || self.pinned(certificate.public_key())
            }
        }
    }

    fn pinned(&self, key: &KeyData) -> bool {
        self.keys.iter().any(|pinned| pinned.key_data() == key)
    }

    fn accept_certificate(&self, certificate: &Certificate, now: u64) -> bool {
        certificate.cert_type().is_host()
            && self.authorities.iter().any(|ca| ca.key_data() == certificate.signature_key())
            && certificate.verify_signature().is_ok()
            && certificate.valid_after() <= now
            && now < certificate.valid_before()
            && certificate.critical_options().iter().next().is_none()
            && certificate.valid_principals().iter().any(|name| self.names.contains(name))
    }
}

/// The target's side of the SSH library: checks the host, and takes nothing that the target opens by itself.
struct HostCheck {
    pins: Pins,
    refused: mpsc::Sender<String>,
}

impl client::Handler for HostCheck {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let accepted = self.pins.accept(shown, now);
        if !accepted {
            let fingerprint = shown.public_key().fingerprint(HashAlg::Sha256);
            // One is enough to say so.
            let _said_before = self.refused.try_send(fingerprint.to_string());
        }
        Ok(accepted)
    }

    // A target that opens channels towards us wants to reach behind us. The library's default is to accept.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
}

async fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

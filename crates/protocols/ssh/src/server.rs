//! The listener: who may connect, how many, and for how long before they have said who they are.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halligan_core::ids::Name;
use halligan_session::{Admitted, Anteroom, AnteroomLimits, ClientConnection, ControlPlane, Waiting};
use russh::keys::PrivateKey;
use russh::server::{self, run_stream};
use russh::{MethodKind, MethodSet, SshId};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::connection::Connection;
use crate::flow::WINDOW;
use crate::handler::ClientHandler;
use crate::host_key::{HostKeyError, load_certificate, load_or_make};
use crate::socket::{Cutter, Gate, GatedStream};
use crate::upstream::CIPHERS;

/// Bytes that a client may send before login: key exchange and twenty keys fit many times.
const BEFORE_LOGIN: u64 = 256 * 1024;
/// Least time for a refused attempt, so that known and unknown names look alike.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// Rejected attempts (each key of an agent is one) before the connection ends.
const MOST_ATTEMPTS: usize = 20;

/// How the listener is set up.
#[derive(Clone, Debug)]
pub struct SshConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// This gateway's name.
    pub gateway: Name,
    /// The host key (OpenSSH format, mode 0600); made on the first start.
    pub host_key_file: PathBuf,
    /// A host certificate for that key, shown to clients that know its CA.
    pub host_certificate_file: Option<PathBuf>,
    /// Time from connecting to being logged in.
    pub login_grace: Duration,
    /// Most connections at one time.
    pub most_connections: usize,
    /// Most connections that are not logged in.
    pub most_waiting: usize,
    /// Most of those from one network: an address, or a /64 of IPv6.
    pub most_waiting_per_network: usize,
    /// How long sessions may go on after a stop was asked for, before they are ended.
    pub drain: Duration,
}

impl SshConfig {
    /// The usual limits.
    pub fn new(listen: SocketAddr, gateway: Name, host_key_file: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            gateway,
            host_key_file: host_key_file.into(),
            host_certificate_file: None,
            login_grace: Duration::from_secs(60),
            most_connections: 8_192,
            most_waiting: 256,
            most_waiting_per_network: 64,
            drain: Duration::from_secs(10),
        }
    }
}

/// Why the listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No host key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The address cannot be had.
    #[error("failed to listen for SSH on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Listens for stock SSH clients.
pub struct SshListener {
    listener: TcpListener,
    address: SocketAddr,
    host_key: String,
    shared: Arc<Shared>,
}

struct Shared {
    config: SshConfig,
    protocol: Arc<server::Config>,
    control: Arc<dyn ControlPlane>,
    anteroom: Anteroom,
}

impl SshListener {
    /// Reads or makes the host key and takes the address.
    pub async fn bind(config: SshConfig, control: Arc<dyn ControlPlane>) -> Result<Self, ListenError> {
        let key = load_or_make(&config.host_key_file)?;
        let certificates = match &config.host_certificate_file {
            Some(path) => vec![load_certificate(path, &key)?],
            None => Vec::new(),
        };
        let host_key =
            halligan_session::roster::without_comment(&key.public_key().to_openssh().unwrap_or_default());
        let bind = |source| ListenError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let protocol = Arc::new(protocol(key, certificates));
        let anteroom = Anteroom::new(AnteroomLimits {
            most_connections: config.most_connections,
            most_waiting: config.most_waiting,
            most_waiting_per_network: config.most_waiting_per_network,
        });
        let shared = Shared { protocol, control, anteroom, config };
        Ok(Self { listener, address, host_key, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The host's public key, `ssh-ed25519 AAAA…`, for known-hosts files.
    pub fn host_key_openssh(&self) -> &str {
        &self.host_key
    }

    /// Serves until `shutdown`; then takes nobody new, lets sessions go on for the drain time, and ends the rest.
    pub async fn serve(self, shutdown: CancellationToken) {
        let clients = TaskTracker::new();
        let stopping = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                // Everything that can wait happens in the client's own task: nobody stalls this loop.
                Ok((stream, address)) => {
                    if let Some(admitted) = self.shared.anteroom.admit(address.ip()) {
                        let shared = Arc::clone(&self.shared);
                        clients.spawn(serve_client(shared, stream, address, admitted, stopping.clone()));
                    } else {
                        tracing::warn!(client = %address, "connection refused: all connections are taken");
                    }
                }
                Err(error) => {
                    // Out of file handles, mostly: that passes when somebody leaves.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        clients.close();
        if tokio::time::timeout(self.shared.config.drain, clients.wait()).await.is_err() {
            stopping.cancel();
            clients.wait().await;
        }
    }
}

fn protocol(key: PrivateKey, certificates: Vec<russh::keys::Certificate>) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Halligan")),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive][..]),
        auth_rejection_time: REFUSAL_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        certificates,
        window_size: WINDOW,
        // Never reached: the window and the flow control bound what waits (see `flow.rs`).
        channel_buffer_size: 1 << 17,
        event_buffer_size: 64,
        max_auth_attempts: MOST_ATTEMPTS,
        // Sessions know their idle limit; the login has its own.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        nodelay: true,
        preferred: russh::Preferred {
            // What clients may sign with, too: never SHA-1.
            key: Cow::Owned(
                russh::Preferred::DEFAULT
                    .key
                    .iter()
                    .filter(|key| !matches!(key, russh::keys::Algorithm::Rsa { hash: None }))
                    .cloned()
                    .collect(),
            ),
            cipher: Cow::Borrowed(&CIPHERS),
            ..russh::Preferred::DEFAULT
        },
        ..server::Config::default()
    }
}

async fn serve_client(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    (admitted, waiting): (Admitted, Waiting),
    stopping: CancellationToken,
) {
    let client = SocketAddr::new(address.ip().to_canonical(), address.port());
    let Ok((stream, cutter)) = Cutter::new(stream) else { return };
    let gate = Gate::new(BEFORE_LOGIN);
    let asked_out = waiting.asked_out();
    let from = ClientConnection { client, gateway: shared.config.gateway.clone() };
    let connection = Arc::new(Connection::new(Arc::clone(&shared.control), from, cutter));
    let handler = ClientHandler {
        connection: Arc::clone(&connection),
        gate: Arc::clone(&gate),
        waiting: Some(waiting),
        authenticator: Authenticator::default(),
    };
    let stream = GatedStream { inner: stream, gate: Arc::clone(&gate) };
    let running = async {
        match run_stream(Arc::clone(&shared.protocol), stream, handler).await {
            Ok(running) => running.await,
            Err(error) => Err(error),
        }
    };
    tokio::pin!(running);
    let grace = tokio::time::sleep(shared.config.login_grace);
    tokio::pin!(grace, asked_out);
    let (mut in_grace, mut told) = (true, false);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = &mut grace, if in_grace => {
                in_grace = false;
                if !gate.is_open() {
                    connection.cut();
                }
            }
            () = &mut asked_out, if in_grace => {
                in_grace = false;
                if !gate.is_open() {
                    tracing::warn!(%client, "a client that was not logged in made room for another");
                    connection.cut();
                }
            }
            () = stopping.cancelled(), if !told => {
                told = true;
                connection.gateway_stops().await;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, %error, "client connection ended");
    }
    connection.finish().await;
    drop(admitted);
}

//! The listener: who may connect, how many, and for how long before they have said who they are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halligan_core::ids::Name;
use halligan_session::{Anteroom, AnteroomLimits, CancelDesk, ControlPlane};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cancel::Cancels;
use crate::certificate::{CertificateError, Own};
use crate::connection::serve;
use crate::socket::Socket;
use crate::workers::Workers;

/// How the listener is set up.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// This gateway's name.
    pub gateway: Name,
    /// Certificate (PEM, with what signed it) and private key; made on the first start where both are missing.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Names in a self-made certificate, beside those of this machine.
    pub names: Vec<String>,
    /// Take clients without TLS from this machine's loopback.
    pub plain_from_here: bool,
    /// Time from connecting to being logged in.
    pub login_grace: Duration,
    /// Most connections at one time.
    pub most_connections: usize,
    /// Most connections that are not logged in.
    pub most_waiting: usize,
    /// Most of those from one network: an address, or a /64 of IPv6.
    pub most_waiting_per_network: usize,
    /// Longest message that is read (statements, bound values), in bytes. Rows and COPY data have no bound.
    pub longest_message: usize,
    /// How long sessions may go on after a stop was asked for, before they are ended.
    pub drain: Duration,
}

impl PostgresConfig {
    /// The usual limits, with certificate and key in `folder`.
    pub fn new(listen: SocketAddr, gateway: Name, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            listen,
            gateway,
            certificate_file: folder.join("postgres_certificate.pem"),
            key_file: folder.join("postgres_key.pem"),
            names: Vec::new(),
            plain_from_here: false,
            login_grace: Duration::from_secs(60),
            most_connections: 8_192,
            most_waiting: 256,
            most_waiting_per_network: 64,
            longest_message: 64 * 1024 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Why the listener could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The threads for conversations cannot be had.
    #[error("failed to start the threads for PostgreSQL clients")]
    Threads(#[source] std::io::Error),
    /// The address cannot be had.
    #[error("failed to listen for PostgreSQL clients on {address}")]
    Bind {
        address: String,
        #[source]
        source: std::io::Error,
    },
}

/// Listens for stock PostgreSQL clients.
pub struct PostgresListener {
    tcp: TcpListener,
    workers: Workers,
    address: SocketAddr,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: PostgresConfig,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) certificate: Own,
    pub(crate) cancels: Arc<Cancels>,
    anteroom: Anteroom,
}

impl PostgresListener {
    /// Reads or makes the certificate and takes the address.
    pub async fn bind(config: PostgresConfig, control: Arc<dyn ControlPlane>) -> Result<Self, ListenError> {
        let certificate = Own::load_or_make(&config.certificate_file, &config.key_file, &config.names)?;
        let failed = |address: String| move |source| ListenError::Bind { address, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(failed(config.listen.to_string()))?;
        let address = tcp.local_addr().map_err(failed(config.listen.to_string()))?;
        let cancels = Arc::new(Cancels::new(&config.gateway));
        let desk: Arc<dyn CancelDesk> = Arc::clone(&cancels) as _;
        control.takes_cancels(Arc::downgrade(&desk));
        let anteroom = Anteroom::new(AnteroomLimits {
            most_connections: config.most_connections,
            most_waiting: config.most_waiting,
            most_waiting_per_network: config.most_waiting_per_network,
        });
        let shared = Shared { certificate, control, cancels, anteroom, config };
        let workers = Workers::start().map_err(ListenError::Threads)?;
        Ok(Self { tcp, workers, address, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that clients see, PEM: what `sslrootcert` needs where it is self-made.
    pub fn certificate_pem(&self) -> &str {
        &self.shared.certificate.pem
    }

    /// Serves until `shutdown`; then takes nobody new, lets sessions go on for the drain time, and ends the rest.
    pub async fn serve(self, shutdown: CancellationToken) {
        let clients = TaskTracker::new();
        let stopping = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => {
                    accepted.and_then(|(stream, address)| Ok((stream.into_std()?, canonical(address))))
                }
                () = shutdown.cancelled() => break,
            };
            match accepted {
                // Everything that can wait happens in the client's own task: nobody stalls this loop.
                Ok((stream, client)) => match self.shared.anteroom.admit(client.ip()) {
                    Some((admitted, waiting)) => {
                        let (shared, stopping) = (Arc::clone(&self.shared), stopping.clone());
                        self.workers.spawn(&clients, async move {
                            // Only here, so that it is this thread that the system wakes.
                            match TcpStream::from_std(stream).and_then(Socket::tcp) {
                                Ok(socket) => serve(shared, socket, client, waiting, stopping).await,
                                Err(error) => tracing::warn!(%client, %error, "failed to take a connection"),
                            }
                            drop(admitted);
                        });
                    }
                    None => tracing::warn!(%client, "connection refused: all connections are taken"),
                },
                Err(error) => {
                    // Out of file handles, mostly: that passes when somebody leaves.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.tcp);
        clients.close();
        if tokio::time::timeout(self.shared.config.drain, clients.wait()).await.is_err() {
            stopping.cancel();
            clients.wait().await;
        }
    }
}

/// One client has one address, however it came.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

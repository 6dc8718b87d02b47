//! A network that can be cut, frozen and slowed: a TCP proxy on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    Frozen,
    Cut,
}

#[derive(Debug)]
struct Shared {
    line: watch::Sender<Line>,
    delay_ms: AtomicU64,
    connections: AtomicUsize,
    bytes: AtomicU64,
}

/// Passes TCP connections on to one address until told otherwise. Ends when dropped.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl CutProxy {
    /// Listens on a free loopback port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to bind the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            line: watch::Sender::new(Line::Open),
            delay_ms: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, and each new one as it comes, until [`CutProxy::heal`].
    pub fn cut(&self) {
        self.shared.line.send_replace(Line::Cut);
    }

    /// A partition: connections stay, new ones are taken, and no byte moves until [`CutProxy::heal`].
    pub fn freeze(&self) {
        self.shared.line.send_replace(Line::Frozen);
    }

    /// Undoes `cut` and `freeze`. What was held by a freeze goes on; what was cut stays cut.
    pub fn heal(&self) {
        self.shared.line.send_replace(Line::Open);
    }

    /// Latency added to each direction of every connection, for bytes that arrive from now on.
    pub fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many bytes have gone through, both directions together.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(connection(near, target, Arc::clone(&shared)));
    }
}

async fn connection(near: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    near.set_zero_linger().ok();
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut line = shared.line.subscribe();
    tokio::select! {
        () = relay(near, target, &shared) => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
    shared.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn relay(near: TcpStream, target: SocketAddr, shared: &Shared) {
    if shared.line.subscribe().wait_for(|line| *line == Line::Open).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(pump(near_read, far_write, shared), pump(far_read, near_write, shared));
}

/// One direction. Bytes are stamped as they arrive, so that a delay adds latency and takes no bandwidth.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reading = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(shared.delay_ms.load(Ordering::Relaxed));
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if queue.send((due, bytes)).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        let mut line = shared.line.subscribe();
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            if line.wait_for(|line| *line == Line::Open).await.is_err() || to.write_all(&bytes).await.is_err()
            {
                break;
            }
            shared.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        to.shutdown().await.ok();
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    /// Gives back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_resets_and_a_heal_lets_new_connections_in() {
        let proxy = CutProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        assert_eq!((proxy.connections(), proxy.bytes()), (1, 8));
        proxy.cut();
        let mut end = [0; 1];
        let ended = timeout(Duration::from_secs(5), stream.read(&mut end)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "still open after the cut");
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        let answer = timeout(Duration::from_secs(5), ask(&mut refused)).await.unwrap();
        assert!(answer.is_err(), "a new connection got through the cut");
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn a_freeze_holds_bytes_and_a_heal_delivers_them() {
        let proxy = CutProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        ask(&mut stream).await.unwrap();
        proxy.freeze();
        stream.write_all(b"held").await.unwrap();
        let mut answer = [0; 4];
        let early = timeout(Duration::from_millis(150), stream.read_exact(&mut answer)).await;
        assert!(early.is_err(), "a byte went through the partition");
        proxy.heal();
        timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"held");
    }

    #[tokio::test]
    async fn a_delay_is_added_to_each_direction() {
        let proxy = CutProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        ask(&mut stream).await.unwrap();
        proxy.delay(Duration::from_millis(100));
        let start = Instant::now();
        ask(&mut stream).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    }
}

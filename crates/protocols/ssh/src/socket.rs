//! Sockets that can be cut from outside, and the gate before login: a stranger gets few bytes and little time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A second handle to a socket whose only use is to end it at once, whatever its owner is waiting for.
#[derive(Debug)]
pub(crate) struct Cutter(std::net::TcpStream);

impl Cutter {
    /// Sets the socket up for small packets and keeps a handle to cut it by.
    pub(crate) fn new(stream: TcpStream) -> io::Result<(TcpStream, Self)> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let twin = stream.try_clone()?;
        Ok((TcpStream::from_std(stream)?, Self(twin)))
    }

    /// Ends both directions. Harmless when repeated.
    pub(crate) fn cut(&self) {
        // Fails only on a socket that is closed already.
        let _closed_before = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What a connection may send before it is known whose it is.
#[derive(Debug)]
pub(crate) struct Gate {
    open: AtomicBool,
    left: AtomicU64,
}

impl Gate {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { open: AtomicBool::new(false), left: AtomicU64::new(bytes) })
    }

    /// Somebody has logged in: no limit any more.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn took(&self, bytes: u64) -> io::Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let enough =
            self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        match enough {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("more was sent before login than a login needs")),
        }
    }
}

/// A client's socket behind its gate.
pub(crate) struct GatedStream {
    pub(crate) inner: TcpStream,
    pub(crate) gate: Arc<Gate>,
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            let bytes = buf.filled().len().saturating_sub(before) as u64;
            return Poll::Ready(self.gate.took(bytes));
        }
        read
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_counts_until_it_opens() {
        let gate = Gate::new(10);
        assert!(gate.took(6).is_ok());
        assert!(gate.took(5).is_err());
        assert!(gate.took(4).is_ok());
        assert!(gate.took(1).is_err());
        gate.open();
        assert!(gate.took(1 << 40).is_ok());
    }
}

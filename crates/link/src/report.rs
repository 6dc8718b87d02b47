//! How a node's own ledger reaches control: its leaves in order, as often as it takes, until control has said that it
//! holds them.

use std::sync::Arc;
use std::time::Duration;

use crate::error::LinkError;
use crate::keep::KeptLink;
use crate::messages::{Blob, ENTRIES_MOST_BYTES, Hello, Request, Response};
use crate::peer::{BoxFuture, Peer};

/// Pause after control could not take the leaves.
const AFTER_TROUBLE: Duration = Duration::from_secs(2);

/// A ledger that could not be read or signed.
#[derive(Debug, thiserror::Error)]
#[error("failed to read this node's ledger for control")]
pub struct ReportError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl ReportError {
    /// From whatever went wrong there.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// A node's own ledger, as the report needs it. `read` and `checkpoint` may block for the disk; they are called where
/// that does no harm.
pub trait LeafSource: Send + Sync + 'static {
    /// Leaves that are synced.
    fn size(&self) -> u64;
    /// Leaves from `from` on, in order: at least one if there is one, and of the rest as many as fit `most_bytes`.
    fn read(&self, from: u64, most_bytes: usize) -> Result<Vec<Vec<u8>>, ReportError>;
    /// A signed note over all synced leaves.
    fn checkpoint(&self) -> Result<String, ReportError>;
    /// Resolves when more than `past` leaves are synced.
    fn grown(&self, past: u64) -> BoxFuture<'_, ()>;
    /// Control holds this many leaves.
    fn acknowledged(&self, _size: u64) {}
}

/// Sends leaves from `acknowledged` on, and each new one, until the link ends (`Ok`) or control refuses (`Err`).
pub async fn report(source: Arc<dyn LeafSource>, control: &Peer, acknowledged: u64) -> Result<(), LinkError> {
    let mut from = acknowledged;
    let here = source.size();
    if from > here {
        let say =
            format!("control holds {from} leaves of this node, which has only {here}: its ledger went back");
        return Err(own(ReportError::new(say)));
    }
    source.acknowledged(from);
    loop {
        tokio::select! {
            _ = control.closed() => return Ok(()),
            () = source.grown(from) => {}
        }
        let page = {
            let source = Arc::clone(&source);
            tokio::task::spawn_blocking(move || {
                // The checkpoint after the leaves, so that it covers them.
                let leaves = source.read(from, ENTRIES_MOST_BYTES)?;
                Ok::<_, ReportError>((leaves, source.checkpoint()?))
            })
        };
        let (leaves, checkpoint) = match page.await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => return Err(own(error)),
            Err(error) => return Err(own(ReportError::new(error))),
        };
        let entries: Vec<Blob> = leaves.into_iter().map(Blob).collect();
        let sent = from.saturating_add(entries.len() as u64);
        match control.ask(Request::LedgerEntries { from, entries, checkpoint }).await? {
            // Control says where to go on: further back when it lost something, never past what it was sent.
            Response::LedgerAck { size } => {
                if size <= from {
                    tokio::time::sleep(AFTER_TROUBLE).await;
                }
                from = size.min(sent);
                source.acknowledged(from);
            }
            other => {
                let detail = format!("the answer `{}` to leaves", other.name());
                return Err(LinkError::Malformed { detail });
            }
        }
    }
}

fn own(error: ReportError) -> LinkError {
    LinkError::Io { what: "report to control".to_owned(), source: std::io::Error::other(error) }
}

/// Says hello on each new link to control, hands `Welcome` to `welcomed`, and keeps reporting. Never returns.
pub async fn keep_reporting(
    source: Arc<dyn LeafSource>,
    link: Arc<KeptLink>,
    hello: impl Fn() -> Hello + Send,
    welcomed: impl Fn(&Hello) + Send,
) {
    let mut state = link.watch();
    loop {
        let Some(peer) = link.peer() else {
            if state.changed().await.is_err() {
                // The link inside one process ended for good.
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
            continue;
        };
        let outcome = async {
            match peer.ask(Request::Hello(hello())).await? {
                Response::Welcome { hello, acknowledged } => {
                    welcomed(&hello);
                    report(Arc::clone(&source), &peer, acknowledged).await
                }
                other => {
                    Err(LinkError::Malformed { detail: format!("the answer `{}` to a hello", other.name()) })
                }
            }
        };
        if let Err(error) = outcome.await {
            tracing::warn!(peer = %peer.info(), error = crate::peer::with_causes(&error), "control did not take this node's report; it is tried again");
            tokio::time::sleep(AFTER_TROUBLE).await;
        }
    }
}

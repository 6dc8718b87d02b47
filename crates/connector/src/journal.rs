//! The connector's own ledger, in the words of a node.

use std::sync::{Arc, Mutex, PoisonError};

use halligan_core::ids::Name;
use halligan_core::time::Time;
use halligan_ledger::{FileLedger, LedgerSigner};
use halligan_link::report::{LeafSource, ReportError};
use halligan_session::{BoxFuture, NodeEvent, NodeLeaf};
use tokio::sync::watch;

use crate::config::{Clock, SiteConfig};
use crate::error::ConnectorError;

/// Leaves read at one time.
const READ_AT_ONCE: u64 = 256;

/// Writes leaves, in order of time, each synced before it counts.
pub struct Journal {
    node: Name,
    boot: String,
    clock: Clock,
    ledger: FileLedger,
    last: Mutex<Time>,
    size: watch::Sender<u64>,
}

impl Journal {
    /// Opens the ledger of this connector and writes that it started.
    pub fn open(config: &SiteConfig) -> Result<Self, ConnectorError> {
        let signer = LedgerSigner::load_or_generate(&config.ledger_origin, &config.folder.join("ledger_key"))
            .map_err(|error| ConnectorError::Ledger(error.into()))?;
        let ledger = FileLedger::open(config.folder.join("ledger"), signer)
            .map_err(|error| ConnectorError::Ledger(error.into()))?;
        let mut last = Time::default();
        if let Some(index) = ledger.size().checked_sub(1) {
            let leaves =
                ledger.read(index..index + 1).map_err(|error| ConnectorError::Ledger(error.into()))?;
            // A leaf of a later version may not be readable; its time is then not known.
            let leaf = leaves.first().and_then(|bytes| serde_json::from_slice::<NodeLeaf>(bytes).ok());
            last = leaf.map_or(last, |leaf| leaf.at);
        }
        let mut boot = [0u8; 8];
        getrandom::fill(&mut boot).map_err(|_| ConnectorError::Randomness)?;
        let this = Self {
            node: config.name.clone(),
            boot: hex::encode(boot),
            clock: Arc::clone(&config.clock),
            size: watch::Sender::new(ledger.size()),
            ledger,
            last: Mutex::new(last),
        };
        this.write(NodeEvent::NodeStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: this.boot.clone(),
        })?;
        Ok(this)
    }

    /// Random, new at each start.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Leaves that are synced.
    pub fn size(&self) -> u64 {
        self.ledger.size()
    }

    /// The ledger itself, for witnesses and exports.
    pub const fn ledger(&self) -> &FileLedger {
        &self.ledger
    }

    /// The time here: the clock's, never below the last leaf's.
    pub fn now(&self) -> Time {
        (self.clock)().max(*self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a leaf; it is synced when this returns. Blocks.
    pub fn write(&self, event: NodeEvent) -> Result<(), ConnectorError> {
        let waiter = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (self.clock)().max(*last);
            let leaf = NodeLeaf { v: 1, node: self.node.clone(), at, event };
            let bytes = serde_json::to_vec(&leaf).map_err(|error| ConnectorError::Ledger(error.into()))?;
            *last = at;
            self.ledger.submit(bytes)
        };
        let written = waiter.wait().map_err(|error| ConnectorError::Ledger(error.into()))?;
        self.size.send_if_modified(|size| {
            let grown = written.index() + 1 > *size;
            *size = (*size).max(written.index() + 1);
            grown
        });
        Ok(())
    }

    /// Every leaf from `from` on, at most 256 of them.
    pub fn leaves(&self, from: u64) -> Result<Vec<NodeLeaf>, ConnectorError> {
        let to = self.size().min(from.saturating_add(READ_AT_ONCE));
        let leaves =
            self.ledger.read(from.min(to)..to).map_err(|error| ConnectorError::Ledger(error.into()))?;
        leaves
            .iter()
            .map(|bytes| serde_json::from_slice(bytes).map_err(|error| ConnectorError::Ledger(error.into())))
            .collect()
    }
}

impl LeafSource for Journal {
    fn size(&self) -> u64 {
        self.ledger.size()
    }
    fn read(&self, from: u64, most_bytes: usize) -> Result<Vec<Vec<u8>>, ReportError> {
        let to = self.ledger.size().min(from.saturating_add(READ_AT_ONCE));
        let mut leaves = self.ledger.read(from.min(to)..to).map_err(ReportError::new)?;
        let mut bytes = 0;
        let fit = leaves.iter().take_while(|leaf| {
            bytes += leaf.len();
            bytes <= most_bytes
        });
        let fit = fit.count().max(1);
        leaves.truncate(fit);
        Ok(leaves)
    }
    fn checkpoint(&self) -> Result<String, ReportError> {
        self.ledger.checkpoint().map(|note| note.to_string()).map_err(ReportError::new)
    }
    fn grown(&self, past: u64) -> BoxFuture<'_, ()> {
        let mut size = self.size.subscribe();
        Box::pin(async move {
            // The sender lives as long as we do.
            let _ = size.wait_for(|size| *size > past).await;
        })
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({}, {} leaves)", self.ledger.origin(), self.size())
    }
}

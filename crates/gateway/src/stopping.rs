//! A clean stop: nothing new is opened, every session is ended with a word to its person, and the ledger has it all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use halligan_session::EndReason;

use crate::engine::Gateway;

impl Gateway {
    /// Opens nothing any more, ends every session, and waits until the ledger has their ends and control has been told, at
    /// most `within`. Leases stay: the next start takes them up. True if nothing was left.
    pub async fn drain(&self, within: Duration) -> bool {
        let engine = &self.engine;
        engine.stopping.store(true, Ordering::SeqCst);
        let sessions = engine.sessions();
        for live in &sessions {
            live.cut(EndReason::GatewayStopping);
        }
        let all = async {
            for live in sessions {
                live.finished().await;
            }
            while engine.links.control().is_some()
                && (engine.acknowledged.load(Ordering::SeqCst) < engine.journal.size())
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

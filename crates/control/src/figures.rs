//! Figures for metrics: counted from the store, so that every node gives the same.

use halligan_core::grant::Grant;
use halligan_core::ids::Name;
use halligan_core::time::{Span, Time};
use halligan_store::Order;

use crate::control::Control;
use crate::documents::parse;
use crate::error::ControlError;

/// Counting stops here: the figure then says "at least".
const MOST_COUNTED: usize = 20_000;

/// What is going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Grants that are active or being made so.
    pub grants_in_force: u64,
    /// Grants that have ended without the question of their proof being settled.
    pub grants_unsettled: u64,
    /// Of these, late ones.
    pub revocations_late: u64,
    /// Sessions that have not ended.
    pub sessions_live: u64,
    /// Requests that wait.
    pub requests_pending: u64,
    /// Incidents that are not closed.
    pub incidents_open: u64,
    /// Reviews that are not judged.
    pub reviews_open: u64,
    /// Effects and alerts that wait to be delivered.
    pub outbox: u64,
    /// Age of the oldest of them.
    pub outbox_age: Span,
    /// Leaves of the ledger.
    pub ledger_size: u64,
    /// Leaves that no checkpoint covers yet.
    pub ledger_unsigned: u64,
}

impl Control {
    /// Counts what is going on. Reads every document that is: cache the answer for some seconds.
    pub async fn figures(&self) -> Result<Figures, ControlError> {
        let store = self.store();
        let head = store.head().await?;
        let outbox = store.outbox_stats().await?;
        let signed = head.signed.as_ref().map_or(0, |signed| signed.size);
        let (mut unsettled, mut late) = (0, 0);
        self.each("grant", "unsettled", |body| {
            let grant: Grant = parse(&halligan_store::DocumentKey::new("grant", "figures"), body)?;
            unsettled += u64::from(grant.ended_at.is_some());
            late += u64::from(grant.late_alerted);
            Ok(())
        })
        .await?;
        Ok(Figures {
            grants_in_force: self.counted("grant", "active").await?,
            grants_unsettled: unsettled,
            revocations_late: late,
            sessions_live: self.counted("session", "live").await?,
            requests_pending: self.counted("request", "pending").await?,
            incidents_open: self.counted("incident", "open").await?,
            reviews_open: self.counted("review", "open").await?,
            outbox: outbox.count,
            outbox_age: outbox
                .oldest
                .map_or(Span::ZERO, |oldest| self.now().since(Time::from_micros(oldest))),
            ledger_size: head.size,
            ledger_unsigned: head.size.saturating_sub(signed),
        })
    }

    async fn counted(&self, kind: &str, state: &str) -> Result<u64, ControlError> {
        let mut count = 0;
        self.each(kind, state, |_| {
            count += 1;
            Ok(())
        })
        .await?;
        Ok(count)
    }

    async fn each(
        &self,
        kind: &str,
        state: &str,
        mut see: impl FnMut(&[u8]) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let mut after: Option<String> = None;
        let mut scanned = 0;
        loop {
            let page =
                self.store().by_index(kind, "state", state, after.as_deref(), 1000, Order::Ascending).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.id.clone());
            for document in &page {
                see(&document.body)?;
            }
            scanned += page.len();
            if scanned >= MOST_COUNTED {
                return Ok(());
            }
        }
    }

    /// Leaves of a node's ledger that this control node holds.
    pub fn mirrored(&self, node: &Name) -> Result<u64, ControlError> {
        self.0.mirrors.size(node)
    }
}

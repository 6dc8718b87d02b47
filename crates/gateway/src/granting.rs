//! A lease in and out of this gateway's hand: taken when control sends it, ended by deadline, revocation or give-back.
//!
//! Ending is in four steps, each of which survives a crash: the data path is shut; the tombstone is on disk; the sessions
//! are finished; the ledger says how many there were.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use halligan_core::ids::GrantId;
use halligan_session::lease::{Lease, SignedLease};
use halligan_session::node_event::NodeEvent;
use halligan_session::{BadSigned, EndReason, Refusal, SignedRoster, VerifiedRoster};

use crate::countdown::{Count, Reading};
use crate::engine::Engine;
use crate::held::{Fence, Held};
use crate::journal::JournalError;
use crate::live::{Live, with_sources};
use crate::metrics::count;
use crate::shelf::{ShelfError, StoredLease, Tombstone};

/// Why an effect on a grant is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error(transparent)]
    Signed(#[from] BadSigned),
    #[error("the {what} with fencing number {fencing} comes too late: {seen} was seen")]
    Stale { what: &'static str, fencing: u64, seen: u64 },
    #[error("the lease names another person or entitlement than the one held for this grant")]
    OtherUse,
    #[error("the lease ended before it arrived")]
    Over,
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("this gateway is stopping")]
    Stopping,
}

impl Engine {
    fn lane(&self, grant: GrantId) -> Option<&tokio::sync::Mutex<()>> {
        let place = usize::try_from(grant.bits() % self.lanes.len().max(1) as u128).unwrap_or(0);
        self.lanes.get(place)
    }

    /// Control sent a lease: it is verified, kept on disk and told to the ledger before this returns.
    pub async fn take_lease(self: &Arc<Self>, signed: SignedLease) -> Result<(), GrantError> {
        let lease = Arc::new(signed.verify(&self.options.control_key)?);
        let _turn = match self.lane(lease.grant) {
            Some(lane) => lane.lock().await,
            None => return Err(GrantError::Stopping),
        };
        match self.leases.fence(&lease) {
            Fence::Same => return Ok(()),
            Fence::Stale { seen } => {
                return Err(GrantError::Stale { what: "lease", fencing: lease.fencing, seen });
            }
            Fence::Newer => {}
        }
        let now = Reading { wall: self.journal.now(), boot: self.clock.boot() };
        if lease.remaining.as_micros() == 0 {
            return Err(GrantError::Over);
        }
        let held = self.leases.get(lease.grant).filter(|held| !held.is_shut());
        if let Some(held) = &held {
            let old = held.lease();
            if old.person != lease.person || old.entitlement != lease.entitlement {
                return Err(GrantError::OtherUse);
            }
        }
        let count = Count::begin(lease.remaining, now, self.clock.boot_id());
        let stored = StoredLease { lease: signed.clone(), count: count.clone() };
        let engine = Arc::clone(self);
        let grant = lease.grant;
        blocking(move || engine.shelf.put_lease(grant, &stored)).await?;
        self.journal.append(held_leaf(&lease, &signed)).await?;
        match held {
            Some(held) => {
                if !held.renew(lease, signed, count) {
                    for live in self.sessions_of(grant) {
                        live.cut(EndReason::Superseded);
                    }
                }
            }
            None => self.leases.insert(Arc::new(Held::new(lease, signed, count))),
        }
        Ok(())
    }

    fn sessions_of(&self, grant: GrantId) -> Vec<Arc<Live>> {
        self.sessions().into_iter().filter(|live| live.grant() == grant).collect()
    }

    fn cut_all(&self, grant: GrantId, reason: &EndReason) {
        for live in self.sessions_of(grant) {
            if live.cut(reason.clone()) && *reason != EndReason::Expired {
                live.held.ended_one();
            }
        }
    }

    /// Ends a grant here. `fencing` is the number of control's effect, or none where its own clock ends it. Returns, when
    /// the ledger says so, how many sessions that ended; the same for whoever asks again.
    pub async fn end_grant(
        self: &Arc<Self>,
        grant: GrantId,
        fencing: Option<u64>,
        reason: EndReason,
    ) -> Result<u32, GrantError> {
        let arrived = self.clock.boot();
        let stale = |fencing: u64, seen: u64| GrantError::Stale { what: "revocation", fencing, seen };
        if let (Some(fencing), Some(held)) = (fencing, self.leases.get(grant)) {
            let seen = held.lease().fencing;
            if fencing < seen {
                return Err(stale(fencing, seen));
            }
            // Shut first, in memory, before anything that can wait.
            held.shut();
            self.cut_all(grant, &reason);
            let took = self.clock.boot().saturating_sub(arrived);
            self.metrics.last_revocation_micros.store(took, Ordering::Relaxed);
        }
        let _turn = match self.lane(grant) {
            Some(lane) => lane.lock().await,
            None => return Err(GrantError::Stopping),
        };
        // What was true may have changed in the queue: an extension, or another who ended it.
        let held = self.leases.get(grant);
        let seen = held.as_ref().map_or(0, |held| held.lease().fencing);
        match (fencing, &held) {
            (Some(fencing), _) if fencing < seen => return Err(stale(fencing, seen)),
            (None, Some(held)) if !held.over(self.clock.boot()) => return Ok(0),
            (_, Some(held)) => {
                held.shut();
                self.cut_all(grant, &reason);
            }
            (_, None) => {}
        }
        self.connect_passwords.end(grant);
        let number = fencing.unwrap_or(seen).max(seen);
        let earlier = self.leases.tombstone(grant);
        if let (None, Some(earlier)) = (&held, &earlier)
            && earlier.told
            && earlier.fencing >= number
        {
            return Ok(earlier.sessions_ended);
        }
        let mut tombstone = Tombstone {
            fencing: number,
            reason: reason.for_ledger(),
            sessions_ended: match (&held, earlier) {
                (Some(held), _) => held.sessions_ended(),
                (None, earlier) => earlier.map_or(0, |earlier| earlier.sessions_ended),
            },
            at: self.journal.now(),
            told: false,
        };
        self.bury(grant, &tombstone).await?;
        self.leases.buried(grant, tombstone.clone());
        for live in self.sessions_of(grant) {
            live.finished().await;
        }
        // Sessions that an earlier run left open end in the ledger before their lease does.
        self.recovered.cancelled().await;
        self.tell_ended(grant, &mut tombstone).await?;
        count(&self.metrics.leases_ended);
        Ok(tombstone.sessions_ended)
    }

    /// The ledger says that a lease has ended, and the tombstone that the ledger says so.
    pub async fn tell_ended(
        self: &Arc<Self>,
        grant: GrantId,
        tombstone: &mut Tombstone,
    ) -> Result<(), GrantError> {
        let event = NodeEvent::LeaseEnded {
            grant,
            fencing: tombstone.fencing,
            reason: tombstone.reason.clone(),
            sessions_ended: tombstone.sessions_ended,
        };
        self.journal.append_closing(event).await?;
        tombstone.told = true;
        self.bury(grant, tombstone).await?;
        self.leases.buried(grant, tombstone.clone());
        Ok(())
    }

    async fn bury(self: &Arc<Self>, grant: GrantId, tombstone: &Tombstone) -> Result<(), ShelfError> {
        let (engine, tombstone) = (Arc::clone(self), tombstone.clone());
        blocking(move || engine.shelf.bury(grant, &tombstone)).await
    }

    /// Control sent a roster. A lower serial than the one held is refused.
    pub async fn take_roster(self: &Arc<Self>, signed: SignedRoster) -> Result<(), Refusal> {
        let key = self.options.control_key;
        let engine = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let roster = VerifiedRoster::check(&signed, &key).map_err(|error| with_sources(&error))?;
            let mut place = engine.roster.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let held = place.as_ref().map_or(0, |held| held.roster().serial);
            if roster.roster().serial < held {
                return Err(format!("the roster has serial {}; {held} is held", roster.roster().serial));
            }
            // Under the lock, so that disk and memory agree on which came last.
            engine.shelf.put_roster(&signed).map_err(|error| with_sources(&error))?;
            *place = Some(Arc::new(roster));
            Ok(())
        })
        .await;
        match done {
            Ok(outcome) => outcome.map_err(Refusal::new),
            Err(_) => Err(Refusal::new("the gateway is stopping")),
        }
    }
}

/// The leaf of a lease that is held from now on.
pub(crate) fn held_leaf(lease: &Lease, signed: &SignedLease) -> NodeEvent {
    NodeEvent::LeaseHeld {
        grant: lease.grant,
        fencing: lease.fencing,
        sha256: signed.sha256(),
        deadline: lease.deadline,
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), ShelfError> + Send + 'static) -> Result<(), ShelfError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ShelfError {
            doing: "finish writing",
            path: "the gateway's folder".into(),
            source: std::io::Error::other(error),
        })
    })
}

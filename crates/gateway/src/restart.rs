//! Taking up after a stop, clean or not: roster and leases from disk, and an end for every session that the ledger saw
//! opened and not ended.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use halligan_core::ids::{GrantId, RecordingId, SessionId};
use halligan_recording::digest::recover;
use halligan_session::node_event::NodeEvent;
use halligan_session::{EndReason, VerifiedRoster};

use crate::countdown::Reading;
use crate::engine::{Engine, StartError};
use crate::held::Held;
use crate::journal::Submitted;
use crate::live::with_sources;
use crate::shelf::Tombstone;
use crate::spool::{Came, Slip};

/// What an earlier run left open.
pub(crate) struct LeftOpen {
    slips: Vec<Slip>,
    opened: HashSet<SessionId>,
    ended: HashSet<SessionId>,
    finished: HashMap<RecordingId, Came>,
    untold: Vec<(GrantId, Tombstone)>,
    started: Submitted,
}

/// Reads roster, tombstones and leases; finds what is left open. Blocks.
pub(crate) fn take_up(engine: &Arc<Engine>) -> Result<LeftOpen, StartError> {
    let now = Reading { wall: engine.journal.now(), boot: engine.clock.boot() };
    let boot_id = engine.clock.boot_id();
    if let Some(signed) = engine.shelf.roster()? {
        let roster = VerifiedRoster::check(&signed, &engine.options.control_key)
            .map_err(|source| StartError::Signed { what: "the roster".to_owned(), source })?;
        *engine.roster.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(roster));
    }
    let mut untold = Vec::new();
    for (grant, tombstone) in engine.shelf.tombstones(now.wall)? {
        if !tombstone.told {
            untold.push((grant, tombstone.clone()));
        }
        engine.leases.buried(grant, tombstone);
    }
    for (stored, lease) in engine.shelf.leases()? {
        if engine.leases.tombstone(lease.grant).is_some_and(|tombstone| tombstone.fencing >= lease.fencing) {
            // It stopped between the tombstone and the lease's removal.
            continue;
        }
        let count = stored.count.resume(lease.deadline, lease.remaining, now, boot_id, now.wall);
        engine.leases.insert(Arc::new(Held::from_disk(Arc::new(lease), stored.lease, count)));
    }
    let (finished, slips): (Vec<Slip>, Vec<Slip>) =
        engine.spool.slips()?.into_iter().partition(|slip| slip.finished.is_some());
    engine.metrics.recordings_waiting.store(finished.len() as u64, Ordering::Relaxed);
    let started =
        NodeEvent::NodeStarted { version: engine.options.version.clone(), boot: engine.boot.clone() };
    let mut left = LeftOpen {
        // First of this run, before anybody else can write.
        started: engine.journal.submit(started, true)?,
        opened: HashSet::new(),
        ended: HashSet::new(),
        finished: HashMap::new(),
        untold,
        slips,
    };
    if let Some(from) = left.slips.iter().map(|slip| slip.ledger_from).min() {
        engine.journal.replay(from, |_, leaf| left.note(leaf.event))?;
    }
    Ok(left)
}

/// Checks the signatures of the leases that were taken up, one after the other beside the work; whoever wants to use one
/// earlier has it checked at once.
pub(crate) fn check_leases(engine: &Weak<Engine>) {
    let all = engine.upgrade().map(|engine| engine.leases.all()).unwrap_or_default();
    for held in all {
        let Some(engine) = engine.upgrade() else { return };
        engine.is_genuine(&held);
    }
}

impl Engine {
    /// Whether control signed this lease. One that it did not sign is forgotten, loudly.
    pub(crate) fn is_genuine(self: &Arc<Self>, held: &Held) -> bool {
        let genuine = held.is_genuine(&self.options.control_key);
        if !genuine && held.shut() {
            self.leases.forget(held.grant);
            let what = format!("use lease {}", held.grant);
            tracing::error!(grant = %held.grant, "a lease in this gateway's folder is not signed by control's key: it is not obeyed");
            self.tell_refused(None, &what, "this gateway's own folder", "it is not signed by control's key");
        }
        genuine
    }
}

impl LeftOpen {
    fn note(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::SessionOpened { session, .. } => {
                self.opened.insert(session);
            }
            NodeEvent::SessionEnded { session, .. } => {
                self.ended.insert(session);
            }
            NodeEvent::RecordingFinished {
                recording,
                bytes,
                frames,
                records,
                sha256,
                chain_head,
                complete,
                ..
            } => {
                let came = Came { bytes, frames, records, sha256, chain_head, complete };
                self.finished.insert(recording, came);
            }
            _ => {}
        }
    }
}

/// Writes the leaves that the earlier run could not.
pub(crate) async fn close(engine: Arc<Engine>, left: LeftOpen) {
    if let Err(error) = engine.journal.synced(left.started).await {
        tracing::error!("failed to record the start: {}", with_sources(&error));
    }
    for slip in &left.slips {
        if !left.opened.contains(&slip.session) {
            // The permit was never given: nothing can have happened in it.
            if let Err(error) = engine.spool.remove(slip.recording) {
                tracing::warn!("{}", with_sources(&error));
            }
            continue;
        }
        if !left.ended.contains(&slip.session) {
            let reason = EndReason::GatewayRestarted.for_ledger();
            let event = NodeEvent::SessionEnded { session: slip.session, grant: slip.grant, reason };
            engine.journal.append_surely(event).await;
        }
        let came = match left.finished.get(&slip.recording) {
            Some(came) => came.clone(),
            None => {
                let came = read_back(&engine, slip).await;
                engine.journal.append_surely(slip.leaf(&came)).await;
                came
            }
        };
        engine.keep_slip(Slip { finished: Some(came), ..slip.clone() }).await;
    }
    for (grant, mut tombstone) in left.untold {
        if let Err(error) = engine.tell_ended(grant, &mut tombstone).await {
            tracing::error!(%grant, "failed to tell the ledger of an ended lease: {}", with_sources(&error));
        }
    }
    engine.recovered.cancel();
}

async fn read_back(engine: &Arc<Engine>, slip: &Slip) -> Came {
    let path = engine.spool.file(slip.recording);
    match tokio::task::spawn_blocking(move || recover(&path)).await {
        Ok(Ok(finished)) => Came::from(&finished),
        Ok(Err(error)) => {
            tracing::error!(session = %slip.session, "failed to read back a recording: {}", with_sources(&error));
            Came::nothing()
        }
        Err(_) => Came::nothing(),
    }
}

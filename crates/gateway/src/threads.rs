//! Two threads of the operating system that no async runtime can hold up: the watchdog, which ends sessions at their
//! deadlines, and the flusher, which syncs recordings. They are apart, because a disk that hangs must not keep a door open.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use halligan_core::catalog::OnPartition;
use halligan_link::{Request, Response};
use halligan_session::EndReason;

use crate::countdown::Reading;
use crate::engine::Engine;
use crate::held::{Held, Wanted};
use crate::live::with_sources;
use crate::metrics::count;
use crate::restart::check_leases;

const WATCH_EVERY: Duration = Duration::from_millis(25);
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// The watchdog looks at all leases, live or not, once in so many rounds.
const LEASES_EVERY: u32 = 20;
/// The mark of when control was heard is renewed when it is older than this, in microseconds.
const MARK_EVERY: u64 = 10_000_000;

/// Starts both, and one that checks the leases of an earlier run and is done. They end when the engine is gone.
pub(crate) fn start(engine: &Arc<Engine>) -> io::Result<()> {
    let weak = Arc::downgrade(engine);
    thread::Builder::new().name("halligan-watchdog".to_owned()).spawn(move || watchdog(&weak))?;
    let weak = Arc::downgrade(engine);
    thread::Builder::new().name("halligan-flusher".to_owned()).spawn(move || flusher(&weak))?;
    let weak = Arc::downgrade(engine);
    thread::Builder::new().name("halligan-checker".to_owned()).spawn(move || check_leases(&weak))?;
    Ok(())
}

fn watchdog(engine: &Weak<Engine>) {
    let mut round: u32 = 0;
    loop {
        let Some(engine) = engine.upgrade() else { return };
        let boot = engine.clock.boot();
        for live in engine.sessions() {
            live.watch_over(boot);
        }
        if round.is_multiple_of(LEASES_EVERY) {
            look_at_leases(&engine);
        }
        round = round.wrapping_add(1);
        drop(engine);
        thread::sleep(WATCH_EVERY);
    }
}

fn look_at_leases(engine: &Arc<Engine>) {
    let now = Reading::of(&*engine.clock);
    let control = engine.links.control().is_some();
    for held in engine.leases.all() {
        if held.is_shut() {
            continue;
        }
        match held.weigh(now, control) {
            Wanted::Nothing => {}
            Wanted::AskControl => ask_control(engine, held),
            Wanted::End => {
                let engine = Arc::clone(engine);
                let grant = held.grant;
                // The data path is shut by the deadline itself; this is only the telling.
                engine.runtime.clone().spawn(async move {
                    if let Err(error) = engine.end_grant(grant, None, EndReason::Expired).await {
                        tracing::error!(%grant, "failed to end a lease: {}", with_sources(&error));
                    }
                });
            }
        }
    }
    let silent = now.boot.saturating_sub(engine.links.control_seen());
    for live in engine.sessions() {
        if partition_ends(live.lease().on_partition, silent) {
            live.cut(EndReason::ControlAway);
        }
    }
}

/// Whether control has been silent for longer than this entitlement allows.
pub(crate) const fn partition_ends(rule: OnPartition, silent_micros: u64) -> bool {
    match rule {
        OnPartition::Keep => false,
        OnPartition::EndAfter(span) => silent_micros > span.as_micros().unsigned_abs(),
    }
}

/// Wall time is ahead: does the grant still stand? One question at a time for each lease.
fn ask_control(engine: &Arc<Engine>, held: Arc<Held>) {
    let Some(peer) = engine.links.control() else { return };
    if !held.begin_asking() {
        return;
    }
    count(&engine.metrics.wall_ahead);
    let engine = Arc::clone(engine);
    engine.runtime.clone().spawn(async move {
        let request = Request::IsGrantActive { grant: held.grant };
        match peer.call_within(request, Duration::from_secs(3)).await {
            Ok(Response::GrantState { active, .. }) => held.heard(active, engine.clock.boot()),
            Ok(other) => tracing::warn!("control answered `{}` when asked about a grant", other.name()),
            Err(error) => tracing::warn!("failed to ask control about a grant: {}", with_sources(&error)),
        }
        held.end_asking();
    });
}

fn flusher(engine: &Weak<Engine>) {
    let mut marked = 0;
    loop {
        let Some(engine) = engine.upgrade() else { return };
        for live in engine.sessions() {
            live.flush(2 * FLUSH_EVERY);
        }
        mark_seen(&engine, &mut marked);
        engine.metrics.leases_held.store(engine.leases.count() as u64, Ordering::Relaxed);
        drop(engine);
        thread::sleep(FLUSH_EVERY);
    }
}

/// Keeps on disk when control was heard, so that a restart does not begin a partition anew.
fn mark_seen(engine: &Engine, marked: &mut u64) {
    let seen = engine.links.control_seen();
    if seen < marked.saturating_add(MARK_EVERY) {
        return;
    }
    let ago = engine.clock.boot().saturating_sub(seen);
    let wall = engine.journal.now().micros().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX));
    if let Err(error) = engine.shelf.put_number("seen", wall) {
        tracing::warn!("{}", with_sources(&error));
    }
    *marked = seen;
}

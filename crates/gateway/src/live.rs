//! A session that is live: its recording, its deadline, its end. This is what stands behind the permit that a protocol holds.
//!
//! The rule of the data path: [`Live::record`] refuses once the session is dead or its lease is past its end, looked up on
//! the clock at that very call, before the write and after it. No timer, task or runtime has to run for that.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use halligan_core::catalog::SystemKind;
use halligan_core::ids::{GrantId, RecordingId, SessionId};
use halligan_core::time::{Span, Time};
use halligan_link::{LiveSession, Request, Response};
use halligan_recording::{Record, RecordKind, RecordingError, RecordingWriter, digest};
use halligan_session::control_plane::{BoxFuture, Refusal};
use halligan_session::lease::Lease;
use halligan_session::node_event::NodeEvent;
use halligan_session::{
    Answer, DatabaseCertificate, DatabaseCredential, EndReason, Ended, Question, Secret, SessionParts,
    SshCredential, Written,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::engine::Engine;
use crate::held::Held;
use crate::holds::{self, Holds};
use crate::metrics::count;
use crate::spool::{Came, Slip};
use crate::watchers::Watchers;

/// How long a protocol may take to close its sockets before the session is finished without it.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);
/// Before the end, the person is told at these times, in seconds.
const WARN_AT: [u64; 2] = [60, 300];

/// One live session.
pub struct Live {
    engine: Arc<Engine>,
    /// Its lease as it stood at the opening.
    lease: Arc<Lease>,
    /// Its lease as it stands.
    pub held: Arc<Held>,
    slip: Slip,
    client: String,
    opened_at: Time,
    opened_boot: u64,
    writer: Mutex<Option<RecordingWriter>>,
    dead: AtomicBool,
    reason: OnceLock<EndReason>,
    closed: CancellationToken,
    released: CancellationToken,
    finished: CancellationToken,
    last_moved: AtomicU64,
    channels: AtomicU32,
    warned: AtomicU64,
    warning: watch::Sender<Option<String>>,
    used_database: AtomicBool,
    /// Number of its backend at the server; 0 = not known.
    backend: AtomicU32,
    /// Statements that wait for a second person.
    pub holds: Holds,
    /// For those who watch.
    pub watchers: Watchers,
}

/// What a session begins with.
pub struct Beginning {
    /// Its lease.
    pub held: Arc<Held>,
    /// Whose recording it is.
    pub slip: Slip,
    /// Its recording, with its first record.
    pub writer: RecordingWriter,
    /// The client's address.
    pub client: String,
    /// When.
    pub opened_at: Time,
    /// When, by boot time: the zero of its records' times.
    pub opened_boot: u64,
}

impl Live {
    /// A session that has not been announced yet.
    pub fn new(engine: Arc<Engine>, beginning: Beginning) -> Arc<Self> {
        let lease = beginning.held.lease();
        Arc::new(Self {
            engine,
            lease,
            held: beginning.held,
            slip: beginning.slip,
            client: beginning.client,
            opened_at: beginning.opened_at,
            opened_boot: beginning.opened_boot,
            writer: Mutex::new(Some(beginning.writer)),
            dead: AtomicBool::new(false),
            reason: OnceLock::new(),
            closed: CancellationToken::new(),
            released: CancellationToken::new(),
            finished: CancellationToken::new(),
            last_moved: AtomicU64::new(beginning.opened_boot),
            channels: AtomicU32::new(0),
            warned: AtomicU64::new(0),
            warning: watch::channel(None).0,
            used_database: AtomicBool::new(false),
            backend: AtomicU32::new(0),
            holds: Holds::default(),
            watchers: Watchers::default(),
        })
    }

    /// Its id.
    pub const fn id(&self) -> SessionId {
        self.slip.session
    }
    /// Its grant.
    pub const fn grant(&self) -> GrantId {
        self.slip.grant
    }
    /// Its recording.
    pub const fn recording(&self) -> RecordingId {
        self.slip.recording
    }
    /// Whose it is.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
    /// The engine that runs it.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
    /// It has asked for a database user: it may have backends at the server.
    pub fn used_database(&self) {
        self.used_database.store(true, Ordering::SeqCst);
    }
    /// Number of its backend at the server, once it is known.
    pub fn backend(&self) -> Option<u32> {
        Some(self.backend.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }
    /// Something moved in it.
    pub fn moved(&self) {
        self.last_moved.store(self.engine.clock.boot(), Ordering::Relaxed);
    }
    /// Resolves when it is over for the data path.
    pub async fn over(&self) {
        self.closed.cancelled().await;
    }
    /// Whether it is over for the data path.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// As control lists it.
    pub fn listed(&self) -> LiveSession {
        LiveSession {
            session: self.id(),
            grant: self.grant(),
            person: self.lease.person.clone(),
            entitlement: self.lease.entitlement.clone(),
            recording: self.recording(),
            client: self.client.clone(),
            opened_at: self.opened_at,
            deadline: self.held.lease().deadline,
            records: self.watchers.count(),
        }
    }

    fn since_start(&self) -> u64 {
        self.engine.clock.boot().saturating_sub(self.opened_boot)
    }

    /// Why it is over.
    pub fn ended(&self) -> Ended {
        Ended { reason: self.reason.get().cloned().unwrap_or(EndReason::Expired) }
    }

    /// The gate that every byte passes.
    pub fn check(&self) -> Result<(), Ended> {
        self.check_at(self.engine.clock.boot())
    }

    fn check_at(&self, boot: u64) -> Result<(), Ended> {
        if self.is_dead() {
            return Err(self.ended());
        }
        if boot >= self.held.end_boot() {
            self.cut(EndReason::Expired);
            return Err(self.ended());
        }
        Ok(())
    }

    fn write(&self, records: &[Record]) -> Result<(), RecordingError> {
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = guard.as_mut() else { return Err(RecordingError::Poisoned) };
        if writer.syncs(records) {
            off_the_runtime(|| writer.write_batch(records))?;
        } else {
            writer.write_batch(records)?;
        }
        // The flusher sees to the time; a megabyte does not wait for it.
        if writer.sync_due(0) { off_the_runtime(|| writer.sync()) } else { Ok(()) }
    }

    /// As [`Self::write`], without a sync: whether there has to be one.
    fn append(&self, records: &[Record]) -> Result<Written, RecordingError> {
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = guard.as_mut() else { return Err(RecordingError::Poisoned) };
        writer.append(records)?;
        Ok(Written::new(writer.syncs(records) || writer.sync_due(0)))
    }

    fn record_now<T>(
        &self,
        records: &[Record],
        write: impl FnOnce(&Self, &[Record]) -> Result<T, RecordingError>,
    ) -> Result<T, Ended> {
        self.check()?;
        let written = write(self, records).map_err(|error| self.lost(&error))?;
        self.engine.metrics.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        let boot = self.engine.clock.boot();
        self.last_moved.store(boot, Ordering::Relaxed);
        self.watchers.push(records, boot);
        // The disk may have taken its time.
        self.check_at(boot)?;
        Ok(written)
    }

    async fn on_disk(self: &Arc<Self>) -> Result<(), Ended> {
        let this = Arc::clone(self);
        let synced = tokio::task::spawn_blocking(move || this.sync_if(|writer| !writer.is_synced())).await;
        match synced {
            Ok(Ok(())) => self.check(),
            Ok(Err(ended)) => Err(ended),
            Err(error) if error.is_panic() => {
                self.cut(EndReason::RecordingLost { why: "its sync came to no end".to_owned() });
                Err(self.ended())
            }
            // The runtime goes, and the session with it.
            Err(_) => {
                self.cut(EndReason::GatewayStopping);
                Err(self.ended())
            }
        }
    }

    /// Ends that came with the session's own, before the protocol has let go.
    fn record_last(&self, records: &[Record]) {
        let is_an_end = |record: &Record| {
            use RecordKind as K;
            matches!(
                record.kind,
                K::StatementEnd { .. } | K::TransferEnd { .. } | K::ChannelEnd { .. } | K::Result { .. }
            )
        };
        let ends: Vec<Record> = records.iter().filter(|record| is_an_end(record)).cloned().collect();
        if ends.is_empty() || self.released.is_cancelled() {
            return;
        }
        match off_the_runtime(|| self.write(&ends)) {
            Ok(()) => {
                self.engine.metrics.records.fetch_add(ends.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(session = %self.id(), "the last records were not written: {}", with_sources(&error));
            }
        }
    }

    /// It can no longer be recorded: nothing more passes.
    fn lost(&self, error: &RecordingError) -> Ended {
        let reason = match error {
            RecordingError::BudgetSpent { .. } => EndReason::SpoolSpent,
            other => EndReason::RecordingLost { why: with_sources(other) },
        };
        if self.cut(reason) {
            count(&self.engine.metrics.recordings_lost);
        }
        self.ended()
    }

    /// Syncs if it is time; called by the flusher, off the runtime. `ahead` is how far off the flusher's next look is.
    pub fn flush(&self, ahead: Duration) {
        let due = self.since_start().saturating_add(u64::try_from(ahead.as_micros()).unwrap_or(0));
        let _ended = self.sync_if(|writer| !writer.is_poisoned() && writer.sync_due(due));
    }

    /// Blocks, without the lock: records go on being written meanwhile. A sync that fails ends the session here, not where
    /// somebody waits for it.
    fn sync_if(&self, due: impl FnOnce(&RecordingWriter) -> bool) -> Result<(), Ended> {
        let point = {
            let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            match guard.as_mut() {
                Some(writer) if due(writer) => writer.sync_point(),
                _ => return Ok(()),
            }
        };
        let done = point.map(halligan_recording::writer::SyncPoint::run);
        count(&self.engine.metrics.syncs);
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.as_mut() {
            // Under the lock: nobody else finds it poisoned before the cause is known.
            Some(writer) => done.and_then(|done| writer.synced(done)).map_err(|error| self.lost(&error)),
            // It was finished meanwhile, by a sync of its own, which fails if this one did.
            None => Ok(()),
        }
    }

    /// Called by the watchdog: deadline, idleness, warnings.
    pub fn watch_over(&self, boot: u64) {
        if self.is_dead() {
            return;
        }
        let end = self.held.end_boot();
        if boot >= end {
            self.cut(EndReason::Expired);
            return;
        }
        // Who waits for a second person is not idle.
        if let Some(limit) = self.lease.idle_limit
            && !self.holds.any()
            && boot.saturating_sub(self.last_moved.load(Ordering::Relaxed)) > limit.as_micros().unsigned_abs()
        {
            self.cut(EndReason::Idle);
            return;
        }
        self.warn((end - boot) / 1_000_000);
    }

    fn warn(&self, seconds_left: u64) {
        let stage = WARN_AT.into_iter().find(|at| seconds_left < *at).unwrap_or(0);
        if self.warned.swap(stage, Ordering::Relaxed) == stage || stage == 0 {
            return;
        }
        let left = Span::seconds(i64::try_from(seconds_left).unwrap_or(i64::MAX));
        let rounded = if seconds_left >= 60 { Span::minutes(left.as_seconds() / 60) } else { left };
        self.warning
            .send_replace(Some(format!("Your access ends in {rounded} ({}).", self.held.lease().deadline)));
    }

    /// Ends it for the data path, at once, from any thread. True for the first who does; the rest follows by itself.
    pub fn cut(&self, reason: EndReason) -> bool {
        let expired = reason == EndReason::Expired;
        if self.reason.set(reason).is_err() {
            return false;
        }
        if expired {
            // Nobody else counts it: the data path itself came first.
            self.held.ended_one();
        }
        self.dead.store(true, Ordering::SeqCst);
        self.closed.cancel();
        self.watchers.over();
        self.engine.finish_soon(self.id());
        true
    }

    /// Resolves when the ledger has its end.
    pub async fn finished(&self) {
        self.finished.cancelled().await;
    }

    /// Finishes the recording and tells the ledger, once. Run by the engine after [`Live::cut`].
    pub async fn finish(self: Arc<Self>) {
        if self.used_database.load(Ordering::SeqCst) {
            database::end_backends(&self);
        }
        // The protocol closes its sockets first; a protocol that hangs does not hold up the end.
        let _ = tokio::time::timeout(LET_GO_WITHIN, self.released.cancelled()).await;
        self.released.cancel();
        let reason = self.ended().reason;
        let this = Arc::clone(&self);
        let words = reason.for_ledger();
        let came = tokio::task::spawn_blocking(move || this.close_recording(&words)).await.ok().flatten();
        let engine = &self.engine;
        let (session, grant) = (self.id(), self.grant());
        for hold in self.holds.over() {
            engine.journal.append_surely(holds::not_allowed(&self, hold, "the session ended")).await;
        }
        engine
            .journal
            .append_surely(NodeEvent::SessionEnded { session, grant, reason: reason.for_ledger() })
            .await;
        let came = came.unwrap_or_else(Came::nothing);
        engine.journal.append_surely(self.slip.leaf(&came)).await;
        let slip = Slip { finished: Some(came), ..self.slip.clone() };
        engine.keep_slip(slip).await;
        engine.forget_session(session);
        self.finished.cancel();
    }

    /// Blocks. What the recording came to, with its end if that could be written.
    fn close_recording(&self, reason: &str) -> Option<Came> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let at = self.since_start();
        if let Some(writer) = writer {
            match writer.finish(at, reason) {
                Ok(finished) => return Some(Came::from(&finished)),
                Err(error) => tracing::warn!(session = %self.id(), "{}", with_sources(&error)),
            }
        }
        // The writer is of no use any more: what the file holds is what there is.
        match digest::recover(&self.engine.spool.file(self.recording())) {
            Ok(finished) => Some(Came::from(&finished)),
            Err(error) => {
                tracing::error!(session = %self.id(), "failed to read back a recording: {}", with_sources(&error));
                None
            }
        }
    }

    async fn certificate(&self) -> Result<SshCredential, Refusal> {
        let gone = |ended: Ended| Refusal::new(ended.reason.to_string());
        self.check().map_err(gone)?;
        let site = &self.lease.target.site;
        if self.lease.target.kind != SystemKind::Ssh {
            return Err(Refusal::new(format!("{} is not a host.", self.lease.target.system)));
        }
        let Some(connector) = self.engine.links.connector(site) else {
            return Err(Refusal::new(format!(
                "No connector of site {site} is linked to this gateway, so no credential can be made for {}.",
                self.lease.target.system
            )));
        };
        let request = Request::IssueCertificate { lease: (*self.held.signed()).clone(), session: self.id() };
        let answer = connector.ask(request).await;
        // Nothing that arrives too late is handed out.
        self.check().map_err(gone)?;
        match answer {
            Ok(Response::Certificate { seed, openssh, serial }) => {
                Ok(SshCredential { seed: Secret::new(*seed.expose()), certificate: openssh, serial })
            }
            Ok(other) => Err(Refusal::new(format!(
                "The connector answered `{}` instead of a certificate.",
                other.name()
            ))),
            Err(error) => Err(Refusal::new(format!("The connector made no credential: {error}."))),
        }
    }

    fn is_its_own(&self, event: &NodeEvent) -> bool {
        match event {
            NodeEvent::ChannelOpened { session, .. }
            | NodeEvent::ChannelEnded { session, .. }
            | NodeEvent::TransferEnded { session, .. }
            | NodeEvent::DatabaseChanged { session, .. } => *session == self.id(),
            NodeEvent::Refused { .. } => true,
            _ => false,
        }
    }

    /// What came to be before the end is taken behind it, until the protocol has let go.
    fn is_afterwards(&self, event: &NodeEvent) -> bool {
        let of_before = matches!(
            event,
            NodeEvent::ChannelEnded { .. }
                | NodeEvent::TransferEnded { .. }
                | NodeEvent::DatabaseChanged { .. }
        );
        of_before && self.is_dead() && !self.released.is_cancelled()
    }

    async fn mark(&self, event: NodeEvent) -> Result<(), Ended> {
        let afterwards = self.is_afterwards(&event);
        if !afterwards {
            self.check()?;
        }
        if !self.is_its_own(&event) {
            self.cut(EndReason::RecordingLost { why: "a milestone was not this session's own".to_owned() });
            return Err(self.ended());
        }
        if let Err(error) = self.engine.journal.append(event).await {
            self.cut(EndReason::RecordingLost { why: with_sources(&error) });
            count(&self.engine.metrics.recordings_lost);
            return Err(self.ended());
        }
        if afterwards {
            return Ok(());
        }
        self.last_moved.store(self.engine.clock.boot(), Ordering::Relaxed);
        self.check()
    }
}

/// The permit's side of a session: a protocol holds it as `Box<dyn SessionParts>`, inside a `Session`.
pub struct Parts(pub Arc<Live>);

impl SessionParts for Parts {
    fn id(&self) -> SessionId {
        self.0.id()
    }
    fn lease(&self) -> &Lease {
        &self.0.lease
    }
    fn ssh_credential(&self) -> BoxFuture<'_, Result<SshCredential, Refusal>> {
        Box::pin(self.0.certificate())
    }
    fn database_credential(&self, renew: bool) -> BoxFuture<'_, Result<DatabaseCredential, Refusal>> {
        Box::pin(database::credential(&self.0, renew))
    }
    fn database_certificate(
        &self,
        public_key: String,
    ) -> BoxFuture<'_, Result<DatabaseCertificate, Refusal>> {
        Box::pin(database::certificate(&self.0, public_key))
    }
    fn database_backend(&self, number: u32) {
        self.0.backend.store(number, Ordering::SeqCst);
    }
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answer, Ended>> {
        Box::pin(holds::ask(&self.0, question))
    }
    fn record(&self, records: &[Record]) -> Result<(), Ended> {
        self.0.record_now(records, Live::write)
    }
    fn write(&self, records: &[Record]) -> Result<Written, Ended> {
        self.0.record_now(records, Live::append)
    }
    fn check(&self) -> Result<(), Ended> {
        self.0.check()
    }
    fn on_disk(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(self.0.on_disk())
    }
    fn record_last(&self, records: &[Record]) {
        self.0.record_last(records);
    }
    fn milestone(&self, event: NodeEvent) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(self.0.mark(event))
    }
    fn next_channel(&self) -> u32 {
        self.0.channels.fetch_add(1, Ordering::Relaxed)
    }
    fn since_start(&self) -> u64 {
        self.0.since_start()
    }
    fn closed(&self) -> BoxFuture<'_, EndReason> {
        Box::pin(async {
            self.0.closed.cancelled().await;
            self.0.ended().reason
        })
    }
    fn warning(&self) -> watch::Receiver<Option<String>> {
        self.0.warning.subscribe()
    }
    fn end(&self, reason: EndReason) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.cut(reason);
            // Whoever ends it has closed its sockets, or is about to and passes nothing more.
            self.0.released.cancel();
            self.0.finished().await;
        })
    }
    fn let_go(&self) {
        self.0.released.cancel();
        self.0.cut(EndReason::ClientLeft);
    }
}

/// Runs something that waits for the disk without holding up the other tasks of this worker, where there are others.
fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}

/// An error with its causes, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

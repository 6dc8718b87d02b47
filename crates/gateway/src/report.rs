//! What this gateway owes control: every leaf of its ledger, in order, and every recording. Both are sent until control has
//! acknowledged them, however long that takes, and kept until then.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use halligan_link::messages::{CHUNK_MOST_BYTES, PROTOCOL, Role};
use halligan_link::report::{LeafSource, report};
use halligan_link::{Blob, Hello, LinkError, Peer, Request, Response};

use halligan_session::control_plane::BoxFuture;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::live::with_sources;
use crate::metrics::count;
use crate::shelf::ShelfError;
use crate::spool::{Came, Slip};

const MOST_LEAVES: u64 = 512;
/// Leases named in a greeting: more would not fit a frame. Control sends again what is not named, which is harmless.
const MOST_NUMBERS: usize = 10_000;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A look at what is owed, even if nothing says that there is something.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Why something could not be told. It is tried again.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("the link to control failed")]
    Link(#[from] LinkError),
    #[error("control answered `{0}`, which is no answer to that")]
    Answer(&'static str),
    #[error("control holds another recording than the one that was sent (SHA-256 {theirs}, not {ours})")]
    Differs { ours: String, theirs: String },
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("failed to read a recording")]
    Read(#[from] std::io::Error),
    #[error("the gateway is stopping")]
    Stopping,
}

/// Starts both, and the heartbeat. They end with the engine.
pub(crate) fn start(engine: &Arc<Engine>) {
    engine.runtime.spawn(leaves(Arc::downgrade(engine)));
    engine.runtime.spawn(recordings(Arc::downgrade(engine)));
    engine.runtime.spawn(heartbeat(Arc::downgrade(engine)));
}

/// Control counts as heard while its link answers.
async fn heartbeat(engine: Weak<Engine>) {
    loop {
        {
            let Some(engine) = engine.upgrade() else { return };
            if let Some(peer) = engine.links.control()
                && peer.call_within(Request::Ping, HEARTBEAT).await.is_ok()
            {
                engine.links.saw_control(engine.clock.boot());
            }
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Greets each new link to control, then tells every leaf that control does not hold.
async fn leaves(engine: Weak<Engine>) {
    let Some(mut control) = engine.upgrade().map(|engine| engine.links.watch_control()) else { return };
    let mut wait = FIRST_WAIT;
    loop {
        let outcome = {
            let Some(engine) = engine.upgrade() else { return };
            match engine.links.control() {
                Some(peer) => {
                    let source =
                        Arc::new(Leaves { engine: Arc::downgrade(&engine), grew: engine.journal.grew() });
                    Some((greet(&engine, &peer).await, peer, source))
                }
                None => None,
            }
        };
        let outcome = match outcome {
            Some((Ok(acknowledged), peer, source)) => {
                report(source, &peer, acknowledged).await.map_err(ReportError::from)
            }
            Some((Err(error), _, _)) => Err(error),
            None => {
                if control.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        match outcome {
            Ok(()) => wait = FIRST_WAIT,
            Err(error) => {
                tracing::warn!("failed to report to control: {}", with_sources(&error));
                tokio::select! {
                    _ = control.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

async fn greet(engine: &Arc<Engine>, peer: &Peer) -> Result<u64, ReportError> {
    let hello = Hello {
        protocol: PROTOCOL,
        version: engine.options.version.clone(),
        role: Role::Gateway,
        name: engine.options.name.clone(),
        ledger_size: engine.journal.size(),
        time: engine.journal.now(),
        roster: engine.roster().map_or(0, |roster| roster.roster().serial),
        ledger_key: engine.journal.key().to_string(),
        leases: engine.leases.numbers(MOST_NUMBERS),
        listeners: engine.listeners(),
    };
    match peer.ask(Request::Hello(hello)).await? {
        Response::Welcome { acknowledged, .. } => Ok(acknowledged),
        other => Err(ReportError::Answer(other.name())),
    }
}

/// The ledger as the report reads it. It does not keep the engine alive.
struct Leaves {
    engine: Weak<Engine>,
    grew: watch::Receiver<u64>,
}

impl Leaves {
    fn engine(&self) -> Result<Arc<Engine>, halligan_link::report::ReportError> {
        self.engine.upgrade().ok_or_else(|| halligan_link::report::ReportError::new(ReportError::Stopping))
    }
}

impl LeafSource for Leaves {
    fn size(&self) -> u64 {
        self.engine.upgrade().map_or(0, |engine| engine.journal.size())
    }
    fn read(&self, from: u64, most_bytes: usize) -> Result<Vec<Vec<u8>>, halligan_link::report::ReportError> {
        self.engine()?
            .journal
            .page(from, MOST_LEAVES, most_bytes)
            .map_err(halligan_link::report::ReportError::new)
    }
    fn checkpoint(&self) -> Result<String, halligan_link::report::ReportError> {
        self.engine()?.journal.checkpoint().map_err(halligan_link::report::ReportError::new)
    }
    fn grown(&self, past: u64) -> BoxFuture<'_, ()> {
        let mut grew = self.grew.clone();
        Box::pin(async move {
            // The size itself is asked first: the word of growth may come a little later than the leaf.
            if self.size() <= past && grew.wait_for(|size| *size > past).await.is_err() {
                // The gateway is gone; the link ends with it.
                std::future::pending::<()>().await;
            }
        })
    }
    fn acknowledged(&self, size: u64) {
        let Some(engine) = self.engine.upgrade() else { return };
        engine.links.saw_control(engine.clock.boot());
        engine.metrics.leaves_waiting.store(engine.journal.size().saturating_sub(size), Ordering::Relaxed);
        engine.acknowledged.store(size, Ordering::SeqCst);
    }
}

async fn recordings(engine: Weak<Engine>) {
    let mut wait = FIRST_WAIT;
    loop {
        let failed = {
            let Some(engine) = engine.upgrade() else { return };
            match engine.links.control() {
                Some(peer) => send_all(&engine, &peer).await,
                None => Ok(()),
            }
            .inspect_err(|error| tracing::warn!("failed to send a recording: {}", with_sources(error)))
            .is_err()
        };
        let pause = if failed { wait } else { LOOK_EVERY };
        wait = if failed { (wait * 2).min(LONGEST_WAIT) } else { FIRST_WAIT };
        let Some(engine) = engine.upgrade() else { return };
        let mut control = engine.links.watch_control();
        control.mark_unchanged();
        tokio::select! {
            () = engine.recordings_moved.notified(), if !failed => {}
            _ = control.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn waiting(engine: &Arc<Engine>) -> Result<Vec<(Slip, Came)>, ReportError> {
    let reader = Arc::clone(engine);
    let slips = tokio::task::spawn_blocking(move || reader.spool.slips())
        .await
        .map_err(|_| ReportError::Stopping)??;
    let mut finished: Vec<_> =
        slips.into_iter().filter_map(|slip| slip.finished.clone().map(|came| (slip, came))).collect();
    // What could not be read back stays here for whoever looks into it; the ledger says that it is lost.
    finished.retain(|(_, came)| !came.sha256.is_empty());
    Ok(finished)
}

async fn send_all(engine: &Arc<Engine>, peer: &Peer) -> Result<(), ReportError> {
    let mut first_failure = None;
    for (slip, came) in waiting(engine).await? {
        // One that control refuses does not hold up the others.
        match send(engine, peer, &slip, &came).await {
            Ok(()) => {
                let (shelf, recording) = (engine.spool.clone(), slip.recording);
                tokio::task::spawn_blocking(move || shelf.remove(recording))
                    .await
                    .map_err(|_| ReportError::Stopping)??;
                count(&engine.metrics.recordings_stored);
                engine.metrics.recordings_waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Err(error) if peer.is_closed() => return Err(error),
            Err(error) => {
                first_failure.get_or_insert(error);
            }
        }
    }
    first_failure.map_or(Ok(()), Err)
}

/// Sends one recording, from where control stopped, and compares what it read back with what the ledger says.
async fn send(engine: &Arc<Engine>, peer: &Peer, slip: &Slip, came: &Came) -> Result<(), ReportError> {
    let recording = slip.recording;
    let path = engine.spool.file(recording);
    let begin = Request::RecordingBegin {
        recording,
        session: slip.session,
        bytes: came.bytes,
        sha256: came.sha256.clone(),
    };
    let mut answer = peer.ask(begin).await?;
    loop {
        match answer {
            Response::RecordingStored { sha256 } => {
                return if sha256 == came.sha256 {
                    Ok(())
                } else {
                    Err(ReportError::Differs { ours: came.sha256.clone(), theirs: sha256 })
                };
            }
            Response::RecordingAt { offset } if offset >= came.bytes => {
                answer = peer.ask(Request::RecordingEnd { recording }).await?;
                if let Response::RecordingAt { .. } = answer {
                    return Err(ReportError::Answer("recording_at after the end"));
                }
            }
            Response::RecordingAt { offset } => {
                let path = path.clone();
                let data = tokio::task::spawn_blocking(move || piece(&path, offset))
                    .await
                    .map_err(|_| ReportError::Stopping)??;
                if data.is_empty() {
                    return Err(ReportError::Read(std::io::ErrorKind::UnexpectedEof.into()));
                }
                let next = offset + data.len() as u64;
                let chunk = Request::RecordingChunk { recording, offset, data: Blob(data) };
                answer = peer.ask(chunk).await?;
                if let Response::RecordingAt { offset } = &answer
                    && *offset < next
                {
                    return Err(ReportError::Answer("recording_at without progress"));
                }
            }
            other => return Err(ReportError::Answer(other.name())),
        }
    }
}

fn piece(path: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::with_capacity(CHUNK_MOST_BYTES);
    file.take(CHUNK_MOST_BYTES as u64).read_to_end(&mut data)?;
    Ok(data)
}

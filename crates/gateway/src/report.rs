//! What this gateway owes control: every leaf of its ledger, in order, and every recording. Both are sent until control has
//! acknowledged them, however long that takes, and kept until then.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use halligan_link::messages::{CHUNK_MOST_BYTES, ENTRIES_MOST_BYTES, PROTOCOL, Role};
use halligan_link::{Blob, Hello, LinkError, Peer, Request, Response};

use crate::engine::Engine;
use crate::journal::JournalError;
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
    Journal(#[from] JournalError),
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

async fn leaves(engine: Weak<Engine>) {
    let Some((mut grew, mut control)) =
        engine.upgrade().map(|engine| (engine.journal.grew(), engine.links.watch_control()))
    else {
        return;
    };
    let mut greeted = None;
    let mut wait = FIRST_WAIT;
    loop {
        let outcome = {
            let Some(engine) = engine.upgrade() else { return };
            match engine.links.numbered_control() {
                Some((link, peer)) => tell_leaves(&engine, &peer, link, &mut greeted).await,
                None => Ok(()),
            }
        };
        match outcome {
            Ok(()) => {
                wait = FIRST_WAIT;
                tokio::select! {
                    changed = grew.changed() => if changed.is_err() { return },
                    changed = control.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            Err(error) => {
                tracing::warn!("failed to report to control: {}", with_sources(&error));
                greeted = None;
                tokio::select! {
                    _ = control.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// Greets a new link, then tells every leaf that control has not acknowledged.
async fn tell_leaves(
    engine: &Arc<Engine>,
    peer: &Peer,
    link: u64,
    greeted: &mut Option<u64>,
) -> Result<(), ReportError> {
    if *greeted != Some(link) {
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
        };
        match peer.ask(Request::Hello(hello)).await? {
            // Less than before means that control lost something: it is told again.
            Response::Welcome { acknowledged, .. } => keep_acknowledged(engine, acknowledged).await?,
            other => return Err(ReportError::Answer(other.name())),
        }
        *greeted = Some(link);
    }
    loop {
        let from = engine.acknowledged.load(Ordering::SeqCst);
        let reader = Arc::clone(engine);
        let batch =
            tokio::task::spawn_blocking(move || reader.journal.batch(from, MOST_LEAVES, ENTRIES_MOST_BYTES))
                .await
                .map_err(|_| ReportError::Stopping)??;
        let waiting = engine.journal.size().saturating_sub(from);
        engine.metrics.leaves_waiting.store(waiting, Ordering::Relaxed);
        let Some(batch) = batch else { return Ok(()) };
        let entries = batch.leaves.into_iter().map(Blob).collect();
        let request = Request::LedgerEntries { from, entries, checkpoint: batch.checkpoint };
        match peer.ask(request).await? {
            Response::LedgerAck { size } => {
                engine.links.saw_control(engine.clock.boot());
                let stuck = size == from;
                keep_acknowledged(engine, size).await?;
                if stuck {
                    return Err(ReportError::Answer("ledger_ack without progress"));
                }
            }
            other => return Err(ReportError::Answer(other.name())),
        }
    }
}

async fn keep_acknowledged(engine: &Arc<Engine>, size: u64) -> Result<(), ReportError> {
    // Control cannot hold more than there is.
    let size = size.min(engine.journal.size());
    if engine.acknowledged.swap(size, Ordering::SeqCst) == size {
        return Ok(());
    }
    let shelf = engine.shelf.clone();
    let number = i64::try_from(size).unwrap_or(i64::MAX);
    tokio::task::spawn_blocking(move || shelf.put_number("acknowledged", number))
        .await
        .map_err(|_| ReportError::Stopping)??;
    Ok(())
}

async fn recordings(engine: Weak<Engine>) {
    let mut wait = FIRST_WAIT;
    loop {
        let failed = {
            let Some(engine) = engine.upgrade() else { return };
            match engine.links.control() {
                Some(peer) => send_all(&engine, &peer).await,
                None => waiting(&engine).await.map(drop),
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
    let slips =
        tokio::task::spawn_blocking(move || reader.spool.slips()).await.map_err(|_| ReportError::Stopping)??;
    let finished: Vec<_> =
        slips.into_iter().filter_map(|slip| slip.finished.clone().map(|came| (slip, came))).collect();
    engine.metrics.recordings_waiting.store(finished.len() as u64, Ordering::Relaxed);
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

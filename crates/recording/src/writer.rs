//! Writing a recording: when a call returns, its records are in the file (write(2)), or it is an error.
//!
//! Fail closed: after any error the writer refuses everything, and the caller stops the session's bytes.
//! An idle writer holds no buffers and no compressor; scratch space belongs to the thread.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::age_file::{self, AgeError, Recipient};
use crate::frame::{Chain, FRAME_OVERHEAD, FrameError, MAX_PLAIN_BYTES, Sealer};
use crate::hash::Hash;
use crate::header::{self, Class, FORMAT, Header, MAX_HEADER_BYTES};
use crate::key::{DataKey, NoRandomness};
use crate::record::{ENCODING_VERSION, Record, RecordKind, TooLong};

/// What is written stays without a sync at most this long, in microseconds…
pub const SYNC_AFTER_MICROS: u64 = 250_000;
/// …and up to this many bytes.
pub const SYNC_AFTER_BYTES: u64 = 1024 * 1024;
/// Kept back from the budget so that a recording whose budget is spent can still say so and end.
const END_RESERVE: u64 = 4096;
/// Scratch space that a thread keeps between calls, per buffer.
const KEEP_SCRATCH: usize = 512 * 1024;
/// File name extension of recordings.
pub const EXTENSION: &str = "hrec";

/// Facts for the clear header.
#[derive(Debug, Clone)]
pub struct RecordingMeta {
    /// Also the file's name: ASCII letters, digits, `-` and `_`, 1 to 128 of them.
    pub recording_id: String,
    pub session_id: String,
    pub class: Class,
    /// Microseconds since 1970-01-01 UTC.
    pub started_at_micros: u64,
}

/// How much disk one recording may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of the file, header included.
    pub spool_bytes: u64,
}

/// When records reach the disk itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The caller syncs when [`RecordingWriter::sync_due`] says so.
    Windowed,
    /// Each write is synced before it returns.
    Strict,
}

/// Why something could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("the recording has used up its {spool_bytes} bytes of spool")]
    BudgetSpent { spool_bytes: u64 },
    #[error("failed to {doing} the recording {path}")]
    Disk {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the recording failed earlier and takes nothing more")]
    Poisoned,
    #[error("the end of a recording is written by finishing it")]
    EndByHand,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("{name:?} cannot be a recording's name")]
    BadName { name: String },
    #[error("the recording's header would be longer than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLong,
    #[error("the recording's key could not be wrapped")]
    Wrap(#[source] AgeError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("a frame could not be sealed")]
    Seal(#[source] FrameError),
}

/// A recording's file, ready for the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub path: PathBuf,
    pub recording_id: String,
    pub bytes: u64,
    pub frames: u64,
    /// Unknown (`None`) for a recording that was recovered without its key.
    pub records: Option<u64>,
    /// Hash of everything up to the end of the last whole frame.
    pub chain_head: Hash,
    /// Hash of the whole file.
    pub sha256: Hash,
    /// From the start to the end record; unknown for a recovered recording.
    pub duration_micros: Option<u64>,
    /// False if the recording stops without its end.
    pub complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// The budget is spent; nothing was torn, so the recording can still be finished.
    Spent,
    Poisoned,
}

/// Writes one recording. `Send`, cheap when idle, no clock of its own.
pub struct RecordingWriter {
    file: Arc<File>,
    /// A sync has failed.
    failed: Arc<Mutex<bool>>,
    path: PathBuf,
    recording_id: String,
    sealer: Sealer,
    budget: Budget,
    durability: Durability,
    state: State,
    bytes: u64,
    records: u64,
    synced_bytes: u64,
    /// Time of the oldest record that is not synced.
    unsynced_since_micros: Option<u64>,
    /// Bytes of the file at the newest sync point, and the time of the oldest record after it.
    point_bytes: u64,
    since_point_micros: Option<u64>,
}

#[derive(Default)]
struct Scratch {
    plain: Vec<u8>,
    packed: Vec<u8>,
    sealed: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A sync that can run on another thread, without the writer. See [`RecordingWriter::sync_point`].
pub struct SyncPoint {
    file: Arc<File>,
    failed: Arc<Mutex<bool>>,
    bytes: u64,
}

/// The result of a [`SyncPoint`], to be handed back to the writer.
pub struct Synced {
    bytes: u64,
    result: io::Result<()>,
}

impl SyncPoint {
    /// Blocks until everything written before the point was made is on disk.
    pub fn run(self) -> Synced {
        // A system tells of a failed write once: who asks again, or at the same time, would be told that all is well.
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match *failed {
            true => Err(io::Error::other("an earlier sync of it failed")),
            false => self.file.sync_data(),
        };
        *failed = result.is_err();
        Synced { bytes: self.bytes, result }
    }
}

impl RecordingWriter {
    /// Makes `<folder>/<recording_id>.hrec` (it must not exist), writes and syncs its header with a fresh
    /// data key wrapped to `recipients`.
    pub fn create(
        folder: &Path,
        meta: RecordingMeta,
        recipients: &[Recipient],
        budget: Budget,
        durability: Durability,
    ) -> Result<Self, RecordingError> {
        Self::create_with_key(folder, meta, &DataKey::generate()?, recipients, budget, durability)
    }

    /// As [`Self::create`], with a key that the caller made. It must be fresh: one key, one recording.
    pub fn create_with_key(
        folder: &Path,
        meta: RecordingMeta,
        key: &DataKey,
        recipients: &[Recipient],
        budget: Budget,
        durability: Durability,
    ) -> Result<Self, RecordingError> {
        let name = &meta.recording_id;
        let plain_character = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain_character) {
            return Err(RecordingError::BadName { name: name.chars().take(128).collect() });
        }
        let wrapped = age_file::wrap(key, recipients).map_err(RecordingError::Wrap)?;
        let header = Header {
            format: FORMAT,
            recording_id: meta.recording_id.clone(),
            session_id: meta.session_id,
            class: meta.class,
            started_at_micros: meta.started_at_micros,
            key_digest: Hash::of(&wrapped),
            recipients: recipients.iter().map(ToString::to_string).collect(),
        };
        let preamble = header::encode(&header, &wrapped).map_err(|_json| RecordingError::HeaderTooLong)?;
        if preamble.len() - wrapped.len() > MAX_HEADER_BYTES {
            return Err(RecordingError::HeaderTooLong);
        }
        let bytes = preamble.len() as u64;
        if bytes + END_RESERVE > budget.spool_bytes {
            return Err(RecordingError::BudgetSpent { spool_bytes: budget.spool_bytes });
        }

        let path = folder.join(name).with_extension(EXTENSION);
        let disk = |doing, source| RecordingError::Disk { doing, path: path.clone(), source };
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| disk("create", error))?;
        let begun = (&file)
            .write_all(&preamble)
            .and_then(|()| file.sync_all())
            // Without this the file's name can be lost in a power cut.
            .and_then(|()| File::open(folder)?.sync_all());
        if let Err(error) = begun {
            // Nothing was recorded yet: a file that is only half a header would only puzzle its finder.
            let _best_effort = std::fs::remove_file(&path);
            return Err(disk("begin", error));
        }
        let mut running = Sha256::new();
        running.update(&preamble);
        let sealer =
            Sealer::new(key, Chain::new(meta.recording_id.clone(), running)).map_err(RecordingError::Seal)?;
        Ok(Self {
            file: Arc::new(file),
            failed: Arc::default(),
            sealer,
            recording_id: meta.recording_id,
            path,
            budget,
            durability,
            state: State::Sound,
            bytes,
            records: 0,
            synced_bytes: bytes,
            unsynced_since_micros: None,
            point_bytes: bytes,
            since_point_micros: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn recording_id(&self) -> &str {
        &self.recording_id
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True after an error: nothing more is taken.
    pub fn is_poisoned(&self) -> bool {
        self.state != State::Sound
    }

    /// Writes one record as a frame of its own.
    pub fn write(&mut self, record: &Record) -> Result<(), RecordingError> {
        self.write_batch(std::slice::from_ref(record))
    }

    /// Writes records in order, in as few frames as they fit in. When it returns they are in the file, and on the disk if
    /// [`Self::syncs`] says so.
    pub fn write_batch(&mut self, records: &[Record]) -> Result<(), RecordingError> {
        self.append(records)?;
        if self.syncs(records) { self.sync() } else { Ok(()) }
    }

    /// As [`Self::write_batch`], for a caller that syncs elsewhere: where [`Self::syncs`] says so, nothing may go on before
    /// a [`Self::sync_point`] made after this has come back.
    pub fn append(&mut self, records: &[Record]) -> Result<(), RecordingError> {
        match self.state {
            State::Sound => {}
            State::Spent => return Err(self.budget_spent()),
            State::Poisoned => return Err(RecordingError::Poisoned),
        }
        if records.is_empty() {
            return Ok(());
        }
        let outcome = self.try_write(records, false);
        if outcome.is_err() && self.state == State::Sound {
            self.state = State::Poisoned;
        }
        outcome
    }

    /// Whether these are on the disk when [`Self::write_batch`] returns: always where durability is strict, and everywhere
    /// if one is a statement that may change something (P1).
    pub fn syncs(&self, records: &[Record]) -> bool {
        let changes = |record: &Record| matches!(&record.kind, RecordKind::StatementBegin { class, .. } if class != "read");
        self.durability == Durability::Strict || records.iter().any(changes)
    }

    /// Writes a milestone (channel opened or ended, command, transfer begun or ended) and syncs before it
    /// returns, so that its effect may follow.
    pub fn write_milestone(&mut self, record: &Record) -> Result<(), RecordingError> {
        self.write(record)?;
        if self.is_synced() { Ok(()) } else { self.sync() }
    }

    /// True once 250 ms have passed since the oldest record that is not synced, or 1 MiB is waiting.
    /// `now_micros` counts like the records' times, from the recording's start.
    pub fn sync_due(&self, now_micros: u64) -> bool {
        let waiting = self.bytes.saturating_sub(self.synced_bytes);
        let late = |since: u64| now_micros.saturating_sub(since) >= SYNC_AFTER_MICROS;
        waiting >= SYNC_AFTER_BYTES || (waiting > 0 && self.unsynced_since_micros.is_some_and(late))
    }

    /// Blocks until everything written is on disk.
    pub fn sync(&mut self) -> Result<(), RecordingError> {
        let done = self.sync_point()?.run();
        self.synced(done)
    }

    /// True if everything written is on disk.
    pub fn is_synced(&self) -> bool {
        self.synced_bytes >= self.bytes
    }

    /// A sync that can run elsewhere while records go on being written here, also several at one time. Its result
    /// goes to [`Self::synced`]. Until then, and if it is lost, the sync stays due.
    pub fn sync_point(&mut self) -> Result<SyncPoint, RecordingError> {
        if self.state == State::Poisoned {
            return Err(RecordingError::Poisoned);
        }
        self.since_point_micros = None;
        self.point_bytes = self.bytes;
        Ok(SyncPoint { file: Arc::clone(&self.file), failed: Arc::clone(&self.failed), bytes: self.bytes })
    }

    /// Takes note of a sync. A failed one poisons: what the disk then holds is unknown, and asking again
    /// would report success without having written.
    pub fn synced(&mut self, done: Synced) -> Result<(), RecordingError> {
        if let Err(source) = done.result {
            self.state = State::Poisoned;
            return Err(RecordingError::Disk { doing: "sync", path: self.path.clone(), source });
        }
        if self.state == State::Poisoned {
            return Err(RecordingError::Poisoned);
        }
        self.synced_bytes = self.synced_bytes.max(done.bytes);
        // What lies before a newer point stays due until that one's result is back.
        if self.synced_bytes >= self.point_bytes {
            self.unsynced_since_micros = self.since_point_micros;
        }
        Ok(())
    }

    /// Writes the end and syncs. Also possible after the budget was spent, not after other errors.
    /// `at_micros` counts from the recording's start; a `reason` is cut at 1,000 characters.
    pub fn finish(mut self, at_micros: u64, reason: &str) -> Result<Finished, RecordingError> {
        if self.state == State::Poisoned {
            return Err(RecordingError::Poisoned);
        }
        let reason = reason.chars().take(1000).collect();
        self.try_write(&[Record::new(at_micros, RecordKind::End { reason })], true)?;
        self.sync()?;
        let head = self.sealer.chain().head();
        Ok(Finished {
            path: self.path,
            recording_id: self.recording_id,
            bytes: self.bytes,
            frames: self.sealer.chain().number,
            records: Some(self.records),
            chain_head: head,
            sha256: head,
            duration_micros: Some(at_micros),
            complete: true,
        })
    }

    fn budget_spent(&self) -> RecordingError {
        RecordingError::BudgetSpent { spool_bytes: self.budget.spool_bytes }
    }

    fn try_write(&mut self, records: &[Record], last: bool) -> Result<(), RecordingError> {
        SCRATCH.with(|cell| match cell.try_borrow_mut() {
            Ok(mut scratch) => self.encode_and_put(records, last, &mut scratch),
            Err(_in_use) => self.encode_and_put(records, last, &mut Scratch::default()),
        })
    }

    fn encode_and_put(
        &mut self,
        records: &[Record],
        last: bool,
        scratch: &mut Scratch,
    ) -> Result<(), RecordingError> {
        scratch.plain.clear();
        scratch.plain.push(ENCODING_VERSION);
        let mut waiting = 0;
        for record in records {
            if !last && matches!(record.kind, RecordKind::End { .. }) {
                return Err(RecordingError::EndByHand);
            }
            let before = scratch.plain.len();
            record.encode(&mut scratch.plain)?;
            if scratch.plain.len() > MAX_PLAIN_BYTES {
                let overflow = scratch.plain.split_off(before);
                self.put(last, scratch)?;
                self.records += waiting;
                waiting = 0;
                scratch.plain.clear();
                scratch.plain.push(ENCODING_VERSION);
                scratch.plain.extend_from_slice(&overflow);
            }
            waiting += 1;
            self.unsynced_since_micros.get_or_insert(record.at_micros);
            self.since_point_micros.get_or_insert(record.at_micros);
        }
        self.put(last, scratch)?;
        self.records += waiting;
        for buffer in [&mut scratch.plain, &mut scratch.packed, &mut scratch.sealed] {
            if buffer.capacity() > KEEP_SCRATCH {
                buffer.clear();
                buffer.shrink_to(KEEP_SCRATCH);
            }
        }
        Ok(())
    }

    /// Seals what stands in `scratch.plain` and appends it to the file with one write.
    fn put(&mut self, last: bool, scratch: &mut Scratch) -> Result<(), RecordingError> {
        let Scratch { plain, packed, sealed } = scratch;
        // The largest that the frame can become: a frame is never sealed and then not written.
        let most = (plain.len() + FRAME_OVERHEAD) as u64;
        if !last && self.bytes + most + END_RESERVE > self.budget.spool_bytes {
            self.state = State::Spent;
            return Err(self.budget_spent());
        }
        self.sealer.seal(plain, last, packed, sealed).map_err(RecordingError::Seal)?;
        (&*self.file).write_all(sealed).map_err(|source| {
            self.state = State::Poisoned;
            RecordingError::Disk { doing: "write", path: self.path.clone(), source }
        })?;
        self.bytes += sealed.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::age_file::Identity;

    /// A writer whose disk has just become full.
    fn on_a_full_disk(folder: &Path) -> RecordingWriter {
        let meta = RecordingMeta {
            recording_id: "r".into(),
            session_id: "s".into(),
            class: Class::Sealed,
            started_at_micros: 0,
        };
        let to = [Identity::generate().unwrap().recipient()];
        let budget = Budget { spool_bytes: 1 << 20 };
        let mut writer = RecordingWriter::create(folder, meta, &to, budget, Durability::Windowed).unwrap();
        writer.file = Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer
    }

    #[test]
    fn a_write_or_sync_that_fails_is_told_with_its_cause_and_poisons() {
        let record = Record::new(0, RecordKind::Note { text: "x".into() });
        let folder = tempfile::tempdir().unwrap();
        let mut writer = on_a_full_disk(folder.path());
        match writer.write(&record) {
            Err(RecordingError::Disk { doing: "write", source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        assert!(writer.is_poisoned());
        assert!(matches!(writer.write(&record), Err(RecordingError::Poisoned)));
        assert!(matches!(writer.sync(), Err(RecordingError::Poisoned)));
        assert!(matches!(writer.finish(0, "x"), Err(RecordingError::Poisoned)));

        let folder = tempfile::tempdir().unwrap();
        let mut writer = on_a_full_disk(folder.path());
        let first = writer.sync_point().unwrap();
        let mut second = writer.sync_point().unwrap();
        // The system tells of what was lost once, and then that all is well.
        second.file = Arc::new(tempfile::tempfile().unwrap());
        let (first, second) = (first.run(), second.run());
        assert!(second.result.is_err());
        assert!(matches!(writer.synced(first), Err(RecordingError::Disk { doing: "sync", .. })));
        assert!(writer.synced(second).is_err());
        assert!(matches!(writer.write(&record), Err(RecordingError::Poisoned)));
    }
}

//! Recordings on this gateway, from their first byte until control has acknowledged them. Beside each lies a slip that says
//! whose it is and, later, what it came to.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use halligan_core::ids::{GrantId, RecordingId, SessionId};
use halligan_ledger::disk::sync_folder;
use halligan_recording::Finished;
use halligan_session::node_event::NodeEvent;
use serde::{Deserialize, Serialize};

use crate::shelf::{ShelfError, read_json, write_json};

/// What lies beside a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slip {
    /// The recording.
    pub recording: RecordingId,
    /// Its session.
    pub session: SessionId,
    /// Its grant.
    pub grant: GrantId,
    /// Leaves in the ledger when it began: its own leaves come after.
    pub ledger_from: u64,
    /// What it came to, once the ledger has its end.
    pub finished: Option<Came>,
}

/// What a recording came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Bytes of the file.
    pub bytes: u64,
    /// Whole frames.
    pub frames: u64,
    /// Records; 0 where that is unknown because the writer died.
    pub records: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Hash of everything up to the end of the last whole frame, hex.
    pub chain_head: String,
    /// Whether it has its end.
    pub complete: bool,
}

impl Came {
    /// Nothing of it could be read back.
    pub const fn nothing() -> Self {
        Self {
            bytes: 0,
            frames: 0,
            records: 0,
            sha256: String::new(),
            chain_head: String::new(),
            complete: false,
        }
    }
}

impl From<&Finished> for Came {
    fn from(finished: &Finished) -> Self {
        Self {
            bytes: finished.bytes,
            frames: finished.frames,
            records: finished.records.unwrap_or(0),
            sha256: hex::encode(finished.sha256.0),
            chain_head: hex::encode(finished.chain_head.0),
            complete: finished.complete,
        }
    }
}

impl Slip {
    /// The leaf that says what the recording came to.
    pub fn leaf(&self, came: &Came) -> NodeEvent {
        NodeEvent::RecordingFinished {
            session: self.session,
            grant: self.grant,
            recording: self.recording,
            bytes: came.bytes,
            frames: came.frames,
            records: came.records,
            sha256: came.sha256.clone(),
            chain_head: came.chain_head.clone(),
            complete: came.complete,
        }
    }
}

/// The folder of recordings.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// `folder` exists.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
    /// Where recordings lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// A recording's file.
    pub fn file(&self, recording: RecordingId) -> PathBuf {
        self.folder.join(format!("{recording}.hrec"))
    }
    /// A slip's file.
    pub fn slip_path(&self, recording: RecordingId) -> PathBuf {
        self.folder.join(format!("{recording}.slip"))
    }

    /// Keeps the slip of a recording that is about to be made in the same folder. Its content is synced when it returns;
    /// its name with that of the recording, without which it counts for nothing.
    pub fn put_first(&self, slip: &Slip) -> Result<(), ShelfError> {
        let path = self.slip_path(slip.recording);
        let failed = |source| ShelfError { doing: "write", path: path.clone(), source };
        let bytes = serde_json::to_vec(slip).map_err(|error| failed(error.into()))?;
        // A name with a dot is not read: what is torn was never there.
        let unfinished = self.folder.join(format!(".{}.slip", slip.recording));
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|source| {
            // The first error is the one worth telling.
            let _ = fs::remove_file(&unfinished);
            failed(source)
        })
    }

    /// Keeps a slip; synced when it returns.
    pub fn put(&self, slip: &Slip) -> Result<(), ShelfError> {
        write_json(&self.slip_path(slip.recording), slip)
    }

    /// Takes a recording and its slip away.
    pub fn remove(&self, recording: RecordingId) -> Result<(), ShelfError> {
        // The recording first: a slip without one is cleared away at the next start, the other way round it would stay.
        for path in [self.file(recording), self.slip_path(recording)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ShelfError { doing: "remove", path, source });
                }
                _ => {}
            }
        }
        sync_folder(&self.folder).map_err(|source| ShelfError {
            doing: "sync",
            path: self.folder.clone(),
            source,
        })
    }

    /// Every slip.
    pub fn slips(&self) -> Result<Vec<Slip>, ShelfError> {
        let read = |source| ShelfError { doing: "read", path: self.folder.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let hidden =
                path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "slip") {
                found.extend(read_json::<Slip>(&path, 64 * 1024)?);
            }
        }
        found.sort_by_key(|slip| slip.recording);
        Ok(found)
    }
}

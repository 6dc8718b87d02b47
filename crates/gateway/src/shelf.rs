//! The gateway's own folder: leases, tombstones, roster, and small marks, each a file that is either the old one or the
//! new one.
//!
//! ```text
//! ledger/            this gateway's own ledger          ledger.key   its key
//! leases/<grant>     lease and its count                ended/<grant>  tombstone
//! roster             as control signed it               spool/       recordings that control has not acknowledged
//! seen               when control was last heard        burned/      used one-time passwords
//! reserve            disk kept back, so that what ends can end on a full disk
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use halligan_core::ids::GrantId;
use halligan_core::time::{Span, Time};
use halligan_ledger::disk::{is_full, read_if_present, sync_folder, write_atomic};
use halligan_session::lease::{LEASE_MAX_BYTES, Lease, SignedLease};
use halligan_session::roster::{ROSTER_MAX_BYTES, SignedRoster};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::countdown::Count;

/// Tombstones are kept this long after the grant could have run.
const KEEP_TOMBSTONES: Span = Span::days(30);
const SMALL: u64 = 64 * 1024;
/// Fewer files than this are read by one thread.
const FEW: usize = 256;
/// Disk kept back for tombstones and slips, so that what ends can end on a full disk.
const RESERVE_BYTES: u64 = 1024 * 1024;

/// A lease as it lies on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLease {
    /// As control signed it.
    pub lease: SignedLease,
    /// How it is counted.
    pub count: Count,
}

/// A lease that ended. A later lease of this grant with the same or a lower fencing number is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The highest fencing number that was seen.
    pub fencing: u64,
    /// Why it ended, as the ledger says it.
    pub reason: String,
    /// Sessions that this ended.
    pub sessions_ended: u32,
    /// When.
    pub at: Time,
    /// Whether the ledger has its leaf.
    pub told: bool,
}

/// A file of the gateway's folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {path}")]
pub struct ShelfError {
    /// `read`, `write`, …
    pub doing: &'static str,
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// Opens the folder, which is made if it is not there (0700).
    pub fn open(folder: &Path) -> Result<Self, ShelfError> {
        let shelf = Self { folder: folder.to_owned() };
        for name in ["", "leases", "ended", "spool", "burned", "ledger"] {
            let path = shelf.folder.join(name);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| ShelfError {
                doing: "make",
                path,
                source,
            })?;
        }
        Ok(shelf)
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn lease_path(&self, grant: GrantId) -> PathBuf {
        self.folder.join("leases").join(grant.to_string())
    }
    fn ended_path(&self, grant: GrantId) -> PathBuf {
        self.folder.join("ended").join(grant.to_string())
    }

    /// Keeps a lease; synced when it returns.
    pub fn put_lease(&self, grant: GrantId, stored: &StoredLease) -> Result<(), ShelfError> {
        write_json(&self.lease_path(grant), stored)
    }

    /// Keeps a tombstone and takes the lease away; synced when it returns.
    pub fn bury(&self, grant: GrantId, tombstone: &Tombstone) -> Result<(), ShelfError> {
        self.put_closing(&self.ended_path(grant), tombstone)?;
        let path = self.lease_path(grant);
        match fs::remove_file(&path) {
            Ok(()) => {
                sync_folder(&self.path("leases")).map_err(|source| ShelfError { doing: "sync", path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ShelfError { doing: "remove", path, source }),
        }
    }

    /// Writes what closes something. On a full disk the room comes out of the reserve.
    pub fn put_closing<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), ShelfError> {
        match write_json(path, value) {
            Err(error) if is_full(&error.source) => {
                // Not there means that it was given up already.
                let _ = fs::remove_file(self.path("reserve"));
                write_json(path, value)
            }
            outcome => outcome,
        }
    }

    /// Takes the reserve, if it is not held. An error says that the disk is full.
    pub fn take_reserve(&self) -> Result<(), ShelfError> {
        let path = self.path("reserve");
        if fs::metadata(&path).is_ok_and(|found| found.len() >= RESERVE_BYTES) {
            return Ok(());
        }
        let take = || {
            let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            Ok(())
        };
        take().map_err(|source| ShelfError { doing: "reserve space in", path: path.clone(), source })
    }

    /// Every lease on the shelf with what it claims; signatures are not checked here. A file that cannot be read is an
    /// error: a gateway does not forget quietly.
    pub fn leases(&self) -> Result<Vec<(StoredLease, Lease)>, ShelfError> {
        let claimed = self.each("leases", 2 * LEASE_MAX_BYTES as u64, |path, stored: StoredLease| {
            let claimed = stored.lease.claims().map_err(|error| ShelfError {
                doing: "read",
                path: path.to_owned(),
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            });
            Some(claimed.map(|lease| (stored, lease)))
        })?;
        claimed.into_iter().collect()
    }

    /// Every tombstone; those past their time are cleared away.
    pub fn tombstones(&self, now: Time) -> Result<Vec<(GrantId, Tombstone)>, ShelfError> {
        self.each("ended", SMALL, |path, tombstone: Tombstone| {
            let grant = path.file_name()?.to_str()?.parse().ok()?;
            if tombstone.told && now.since(tombstone.at) > KEEP_TOMBSTONES {
                // Another try comes at the next start.
                let _ = fs::remove_file(path);
                return None;
            }
            Some((grant, tombstone))
        })
    }

    /// Reads every file of a folder, spread over the processors: there may be a hundred thousand.
    fn each<T: DeserializeOwned, R: Send>(
        &self,
        folder: &str,
        limit: u64,
        keep: impl Fn(&Path, T) -> Option<R> + Sync,
    ) -> Result<Vec<R>, ShelfError> {
        let folder = self.path(folder);
        let read = |source| ShelfError { doing: "read", path: folder.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            // A file half written when the power went is named with a dot; it was never acknowledged.
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with('.')) {
                paths.push(path);
            }
        }
        let some = |paths: &[PathBuf]| -> Result<Vec<R>, ShelfError> {
            let mut found = Vec::new();
            for path in paths {
                if let Some(value) = read_json(path, limit)? {
                    found.extend(keep(path, value));
                }
            }
            Ok(found)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        if paths.len() < FEW || threads < 2 {
            return some(&paths);
        }
        let shares: Vec<&[PathBuf]> = paths.chunks(paths.len().div_ceil(threads)).collect();
        std::thread::scope(|scope| {
            let running: Vec<_> = shares.into_iter().map(|share| scope.spawn(|| some(share))).collect();
            let mut found = Vec::with_capacity(paths.len());
            for share in running {
                let stopped = |_| read(io::Error::other("a thread that read it stopped"));
                found.extend(share.join().map_err(stopped)??);
            }
            Ok(found)
        })
    }

    /// Keeps the roster; synced when it returns.
    pub fn put_roster(&self, roster: &SignedRoster) -> Result<(), ShelfError> {
        write_json(&self.path("roster"), roster)
    }

    /// The roster, if one was ever received.
    pub fn roster(&self) -> Result<Option<SignedRoster>, ShelfError> {
        read_json(&self.path("roster"), 2 * ROSTER_MAX_BYTES as u64)
    }

    /// Keeps a number under a name; synced when it returns.
    pub fn put_number(&self, name: &str, number: i64) -> Result<(), ShelfError> {
        write_json(&self.path(name), &number)
    }

    /// A number kept under a name.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ShelfError> {
        read_json(&self.path(name), SMALL)
    }
}

/// Writes a value as JSON; synced when it returns.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ShelfError> {
    let failed = |source| ShelfError { doing: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    write_atomic(path, &bytes, 0o600).map_err(failed)
}

/// Reads a value; `None` if the file is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, ShelfError> {
    let failed = |source| ShelfError { doing: "read", path: path.to_owned(), source };
    let Some(bytes) = read_if_present(path, limit).map_err(failed)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into()))
}

/// Bytes that this program may still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

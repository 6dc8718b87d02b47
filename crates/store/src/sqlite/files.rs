//! The store's files: private, held by one process, copied safely.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// Only the owner may look.
const PRIVATE: u32 = 0o600;
/// How long a process that just ended may keep the lock: 40 times 50 ms.
const LOCK_TRIES: u32 = 40;

/// Holds `<path>.lock` until the file is dropped or the process ends, however it ends.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(&path)
        .map_err(|source| file_error("open", &path, source))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(source)) => return Err(file_error("lock", &path, source)),
        }
    }
    Err(StoreError::Locked { path })
}

/// Makes the file private before SQLite opens it: `-wal` and `-shm` take its mode.
pub(super) fn make_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path) {
        Ok(_) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(PRIVATE))
                .map_err(|source| file_error("make private", path, source))
        }
        Err(source) => Err(file_error("create", path, source)),
    }
}

/// Copies the store at `from` to the new file `to` as of one moment, and syncs it. A failed copy is removed.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let Some(name) = to.to_str() else {
        return Err(StoreError::refused("failed to back up: the file's name is not UTF-8"));
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(to)
        .map_err(|source| file_error("create", to, source))?;
    let copied = copy_into(from, name)
        .and_then(|()| file.sync_all().map_err(|source| file_error("sync", to, source)))
        .and_then(|()| sync_folder(to));
    if copied.is_err()
        && let Err(error) = fs::remove_file(to)
    {
        tracing::warn!(%error, path = %to.display(), "an unfinished backup could not be removed");
    }
    copied
}

fn copy_into(from: &Path, to: &str) -> Result<(), StoreError> {
    let connection = Connection::open_with_flags(
        from,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute("VACUUM INTO $1", [to])?;
    Ok(())
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| file_error("sync", folder, source))
}

fn file_error(act: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { act, path: path.to_owned(), source: Arc::new(source) }
}

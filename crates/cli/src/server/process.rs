//! What every role does before anything else: no core dumps, private files, one process per state folder; and the word to
//! the service manager.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, Mode};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Memory of this process goes nowhere, and files that it makes are its owner's only.
pub fn harden() -> anyhow::Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("failed to forbid core dumps")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("failed to shut other programs out of this one's memory")
}

/// A state folder in the hands of this process, until dropped.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// Makes the state folder if it is not there, checks that it is private, and locks it.
///
/// # Errors
/// When others can reach it, or another process holds it.
pub fn hold(folder: &Path) -> anyhow::Result<Held> {
    make_private(folder)?;
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?.flatten()
    {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            check_private(&entry.path())?;
        }
    }
    let path = folder.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Held { _lock: lock }),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!(
                "another halligan runs on the folder {}: each process needs one of its own",
                folder.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("failed to lock {}", path.display())),
    }
}

/// Makes a folder that only its owner enters; one that is there must be so already.
pub fn make_private(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("failed to make the folder {}", folder.display()))?;
    check_private(folder)
}

fn check_private(folder: &Path) -> anyhow::Result<()> {
    let facts = fs::metadata(folder).with_context(|| format!("failed to look at {}", folder.display()))?;
    let owner = rustix::process::geteuid().as_raw();
    if facts.uid() != owner {
        bail!(
            "the folder {} belongs to user {}, this process runs as user {owner}: it keeps keys there, so give it a folder \
             of its own",
            folder.display(),
            facts.uid()
        );
    }
    let mode = facts.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "the folder {0} can be reached by others (mode {mode:o}) and holds keys: look at who was in it, then `chmod 700 {0}`",
            folder.display()
        );
    }
    Ok(())
}

/// Writes a file that only its owner reads, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    halligan_ledger::disk::write_atomic(path, text.as_bytes(), 0o600)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Tells the service manager, if there is one, in the words of `sd_notify(3)`.
pub fn tell_manager(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&socket, state) {
        tracing::warn!(%error, "failed to tell the service manager `{state}`");
    }
}

fn send_to(socket: &std::ffi::OsStr, state: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_private() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("state");
        let held = hold(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let said = hold(&folder).unwrap_err().to_string();
        assert!(said.contains("another halligan"), "{said}");
        drop(held);
        let held = hold(&folder).unwrap();
        drop(held);
        fs::create_dir(folder.join("control")).unwrap();
        fs::set_permissions(folder.join("control"), fs::Permissions::from_mode(0o750)).unwrap();
        let said = hold(&folder).unwrap_err().to_string();
        assert!(said.contains("chmod 700") && said.contains("control"), "{said}");
    }

    #[test]
    fn the_service_manager_hears_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), "READY=1").unwrap();
        let mut heard = [0u8; 64];
        let count = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"READY=1");
    }
}

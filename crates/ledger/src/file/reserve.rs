//! A file that does nothing but hold disk space, so that closing records can be written on a full disk.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The reserve: held or given up.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    /// Takes the space, if it is not held yet.
    pub fn take(&self) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path)?;
        let taken = match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            // Some file systems cannot reserve: there the space is taken by writing.
            Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(self.bytes), &mut &file).map(drop),
            other => other.map_err(io::Error::from),
        };
        if taken.is_err() {
            self.release()?;
        }
        taken
    }

    /// Gives the space up.
    pub fn release(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

//! A small disk of its own, in memory, that can be filled: what a full one does to a program is seen for real.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// A mounted tmpfs. Mounting one takes the rights of an administrator. It is gone when the value is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    _folder: Option<TempDir>,
}

impl SmallDisk {
    /// One of so many MiB.
    pub fn mount(mib: u32) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        Self::mounted(folder.path().to_owned(), mib, Some(folder))
    }

    /// The same on a folder, which is made if it is not there.
    pub fn mount_on(at: &Path, mib: u32) -> Result<Self> {
        std::fs::create_dir_all(at).with_context(|| format!("failed to make {}", at.display()))?;
        Self::mounted(at.to_owned(), mib, None)
    }

    fn mounted(at: PathBuf, mib: u32, folder: Option<TempDir>) -> Result<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&at)
            .status()
            .context("failed to start mount")?;
        ensure!(
            mounted.success(),
            "a small disk is mounted here, which takes the rights of an administrator"
        );
        Ok(Self { at, _folder: folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Writes until nothing fits.
    pub fn fill(&self) -> Result<()> {
        let ballast = self.at.join("ballast");
        let mut file = File::create(&ballast).context("failed to make the ballast")?;
        while file.write_all(&[1; 4096]).is_ok() {}
        let mut file =
            OpenOptions::new().append(true).open(&ballast).context("failed to open the ballast")?;
        while file.write_all(&[1]).is_ok() {}
        Ok(())
    }

    /// Takes away what [`Self::fill`] wrote.
    pub fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.at.join("ballast")).context("failed to remove the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the program may still be closing its files.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

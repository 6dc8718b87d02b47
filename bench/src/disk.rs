//! Where measurements put their files: beside the program, on a real disk, and gone afterwards.

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A folder of its own. Not in memory: a disk that does not sync would be no measurement.
pub fn folder() -> Result<TempDir> {
    let program = std::env::current_exe().context("failed to find the running program")?;
    let beside = program.parent().context("the running program is in no folder")?;
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(beside)
        .with_context(|| format!("failed to make a folder in {}", beside.display()))
}

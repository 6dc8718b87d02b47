//! Manual pages.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Writes one manual page for each verb.
pub fn pages(command: clap::Command, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("failed to write manual pages into {}", folder.display()))
}

//! What people type: `halligan request`, `approve`, `ssh`, … Each verb is one call of the API, or a few.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::output::Format;

/// A person's verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Says which version this is.
    Version(Version),
}

/// Says which version this is.
#[derive(Debug, Args)]
pub struct Version {}

/// Carries a verb out.
pub async fn run(verb: Verb, format: Format) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Version(Version {}) => {
            let version = env!("CARGO_PKG_VERSION");
            match format {
                Format::Table => println!("halligan {version}"),
                Format::Json => println!("{}", serde_json::json!({ "name": "halligan", "version": version })),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

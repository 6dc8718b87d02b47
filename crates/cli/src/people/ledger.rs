//! Whether the running server's store still holds what its ledger says.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use crate::output::{Format, printable};

/// What the server found.
#[derive(Debug, Serialize, Deserialize)]
struct Differences {
    /// None if everything is as the ledger's events make it.
    faults: Vec<Difference>,
}

/// One thing that is not as the ledger says.
#[derive(Debug, Serialize, Deserialize)]
struct Difference {
    /// Where.
    place: String,
    /// What is wrong.
    say: String,
}

/// Has the server replay its ledger and compare: an edit by SQL shows. Exit code 1 if anything differs.
pub async fn check(format: Format) -> anyhow::Result<ExitCode> {
    let desk = Desk::new(format)?;
    let client = desk.client()?;
    let nothing = serde_json::json!({});
    let asked = client.post_slowly("ledger/check", &nothing);
    let found: Differences =
        desk.waiting("replaying the ledger", asked).await.context("failed to check the ledger")?;
    desk.print(&found, |_| {
        if found.faults.is_empty() {
            return "every document is as the ledger's events make it".to_owned();
        }
        let lines = found
            .faults
            .iter()
            .map(|fault| format!("{}: {}", printable(&fault.place), printable(&fault.say)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(if found.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! Catalog files: loading, with every fault by file and line; checking.

use std::path::Path;
use std::process::ExitCode;

use halligan_catalog::{Diagnostic, Loaded, Nodes, Report, WayInTable, check, load_folder, way_in};
use serde::Serialize;

use super::shown;
use crate::output::Tone;
use crate::people::desk::Desk;
use crate::people::failure::said;

/// What `check` says to programs.
#[derive(Serialize)]
struct Checked<'a> {
    passes: bool,
    #[serde(flatten)]
    report: &'a Report,
    way_in: Option<&'a WayInTable>,
}

/// `halligan catalog check`: prints the way-in table and every finding. Exit code 1 if it cannot be applied.
pub fn check_files(desk: &Desk, folder: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match load_folder(folder) {
        Ok(loaded) => loaded,
        Err(findings) => {
            let report = Report { errors: findings.len() as u64, findings, ..Report::default() };
            desk.print(&Checked { passes: false, report: &report, way_in: None }, |_| shown(&report))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let report = check(&loaded, desk.look.now);
    let table = way_in(&loaded.catalog, &loaded.systems, &Nodes::unknown())?;
    let passes = report.passes();
    desk.print(&Checked { passes, report: &report, way_in: Some(&table) }, |look| {
        let verdict = match (passes, report.warnings) {
            (false, _) => look.paint(Tone::Bad, "It cannot be applied."),
            (true, 0) => look.paint(Tone::Good, "It can be applied."),
            (true, _) => look.paint(Tone::Warn, "It can be applied; somebody should look at the warnings."),
        };
        format!(
            "Who still gets in, and how, when something is down:\n\n{}\n\n{}\n{verdict}",
            shown(&table),
            shown(&report)
        )
    })?;
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads a folder, or fails with every fault.
pub fn load(folder: &Path) -> anyhow::Result<Loaded> {
    load_folder(folder).map_err(|faults| refused(folder, &faults))
}

/// Loads a folder that can be applied.
pub fn load_good(desk: &Desk, folder: &Path) -> anyhow::Result<Loaded> {
    let loaded = load(folder)?;
    let report = check(&loaded, desk.look.now);
    if report.passes() {
        if report.warnings > 0 {
            desk.note(&shown(&report));
        }
        return Ok(loaded);
    }
    Err(said(
        format!("failed to accept {}:\n{report}", folder.display()),
        "mend it; `halligan catalog check` says the same",
    ))
}

fn refused(folder: &Path, faults: &[Diagnostic]) -> anyhow::Error {
    let mut text = format!("failed to read {}:", folder.display());
    for fault in faults {
        text.push('\n');
        text.push_str(&fault.to_string());
    }
    said(text, "mend it and try again")
}

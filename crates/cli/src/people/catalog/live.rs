//! `halligan catalog check --live`: what the catalog in force says of systems, against the systems themselves.

use std::process::ExitCode;

use anyhow::Context as _;
use halligan_client::types::{LiveCheckWish, LiveChecked};
use halligan_core::ids::Name;

use crate::output::{Look, Tone, printable};
use crate::people::desk::Desk;

/// Looks at one system, or at every one that can be looked at. Exit code 1 if anything is wrong.
pub async fn check(desk: &Desk, system: Option<Name>) -> anyhow::Result<ExitCode> {
    let client = desk.client()?;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let wish = LiveCheckWish { system: system.clone(), after };
        let part = desk.waiting("looking", client.check_live(&wish)).await;
        let part = part.context("failed to look at the systems")?;
        found.extend(part.systems);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    desk.print(&found, |look| page(look, &found))?;
    let wrong = found.iter().flat_map(|system| &system.findings).any(|finding| finding.level == "error");
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn page(look: &Look, systems: &[LiveChecked]) -> String {
    if systems.is_empty() {
        return "No system of the catalog in force can be looked at.".to_owned();
    }
    let mut lines = Vec::new();
    for system in systems {
        if system.findings.is_empty() {
            lines.push(format!("{}  {}", look.paint(Tone::Good, "good   "), system.system));
        }
        for finding in &system.findings {
            let tone = match finding.level.as_str() {
                "error" => Tone::Bad,
                "warning" => Tone::Warn,
                _ => Tone::Plain,
            };
            let what = match &finding.role {
                Some(role) => format!("{}/{role}", system.system),
                None => system.system.to_string(),
            };
            let level = look.paint(tone, &format!("{:7}", printable(&finding.level)));
            lines.push(format!("{level}  {what}: {}", printable(&finding.say)));
        }
    }
    lines.join("\n")
}

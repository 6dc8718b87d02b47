//! One file that proves an incident: fetching it, and checking it offline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_ledger::{SignedNote, TrustPolicy};
use halligan_verify::{Options, Report, verify_bundle, verify_consistency, verify_ledger};
use serde_json::json;

use super::desk::Desk;
use super::failure::said;
use super::sessions::{Whole, read_identity};
use crate::output::{Look, Tone, printable, size};

/// Largest policy or checkpoint that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Evidence.
#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// Writes everything that proves an incident into one file.
    Export {
        /// INC-7, or its id.
        incident: String,
        /// Where to; INC-7.evidence in this folder if not said.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

impl Evidence {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let Self::Export { incident, to } = self;
        let what = || format!("failed to export the evidence of {}", printable(&incident));
        let client = desk.client()?;
        let number = client.incident(&incident).await.with_context(what)?.incident.number;
        let to = to.unwrap_or_else(|| PathBuf::from(format!("INC-{number}.evidence")));
        let mut file = Whole::begin(&to)?;
        let name = format!("INC-{number}");
        let fetched = desk.waiting("collecting the evidence", client.evidence(&name, &mut file)).await;
        fetched.with_context(what)?;
        let bytes = file.finish()?;
        desk.print(&json!({ "incident": name, "file": to, "bytes": bytes }), |_| {
            format!("{} written, {}\nnext: halligan verify {0}", to.display(), size(bytes))
        })
    }
}

/// Checks evidence offline.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 if everything holds, 1 if anything does not. Nothing is asked of any server."
)]
pub struct Verify {
    /// An evidence bundle, or a ledger's folder of tiles.
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,
    /// Keys of ledgers and witnesses that you trust. Without it a bundle is checked against its own, which is said.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An age key that recordings were made for: they are read in full then.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// A checkpoint that you kept: checks that a ledger's folder still contains all that it vouched for.
    #[arg(long, value_name = "FILE", requires = "policy")]
    since: Option<PathBuf>,
}

impl Verify {
    /// Carries it out.
    pub fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let policy = self
            .policy
            .as_deref()
            .map(|path| {
                TrustPolicy::parse(&read(path)?)
                    .with_context(|| format!("failed to read the policy {}", path.display()))
            })
            .transpose()?;
        let metadata = std::fs::metadata(&self.path)
            .with_context(|| format!("failed to read {}", self.path.display()))?;
        let report = if metadata.is_dir() {
            let Some(policy) = policy else {
                return Err(said(
                    "failed to verify a ledger: nothing says which keys to trust",
                    "add --policy FILE; an evidence bundle holds one",
                ));
            };
            match &self.since {
                Some(path) => {
                    let text = String::from_utf8(read(path)?).context("the checkpoint is not text")?;
                    let older: SignedNote = text
                        .parse()
                        .with_context(|| format!("failed to read the checkpoint {}", path.display()))?;
                    verify_consistency(&self.path, &older, &policy)
                }
                None => verify_ledger(&self.path, &policy),
            }
        } else {
            let identity = self.identity.as_deref().map(read_identity).transpose()?;
            verify_bundle(&self.path, &Options { policy, identity })
        };
        let value = json!({ "ok": report.ok(), "report": report });
        desk.print(&value, |look| report_text(look, &report))?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let what = || format!("failed to read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(what)?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).with_context(what)?;
    Ok(bytes)
}

fn report_text(look: &Look, report: &Report) -> String {
    let mut text = format!("{}\n\n", printable(&report.subject));
    for check in &report.checks {
        let (tone, verdict) = if check.ok { (Tone::Good, "ok  ") } else { (Tone::Bad, "FAIL") };
        let detail = printable(&check.detail);
        text.push_str(&format!("{}  {}: {detail}\n", look.paint(tone, verdict), check.name));
    }
    for warning in &report.warnings {
        text.push_str(&format!("{}  {}\n", look.paint(Tone::Warn, "note"), printable(warning)));
    }
    let counts = report.counts;
    text.push_str(&format!(
        "\n{} leaves, {} events, {} documents, {} recordings\n",
        counts.leaves, counts.events, counts.documents, counts.recordings
    ));
    let faults = report.faults().count();
    text.push_str(&if report.ok() {
        look.paint(Tone::Good, "VERIFIED: everything holds.")
    } else {
        look.paint(
            Tone::Bad,
            &format!("NOT VERIFIED: {faults} of {} checks do not hold.", report.checks.len()),
        )
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use halligan_core::time::Time;
    use halligan_verify::{Check, Counts};

    #[test]
    fn a_report_says_first_what_it_is_about_and_last_whether_it_holds() {
        let check = |name, ok, detail: &str| Check { name, ok, detail: detail.to_owned() };
        let report = Report {
            subject: "the bundle of INC-7".to_owned(),
            checks: vec![
                check("signatures", true, "3 checkpoints"),
                check("grants", false, "grt_1 has\u{1b}[2J no proof"),
            ],
            warnings: vec!["the bundle's own keys were used".to_owned()],
            counts: Counts { leaves: 9, events: 8, documents: 3, recordings: 1 },
        };
        let look = Look { width: Some(80), colour: false, now: Time::from_micros(0) };
        insta::assert_snapshot!(report_text(&look, &report));
    }
}

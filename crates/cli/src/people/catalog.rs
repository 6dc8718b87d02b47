//! The catalog: what one can get into and the rules. `check`, `schema` and, with `--folder`, `explain` work on files
//! alone; the rest asks the server.

mod apply;
mod explain;
mod files;
mod live;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use halligan_client::types::{Askable, ScenarioView};
use halligan_core::ids::{ChangeId, Name};

use super::ask;
use super::desk::{Desk, Lines, more};
use super::views::{BOLT, names};
use crate::output::{Look, printable, printable_lines, word};

/// The catalog.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists what you may ask for.
    Entitlements {
        #[command(flatten)]
        lines: Lines,
    },
    /// Lists scenarios with their criteria and runbooks.
    Scenarios,
    /// Shows the catalog in force as YAML: all but the systems, or one system.
    Show {
        /// A system.
        system: Option<Name>,
    },
    /// Checks files, and prints who can still get in while something is down (the way-in table).
    Check {
        /// A folder of *.yaml, *.json and *.jsonl, or one file.
        #[arg(required_unless_present = "live")]
        folder: Option<PathBuf>,
        /// Looks at the systems themselves, through their connectors: does what the catalog in force says of them hold?
        #[arg(long, conflicts_with = "folder")]
        live: bool,
        /// With --live: only this system.
        #[arg(long, value_name = "SYSTEM", requires = "live")]
        system: Option<Name>,
    },
    /// Says what applying a folder would change, and what of it needs a second person.
    Diff {
        /// A folder of *.yaml, *.json and *.jsonl, or one file.
        folder: PathBuf,
        /// Compares with this folder instead of the catalog in force.
        #[arg(long, value_name = "FOLDER")]
        against: Option<PathBuf>,
    },
    /// Puts a folder into force, or proposes it to a second person where it widens who may do what.
    Apply {
        /// A folder of *.yaml, *.json and *.jsonl, or one file.
        folder: PathBuf,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Goes back to an earlier version, by the same rules as forward.
    Rollback {
        /// The version.
        #[arg(id = "to-version", value_name = "VERSION")]
        version: u64,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Shows what somebody proposed.
    Proposal {
        /// The change (chg_…).
        change: ChangeId,
    },
    /// Puts a proposal of somebody else into force.
    Confirm {
        /// The change (chg_…).
        change: ChangeId,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Says no to a proposal, or takes your own back.
    Reject {
        /// The change (chg_…).
        change: ChangeId,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Says who could get in somewhere and how; or what happens, and why, if somebody asks for it.
    Explain(explain::Explain),
    /// Prints the JSON Schema of catalog files, for editors.
    Schema,
}

impl Verb {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match self {
            Self::Entitlements { lines } => {
                let page =
                    desk.client()?.askable(&lines.paging()).await.context("failed to list entitlements")?;
                desk.print(&page, |look| askable_table(look, &page.items) + &more(page.next.as_deref()))?;
            }
            Self::Scenarios => {
                let all = desk.client()?.scenarios().await.context("failed to list scenarios")?;
                desk.print(&all, |look| {
                    all.iter().map(|view| scenario_card(look, view)).collect::<Vec<_>>().join("\n\n")
                })?;
            }
            Self::Show { system } => apply::show(desk, system.as_ref()).await?,
            Self::Check { folder: Some(folder), .. } => return files::check_files(desk, &folder),
            Self::Check { folder: None, system, .. } => return live::check(desk, system).await,
            Self::Diff { folder, against } => apply::diff(desk, &folder, against.as_deref()).await?,
            Self::Apply { folder, totp } => return apply::apply(desk, &folder, totp.as_deref()).await,
            Self::Rollback { version, totp } => {
                let code = ask::code(totp.as_deref())?;
                let work = desk.client()?;
                let done = desk.waiting("checking", work.roll_back_catalog(version, &code)).await;
                let done = done.with_context(|| format!("failed to go back to version {version}"))?;
                desk.print(&done, |_| apply::said(&done))?;
            }
            Self::Proposal { change } => {
                let proposal = desk.client()?.catalog_proposal(change).await;
                let proposal = proposal.with_context(|| format!("failed to show {change}"))?;
                desk.print(&proposal, |_| apply::proposal(&proposal))?;
            }
            Self::Confirm { change, totp } => {
                let client = desk.client()?;
                let proposal = client.catalog_proposal(change).await;
                let proposal = proposal.with_context(|| format!("failed to show {change}"))?;
                desk.note(&apply::proposal(&proposal));
                let code = ask::code(totp.as_deref())?;
                let done = client.confirm_catalog(change, &code).await;
                let done = done.with_context(|| format!("failed to confirm {change}"))?;
                desk.print(&done, |_| apply::said(&done))?;
            }
            Self::Reject { change, reason } => {
                let done = desk.client()?.reject_catalog(change, &reason).await;
                done.with_context(|| format!("failed to reject {change}"))?;
                desk.print(&serde_json::json!({ "change": change, "rejected": true }), |_| {
                    format!("{change} is rejected")
                })?;
            }
            Self::Explain(explain) => explain.run(desk).await?,
            Self::Schema => print!("{}", halligan_catalog::schema()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn askable_table(look: &Look, items: &[Askable]) -> String {
    let mut table = look.table(&["entitlement", "ladder", "how", "for", "sensitivity", "meaning"]);
    for item in items {
        let how = match (item.standard, item.emergency) {
            (true, true) => format!("standard, {BOLT}"),
            (true, false) => "standard".to_owned(),
            (false, true) => format!("{BOLT} only"),
            (false, false) => String::new(),
        };
        table.add_row([
            item.entitlement.to_string(),
            word(&item.ladder),
            how,
            format!("{}, at most {}", item.durations.default, item.durations.longest),
            item.sensitivity.as_ref().map(ToString::to_string).unwrap_or_default(),
            printable(&item.meaning),
        ]);
    }
    table.trim_fmt()
}

fn scenario_card(look: &Look, view: &ScenarioView) -> String {
    let scenario = &view.scenario;
    let mut rows = vec![
        ("scenario", format!("{BOLT} {}", view.name)),
        ("title", printable(&scenario.title)),
        ("meaning", printable(&scenario.meaning)),
        ("severities", names(&scenario.severities)),
        ("first step", word(&scenario.first_step)),
    ];
    for criterion in &scenario.criteria {
        rows.push(("criterion", printable(criterion)));
    }
    if let Some(runbook) = &scenario.runbook {
        let (link, reviewed) = (printable(&runbook.link), printable(&runbook.reviewed));
        rows.push(("runbook", format!("{link} ({}, reviewed {reviewed})", runbook.owner)));
    }
    let you = match (view.may_invoke, view.may_bypass) {
        (true, true) => "may invoke it, and bypass approval",
        (true, false) => "may invoke it",
        (false, true) => "may bypass approval",
        (false, false) => "may not invoke it",
    };
    rows.push(("you", you.to_owned()));
    look.card(&rows)
}

/// Text of several lines from files that somebody else wrote.
fn shown(text: &impl std::fmt::Display) -> String {
    printable_lines(&text.to_string())
}

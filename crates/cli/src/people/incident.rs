//! Incidents: opening, telling, mitigating, closing.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use halligan_client::types::{ChangeWish, IncidentView, IncidentWish, ReasonWish, SeverityWish, Which};
use halligan_core::ids::Name;
use halligan_core::incident::ChangeFate;

use super::ask;
use super::desk::{Desk, more};
use super::grants::WhichOf;
use super::views::{incident_card, incident_table};
use crate::output::{Tone, printable};

/// Incidents.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// ⚡ Opens one.
    Open {
        /// What it is about.
        title: String,
        /// How grave, such as sev1.
        #[arg(long, value_name = "NAME")]
        severity: Name,
        /// What kind of emergency.
        #[arg(long, value_name = "NAME")]
        scenario: Option<Name>,
        /// The outside ticket.
        #[arg(long, value_name = "LINK")]
        ticket: Option<String>,
    },
    /// Lists them: those that go on, if nothing else is said.
    List(WhichOf),
    /// Shows one with all that belongs to it.
    Show {
        /// INC-7, or its id.
        incident: String,
    },
    /// The harm is over: every grant of it ends now.
    Mitigate {
        /// INC-7, or its id.
        incident: String,
    },
    /// Closes it, or says what blocks.
    Close {
        /// INC-7, or its id.
        incident: String,
    },
    /// Says what keeps it from being closed. Exit code 1 if anything does.
    Blockers {
        /// INC-7, or its id.
        incident: String,
    },
    /// Writes something into it, for all who are in it.
    Note {
        /// INC-7, or its id.
        incident: String,
        /// What.
        text: String,
    },
    /// Links the outside ticket.
    Link {
        /// INC-7, or its id.
        incident: String,
        /// The ticket.
        link: String,
    },
    /// Changes how grave it is.
    Severity {
        /// INC-7, or its id.
        incident: String,
        /// To which.
        severity: Name,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Opens a closed one again.
    Reopen {
        /// INC-7, or its id.
        incident: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Ends it without proof, as one of two who are no party. Loud.
    CloseUnproven {
        /// INC-7, or its id.
        incident: String,
        /// Why proof cannot be had.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// A code of your authenticator, where it is asked for.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Says, as owner, what became of something that was changed.
    JudgeChange {
        /// INC-7, or its id.
        incident: String,
        /// The change, by its number in `halligan incident show`.
        change: u32,
        /// What became of it.
        #[arg(value_enum)]
        fate: Fate,
        /// In your own words.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It was put right.
    Corrected,
    /// It was undone.
    RolledBack,
}

impl Verb {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let client = desk.client()?;
        let of = |verb: &str, incident: &str| format!("failed to {verb} {}", printable(incident));
        let view = match self {
            Self::List(of) => {
                let page = client.incidents(of.which(Which::Open), &of.lines.paging()).await;
                let page = page.context("failed to list incidents")?;
                desk.print(&page, |look| incident_table(look, &page.items) + &more(page.next.as_deref()))?;
                return Ok(ExitCode::SUCCESS);
            }
            Self::Blockers { incident } => {
                let view = client.incident(&incident).await.with_context(|| of("look at", &incident))?;
                return blockers(desk, &view);
            }
            Self::Close { incident } => {
                let view = client.close_incident(&incident).await.with_context(|| of("close", &incident))?;
                if !view.blockers.is_empty() {
                    return blockers(desk, &view);
                }
                view
            }
            Self::Open { title, severity, scenario, ticket } => {
                let wish = IncidentWish { title, severity, scenario, link: ticket };
                client.open_incident(&wish).await.context("failed to open an incident")?
            }
            Self::Show { incident } => {
                client.incident(&incident).await.with_context(|| of("show", &incident))?
            }
            Self::Mitigate { incident } => {
                client.mitigate(&incident).await.with_context(|| of("mitigate", &incident))?
            }
            Self::Note { incident, text } => {
                client.add_note(&incident, &text).await.with_context(|| of("write into", &incident))?
            }
            Self::Link { incident, link } => {
                client.add_link(&incident, &link).await.with_context(|| of("link", &incident))?
            }
            Self::Severity { incident, severity, reason } => {
                let wish = SeverityWish { severity, reason };
                let view = client.change_severity(&incident, &wish).await;
                view.with_context(|| of("change the severity of", &incident))?
            }
            Self::Reopen { incident, reason } => {
                let wish = ReasonWish { reason, totp: None };
                client.reopen(&incident, &wish).await.with_context(|| of("reopen", &incident))?
            }
            Self::CloseUnproven { incident, reason, totp } => ask::with_code(totp.as_deref(), |totp| {
                let (client, wish) = (client.clone(), ReasonWish { reason: reason.clone(), totp });
                let incident = incident.clone();
                async move { client.close_unproven(&incident, &wish).await }
            })
            .await
            .with_context(|| of("close", &incident))?,
            Self::JudgeChange { incident, change, fate, note } => {
                let fate = match fate {
                    Fate::Kept => ChangeFate::Kept,
                    Fate::Corrected => ChangeFate::Corrected,
                    Fate::RolledBack => ChangeFate::RolledBack,
                };
                let judged = client.judge_change(&incident, change, &ChangeWish { fate, note }).await;
                judged.with_context(|| of("judge a change in", &incident))?;
                let done = serde_json::json!({ "incident": incident, "change": change, "judged": true });
                desk.print(&done, |_| format!("change {change} is judged"))?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        desk.print(&view, |look| incident_card(look, &view))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn blockers(desk: &Desk, view: &IncidentView) -> anyhow::Result<ExitCode> {
    let number = view.incident.number;
    desk.print(view, |look| {
        if view.blockers.is_empty() {
            return format!("Nothing keeps INC-{number} from being closed.");
        }
        let mut text = format!("INC-{number} cannot be closed yet:");
        for blocker in &view.blockers {
            text.push_str(&format!("\n  - {}", look.paint(Tone::Warn, &printable(blocker))));
        }
        text
    })?;
    Ok(if view.blockers.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

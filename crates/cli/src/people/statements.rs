//! Statements in databases that wait for a second person.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::{ReasonWish, StatementView};
use halligan_core::ids::SessionId;

use super::ask;
use super::desk::Desk;
use super::views::incident_name;
use crate::output::{Look, printable, printable_lines};

/// Statements that wait.
#[derive(Debug, Subcommand)]
pub enum Statements {
    /// Lists those that you may see, whole.
    List {
        /// Only of this session (ses_…).
        #[arg(long, value_name = "SESSION")]
        session: Option<SessionId>,
    },
    /// Lets one pass, this once.
    Allow(Answer),
    /// Does not let it pass.
    Deny(Answer),
}

/// Which statement, and why.
#[derive(Debug, Args)]
pub struct Answer {
    /// The session (ses_…).
    session: SessionId,
    /// Its number there.
    number: u32,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A fresh code of your authenticator; asked for if it is needed.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Statements {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        match self {
            Self::List { session } => {
                let mut found =
                    desk.client()?.statements().await.context("failed to list held statements")?;
                found.retain(|view| session.is_none_or(|session| view.session == session));
                desk.print(&found, |look| page(look, &found))
            }
            Self::Allow(answer) => answer.give(desk, true).await,
            Self::Deny(answer) => answer.give(desk, false).await,
        }
    }
}

impl Answer {
    async fn give(self, desk: &Desk, allow: bool) -> anyhow::Result<()> {
        let client = desk.client()?;
        let (session, number) = (self.session, self.number);
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), ReasonWish { reason: self.reason.clone(), totp });
            async move {
                match allow {
                    true => client.allow_statement(session, number, &wish).await,
                    false => client.deny_statement(session, number, &wish).await,
                }
            }
        })
        .await
        .with_context(|| format!("failed to answer for statement {number} of {session}"))?;
        let done = if allow { "may pass, this once" } else { "does not pass" };
        desk.print(&view, |look| format!("{}\n\nit {done}", card(look, &view)))
    }
}

/// All of them, whole: nobody allows what they have not seen.
pub fn page(look: &Look, views: &[StatementView]) -> String {
    if views.is_empty() {
        return "No statement waits.".to_owned();
    }
    views.iter().map(|view| card(look, view)).collect::<Vec<_>>().join("\n\n")
}

fn card(look: &Look, view: &StatementView) -> String {
    let statement = &view.statement;
    let mut rows = vec![
        ("statement", format!("{} {}", view.session, view.hold)),
        ("who", view.person.to_string()),
        ("on", view.entitlement.to_string()),
        ("incident", incident_name(view.incident_number)),
        ("class", statement.class.to_string()),
        ("until", look.when(statement.until)),
    ];
    if let Some(parameters) = &statement.parameters {
        rows.push(("parameters", printable(parameters)));
    }
    if let Some(answer) = &statement.answer {
        let word = if answer.allow { "allowed" } else { "denied" };
        rows.push((word, format!("by {}: {}", answer.by, printable(&answer.reason))));
    } else if view.may_release {
        rows.push((
            "next",
            format!("halligan statements allow {} {} --reason \"…\"", view.session, view.hold),
        ));
    }
    let text: String = printable_lines(&statement.text).lines().map(|line| format!("    {line}\n")).collect();
    format!("{}\n\n{}", look.card(&rows), text.trim_end())
}

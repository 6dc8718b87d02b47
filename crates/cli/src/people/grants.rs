//! Grants: more time, giving back, revoking, and what is said of a proof that cannot be had.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::{ExtendWish, KeepWish, ReasonWish, RevokeMany, Which};
use halligan_core::ids::{GrantId, Name, PersonId};
use halligan_core::time::Span;

use super::ask;
use super::desk::{Desk, Lines, more};
use super::views::{grant_card, grant_table, login_hint, request_card};
use crate::output::{Tone, printable, word};

/// Which of a list.
#[derive(Clone, Debug, Args)]
pub struct WhichOf {
    /// Your own.
    #[arg(long, group = "which")]
    mine: bool,
    /// Those that go on, as far as you may see them.
    #[arg(long, group = "which")]
    open: bool,
    /// All that you may see.
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    pub lines: Lines,
}

impl WhichOf {
    /// For the client; `usual` if nothing was said.
    pub const fn which(&self, usual: Which) -> Which {
        match (self.mine, self.open, self.all) {
            (true, _, _) => Which::Mine,
            (_, true, _) => Which::Open,
            (_, _, true) => Which::All,
            _ => usual,
        }
    }
}

/// Grants.
#[derive(Debug, Subcommand)]
pub enum Grants {
    /// Lists them: your own, if nothing else is said.
    List(WhichOf),
}

impl Grants {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let Self::List(of) = self;
        let page = desk.client()?.grants(of.which(Which::Mine), &of.lines.paging()).await;
        let page = page.context("failed to list grants")?;
        desk.print(&page, |look| grant_table(look, &page.items) + &more(page.next.as_deref()))
    }
}

/// Asks for more time.
#[derive(Debug, Args)]
pub struct Extend {
    /// The grant (grt_…).
    grant: GrantId,
    /// By how much, such as 30m.
    #[arg(long = "for", value_name = "TIME")]
    duration: Span,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A code of your authenticator, if you showed none lately.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Extend {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let wish = ExtendWish { duration: self.duration, reason: self.reason.clone(), totp };
            let client = client.clone();
            async move { client.extend(self.grant, &wish).await }
        })
        .await
        .with_context(|| format!("failed to extend {}", self.grant))?;
        desk.print(&view, |look| request_card(look, &view))
    }
}

/// Ends one's own access.
#[derive(Debug, Args)]
pub struct GiveBack {
    /// The grant (grt_…).
    grant: GrantId,
}

impl GiveBack {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let view = desk.client()?.give_back(self.grant).await;
        let view = view.with_context(|| format!("failed to give back {}", self.grant))?;
        desk.print(&view, |look| grant_card(look, &view))
    }
}

/// Ends somebody's access.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub struct Revoke {
    /// One grant (grt_…).
    #[arg(group = "whose")]
    grant: Option<GrantId>,
    /// All of this person.
    #[arg(long, value_name = "NAME", group = "whose")]
    person: Option<PersonId>,
    /// All on this system.
    #[arg(long, value_name = "NAME", group = "whose")]
    system: Option<Name>,
    /// All of this incident, such as INC-7.
    #[arg(long, value_name = "INCIDENT", group = "whose")]
    incident: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A code of your authenticator, where it is asked for.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Revoke {
    /// Carries it out. Exit code 1 if any of several could not be ended.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let client = desk.client()?;
        if let Some(grant) = self.grant {
            let view = ask::with_code(self.totp.as_deref(), |totp| {
                let (client, wish) = (client.clone(), ReasonWish { reason: self.reason.clone(), totp });
                async move { client.revoke(grant, &wish).await }
            })
            .await
            .with_context(|| format!("failed to revoke {grant}"))?;
            desk.print(&view, |look| grant_card(look, &view))?;
            return Ok(ExitCode::SUCCESS);
        }
        let wish = RevokeMany {
            person: self.person,
            system: self.system,
            incident: self.incident,
            reason: self.reason,
        };
        let items = client.revoke_many(&wish).await.context("failed to revoke")?;
        desk.print(&items, |look| {
            if items.is_empty() {
                return "No grant fits.".to_owned();
            }
            let mut table = look.table(&["grant", "state"]);
            for item in &items {
                let state = match (&item.state, &item.refused) {
                    (Some(state), _) => look.cell(Tone::Plain, word(state)),
                    (None, Some(problem)) => {
                        look.cell(Tone::Bad, format!("refused: {}", printable(&problem.detail)))
                    }
                    (None, None) => look.cell(Tone::Plain, ""),
                };
                table.add_row([look.cell(Tone::Plain, item.grant), state]);
            }
            table.trim_fmt()
        })?;
        let whole = items.iter().all(|item| item.refused.is_none());
        Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A grant and a reason.
#[derive(Debug, Args)]
pub struct WithReason {
    /// The grant (grt_…).
    grant: GrantId,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A code of your authenticator, where it is asked for.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl WithReason {
    /// Says that the proof is not needed.
    pub async fn waive_proof(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), ReasonWish { reason: self.reason.clone(), totp });
            async move { client.waive_proof(self.grant, &wish).await }
        })
        .await
        .with_context(|| format!("failed to waive the proof of {}", self.grant))?;
        desk.print(&view, |look| grant_card(look, &view))
    }

    /// Says that the target is gone.
    pub async fn target_gone(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), ReasonWish { reason: self.reason.clone(), totp });
            async move { client.target_gone(self.grant, &wish).await }
        })
        .await
        .with_context(|| format!("failed to attest that the target of {} is gone", self.grant))?;
        desk.print(&view, |look| grant_card(look, &view))
    }
}

/// Keeps a grant beyond mitigation.
#[derive(Debug, Args)]
pub struct Keep {
    /// The grant (grt_…).
    grant: GrantId,
    /// For how long from now, such as 2h.
    #[arg(long = "for", value_name = "TIME")]
    duration: Span,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A code of your authenticator, where it is asked for.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Keep {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let until = desk.look.now.plus(self.duration);
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), KeepWish { until, reason: self.reason.clone(), totp });
            async move { client.keep_grant(self.grant, &wish).await }
        })
        .await
        .with_context(|| format!("failed to keep {}", self.grant))?;
        desk.print(&view, |look| format!("{}\n{}", grant_card(look, &view), login_hint(&view)))
    }
}

//! Saying yes or no, taking it back, and the louder ways: escalate and bypass.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use halligan_client::Client;
use halligan_client::types::{
    BatchApproval, BypassWish, DecisionWish, EscalateWish, RequestView, SeenRequest,
};
use halligan_core::ids::{BatchId, Name, RequestId};
use halligan_core::request::RequestState;

use super::ask;
use super::desk::Desk;
use super::failure::said;
use super::request::confirm_criteria;
use super::views::{BOLT, names, request_card, request_title};
use crate::output::{Format, printable};

/// A request or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One.
    Request(RequestId),
    /// Several that were filed together.
    Batch(BatchId),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Request(id));
        }
        text.parse()
            .map(Self::Batch)
            .map_err(|_| "write a request's id (req_…) or a batch's (bat_…)".to_owned())
    }
}

/// Says yes or no.
#[derive(Debug, Args)]
pub struct Decide {
    /// Requests (req_…) or batches (bat_…). A batch is decided by one code; each request else needs its own.
    #[arg(required = true, value_name = "REQUEST|BATCH")]
    targets: Vec<Target>,
    /// Why, in your own words; some policies ask for it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A fresh code of your authenticator; it works for one decision.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Decide {
    /// Yes.
    pub async fn approve(self, desk: &Desk) -> anyhow::Result<()> {
        if self.totp.is_some() && self.targets.len() > 1 {
            return Err(said(
                "failed to approve: a code works for one decision, and several were named",
                "approve a batch by its id, or each request with a code of its own",
            ));
        }
        let client = desk.client()?;
        let mut done: Vec<RequestView> = Vec::new();
        for target in &self.targets {
            match target {
                Target::Request(id) => done.push(self.approve_one(desk, &client, *id).await?),
                Target::Batch(id) => done.extend(self.approve_batch(desk, &client, *id).await?),
            }
        }
        print_all(desk, &done)
    }

    async fn approve_one(&self, desk: &Desk, client: &Client, id: RequestId) -> anyhow::Result<RequestView> {
        let what = || format!("failed to approve {id}");
        let seen = client.request(id).await.with_context(what)?;
        self.show(desk, std::slice::from_ref(&seen));
        let wish = DecisionWish {
            version: seen.request.version,
            reason: self.reason.clone(),
            totp: Some(ask::code(self.totp.as_deref())?),
        };
        client.approve(id, &wish).await.with_context(what)
    }

    async fn approve_batch(
        &self,
        desk: &Desk,
        client: &Client,
        id: BatchId,
    ) -> anyhow::Result<Vec<RequestView>> {
        let what = || format!("failed to approve {id}");
        let seen: Vec<RequestView> = pending(client.batch(id).await.with_context(what)?);
        if seen.is_empty() {
            return Err(said(
                format!("{}: nothing in it waits for a decision", what()),
                format!("look with `halligan show {id}`"),
            ));
        }
        self.show(desk, &seen);
        let requests = seen
            .iter()
            .map(|view| SeenRequest { request: view.request.id, version: view.request.version })
            .collect();
        let totp = ask::code(self.totp.as_deref())?;
        let wish = BatchApproval { requests, reason: self.reason.clone(), totp };
        let items = client.approve_batch(id, &wish).await.with_context(what)?;
        for (entitlement, problem) in
            items.iter().filter_map(|item| Some((&item.entitlement, item.refused.as_ref()?)))
        {
            eprintln!("{entitlement}: not approved: {}", printable(&problem.detail));
        }
        Ok(items.into_iter().filter_map(|item| item.request).collect())
    }

    /// No.
    pub async fn deny(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let mut wanted = Vec::new();
        for target in &self.targets {
            match target {
                Target::Request(id) => {
                    wanted.push(client.request(*id).await.with_context(|| format!("failed to deny {id}"))?)
                }
                Target::Batch(id) => wanted.extend(pending(
                    client.batch(*id).await.with_context(|| format!("failed to deny {id}"))?,
                )),
            }
        }
        let mut done = Vec::new();
        for view in wanted {
            let id = view.request.id;
            let version = view.request.version;
            let view = ask::with_code(self.totp.as_deref(), |totp| {
                let (client, reason) = (client.clone(), self.reason.clone());
                async move { client.deny(id, &DecisionWish { version, reason, totp }).await }
            })
            .await
            .with_context(|| format!("failed to deny {id}"))?;
            done.push(view);
        }
        print_all(desk, &done)
    }

    /// What is about to be approved, before the code for it is typed.
    fn show(&self, desk: &Desk, seen: &[RequestView]) {
        if desk.format == Format::Table && self.totp.is_none() {
            for view in seen {
                eprintln!("{}\n", request_card(&desk.look, view));
            }
        }
    }
}

fn pending(views: Vec<RequestView>) -> Vec<RequestView> {
    views.into_iter().filter(|view| view.request.state == RequestState::Pending).collect()
}

fn print_all(desk: &Desk, views: &[RequestView]) -> anyhow::Result<()> {
    desk.print(&views, |look| {
        views.iter().map(|view| request_card(look, view)).collect::<Vec<_>>().join("\n\n")
    })
}

/// One request.
#[derive(Debug, Args)]
pub struct One {
    /// The request (req_…).
    #[arg(value_name = "REQUEST")]
    request: RequestId,
}

impl One {
    /// Takes one's own approval back.
    pub async fn take_back(self, desk: &Desk) -> anyhow::Result<()> {
        let view = desk.client()?.take_back(self.request).await;
        let view = view.with_context(|| format!("failed to take back your approval of {}", self.request))?;
        desk.print(&view, |look| request_card(look, &view))
    }
    /// Takes one's own request back.
    pub async fn withdraw(self, desk: &Desk) -> anyhow::Result<()> {
        let view = desk.client()?.withdraw(self.request).await;
        let view = view.with_context(|| format!("failed to withdraw {}", self.request))?;
        desk.print(&view, |look| request_card(look, &view))
    }
    /// Vouches for its severity.
    pub async fn attest_severity(self, desk: &Desk) -> anyhow::Result<()> {
        let view = desk.client()?.attest_severity(self.request).await;
        let view = view.with_context(|| format!("failed to vouch for the severity of {}", self.request))?;
        desk.print(&view, |look| request_card(look, &view))
    }
}

/// Turns a pending request into a graver one.
#[derive(Debug, Args)]
pub struct Escalate {
    /// The request (req_…).
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    /// How grave it is now, such as sev1.
    #[arg(long, value_name = "NAME")]
    severity: Name,
    /// What kind of emergency; that of the request if it has one.
    #[arg(long, value_name = "NAME")]
    scenario: Option<Name>,
    /// The incident, such as INC-7; one is opened if there is none.
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// You confirm every criterion of the scenario; asked for if not given.
    #[arg(long)]
    confirm_criteria: bool,
    /// A code of your authenticator, if you showed none lately.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Escalate {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let what = || format!("failed to escalate {}", self.request);
        let before = client.request(self.request).await.with_context(what)?;
        let Some(scenario) = self.scenario.clone().or(before.request.scenario) else {
            return Err(said(
                format!("{}: it has no scenario yet", what()),
                "add --scenario NAME; `halligan catalog scenarios` lists them",
            ));
        };
        let criteria_confirmed = confirm_criteria(&client, &scenario, self.confirm_criteria).await?;
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let wish = EscalateWish {
                severity: self.severity.clone(),
                scenario: scenario.clone(),
                criteria_confirmed,
                incident: self.incident.clone(),
                reason: self.reason.clone(),
                totp,
            };
            let client = client.clone();
            async move { client.escalate(self.request, &wish).await }
        })
        .await
        .with_context(what)?;
        desk.print(&view, |look| request_card(look, &view))
    }
}

/// Goes in without waiting for approval.
#[derive(Debug, Args)]
pub struct Bypass {
    /// The request (req_…); it is an emergency already.
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    /// Why it cannot wait.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Confirms without asking: the entitlement, SYSTEM/ROLE, once more.
    #[arg(long, value_name = "SYSTEM/ROLE")]
    confirm: Option<String>,
    /// A fresh code of your authenticator.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Bypass {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let what = || format!("failed to bypass {}", self.request);
        let view = client.request(self.request).await.with_context(what)?;
        desk.note(&consequences(&view));
        let sentence =
            view.bypass_confirmation.clone().unwrap_or_else(|| view.request.entitlement.to_string());
        let confirmation = match self.confirm {
            Some(typed) => typed,
            None if ask::somebody() => ask::line(&format!("Type {} to go in:", printable(&sentence)))?,
            None => {
                return Err(said(
                    format!("{}: nobody sits at this terminal to confirm it", what()),
                    format!("add --confirm {}", printable(&sentence)),
                ));
            }
        };
        if confirmation.trim() != sentence {
            return Err(said(
                format!("{}: you typed something else; nothing was done", what()),
                format!("type {} exactly", printable(&sentence)),
            ));
        }
        let wish = BypassWish { reason: self.reason, confirmation, totp: ask::code(self.totp.as_deref())? };
        let view = client.bypass(self.request, &wish).await.with_context(what)?;
        desk.print(&view, |look| request_card(look, &view))
    }
}

/// What a bypass sets off, in words.
fn consequences(view: &RequestView) -> String {
    let waited_for: BTreeSet<_> = view.eligible.iter().flatten().collect();
    let told = if waited_for.is_empty() { String::new() } else { format!(", and {}", names(waited_for)) };
    format!(
        "{BOLT} Bypass: {}\n\
         Told at once, loudly: security{told}.\n\
         Everything is recorded. Somebody else reviews it; the review is due in one business day.\n\
         While a review of a bypass of yours is open, your next one waits for an approver or 15 minutes.",
        request_title(view)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use halligan_core::ids::{FreshIds, RequestId};
    use halligan_core::time::Time;

    #[test]
    fn a_target_is_a_request_or_a_batch_and_nothing_else() {
        let mut fresh = FreshIds::new([3; 16], Time::from_micros(1));
        let request: RequestId = fresh.make();
        let batch: BatchId = fresh.make();
        assert_eq!(request.to_string().parse(), Ok(Target::Request(request)));
        assert_eq!(batch.to_string().parse(), Ok(Target::Batch(batch)));
        assert!("INC-7".parse::<Target>().is_err());
    }
}

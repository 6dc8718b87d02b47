//! `halligan request`: asking, and waiting for what comes of it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::{Filed, RequestView, RequestWish, RequestsOf};
use halligan_client::{Client, ClientError};
use halligan_core::grant::GrantState;
use halligan_core::ids::{EntitlementName, Name, PersonId, RequestId};
use halligan_core::request::{Mode, RequestState};
use halligan_core::time::Span;

use super::ask;
use super::desk::{Desk, Lines, more};
use super::views::{BOLT, blocked, request_card, request_table, request_title};
use crate::output::{Format, printable};

/// Asks for access.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes with --wait: 0 active, 1 error, 2 denied, 3 still pending, 4 blocked (nobody can \
approve), 5 activation failed, 6 lapsed or withdrawn. Several entitlements become a batch; the first of 1, 5, 2, 6, 4, 3 \
that is true of any of them is the exit code."
)]
pub struct Ask {
    /// What for; several become a batch with one reason, decided together or one by one.
    #[arg(required = true, value_name = "SYSTEM/ROLE")]
    entitlements: Vec<EntitlementName>,
    /// ⚡ This is an emergency: louder, other rules, always reviewed.
    #[arg(long, requires_all = ["severity", "scenario"])]
    emergency: bool,
    /// How grave, such as sev1.
    #[arg(long, value_name = "NAME", requires = "emergency")]
    severity: Option<Name>,
    /// What kind of emergency; `halligan catalog scenarios` lists them.
    #[arg(long, value_name = "NAME", requires = "emergency")]
    scenario: Option<Name>,
    /// The incident, such as INC-7; one is opened if not said.
    #[arg(long, value_name = "INCIDENT", requires = "emergency")]
    incident: Option<String>,
    /// For how long, such as 45m or 1h30m; the entitlement's default if not said.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<Span>,
    /// Why, in your own words.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The outside ticket.
    #[arg(long, value_name = "LINK")]
    ticket: Option<String>,
    /// Why a lower step (observe, operate) is not enough.
    #[arg(long, value_name = "TEXT")]
    why_not_lower: Option<String>,
    /// Who will use it, if not you.
    #[arg(long, value_name = "PERSON")]
    beneficiary: Option<PersonId>,
    /// You confirm every criterion of the scenario; asked for if not given.
    #[arg(long, requires = "emergency")]
    confirm_criteria: bool,
    /// Waits so long for access and tells by its exit code what came of it.
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,
    /// A code of your authenticator, if you showed none lately.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Ask {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let client = desk.client()?;
        let criteria_confirmed = match &self.scenario {
            Some(scenario) => confirm_criteria(&client, scenario, self.confirm_criteria).await?,
            None => false,
        };
        let filed = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), self.wish(criteria_confirmed, totp));
            async move { client.file_requests(&wish).await }
        })
        .await
        .with_context(|| format!("failed to request {}", super::views::names(&self.entitlements)))?;
        let Some(longest) = self.wait else {
            desk.print(&filed, |look| {
                let mut text = String::new();
                for item in filed.items.iter().filter_map(|item| item.request.as_ref()) {
                    text.push_str(&request_card(look, item));
                    text.push_str("\n\n");
                }
                text + &refused(&filed)
            })?;
            return Ok(ExitCode::SUCCESS);
        };
        self.wait(desk, &client, filed, longest).await
    }

    fn wish(&self, criteria_confirmed: bool, totp: Option<String>) -> RequestWish {
        RequestWish {
            entitlements: self.entitlements.clone(),
            beneficiary: self.beneficiary.clone(),
            mode: if self.emergency { Mode::Emergency } else { Mode::Standard },
            severity: self.severity.clone(),
            scenario: self.scenario.clone(),
            criteria_confirmed,
            incident: self.incident.clone(),
            reason: self.reason.clone(),
            link: self.ticket.clone(),
            why_not_lower: self.why_not_lower.clone(),
            duration: self.duration,
            totp,
        }
    }

    async fn wait(
        &self,
        desk: &Desk,
        client: &Client,
        mut filed: Filed,
        longest: Span,
    ) -> anyhow::Result<ExitCode> {
        let until = Instant::now() + longest.to_std();
        let mut worst = Outcome::Active;
        for item in &mut filed.items {
            let Some(view) = item.request.as_mut() else {
                worst = worst.max(Outcome::Refused);
                continue;
            };
            desk.note(&format!("{} {} filed", view.request.id, request_title(view)));
            if blocked(view) {
                desk.note("nobody can approve it now; security is alerted");
            }
            let what = format!("waiting for {}", view.request.entitlement);
            *view = desk.waiting(&what, settle(client, view.request.id, until)).await?;
            worst = worst.max(outcome(view));
        }
        match desk.format {
            Format::Json => crate::output::json(&filed)?,
            Format::Table => {
                for view in filed.items.iter().filter_map(|item| item.request.as_ref()) {
                    let said = outcome(view).say();
                    println!("{}: {said}", request_title(view));
                    match outcome(view) {
                        Outcome::Active => println!("next: halligan ssh {}", view.request.entitlement),
                        Outcome::Pending | Outcome::Blocked => {
                            println!("next: halligan show {}", view.request.id)
                        }
                        _ => println!("\n{}", request_card(&desk.look, view)),
                    }
                }
                eprint!("{}", refused(&filed));
            }
        }
        Ok(ExitCode::from(worst.code()))
    }
}

fn refused(filed: &Filed) -> String {
    let mut text = String::new();
    for item in &filed.items {
        if let Some(problem) = &item.refused {
            text.push_str(&format!("{}: refused: {}\n", item.entitlement, printable(&problem.detail)));
            if let Some(next) = &problem.next {
                text.push_str(&format!("  next: {}\n", printable(next)));
            }
        }
    }
    text
}

/// Shows the criteria of a scenario and asks whether they are met. Where nobody sits, the flag alone counts.
pub async fn confirm_criteria(client: &Client, scenario: &Name, confirmed: bool) -> anyhow::Result<bool> {
    if confirmed || !ask::somebody() {
        return Ok(confirmed);
    }
    let all = client.scenarios().await.context("failed to read the scenarios")?;
    let Some(found) = all.iter().find(|view| view.name == *scenario) else { return Ok(false) };
    if found.scenario.criteria.is_empty() {
        return Ok(true);
    }
    eprintln!("{BOLT} {}: {}", scenario, printable(&found.scenario.meaning));
    for criterion in &found.scenario.criteria {
        eprintln!("  - {}", printable(criterion));
    }
    ask::yes("Do you confirm every one of them?")
}

/// Waits until nothing more is to be waited for, or until that time. A server that is away for a moment is asked again.
pub async fn settle(client: &Client, id: RequestId, until: Instant) -> anyhow::Result<RequestView> {
    let mut last: Option<RequestView> = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match client.wait_for_request(id, left.min(Duration::from_secs(60))).await {
            Ok(view) => {
                if !matches!(outcome(&view), Outcome::Pending | Outcome::Blocked) {
                    return Ok(view);
                }
                last = Some(view);
            }
            Err(error @ ClientError::Unreachable { .. }) if left.is_zero() => {
                return last.ok_or_else(|| anyhow::Error::new(error).context("failed to wait"));
            }
            Err(ClientError::Unreachable { .. }) => {}
            Err(error) => return Err(anyhow::Error::new(error).context("failed to wait")),
        }
        if left.is_zero()
            && let Some(view) = last
        {
            return Ok(view);
        }
        // A server that answers at once must not be asked in a tight loop.
        tokio::time::sleep(left.min(Duration::from_millis(250))).await;
    }
}

/// What came of a request. The order is that of gravity for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Active,
    Pending,
    Blocked,
    Over,
    Denied,
    ActivationFailed,
    Refused,
}

impl Outcome {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Active => 0,
            Self::Refused => 1,
            Self::Denied => 2,
            Self::Pending => 3,
            Self::Blocked => 4,
            Self::ActivationFailed => 5,
            Self::Over => 6,
        }
    }

    const fn say(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Pending => "still pending",
            Self::Blocked => "blocked: nobody can approve it",
            Self::ActivationFailed => "approved, but it could not be activated",
            Self::Over => "lapsed, withdrawn or over",
        }
    }
}

/// See [`Outcome`].
pub fn outcome(view: &RequestView) -> Outcome {
    match (view.request.state, view.grant_state) {
        (RequestState::Denied, _) => Outcome::Denied,
        (RequestState::Withdrawn | RequestState::Lapsed | RequestState::Superseded, _) => Outcome::Over,
        (RequestState::Approved, Some(GrantState::Active)) => Outcome::Active,
        (RequestState::Approved, Some(GrantState::ActivationFailed)) => Outcome::ActivationFailed,
        (
            RequestState::Approved,
            Some(
                GrantState::Revoking
                | GrantState::Revoked
                | GrantState::RevocationFailed
                | GrantState::Cancelled,
            ),
        ) => Outcome::Over,
        (RequestState::Approved, Some(GrantState::Scheduled | GrantState::Activating) | None) => {
            Outcome::Pending
        }
        (RequestState::Pending, _) if blocked(view) => Outcome::Blocked,
        (RequestState::Pending, _) => Outcome::Pending,
    }
}

/// Requests that one made or may see.
#[derive(Debug, Subcommand)]
pub enum Requests {
    /// Lists them: your own, if nothing else is said.
    List {
        /// Those that you may decide.
        #[arg(long, group = "of")]
        to_decide: bool,
        /// Those that wait, as far as you may see them.
        #[arg(long, group = "of")]
        pending: bool,
        /// All that you may see.
        #[arg(long, group = "of")]
        all: bool,
        #[command(flatten)]
        lines: Lines,
    },
}

impl Requests {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let Self::List { to_decide, pending, all, lines } = self;
        let of = match (to_decide, pending, all) {
            (true, _, _) => RequestsOf::ToDecide,
            (_, true, _) => RequestsOf::Pending,
            (_, _, true) => RequestsOf::All,
            _ => RequestsOf::Mine,
        };
        let page = desk.client()?.requests(of, &lines.paging()).await.context("failed to list requests")?;
        desk.print(&page, |look| request_table(look, &page.items) + &more(page.next.as_deref()))
    }
}

//! Reviews: somebody else looks back, blamelessly.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use halligan_client::Client;
use halligan_client::types::{ActionWish, DeferWish, JudgeWish, Which};
use halligan_core::ids::{PersonId, ReviewId};
use halligan_core::review::Classification;
use halligan_core::time::Span;

use super::ask;
use super::desk::{Desk, more};
use super::failure::said;
use super::grants::WhichOf;
use super::views::{review_card, review_table};

/// Reviews.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists them: those that go on, if nothing else is said.
    List(WhichOf),
    /// Shows one: the computed facts, and what was judged.
    Show {
        /// The review (rev_…).
        review: ReviewId,
    },
    /// Takes it up.
    Start {
        /// The review (rev_…).
        review: ReviewId,
    },
    /// Judges it. At a terminal it asks what is not given.
    Judge(Judge),
    /// Puts it off, once, at most 30 days.
    Defer {
        /// The review (rev_…).
        review: ReviewId,
        /// For how long from now, such as 7d.
        #[arg(long = "for", value_name = "TIME")]
        duration: Span,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Adds something to do, or says that it is done.
    Action {
        /// The review (rev_…).
        review: ReviewId,
        /// What is to be done.
        #[arg(required_unless_present = "done", conflicts_with = "done", requires_all = ["owner", "within"])]
        what: Option<String>,
        /// By whom.
        #[arg(long, value_name = "PERSON")]
        owner: Option<PersonId>,
        /// Within which time from now, such as 14d.
        #[arg(long, value_name = "TIME")]
        within: Option<Span>,
        /// The action with this number is done.
        #[arg(long, value_name = "NUMBER")]
        done: Option<u32>,
    },
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    Yes,
    No,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Was {
    /// A real emergency.
    GenuineEmergency,
    /// A rehearsal.
    Drill,
    /// Somebody should look closer.
    NeedsCloserLook,
}

/// Judges a review.
#[derive(Debug, Args)]
pub struct Judge {
    /// The review (rev_…).
    review: ReviewId,
    /// What it was.
    #[arg(long, value_enum)]
    classification: Option<Was>,
    /// Was the procedure invoked correctly?
    #[arg(long, value_enum)]
    invoked_correctly: Option<Answer>,
    /// Was the grant wider than needed?
    #[arg(long, value_enum)]
    too_wide: Option<Answer>,
    /// Were approvals timely?
    #[arg(long, value_enum)]
    approvals_timely: Option<Answer>,
    /// What would prevent the next one?
    #[arg(long, value_name = "TEXT")]
    prevention: Option<String>,
    /// Anything else.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Explains why there was no activity, where there was none.
    #[arg(long, value_name = "TEXT")]
    empty_activity: Option<String>,
    /// A code of your authenticator, if you showed none lately.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Verb {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let view = match self {
            Self::List(of) => {
                let page = client.reviews(of.which(Which::Open), &of.lines.paging()).await;
                let page = page.context("failed to list reviews")?;
                return desk
                    .print(&page, |look| review_table(look, &page.items) + &more(page.next.as_deref()));
            }
            Self::Show { review } => {
                client.review(review).await.with_context(|| format!("failed to show {review}"))?
            }
            Self::Start { review } => {
                client.start_review(review).await.with_context(|| format!("failed to take up {review}"))?
            }
            Self::Judge(judge) => return judge.run(desk, &client).await,
            Self::Defer { review, duration, reason } => {
                let wish = DeferWish { until: desk.look.now.plus(duration), reason };
                client
                    .defer_review(review, &wish)
                    .await
                    .with_context(|| format!("failed to defer {review}"))?
            }
            Self::Action { review, what, owner, within, done } => {
                let view = match (done, what, owner, within) {
                    (Some(done), ..) => client.complete_action(review, done).await,
                    (None, Some(what), Some(owner), Some(within)) => {
                        let wish = ActionWish { what, owner, due_at: desk.look.now.plus(within) };
                        client.add_action(review, &wish).await
                    }
                    _ => {
                        return Err(said(
                            "failed to add an action: something is missing",
                            "give what, --owner and --within",
                        ));
                    }
                };
                view.with_context(|| format!("failed to change the actions of {review}"))?
            }
        };
        desk.print(&view, |look| review_card(look, &view))
    }
}

impl Judge {
    async fn run(self, desk: &Desk, client: &Client) -> anyhow::Result<()> {
        let what = || format!("failed to judge {}", self.review);
        let complete = self.classification.is_some()
            && self.invoked_correctly.is_some()
            && self.too_wide.is_some()
            && self.approvals_timely.is_some()
            && self.prevention.is_some();
        if !complete {
            if !ask::somebody() {
                return Err(said(
                    format!("{}: an answer is missing", what()),
                    "give --classification, --invoked-correctly, --too-wide, --approvals-timely and --prevention",
                ));
            }
            let view = client.review(self.review).await.with_context(what)?;
            eprintln!("{}\n", review_card(&desk.look, &view));
        }
        let yes = |given: Option<Answer>, question: &str| match given {
            Some(answer) => Ok(answer == Answer::Yes),
            None => ask::yes(question),
        };
        let wish = JudgeWish {
            classification: match self.classification {
                Some(was) => classification(was),
                None => ask_classification()?,
            },
            invoked_correctly: yes(self.invoked_correctly, "Was the procedure invoked correctly?")?,
            too_wide: yes(self.too_wide, "Was the grant wider than needed?")?,
            approvals_timely: yes(self.approvals_timely, "Were approvals timely?")?,
            prevention: match self.prevention.clone() {
                Some(text) => text,
                None => ask::line("What would prevent the next one?")?,
            },
            note: self.note.clone(),
            empty_activity_explained: self.empty_activity.clone(),
            totp: None,
        };
        let view = ask::with_code(self.totp.as_deref(), |totp| {
            let (client, wish) = (client.clone(), JudgeWish { totp, ..wish.clone() });
            async move { client.judge_review(self.review, &wish).await }
        })
        .await
        .with_context(what)?;
        desk.print(&view, |look| review_card(look, &view))
    }
}

const fn classification(was: Was) -> Classification {
    match was {
        Was::GenuineEmergency => Classification::GenuineEmergency,
        Was::Drill => Classification::Drill,
        Was::NeedsCloserLook => Classification::NeedsCloserLook,
    }
}

fn ask_classification() -> anyhow::Result<Classification> {
    loop {
        match ask::line("What was it? (genuine-emergency, drill, needs-closer-look)")?.as_str() {
            "genuine-emergency" | "g" => return Ok(Classification::GenuineEmergency),
            "drill" | "d" => return Ok(Classification::Drill),
            "needs-closer-look" | "n" => return Ok(Classification::NeedsCloserLook),
            "" => return Err(said("failed to judge: nothing was answered", "start again")),
            _ => {}
        }
    }
}

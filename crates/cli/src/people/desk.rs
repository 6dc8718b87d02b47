//! What every verb has at hand: the profile, a client of its server, and how to print.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use halligan_client::Client;
use halligan_client::types::Paging;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::failure::said;
use crate::output::{self, Format, Look};
use crate::profile::{Home, Profile};

/// Waits longer than this are shown.
const QUIET: Duration = Duration::from_secs(1);

/// What every verb has at hand.
pub struct Desk {
    /// How answers are printed.
    pub format: Format,
    /// How they look.
    pub look: Look,
    /// Where the profile is.
    pub home: Home,
}

impl Desk {
    /// Of this terminal and this person.
    pub fn new(format: Format) -> anyhow::Result<Self> {
        Ok(Self { format, look: Look::of_terminal(), home: Home::find()? })
    }

    /// The profile; an error if nobody has signed in here.
    pub fn profile(&self) -> anyhow::Result<Profile> {
        self.home.load()?.ok_or_else(|| {
            said(
                "you have not signed in on this machine",
                "sign in with `halligan login --server URL --name NAME`",
            )
        })
    }

    /// A client that speaks for the person.
    pub fn client(&self) -> anyhow::Result<Client> {
        let profile = self.profile()?;
        match &profile.token {
            Some(token) => Ok(profile.client()?.with_token(token.clone())),
            None => Err(said("you are not signed in", "sign in with `halligan login`")),
        }
    }

    /// Prints the value for programs, or what `text` makes of it for people.
    pub fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&Look) -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Json => output::json(value),
            Format::Table => {
                let text = text(&self.look);
                if !text.is_empty() {
                    println!("{}", text.trim_end());
                }
                Ok(())
            }
        }
    }

    /// Something to read beside the answer; not for programs.
    pub fn note(&self, text: &str) {
        if self.format == Format::Table {
            eprintln!("{text}");
        }
    }

    /// Waits; if that takes longer than a second and somebody watches, says for what.
    pub async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if !std::io::stderr().is_terminal() {
            return work.await;
        }
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(QUIET) => {}
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let done = work.await;
        bar.finish_and_clear();
        done
    }
}

/// Where in a list, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Lines {
    /// At most so many, 1 to 200.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,
    /// What follows after a list that said so.
    #[arg(long, value_name = "MARK")]
    after: Option<String>,
}

impl Lines {
    /// For the client.
    pub fn paging(&self) -> Paging {
        Paging { after: self.after.clone(), limit: self.limit }
    }
}

/// The line after a list that goes on.
pub fn more(next: Option<&str>) -> String {
    next.map(|next| format!("\nmore: --after {}\n", output::printable(next))).unwrap_or_default()
}

//! Sessions: who is in now, watching, ending; recordings in `sessions/`.

mod export;
mod replay;
mod search;
mod source;

pub use export::Whole;
pub use source::read_identity;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::{ReasonWish, Which};
use halligan_core::ids::SessionId;
use std::io::Write as _;

use super::ask;
use super::desk::{Desk, more};
use super::grants::WhichOf;
use super::views::{session_card, session_table};
use crate::output::{Format, printable_lines};

/// Sessions and their recordings.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Lists them: your own, if nothing else is said.
    List(WhichOf),
    /// Watches a live session. That is an event, and those concerned are told.
    Watch {
        /// The session (ses_…).
        session: SessionId,
    },
    /// Ends a session at once; its grant stays.
    Terminate(WithReason),
    /// Says, as one of two, that the absence of a recording is explained.
    WaiveGap(WithReason),
    /// Plays a recording in its own time. Each playback is an event.
    Replay(replay::Replay),
    /// Searches recordings, output included. Each recording that is read is a playback, which is an event.
    Search(search::Search),
    /// Writes a recording into a file.
    Export(export::Export),
}

/// A session and a reason.
#[derive(Debug, Args)]
pub struct WithReason {
    /// The session (ses_…).
    session: SessionId,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A code of your authenticator, where it is asked for.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Sessions {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(of) => {
                let page = desk.client()?.sessions(of.which(Which::Mine), &of.lines.paging()).await;
                let page = page.context("failed to list sessions")?;
                desk.print(&page, |look| session_table(look, &page.items) + &more(page.next.as_deref()))?;
            }
            Self::Watch { session } => watch(desk, session).await?,
            Self::Terminate(this) => {
                let client = desk.client()?;
                let view = ask::with_code(this.totp.as_deref(), |totp| {
                    let (client, wish) = (client.clone(), ReasonWish { reason: this.reason.clone(), totp });
                    async move { client.terminate(this.session, &wish).await }
                })
                .await
                .with_context(|| format!("failed to end {}", this.session))?;
                desk.print(&view, |look| session_card(look, &view))?;
            }
            Self::WaiveGap(this) => {
                let client = desk.client()?;
                let view = ask::with_code(this.totp.as_deref(), |totp| {
                    let (client, wish) = (client.clone(), ReasonWish { reason: this.reason.clone(), totp });
                    async move { client.waive_gap(this.session, &wish).await }
                })
                .await
                .with_context(|| format!("failed to waive the recording of {}", this.session))?;
                desk.print(&view, |look| session_card(look, &view))?;
            }
            Self::Replay(replay) => replay.run(desk).await?,
            Self::Search(search) => return search.run(desk).await,
            Self::Export(export) => export.run(desk).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn watch(desk: &Desk, session: SessionId) -> anyhow::Result<()> {
    let client = desk.client()?;
    let what = || format!("failed to watch {session}");
    let begun = client.watch(session).await.with_context(what)?;
    desk.note(&format!("watching {session}; Ctrl-C ends the watch, not the session"));
    let (mut pieces, mut dropped) = (Vec::new(), 0);
    loop {
        let piece = client.watch_next(session, &begun.watch).await.with_context(what)?;
        dropped += piece.dropped;
        if desk.format == Format::Json {
            pieces.push(piece.text);
        } else {
            print!("{}", printable_lines(&piece.text));
            std::io::stdout().flush()?;
            if piece.dropped > 0 {
                eprintln!("\n({} frames left out, because this terminal is slow)", piece.dropped);
            }
        }
        if piece.ended {
            break;
        }
    }
    desk.note("\nthe session has ended");
    if desk.format == Format::Json {
        let value = serde_json::json!({ "session": session, "text": pieces.concat(), "dropped": dropped });
        crate::output::json(&value)?;
    }
    Ok(())
}

//! `halligan show`: anything by its id.

use anyhow::Context as _;
use clap::Args;

use super::desk::Desk;
use super::failure::said;
use super::views::{grant_card, incident_card, request_card, review_card, session_card};
use crate::output::printable;

/// Shows anything by its id.
#[derive(Debug, Args)]
pub struct Show {
    /// A request (req_…), batch (bat_…), grant (grt_…), session (ses_…), review (rev_…), or incident (INC-7, inc_…).
    id: String,
}

impl Show {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let id = self.id.trim();
        let what = || format!("failed to show {}", printable(id));
        // What is no id at all is said before the server is asked.
        let kind = id.split_once(['_', '-']).map(|(kind, _)| kind.to_ascii_lowercase()).unwrap_or_default();
        match kind.as_str() {
            "req" => {
                let id = id.parse().with_context(what)?;
                let view = desk.client()?.request(id).await.with_context(what)?;
                desk.print(&view, |look| request_card(look, &view))
            }
            "bat" => {
                let id = id.parse().with_context(what)?;
                let views = desk.client()?.batch(id).await.with_context(what)?;
                desk.print(&views, |look| {
                    views.iter().map(|view| request_card(look, view)).collect::<Vec<_>>().join("\n\n")
                })
            }
            "grt" => {
                let id = id.parse().with_context(what)?;
                let view = desk.client()?.grant(id).await.with_context(what)?;
                desk.print(&view, |look| grant_card(look, &view))
            }
            "ses" => {
                let id = id.parse().with_context(what)?;
                let view = desk.client()?.session(id).await.with_context(what)?;
                desk.print(&view, |look| session_card(look, &view))
            }
            "rev" => {
                let id = id.parse().with_context(what)?;
                let view = desk.client()?.review(id).await.with_context(what)?;
                desk.print(&view, |look| review_card(look, &view))
            }
            "inc" => {
                let view = desk.client()?.incident(id).await.with_context(what)?;
                desk.print(&view, |look| incident_card(look, &view))
            }
            _ => Err(said(
                format!("{}: that is no id", what()),
                "write req_…, bat_…, grt_…, ses_…, rev_…, inc_… or INC-7",
            )),
        }
    }
}

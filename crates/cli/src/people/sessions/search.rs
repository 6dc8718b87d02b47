//! `halligan sessions search`: a word in recordings, output included, for those who may play them.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use halligan_client::types::{Paging, ReplayForm, Which};
use halligan_core::catalog::RecordingClass;
use halligan_core::session::RecordingState;
use serde::Serialize;

use super::source::{Source, fetch, open};
use crate::output::{Tone, printable};
use crate::people::desk::Desk;
use crate::people::failure::said;

/// Recordings that one search reads at most.
const MOST_SESSIONS: usize = 200;
/// Hits that one search shows at most.
const MOST_HITS: usize = 1000;

/// Searches recordings.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 if nothing was found.")]
pub struct Search {
    /// What to look for; case does not matter.
    word: String,
    /// Sessions (ses_…) or recordings' files.
    #[arg(value_name = "SESSION|FILE", required_unless_present = "incident")]
    sources: Vec<Source>,
    /// Every session of this incident, such as INC-7.
    #[arg(long, value_name = "INCIDENT", conflicts_with = "sources")]
    incident: Option<String>,
    /// The age key that opens recordings' files.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Where it was found.
#[derive(Debug, Serialize)]
struct Hit {
    source: String,
    what: String,
    text: String,
}

impl Search {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let needle = self.word.to_lowercase();
        if needle.trim().is_empty() {
            return Err(said("failed to search: there is no word", "write what to look for"));
        }
        let sources = match &self.incident {
            Some(incident) => of_incident(desk, incident).await?,
            None => self.sources.clone(),
        };
        let mut hits = Vec::new();
        for source in &sources {
            let left = MOST_HITS.saturating_sub(hits.len());
            match source {
                Source::File(path) => {
                    let reader = open(path, self.identity.as_deref())?;
                    let found = halligan_recording::search::search(reader, &self.word, left)
                        .with_context(|| format!("failed to read {source}"))?;
                    hits.extend(found.into_iter().map(|hit| Hit {
                        source: source.to_string(),
                        what: hit.what.to_owned(),
                        text: hit.text,
                    }));
                }
                Source::Session(id) => {
                    for line in fetch(desk, *id, ReplayForm::Transcript).await?.lines() {
                        let line = line?;
                        if hits.len() < MOST_HITS && line.to_lowercase().contains(&needle) {
                            hits.push(Hit {
                                source: id.to_string(),
                                what: "transcript".to_owned(),
                                text: line,
                            });
                        }
                    }
                }
            }
        }
        desk.print(&hits, |look| {
            let mut table = look.table(&["session", "what", "text"]);
            for hit in &hits {
                let text = printable(&hit.text).replace("\\t", " ");
                table.add_row([
                    look.cell(Tone::Plain, printable(&hit.source)),
                    look.cell(Tone::Plain, &hit.what),
                    look.cell(Tone::Plain, text),
                ]);
            }
            if hits.is_empty() {
                format!("Not found in {} recordings.", sources.len())
            } else {
                table.trim_fmt()
            }
        })?;
        Ok(if hits.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The sessions of an incident whose recordings can be read here.
async fn of_incident(desk: &Desk, incident: &str) -> anyhow::Result<Vec<Source>> {
    let client = desk.client()?;
    let wanted = client
        .incident(incident)
        .await
        .with_context(|| format!("failed to find {}", printable(incident)))?
        .incident
        .number;
    let (mut sources, mut sealed, mut after) = (Vec::new(), 0, None);
    loop {
        let page = client
            .sessions(Which::All, &Paging { after, limit: Some(200) })
            .await
            .context("failed to list sessions")?;
        for view in page.items.iter().filter(|view| view.incident_number == Some(wanted)) {
            if view.recording_class == RecordingClass::Sealed {
                sealed += 1;
            } else if view.session.recording.state == RecordingState::Stored {
                sources.push(Source::Session(view.session.id));
            }
        }
        after = page.next;
        if after.is_none() || sources.len() >= MOST_SESSIONS {
            break;
        }
    }
    if sealed > 0 {
        desk.note(&format!(
            "{sealed} recordings are sealed: export them and search the files with --identity"
        ));
    }
    sources.truncate(MOST_SESSIONS);
    Ok(sources)
}

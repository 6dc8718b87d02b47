//! `halligan sessions export`: a recording as a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use halligan_client::types::ReplayForm;
use halligan_recording::asciicast::{self, Version};
use halligan_recording::json_lines::write_json_lines;
use halligan_recording::transcript::write_transcript;
use serde_json::json;

use super::source::{Source, open};
use crate::output::size;
use crate::people::desk::Desk;
use crate::people::failure::said;

/// Writes a recording into a file.
#[derive(Debug, Args)]
pub struct Export {
    /// The session (ses_…), or a recording's file.
    #[arg(value_name = "SESSION|FILE")]
    source: Source,
    /// Where to.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// In which form.
    #[arg(long, value_enum, default_value_t = Form::Asciicast)]
    form: Form,
    /// The age key that opens a recording's file.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Forms of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A film for asciinema and other players.
    Asciicast,
    /// Plain text with times.
    Transcript,
    /// One record a line, JSON.
    #[value(alias = "jsonl")]
    Records,
    /// As it is stored: encrypted, for the auditor's machine.
    Sealed,
}

impl Export {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let bytes = match &self.source {
            Source::Session(id) => {
                let client = desk.client()?;
                let mut file = Whole::begin(&self.to)?;
                let form = match self.form {
                    Form::Asciicast => Some(ReplayForm::Asciicast),
                    Form::Transcript => Some(ReplayForm::Transcript),
                    Form::Records => Some(ReplayForm::Records),
                    Form::Sealed => None,
                };
                let fetched = match form {
                    Some(form) => {
                        desk.waiting("fetching the recording", client.replay(*id, form, &mut file)).await
                    }
                    None => {
                        desk.waiting("fetching the recording", client.download_recording(*id, &mut file))
                            .await
                    }
                };
                let bytes = fetched.with_context(|| format!("failed to export {id}"))?;
                file.finish()?;
                bytes
            }
            Source::File(path) => self.export_file(path)?,
        };
        desk.print(&json!({ "file": self.to, "bytes": bytes }), |_| {
            format!("{} written, {}", self.to.display(), size(bytes))
        })
    }

    fn export_file(&self, path: &Path) -> anyhow::Result<u64> {
        let reader = open(path, self.identity.as_deref())?;
        let mut file = Whole::begin(&self.to)?;
        match self.form {
            Form::Asciicast => {
                let options = asciicast::Options { version: Version::V2, channel: None, title: None };
                let header = reader.header().clone();
                asciicast::export(&header, reader, &options, &mut file)?;
            }
            Form::Transcript => write_transcript(reader, &mut file)?,
            Form::Records => write_json_lines(reader, &mut file)?,
            Form::Sealed => {
                return Err(said(
                    "failed to export: a recording's file is sealed already",
                    "choose --form asciicast, transcript or records",
                ));
            }
        }
        file.finish()
    }
}

/// A file for its owner alone that is there whole, or not at all.
pub struct Whole {
    file: std::io::BufWriter<tempfile::NamedTempFile>,
    to: PathBuf,
}

impl Whole {
    /// Begins beside the place where it will be.
    pub fn begin(to: &Path) -> anyhow::Result<Self> {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder)
            .with_context(|| format!("failed to write into {}", folder.display()))?;
        Ok(Self { file: std::io::BufWriter::new(file), to: to.to_owned() })
    }

    /// Puts it in its place; says how many bytes it has.
    pub fn finish(self) -> anyhow::Result<u64> {
        let what = || format!("failed to write {}", self.to.display());
        let file = self.file.into_inner().map_err(|error| error.into_error()).with_context(what)?;
        file.as_file().sync_all().with_context(what)?;
        let bytes = file.as_file().metadata().with_context(what)?.len();
        file.persist(&self.to).with_context(what)?;
        Ok(bytes)
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

//! `halligan sessions replay`: a recording on the terminal, in its own time. The target's output is hostile: it is shown
//! escaped unless asked for raw.

use std::collections::VecDeque;
use std::io::{BufRead, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use halligan_client::types::ReplayForm;
use halligan_core::time::Span;
use halligan_recording::player::{PlayOptions, Player};
use halligan_recording::transcript::write_transcript;
use serde_json::Value;

use super::source::{Source, fetch, open};
use crate::output::{Format, printable_lines};
use crate::people::desk::Desk;
use crate::people::failure::said;

/// Plays a recording.
#[derive(Debug, Args)]
pub struct Replay {
    /// The session (ses_…), or a recording's file.
    #[arg(value_name = "SESSION|FILE")]
    source: Source,
    /// Times as fast as it happened, such as 2 or 0.5.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    speed: f64,
    /// No pause is longer than this.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    longest_pause: Span,
    /// Everything at once, as text with times, commands and transfers.
    #[arg(long, conflicts_with = "raw")]
    transcript: bool,
    /// The target's bytes as they were. They can steer this terminal: only for targets that you trust.
    #[arg(long)]
    raw: bool,
    /// The age key that opens a recording's file.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.01..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("write a number from 0.01 to 1000".to_owned()),
    }
}

impl Replay {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        match &self.source {
            Source::File(path) => self.play_file(desk, path),
            Source::Session(id) if desk.format == Format::Json => {
                let records: Vec<Value> = fetch(desk, *id, ReplayForm::Records)
                    .await?
                    .lines()
                    .map(|line| Ok(serde_json::from_str(&line?)?))
                    .collect::<anyhow::Result<_>>()
                    .context("failed to read the recording")?;
                crate::output::json(&records)
            }
            Source::Session(id) if self.transcript => {
                for line in fetch(desk, *id, ReplayForm::Transcript).await?.lines() {
                    println!("{}", printable_lines(&line?));
                }
                Ok(())
            }
            Source::Session(id) => self.play_cast(fetch(desk, *id, ReplayForm::Asciicast).await?).await,
        }
    }

    fn play_file(&self, desk: &Desk, path: &std::path::Path) -> anyhow::Result<()> {
        if desk.format == Format::Json {
            return Err(said("failed to print a recording's file as JSON", "add --transcript, or export it"));
        }
        let reader = open(path, self.identity.as_deref())?;
        let mut out = std::io::stdout().lock();
        if self.transcript {
            return Ok(write_transcript(reader, &mut out)?);
        }
        let options = PlayOptions {
            speed: self.speed,
            longest_pause: Some(self.longest_pause.to_std()),
            channel: None,
            raw: self.raw,
        };
        for step in Player::new(reader, options) {
            let step = step.context("failed to read the recording")?;
            std::thread::sleep(step.delay);
            out.write_all(&step.bytes)?;
            out.flush()?;
        }
        Ok(())
    }

    async fn play_cast(&self, cast: impl BufRead) -> anyhow::Result<()> {
        let mut film = Film::open(cast)?;
        while let Some((delay, text)) = film.next_output()? {
            let delay = Duration::try_from_secs_f64(delay / self.speed).unwrap_or(Duration::MAX);
            tokio::time::sleep(delay.min(self.longest_pause.to_std())).await;
            let mut out = std::io::stdout().lock();
            if self.raw {
                out.write_all(text.as_bytes())?;
            } else {
                out.write_all(printable_lines(&text.replace("\r\n", "\n")).as_bytes())?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// An asciicast, version 2 or 3, read line by line.
struct Film<R> {
    lines: std::io::Lines<R>,
    /// Times are since the event before (version 3), not since the start.
    relative: bool,
    at: f64,
    /// Seconds of events that show nothing.
    passed: VecDeque<f64>,
}

impl<R: BufRead> Film<R> {
    fn open(cast: R) -> anyhow::Result<Self> {
        let mut lines = cast.lines();
        let head = lines.next().transpose()?.unwrap_or_default();
        let head: Value =
            serde_json::from_str(&head).context("failed to read the recording: it has no head")?;
        let relative = match head.get("version").and_then(Value::as_u64) {
            Some(2) => false,
            Some(3) => true,
            _ => anyhow::bail!("failed to read the recording: it is no asciicast of version 2 or 3"),
        };
        Ok(Self { lines, relative, at: 0.0, passed: VecDeque::new() })
    }

    /// Seconds to wait, and what to show.
    fn next_output(&mut self) -> anyhow::Result<Option<(f64, String)>> {
        for line in self.lines.by_ref() {
            let line = line?;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (time, kind, text): (f64, String, String) =
                serde_json::from_str(&line).context("failed to read an event of the recording")?;
            let delay = if self.relative { time } else { time - self.at };
            self.at = if self.relative { self.at + time } else { time };
            if kind != "o" {
                self.passed.push_back(delay);
                continue;
            }
            let waited: f64 = self.passed.drain(..).sum();
            return Ok(Some(((waited + delay).max(0.0), text)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(cast: &str) -> Vec<(f64, String)> {
        let mut film = Film::open(cast.as_bytes()).unwrap();
        std::iter::from_fn(|| film.next_output().unwrap()).collect()
    }

    #[test]
    fn both_versions_play_alike() {
        let two = "{\"version\":2,\"width\":80,\"height\":24}\n[1.0,\"o\",\"a\"]\n[1.5,\"m\",\"x\"]\n[3.0,\"o\",\"b\"]\n";
        let three = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n# c\n[1.0,\"o\",\"a\"]\n[0.5,\"m\",\"x\"]\n[1.5,\"o\",\"b\"]\n";
        let shown = vec![(1.0, "a".to_owned()), (2.0, "b".to_owned())];
        assert_eq!(play(two), shown);
        assert_eq!(play(three), shown);
        assert!(Film::open("{\"version\":1}\n".as_bytes()).is_err());
        assert!(Film::open("".as_bytes()).is_err());
    }

    #[test]
    fn a_factor_is_a_sane_number() {
        assert_eq!(factor("2"), Ok(2.0));
        for bad in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(factor(bad).is_err(), "{bad}");
        }
    }
}

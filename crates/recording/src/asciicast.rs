//! Export to asciicast, version 3 (and 2): one terminal channel as a film that stock players show.
//! <https://docs.asciinema.org/manual/asciicast/v3/>
//!
//! The output in it is the target's own, as a player must interpret it; in the file itself every control
//! character is escaped, so the file is safe to print. Commands and transfers become markers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::header::Header;
use crate::reader::ReadError;
use crate::record::{Record, RecordKind};
use crate::text::{Utf8Stream, escape, is_steering};

/// Markers that wait for the terminal's size.
const MAX_EARLY_MARKERS: usize = 1000;

/// Version of the asciicast format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Times since the start.
    V2,
    /// Times since the event before.
    V3,
}

/// What to export.
#[derive(Debug, Clone)]
pub struct Options {
    pub version: Version,
    /// Whose output; `None` takes the first channel that shows any.
    pub channel: Option<u32>,
    pub title: Option<String>,
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("failed to write the export")]
    Write(#[from] io::Error),
}

/// Writes the recording's film to `out`.
pub fn export(
    header: &Header,
    records: impl IntoIterator<Item = Result<Record, ReadError>>,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), ExportError> {
    let mut film = Film {
        out,
        version: options.version,
        channel: options.channel,
        size: None,
        begun: false,
        last_micros: 0,
        decoders: BTreeMap::new(),
        early: Vec::new(),
        exit: None,
    };
    for record in records {
        film.take(header, options, &record?)?;
    }
    film.begin(header, options)?;
    for ((code, _), mut decoder) in std::mem::take(&mut film.decoders) {
        let rest = decoder.finish();
        if !rest.is_empty() {
            film.event(film.last_micros, code, rest)?;
        }
    }
    if let (Version::V3, Some((at, status))) = (options.version, film.exit) {
        film.event(at, 'x', &status.to_string())?;
    }
    Ok(())
}

struct Film<'a, W> {
    out: &'a mut W,
    version: Version,
    channel: Option<u32>,
    size: Option<(u32, u32)>,
    begun: bool,
    last_micros: u64,
    decoders: BTreeMap<(char, bool), Utf8Stream>,
    /// Markers from before the first output.
    early: Vec<(u64, String)>,
    exit: Option<(u64, u32)>,
}

impl<W: Write> Film<'_, W> {
    fn take(&mut self, header: &Header, options: &Options, record: &Record) -> Result<(), ExportError> {
        use RecordKind as K;
        let at = record.at_micros;
        match &record.kind {
            K::Output { channel, bytes } if self.is_shown(*channel) => {
                self.begin(header, options)?;
                self.stream(at, 'o', false, bytes)?;
            }
            K::Stderr { channel, bytes } if self.is_shown(*channel) => {
                self.begin(header, options)?;
                self.stream(at, 'o', true, bytes)?;
            }
            K::Input { channel, bytes } if self.is_shown(*channel) => {
                self.begin(header, options)?;
                self.stream(at, 'i', false, bytes)?;
            }
            K::Resize { channel, columns, rows } if self.is_shown(*channel) => {
                if self.begun {
                    self.event(at, 'r', &format!("{columns}x{rows}"))?;
                } else {
                    self.size = Some((*columns, *rows));
                }
            }
            K::ChannelEnd { channel, exit_status, .. } if self.channel == Some(*channel) => {
                self.exit = exit_status.map(|status| (at, status));
            }
            K::Command { text, .. } => {
                self.marker(header, options, at, &format!("command: {}", escape(text)))?
            }
            K::Statement { text, .. } | K::StatementBegin { text, .. } => {
                self.marker(header, options, at, &format!("statement: {}", escape(text)))?;
            }
            K::TransferBegin { path, direction, .. } => {
                self.marker(header, options, at, &format!("{}: {}", direction.word(), escape(path)))?;
            }
            K::FileOp { op, path, .. } => {
                self.marker(header, options, at, &format!("{}: {}", escape(op), escape(path)))?;
            }
            K::Notice { severity, text, .. } => {
                self.marker(header, options, at, &format!("{}: {}", escape(severity), escape(text)))?;
            }
            K::Note { text } => self.marker(header, options, at, &escape(text))?,
            K::Gap { reason } => self.marker(header, options, at, &format!("gap: {}", escape(reason)))?,
            K::End { reason } => self.marker(header, options, at, &format!("end: {}", escape(reason)))?,
            _ => {}
        }
        Ok(())
    }

    fn is_shown(&mut self, channel: u32) -> bool {
        *self.channel.get_or_insert(channel) == channel
    }

    fn marker(
        &mut self,
        header: &Header,
        options: &Options,
        at: u64,
        label: &str,
    ) -> Result<(), ExportError> {
        // Before the first output the terminal's size may still come; a marker must not settle it.
        if !self.begun && self.early.len() < MAX_EARLY_MARKERS {
            self.early.push((at, label.to_owned()));
            return Ok(());
        }
        self.begin(header, options)?;
        self.event(at, 'm', label)
    }

    fn begin(&mut self, header: &Header, options: &Options) -> Result<(), ExportError> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let (columns, rows) = self.size.unwrap_or((80, 24));
        let timestamp = header.started_at_micros / 1_000_000;
        let title = options.title.clone().unwrap_or_else(|| format!("session {}", header.session_id));
        let title = json_text(&title);
        match self.version {
            Version::V2 => writeln!(
                self.out,
                r#"{{"version":2,"width":{columns},"height":{rows},"timestamp":{timestamp},"title":{title}}}"#
            )?,
            Version::V3 => writeln!(
                self.out,
                r#"{{"version":3,"term":{{"cols":{columns},"rows":{rows}}},"timestamp":{timestamp},"title":{title}}}"#
            )?,
        }
        for (at, label) in std::mem::take(&mut self.early) {
            self.event(at, 'm', &label)?;
        }
        Ok(())
    }

    fn stream(&mut self, at: u64, code: char, is_stderr: bool, bytes: &[u8]) -> Result<(), ExportError> {
        let text = self.decoders.entry((code, is_stderr)).or_default().push(bytes);
        if text.is_empty() { Ok(()) } else { self.event(at, code, &text) }
    }

    fn event(&mut self, at: u64, code: char, data: &str) -> Result<(), ExportError> {
        // Times never run backwards in a film, whatever the records say.
        let at = at.max(self.last_micros);
        let shown = match self.version {
            Version::V2 => at,
            Version::V3 => at - self.last_micros,
        };
        self.last_micros = at;
        writeln!(
            self.out,
            "[{}.{:06},\"{code}\",{}]",
            shown / 1_000_000,
            shown % 1_000_000,
            json_text(data)
        )?;
        Ok(())
    }
}

/// A JSON string in which nothing steers a terminal.
fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_steering(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::header::{Class, FORMAT};
    use serde_json::{Value, json};

    fn header() -> Header {
        Header {
            format: FORMAT,
            recording_id: "r".into(),
            session_id: "s\"1".into(),
            class: Class::Readable,
            started_at_micros: 1_700_000_000_000_000,
            key_digest: Hash([0; 32]),
            recipients: Vec::new(),
        }
    }

    fn film(records: Vec<Record>, version: Version) -> (String, Vec<Value>) {
        let mut out = Vec::new();
        let options = Options { version, channel: None, title: None };
        export(&header(), records.into_iter().map(Ok), &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (text, lines)
    }

    fn records() -> Vec<Record> {
        use RecordKind as K;
        vec![
            Record::new(10, K::Note { text: "opened".into() }),
            Record::new(20, K::Resize { channel: 1, columns: 120, rows: 40 }),
            Record::new(1_000_000, K::Output { channel: 1, bytes: (&b"a\x1b[31m\"\\\xc3"[..]).into() }),
            Record::new(1_100_000, K::Output { channel: 2, bytes: (&b"other"[..]).into() }),
            Record::new(
                1_500_001,
                K::Output { channel: 1, bytes: (&b"\xb6\xc2\x9b\xe2\x80\xae\xff"[..]).into() },
            ),
            Record::new(2_000_000, K::Command { channel: 3, text: "rm\u{1b}[2J".into() }),
            Record::new(2_100_000, K::Resize { channel: 1, columns: 80, rows: 24 }),
            Record::new(2_100_000, K::Resize { channel: 2, columns: 1, rows: 1 }),
            Record::new(3_000_000, K::ChannelEnd { channel: 1, exit_status: Some(3), signal: None }),
        ]
    }

    #[test]
    fn version_3_has_intervals_markers_sizes_and_the_exit() {
        let (text, lines) = film(records(), Version::V3);
        assert_eq!(lines[0]["version"], 3);
        assert_eq!(lines[0]["term"], json!({"cols": 120, "rows": 40}));
        assert_eq!(lines[0]["timestamp"], 1_700_000_000);
        assert_eq!(
            lines[1..],
            [
                json!([0.00001, "m", "opened"]),
                json!([0.99999, "o", "a\u{1b}[31m\"\\"]),
                json!([0.500_001, "o", "\u{f6}\u{9b}\u{202e}\u{fffd}"]),
                json!([0.499_999, "m", "command: rm\\x1b[2J"]),
                json!([0.1, "r", "80x24"]),
                json!([0.9, "x", "3"]),
            ]
        );
        assert!(text.chars().all(|c| c == '\n' || !is_steering(c)), "the file itself steers no terminal");
    }

    #[test]
    fn version_2_has_times_since_the_start_and_an_empty_recording_is_a_film_too() {
        let (_, lines) = film(records(), Version::V2);
        assert_eq!(lines[0]["width"], 120);
        assert_eq!(lines.last().unwrap(), &json!([2.1, "r", "80x24"]));
        let (_, lines) = film(Vec::new(), Version::V3);
        assert_eq!(lines.len(), 1);
    }
}

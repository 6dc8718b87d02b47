//! Searching a decrypted recording, output included: for those who may play it.

use std::collections::HashMap;

use crate::reader::ReadError;
use crate::record::{Outcome, Record, RecordKind};
use crate::text::{PlainText, Utf8Stream, cut, escape};
use crate::transcript::rows_of;

/// Longest line of output that is searched as one, in bytes; longer ones are searched in pieces.
const MAX_LINE_BYTES: usize = 8192;
/// Longest text that a hit shows, in bytes.
const MAX_HIT_BYTES: usize = 512;

/// Where a needle was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Microseconds since the recording's start; for output, of the record that ended the line.
    pub at_micros: u64,
    pub channel: Option<u32>,
    /// `output`, `stderr`, `input`, `command`, `statement`, `parameters`, `result`, `notice`, `path`, `note`.
    pub what: &'static str,
    /// The line, escaped and cut: safe to print.
    pub text: String,
}

/// Finds `needle` (case does not matter) in what was typed, run and shown, at most `limit` times.
/// Output is searched line by line, across records, without its terminal control sequences.
pub fn search(
    records: impl IntoIterator<Item = Result<Record, ReadError>>,
    needle: &str,
    limit: usize,
) -> Result<Vec<Hit>, ReadError> {
    let mut search = Search { needle: needle.to_lowercase(), limit, hits: Vec::new(), lines: HashMap::new() };
    if search.needle.is_empty() {
        return Ok(Vec::new());
    }
    let mut last = 0;
    for record in records {
        let record = record?;
        last = record.at_micros;
        search.take(&record);
        if search.hits.len() >= limit {
            return Ok(search.hits);
        }
    }
    let mut open: Vec<_> = search.lines.drain().collect();
    open.sort_by_key(|(place, _)| *place);
    for ((channel, what), line) in open {
        search.test(last, Some(channel), what, &line.text);
    }
    Ok(search.hits)
}

struct Search {
    needle: String,
    limit: usize,
    hits: Vec<Hit>,
    /// Lines that have not ended yet.
    lines: HashMap<(u32, &'static str), Line>,
}

#[derive(Default)]
struct Line {
    decoder: Utf8Stream,
    plain: PlainText,
    text: String,
}

impl Search {
    fn take(&mut self, record: &Record) {
        use RecordKind as K;
        let at = record.at_micros;
        match &record.kind {
            K::Output { channel, bytes } => self.stream(at, *channel, "output", bytes),
            K::Stderr { channel, bytes } => self.stream(at, *channel, "stderr", bytes),
            K::Input { channel, bytes } => self.stream(at, *channel, "input", bytes),
            K::Command { channel, text } => self.test(at, Some(*channel), "command", text),
            K::Statement { channel, text, parameters, .. }
            | K::StatementBegin { channel, text, parameters, .. } => {
                self.test(at, Some(*channel), "statement", text);
                if let Some(parameters) = parameters {
                    self.test(at, Some(*channel), "parameters", parameters);
                }
            }
            K::Result { channel, values, .. } => {
                for row in rows_of(values) {
                    self.test(at, Some(*channel), "result", &row);
                }
            }
            K::StatementEnd {
                channel,
                outcome: Outcome::Refused { reason } | Outcome::Failed { reason },
                ..
            } => self.test(at, Some(*channel), "notice", reason),
            K::Notice { channel, text, .. } => self.test(at, Some(*channel), "notice", text),
            K::TransferBegin { channel, path, .. } => self.test(at, Some(*channel), "path", path),
            K::FileOp { channel, op, path, path2, .. } => {
                let text = format!("{op} {path} {}", path2.as_deref().unwrap_or_default());
                self.test(at, Some(*channel), "path", text.trim_end());
            }
            K::Note { text } => self.test(at, None, "note", text),
            _ => {}
        }
    }

    fn stream(&mut self, at: u64, channel: u32, what: &'static str, bytes: &[u8]) {
        let mut line = self.lines.remove(&(channel, what)).unwrap_or_default();
        for c in line.decoder.push(bytes).chars() {
            match line.plain.push(c) {
                // A carriage return alone begins the line anew on screen, yet what stood there was shown.
                Some('\n' | '\r') => {
                    self.test(at, Some(channel), what, &line.text);
                    line.text.clear();
                }
                Some(c) => {
                    if line.text.len() >= MAX_LINE_BYTES {
                        self.test(at, Some(channel), what, &line.text);
                        // Keep enough that a needle across the cut is still found.
                        let keep =
                            line.text.chars().rev().take(self.needle.chars().count()).collect::<Vec<_>>();
                        line.text = keep.into_iter().rev().collect();
                    }
                    line.text.push(c);
                }
                None => {}
            }
        }
        self.lines.insert((channel, what), line);
    }

    fn test(&mut self, at_micros: u64, channel: Option<u32>, what: &'static str, text: &str) {
        if self.hits.len() < self.limit && text.to_lowercase().contains(&self.needle) {
            let text = cut(&escape(text), MAX_HIT_BYTES).to_owned();
            self.hits.push(Hit { at_micros, channel, what, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(at: u64, channel: u32, text: &str) -> Result<Record, ReadError> {
        Ok(Record::new(at, RecordKind::Output { channel, bytes: text.to_owned().into() }))
    }

    #[test]
    fn a_word_split_over_records_and_colours_is_found_on_its_own_channel() {
        let records = [
            output(1, 1, "all well\r\nFATAL er\u{1b}[1"),
            output(2, 2, "ror elsewhere\n"),
            output(3, 1, "mror: disk\u{1b}]0;x\u{7} full\r\nand on"),
            Ok(Record::new(4, RecordKind::Command { channel: 3, text: "grep Error \u{1b}[2J".into() })),
        ];
        let hits = search(records, "fatal error", 10).unwrap();
        assert_eq!(
            hits,
            [Hit { at_micros: 3, channel: Some(1), what: "output", text: "FATAL error: disk full".into() }]
        );
        let records = [output(1, 1, "unfinished er"), output(2, 1, "ror")];
        assert_eq!(search(records, "ERROR", 10).unwrap()[0].at_micros, 2);
    }

    #[test]
    fn statements_parameters_and_notices_are_found() {
        let on_one = |at, kind| Ok(Record::new(at, kind));
        let records = [
            on_one(
                1,
                RecordKind::StatementBegin {
                    channel: 1,
                    number: 1,
                    class: "read".into(),
                    role: "operate".into(),
                    database: "orders".into(),
                    text: "select * from Lovelace where x = $1".into(),
                    parameters: Some(r#"["ada lovelace"]"#.into()),
                },
            ),
            on_one(
                2,
                RecordKind::Notice {
                    channel: 1,
                    severity: "NOTICE".into(),
                    code: "00000".into(),
                    text: "lovelace is here".into(),
                },
            ),
            on_one(
                2,
                RecordKind::Result {
                    channel: 1,
                    number: 1,
                    rows: 2,
                    columns: r#"["name"]"#.into(),
                    values: r#"[["other"],["Lovelace"]]"#.into(),
                },
            ),
            on_one(
                3,
                RecordKind::StatementEnd {
                    channel: 1,
                    number: 1,
                    outcome: Outcome::Failed { reason: "no lovelace".into() },
                    tag: String::new(),
                    rows: None,
                    duration_micros: 7,
                },
            ),
        ];
        let hits = search(records, "lovelace", 10).unwrap();
        let found: Vec<_> = hits.iter().map(|hit| (hit.at_micros, hit.what)).collect();
        assert_eq!(found, [(1, "statement"), (1, "parameters"), (2, "notice"), (2, "result"), (3, "notice")]);
        assert_eq!(hits[3].text, r#""Lovelace""#);
    }

    #[test]
    fn an_endless_line_is_searched_in_bounded_pieces() {
        let long = format!("{}needle{}", "x".repeat(MAX_LINE_BYTES - 3), "y".repeat(MAX_LINE_BYTES));
        let hits = search([output(1, 1, &long)], "needle", 10).unwrap();
        assert_eq!(hits.len(), 1);
        assert!(hits[0].text.len() <= MAX_HIT_BYTES);
        let many: Vec<_> = (0..50).map(|at| output(at, 1, "needle\n")).collect();
        assert_eq!(search(many, "needle", 5).unwrap().len(), 5);
        assert!(search([output(1, 1, "x")], "", 5).unwrap().is_empty());
    }
}

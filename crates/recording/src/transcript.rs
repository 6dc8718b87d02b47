//! A recording as text to read: what was done, with times, and what was shown, with a bar before each line.
//!
//! Output is the target's: it is escaped, and the bar keeps it from passing for a line of ours.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::asciicast::ExportError;
use crate::player::escape_lines;
use crate::reader::ReadError;
use crate::record::{Record, RecordKind};
use crate::text::{Utf8Stream, escape};

/// Writes the transcript of `records` to `out`.
pub fn write_transcript(
    records: impl IntoIterator<Item = Result<Record, ReadError>>,
    out: &mut impl Write,
) -> Result<(), ExportError> {
    let mut page = Page { out, open_line: None, decoders: HashMap::new() };
    for record in records {
        page.take(&record?)?;
    }
    page.close_line()?;
    Ok(())
}

struct Page<'a, W> {
    out: &'a mut W,
    /// The stream whose line has not ended yet.
    open_line: Option<(u32, char)>,
    decoders: HashMap<(u32, char), Utf8Stream>,
}

impl<W: Write> Page<'_, W> {
    fn take(&mut self, record: &Record) -> Result<(), ExportError> {
        use RecordKind as K;
        match &record.kind {
            K::Output { channel, bytes } => return Ok(self.stream(*channel, '|', bytes)?),
            K::Stderr { channel, bytes } => return Ok(self.stream(*channel, '!', bytes)?),
            K::Input { channel, bytes } => return Ok(self.stream(*channel, '>', bytes)?),
            _ => {}
        }
        self.close_line()?;
        let line = line_of(&record.kind);
        writeln!(self.out, "{}  {}", clock(record.at_micros), escape(&line))?;
        for row in result_lines(&record.kind) {
            writeln!(self.out, "{}", escape(&row))?;
        }
        Ok(())
    }

    fn stream(&mut self, channel: u32, bar: char, bytes: &[u8]) -> io::Result<()> {
        let text = self.decoders.entry((channel, bar)).or_default().push(bytes);
        if text.is_empty() {
            return Ok(());
        }
        if self.open_line != Some((channel, bar)) {
            self.close_line()?;
        }
        for piece in escape_lines(&text).split_inclusive('\n') {
            if self.open_line.is_none() {
                write!(self.out, "{channel:>3} {bar} ")?;
            }
            write!(self.out, "{piece}")?;
            self.open_line = (!piece.ends_with('\n')).then_some((channel, bar));
        }
        Ok(())
    }

    fn close_line(&mut self) -> io::Result<()> {
        if self.open_line.take().is_some() { writeln!(self.out) } else { Ok(()) }
    }
}

/// `h:mm:ss.mmm` since the start.
fn clock(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    format!("{}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, micros / 1000 % 1000)
}

/// `7 µs`, `7.0 ms` or `7.0 s`.
fn span(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} \u{b5}s"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1_000.0),
        _ => format!("{:.1} s", micros as f64 / 1_000_000.0),
    }
}

/// A record that is not part of a stream, as one line that still has to be escaped.
pub(crate) fn line_of(kind: &RecordKind) -> String {
    use RecordKind as K;
    match kind {
        K::SessionStart { metadata } => format!("session started: {metadata}"),
        K::Output { .. } | K::Stderr { .. } | K::Input { .. } => String::new(),
        K::Resize { channel, columns, rows } => format!("[{channel}] terminal is {columns} by {rows}"),
        K::Command { channel, text } => format!("[{channel}] command: {text}"),
        K::ChannelOpen { channel, kind } => format!("[{channel}] opened: {kind}"),
        K::ChannelEnd { channel, exit_status, signal } => match (exit_status, signal) {
            (_, Some(signal)) => format!("[{channel}] ended by signal {signal}"),
            (Some(status), None) => format!("[{channel}] ended with status {status}"),
            (None, None) => format!("[{channel}] ended"),
        },
        K::TransferBegin { channel, path, direction } => {
            format!("[{channel}] {} of {path} begins", direction.word())
        }
        K::TransferEnd { channel, path, direction, bytes, sha256, outcome } => {
            format!("[{channel}] {} of {path}: {outcome}, {bytes} bytes, sha256 {sha256}", direction.word())
        }
        K::FileOp { channel, op, path, path2: None, outcome } => {
            format!("[{channel}] {op} {path}: {outcome}")
        }
        K::FileOp { channel, op, path, path2: Some(path2), outcome } => {
            format!("[{channel}] {op} {path} {path2}: {outcome}")
        }
        K::Bulk { channel, direction, bytes, sha256 } => {
            format!("[{channel}] {} so far: {bytes} bytes, sha256 {sha256}", direction.word())
        }
        K::Content { channel, direction, bytes } => {
            format!("[{channel}] {} bytes of {} kept", bytes.len(), direction.word())
        }
        K::Statement { channel, text, outcome, rows, duration_micros, .. } => {
            let rows = rows.map_or(String::new(), |rows| format!(", {rows} rows"));
            format!("[{channel}] statement: {text}: {outcome}{rows}, {duration_micros} \u{b5}s")
        }
        K::Result { channel, number, rows, columns, .. } => {
            let names = serde_json::from_str::<Vec<String>>(columns).unwrap_or_default().join(", ");
            let of = if names.is_empty() { names } else { format!(" of {names}") };
            format!("[{channel}] #{number} {rows} rows{of}")
        }
        K::Rows { channel, rows, bytes } => format!("[{channel}] {rows} rows kept, {} bytes", bytes.len()),
        K::Note { text } => format!("note: {text}"),
        K::Gap { reason } => format!("GAP: {reason}"),
        K::End { reason } => format!("ended: {reason}"),
        K::StatementBegin { channel, number, class, role, database, text, parameters } => {
            let parameters = parameters.as_ref().map_or(String::new(), |values| format!("  with {values}"));
            format!("[{channel}] {database} as {role} #{number} ({class}): {text}{parameters}")
        }
        K::StatementEnd { channel, number, outcome, tag, rows, duration_micros } => {
            // The tag of most statements says the rows already.
            let said = if tag.is_empty() { String::new() } else { format!(", {tag}") };
            let rows = match rows {
                Some(rows) if tag.is_empty() => format!(", {rows} rows"),
                _ => String::new(),
            };
            format!("[{channel}] #{number} {outcome}{said}{rows}, {}", span(*duration_micros))
        }
        K::Notice { channel, severity, code, text } => format!("[{channel}] {severity} {code}: {text}"),
        K::Unknown { tag, .. } => format!("a record of kind {tag}, which this program is too old to show"),
    }
}

/// The rows of a result, each as a line that still has to be escaped, with a bar before it.
pub(crate) fn result_lines(kind: &RecordKind) -> impl Iterator<Item = String> {
    let (channel, rows) = match kind {
        RecordKind::Result { channel, values, .. } => (*channel, rows_of(values)),
        _ => (0, Vec::new()),
    };
    rows.into_iter().map(move |row| format!("{channel:>3} = {row}"))
}

/// The values of each row of a result, as JSON without the brackets.
pub(crate) fn rows_of(values: &str) -> Vec<String> {
    let Ok(rows) = serde_json::from_str::<Vec<Vec<serde_json::Value>>>(values) else {
        return vec![values.to_owned()];
    };
    let row = |row: Vec<serde_json::Value>| {
        row.iter().map(serde_json::Value::to_string).collect::<Vec<_>>().join(", ")
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_pass_for_a_line_of_ours() {
        let output = |at, channel, text: &str| {
            Ok(Record::new(at, RecordKind::Output { channel, bytes: text.to_owned().into() }))
        };
        let records = [
            Ok(Record::new(
                0,
                RecordKind::Command { channel: 1, text: "ls\u{1b}[8m -la\n0:00:09.000  note".into() },
            )),
            output(1_234_000, 1, "total 1\r\n0:00:02.000  note: all is well\r\nab"),
            output(1_300_000, 1, "c\u{1b}[2J"),
            output(1_400_000, 2, "other"),
            Ok(Record::new(
                3_600_000_000,
                RecordKind::ChannelEnd { channel: 1, exit_status: Some(0), signal: None },
            )),
        ];
        let mut out = Vec::new();
        write_transcript(records, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0:00:00.000  [1] command: ls\\x1b[8m -la\\n0:00:09.000  note\n  \
             1 | total 1\n  1 | 0:00:02.000  note: all is well\n  1 | abc\\x1b[2J\n  2 | other\n\
             1:00:00.000  [1] ended with status 0\n"
        );
    }

    #[test]
    fn a_database_session_reads_as_question_and_answer() {
        use crate::record::Outcome;
        let record = |at, kind| Ok(Record::new(at, kind));
        let begin = |number, class: &str, text: &str, parameters: Option<&str>| RecordKind::StatementBegin {
            channel: 1,
            number,
            class: class.into(),
            role: "operate".into(),
            database: "orders".into(),
            text: text.into(),
            parameters: parameters.map(str::to_owned),
        };
        let end = |number, outcome, tag: &str, rows, duration_micros| RecordKind::StatementEnd {
            channel: 1,
            number,
            outcome,
            tag: tag.into(),
            rows,
            duration_micros,
        };
        let failed = Outcome::Failed { reason: "42P01: relation \"x\" does not exist".into() };
        let records = [
            record(0, begin(1, "read", "select *\nfrom orders where id = $1", Some("[42]"))),
            record(
                1_000,
                RecordKind::Result {
                    channel: 1,
                    number: 1,
                    rows: 2,
                    columns: r#"["id","what"]"#.into(),
                    values: r#"[[42,"a\u001b[2J"],[43,null]]"#.into(),
                },
            ),
            record(2_000, end(1, Outcome::Done, "SELECT 2", Some(2), 1_530)),
            record(3_000, begin(2, "schema", "drop table x", None)),
            record(
                3_500,
                RecordKind::Notice {
                    channel: 1,
                    severity: "WARNING".into(),
                    code: "01000".into(),
                    text: "careful\u{1b}[2J".into(),
                },
            ),
            record(4_000, end(2, failed, "", None, 900)),
            record(5_000, end(3, Outcome::Done, "", Some(7), 2_000_000)),
        ];
        let mut out = Vec::new();
        write_transcript(records, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0:00:00.000  [1] orders as operate #1 (read): select *\\nfrom orders where id = $1  with [42]\n\
             0:00:00.001  [1] #1 2 rows of id, what\n  1 = 42, \"a\\u001b[2J\"\n  1 = 43, null\n\
             0:00:00.002  [1] #1 done, SELECT 2, 1.5 ms\n\
             0:00:00.003  [1] orders as operate #2 (schema): drop table x\n\
             0:00:00.003  [1] WARNING 01000: careful\\x1b[2J\n\
             0:00:00.004  [1] #2 failed: 42P01: relation \"x\" does not exist, 900 \u{b5}s\n\
             0:00:00.005  [1] #3 done, 7 rows, 2.0 s\n"
        );
    }
}

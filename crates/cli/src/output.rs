//! How answers are printed: tables and cards for people, JSON for programs.
//!
//! Everything that came from elsewhere goes through [`printable`] or [`printable_lines`] before a terminal sees it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::SystemTime;

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use halligan_core::time::{Span, Time};

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// A table that fits the terminal, without lines.
pub fn table(header: &[&str]) -> Table {
    Look::of_terminal().table(header)
}

/// Prints a value as one JSON document over several lines.
pub fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", json_text(value)?);
    Ok(())
}

/// As [`json`] prints it. What steers a terminal is written as `\uXXXX`, which means the same in JSON.
fn json_text<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    let plain = serde_json::to_string_pretty(value)?;
    if !plain.chars().any(|c| c != '\n' && steers(c)) {
        return Ok(plain);
    }
    let mut text = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        if c != '\n' && steers(c) {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(text, "\\u{unit:04x}")?;
            }
        } else {
            text.push(c);
        }
    }
    Ok(text)
}

/// Text from elsewhere, safe on a terminal and in one line: what could steer it or reorder text is shown by number.
pub fn printable(text: &str) -> String {
    halligan_ledger::escape_controls(text).into_owned()
}

/// As [`printable`] for text of several lines: line ends and tabs stay what they are.
pub fn printable_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && c != '\t' && steers(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

fn steers(c: char) -> bool {
    let mut text = [0; 4];
    let text: &str = c.encode_utf8(&mut text);
    c != '\\' && halligan_ledger::escape_controls(text) != text
}

/// What a word is to tell at a glance. Colour only repeats what the word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// Not as it should be.
    Bad,
}

/// How wide the terminal is, whether it has colours, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns; none where nobody looks.
    pub width: Option<u16>,
    /// Colours are wanted.
    pub colour: bool,
    /// Now.
    pub now: Time,
}

impl Look {
    /// As standard output is: colours on a terminal, unless `NO_COLOR` says otherwise.
    pub fn of_terminal() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = if terminal { Table::new().width() } else { None };
        Self { width, colour: terminal && !refused, now: now() }
    }

    /// A table that fits the terminal, without lines. Ids and entitlements are never broken: they are there to be copied.
    pub fn table(&self, header: &[&str]) -> Table {
        let mut table = self.bare();
        table.set_header(header);
        for (index, name) in header.iter().enumerate() {
            if (index == 0 || *name == "entitlement")
                && let Some(column) = table.column_mut(index)
            {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table
    }

    fn bare(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        match self.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// A cell in this tone.
    #[expect(
        clippy::unused_self,
        reason = "the table decides whether there is colour; the call reads alike with paint"
    )]
    pub fn cell(&self, tone: Tone, text: impl ToString) -> Cell {
        let cell = Cell::new(text);
        match tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Warn => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
        }
    }

    /// Text in this tone.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Labels and values, one below the other; empty values are left out.
    pub fn card(&self, rows: &[(&str, String)]) -> String {
        let shown: Vec<_> = rows.iter().filter(|(_, value)| !value.is_empty()).collect();
        let label_width = shown.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let room =
            self.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(label_width + 3).max(20));
        let mut lines = Vec::new();
        for (label, value) in shown {
            for (number, line) in wrap(value, room).into_iter().enumerate() {
                let label = if number == 0 { label } else { "" };
                lines.push(format!(" {label:label_width$}  {line}").trim_end().to_owned());
            }
        }
        lines.join("\n")
    }

    /// A point in time, both from here and in UTC: `in 12m 30s (03:41:05Z)`.
    pub fn when(&self, time: Time) -> String {
        // Less than a second, this way or that, is the difference of two clocks.
        let close = Span::seconds(1);
        let far = if time.since(self.now) < close && self.now.since(time) < close {
            "now".to_owned()
        } else if time >= self.now {
            format!("in {}", roughly(time.since(self.now)))
        } else {
            format!("{} ago", roughly(self.now.since(time)))
        };
        let (text, today) = (time.to_string(), self.now.to_string());
        let same_day = text.get(..10) == today.get(..10);
        let stamp =
            if same_day { text.get(11..).unwrap_or(&text).to_owned() } else { text.replace('T', " ") };
        format!("{far} ({stamp})")
    }
}

/// Breaks text between words. Colours take no room; a word longer than a line stays whole.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let width = visible(word);
        if used > 0 && used + 1 + width > room {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
        }
        used += width;
    }
    lines
}

fn visible(word: &str) -> usize {
    let mut in_colour = false;
    word.chars()
        .filter(|c| {
            let counts = !in_colour && *c != '\u{1b}';
            in_colour = *c == '\u{1b}' || (in_colour && *c != 'm');
            counts
        })
        .count()
}

/// The two largest units of a length of time: `3d 4h`, `12m 30s`, `45s`.
pub fn roughly(span: Span) -> String {
    let seconds = span.as_seconds();
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let said: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if said.is_empty() { "0s".to_owned() } else { said.join(" ") }
}

/// This machine's clock.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The word that a value has in the API, with spaces: `activation failed`.
pub fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => printable(&text.replace('_', " ")),
        _ => String::new(),
    }
}

/// Counts of bytes as people say them.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = bytes / (unit / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Look {
        Look { width: Some(80), colour: false, now: Time::from_micros(seconds * 1_000_000) }
    }

    #[test]
    fn times_are_said_from_here_and_in_utc() {
        let look = at(1_700_000_000);
        let later = look.now.plus(Span::seconds(750));
        assert_eq!(look.when(later), "in 12m 30s (22:25:50Z)");
        assert_eq!(look.when(look.now.minus(Span::days(3))), "3d ago (2023-11-11 22:13:20Z)");
        assert_eq!(look.when(look.now), "now (22:13:20Z)");
    }

    #[test]
    fn lengths_are_rounded_for_reading() {
        assert_eq!(roughly(Span::seconds(45)), "45s");
        assert_eq!(roughly(Span::seconds(3600)), "1h");
        assert_eq!(roughly(Span::seconds(90_061)), "1d 1h");
        assert_eq!(roughly(Span::ZERO), "0s");
    }

    #[test]
    fn hostile_text_steers_nothing() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable_lines("one\n\ttwo\u{202e}\\n"), "one\n\ttwo\\u{202e}\\n");
        let text = json_text(&serde_json::json!({ "a": "\u{9b}31m\u{202e}\u{1b}ü\\" })).unwrap();
        assert!(text.contains("\\u009b31m\\u202e\\u001bü\\\\"), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["a"],
            "\u{9b}31m\u{202e}\u{1b}ü\\"
        );
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let look = at(0);
        assert_eq!(look.paint(Tone::Bad, "FAILED"), "FAILED");
        assert_eq!(Look { colour: true, ..look }.paint(Tone::Bad, "FAILED"), "\u{1b}[31mFAILED\u{1b}[0m");
        let mut table = look.table(&["id", "what"]);
        table.add_row([look.cell(Tone::Good, "x"), look.cell(Tone::Plain, "y")]);
        assert!(!table.to_string().contains('\u{1b}'));
    }

    #[test]
    fn a_table_fits_the_terminal_and_keeps_ids_whole() {
        let look = Look { width: Some(60), ..at(0) };
        let mut table = look.table(&["id", "reason"]);
        let id = "req_00000000000000000000000001";
        table.add_row([id, "the database does not answer and the shop is down since ten minutes"]);
        let text = table.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.contains(id));
    }

    #[test]
    fn a_card_breaks_long_values_between_words() {
        let look = Look { width: Some(40), colour: true, ..at(0) };
        let painted = look.paint(Tone::Bad, "denied");
        let text = look.card(&[
            ("id", "x".to_owned()),
            ("nothing", String::new()),
            ("reason", format!("{painted} because the database does not answer")),
        ]);
        assert_eq!(
            text,
            " id      x\n reason  \u{1b}[31mdenied\u{1b}[0m because the database\n         does not answer"
        );
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
    }
}

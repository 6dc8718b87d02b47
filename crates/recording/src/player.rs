//! Playing a recording in its own time: an iterator of steps, each a delay and the bytes to show.

use std::collections::HashMap;
use std::time::Duration;

use crate::reader::ReadError;
use crate::record::{Record, RecordKind};
use crate::text::{Utf8Stream, push_escaped};
use crate::transcript::{line_of, result_lines};

/// How to play.
#[derive(Debug, Clone)]
pub struct PlayOptions {
    /// Times as fast as it happened; at least 0.01.
    pub speed: f64,
    /// No pause is longer than this.
    pub longest_pause: Option<Duration>,
    /// Whose output; `None` plays all channels.
    pub channel: Option<u32>,
    /// Give the target's bytes as they are. They are hostile: they can steer the watcher's terminal.
    /// Otherwise control characters other than line end and tab are shown escaped.
    pub raw: bool,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self { speed: 1.0, longest_pause: None, channel: None, raw: false }
    }
}

/// Wait `delay`, then show `bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayStep {
    pub delay: Duration,
    pub bytes: Vec<u8>,
}

/// Plays output and standard error of `records`. Statements, what came of them, and gaps are shown as lines
/// of their own.
pub struct Player<I> {
    records: I,
    options: PlayOptions,
    last_micros: u64,
    decoders: HashMap<(u32, bool), Utf8Stream>,
}

impl<I: Iterator<Item = Result<Record, ReadError>>> Player<I> {
    pub fn new(records: I, options: PlayOptions) -> Self {
        Self { records, options, last_micros: 0, decoders: HashMap::new() }
    }

    fn delay(&mut self, at_micros: u64) -> Duration {
        let passed = at_micros.saturating_sub(self.last_micros);
        self.last_micros = self.last_micros.max(at_micros);
        let speed = if self.options.speed.is_finite() { self.options.speed.max(0.01) } else { 1.0 };
        let delay = Duration::try_from_secs_f64(passed as f64 / 1_000_000.0 / speed).unwrap_or(Duration::MAX);
        self.options.longest_pause.map_or(delay, |longest| delay.min(longest))
    }

    fn shown(&mut self, channel: u32, is_stderr: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.options.channel.is_some_and(|wanted| wanted != channel) {
            return None;
        }
        if self.options.raw {
            return Some(bytes.to_vec());
        }
        let text = self.decoders.entry((channel, is_stderr)).or_default().push(bytes);
        Some(escape_lines(&text).into_bytes())
    }
}

/// Escapes all but line ends and tabs; a carriage return before a line end belongs to it.
pub(crate) fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push_escaped(&mut out, c),
        }
    }
    out
}

impl<I: Iterator<Item = Result<Record, ReadError>>> Iterator for Player<I> {
    type Item = Result<PlayStep, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let bytes = match &record.kind {
                RecordKind::Output { channel, bytes } => self.shown(*channel, false, bytes),
                RecordKind::Stderr { channel, bytes } => self.shown(*channel, true, bytes),
                RecordKind::Gap { reason } => {
                    Some(format!("\r\n[gap: {}]\r\n", crate::text::escape(reason)).into_bytes())
                }
                kind @ (RecordKind::StatementBegin { channel, .. }
                | RecordKind::StatementEnd { channel, .. }
                | RecordKind::Result { channel, .. }
                | RecordKind::Notice { channel, .. }) => {
                    let wanted = self.options.channel.is_none_or(|wanted| wanted == *channel);
                    let lines = std::iter::once(line_of(kind)).chain(result_lines(kind));
                    wanted.then(|| {
                        let line = |line: String| format!("{}\r\n", crate::text::escape(&line));
                        lines.map(line).collect::<String>().into_bytes()
                    })
                }
                _ => None,
            };
            if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                return Some(Ok(PlayStep { delay: self.delay(record.at_micros), bytes }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(at: u64, bytes: &'static [u8]) -> Result<Record, ReadError> {
        Ok(Record::new(at, RecordKind::Output { channel: 1, bytes: bytes.into() }))
    }

    fn play(options: PlayOptions) -> Vec<PlayStep> {
        let records = vec![
            output(1_000_000, b"one\r\n\x1b[2Jt"),
            output(1_500_000, b"w\xc3"),
            Ok(Record::new(2_000_000, RecordKind::Note { text: "unseen".into() })),
            output(61_500_000, b"\xb6"),
            Ok(Record::new(61_500_000, RecordKind::Gap { reason: "cut".into() })),
        ];
        Player::new(records.into_iter(), options).map(Result::unwrap).collect()
    }

    #[test]
    fn steps_keep_the_time_and_steer_nothing() {
        let steps = play(PlayOptions {
            speed: 2.0,
            longest_pause: Some(Duration::from_secs(5)),
            ..Default::default()
        });
        let delays: Vec<u128> = steps.iter().map(|step| step.delay.as_millis()).collect();
        assert_eq!(delays, [500, 250, 5000, 0]);
        let text: Vec<u8> = steps.iter().flat_map(|step| step.bytes.clone()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), "one\n\\x1b[2Jtw\u{f6}\r\n[gap: cut]\r\n");
    }

    #[test]
    fn raw_gives_the_very_bytes_and_odd_speeds_do_no_harm() {
        let steps = play(PlayOptions { raw: true, speed: f64::NAN, ..Default::default() });
        assert_eq!(steps[0].bytes, b"one\r\n\x1b[2Jt");
        assert_eq!(steps[0].delay, Duration::from_secs(1));
        for speed in [0.0, -1.0, f64::INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(play(PlayOptions { speed, ..Default::default() }).len(), 4);
        }
    }

    #[test]
    fn statements_are_played_as_lines_that_steer_nothing() {
        let begin = RecordKind::StatementBegin {
            channel: 2,
            number: 1,
            class: "read".into(),
            role: "operate".into(),
            database: "orders".into(),
            text: "select '\u{1b}[2J'".into(),
            parameters: None,
        };
        let play = |channel| {
            let options = PlayOptions { raw: true, channel, ..Default::default() };
            let steps = Player::new([Ok(Record::new(0, begin.clone()))].into_iter(), options);
            steps.map(|step| String::from_utf8(step.unwrap().bytes).unwrap()).collect::<String>()
        };
        assert_eq!(play(None), "[2] orders as operate #1 (read): select '\\x1b[2J'\r\n");
        assert_eq!(play(Some(1)), "");
    }
}

//! Logs go to standard error: text on a terminal, JSON elsewhere. What others wrote (a client's name, a target's answer)
//! cannot forge a line or steer a terminal.

use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::output::printable;

/// What `--log` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogForm {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `level` is a level or a list of directives.
pub fn start(form: LogForm, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(format!("refinery_core=warn,{level}")).with_context(|| {
        format!("failed to read the log level `{level}`: write `info`, or `info,halligan_link=debug`")
    })?;
    let text = match form {
        LogForm::Auto => io::stderr().is_terminal(),
        LogForm::Text => true,
        LogForm::Json => false,
    };
    let start = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).log_internal_errors(false);
    let started = if text {
        start.with_writer(|| Lines { escape: true }).try_init()
    } else {
        let start = start.json().flatten_event(true).with_current_span(false);
        start.with_writer(|| Lines { escape: false }).try_init()
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("failed to start logging")
}

/// Writes each event as one line; text with control characters shown by number (JSON has its own way). Nobody who reads,
/// a full disk or a closed pipe is no reason to stop working, so trouble with standard error is not told to anybody.
#[derive(Clone, Copy, Debug)]
struct Lines {
    escape: bool,
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let _ =
            if self.escape { stderr.write_all(one_line(event).as_bytes()) } else { stderr.write_all(event) };
        Ok(event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event arrives as a whole, with one line feed at its end.
fn one_line(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    let mut line = printable(text.strip_suffix('\n').unwrap_or(&text));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_logged_steers_a_terminal_or_forges_a_line() {
        let line = one_line("user=a\u{1b}[2Jb\nINFO forged\r\u{202e}x\n".as_bytes());
        assert_eq!(line, "user=a\\u{1b}[2Jb\\nINFO forged\\r\\u{202e}x\n");
    }
}

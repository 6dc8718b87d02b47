//! Time arrives as commands: whatever is due is woken. Lateness is judged by the clock inside the core, so a slow
//! sweeper makes nothing longer valid.

use std::time::Duration;

use halligan_core::command::{Actor, Command, Due};
use halligan_core::time::Span;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::error::ControlError;

const PAUSE: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 256;
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// A node that is further off the database's clock than this refuses to decide.
const CLOCK_MOST_MICROS: u64 = 2_000_000;
/// Rounds of housekeeping between two looks at old answers.
const ANSWERS_EVERY: u64 = 720;
/// Repetitions of a call are recognised this long.
const ANSWERS_KEPT: Span = Span::days(2);

/// Wakes what is due, until stopped.
pub async fn run(control: Control, stop: CancellationToken) {
    loop {
        let more = match sweep(&control).await {
            Ok(count) => count == AT_ONCE,
            Err(error) => {
                tracing::warn!(%error, "failed to look for what is due");
                false
            }
        };
        if !more {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        } else if stop.is_cancelled() {
            return;
        }
    }
}

/// Looks after what needs no hurry: the clock against the database's, answers that nobody will ask for again.
pub async fn housekeeping(control: Control, stop: CancellationToken) {
    let mut rounds = 0u64;
    loop {
        if control.store().engine() == "postgres" {
            match control.store().database_clock().await {
                Ok(theirs) => {
                    let off = theirs.abs_diff(control.now().micros());
                    control.judge_clock(off > CLOCK_MOST_MICROS);
                }
                Err(error) => tracing::warn!(error = %chain(&error), "failed to read the database's clock"),
            }
        }
        if rounds.is_multiple_of(ANSWERS_EVERY) {
            let old = control.now().minus(ANSWERS_KEPT).micros();
            if let Err(error) = control.store().forget_answers(old).await {
                tracing::warn!(error = %chain(&error), "failed to forget old answers");
            }
        }
        if let Err(error) = control.forget_connect_passwords().await {
            tracing::warn!(error = %chain(&error), "failed to forget connect passwords");
        }
        rounds += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
    }
}

/// Wakes what is due now; says how many that were.
pub async fn sweep(control: &Control) -> Result<usize, ControlError> {
    let now = control.now();
    let due = control.store().due(now.micros(), &["request", "grant", "review", "change"], AT_ONCE).await?;
    let count = due.len();
    for document in due {
        let id = &document.key.id;
        let what = match document.key.kind.as_str() {
            "request" => id.parse().ok().map(Due::Request),
            "grant" => id.parse().ok().map(Due::Grant),
            "review" => id.parse().ok().map(Due::Review),
            "change" => id.parse().ok().map(Due::Change),
            _ => None,
        };
        let Some(what) = what else { continue };
        if let Err(error) = control.run(&Actor::Clock, Command::Wake(what)).await {
            tracing::warn!(document = %document.key, error = %chain(&error), "failed to wake what is due");
        }
    }
    Ok(count)
}

/// An error with its causes, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

//! What a verification found: each check with its name, whether it held, and in words what and where.

use serde::Serialize;

/// Of one check at most this many faults are listed.
const MOST_FAULTS: usize = 50;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was asked.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found and where; for a check that holds, how much was looked at.
    pub detail: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Leaves of all ledgers.
    pub leaves: u64,
    /// Events in them.
    pub events: u64,
    /// Documents compared.
    pub documents: u64,
    /// Recordings.
    pub recordings: u64,
}

/// The outcome of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was verified, in words.
    pub subject: String,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// What the reader must know although nothing is wrong.
    pub warnings: Vec<String>,
    /// How much was looked at.
    pub counts: Counts,
}

impl Report {
    pub(crate) fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..Self::default() }
    }

    /// Everything holds.
    #[must_use]
    pub fn ok(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }

    /// The checks that do not hold.
    pub fn faults(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }

    /// Runs one check. It holds if `look` says no fault; what `look` returns tells how much was looked at.
    pub(crate) fn check(&mut self, name: &'static str, look: impl FnOnce(&mut Faults) -> String) -> bool {
        let mut faults = Faults::default();
        let looked_at = look(&mut faults);
        self.take(name, faults, looked_at)
    }

    /// Enters a check whose faults were collected elsewhere.
    pub(crate) fn take(&mut self, name: &'static str, faults: Faults, looked_at: String) -> bool {
        if faults.said.is_empty() {
            self.checks.push(Check { name, ok: true, detail: looked_at });
            return true;
        }
        let more = faults.count - faults.said.len();
        self.checks.extend(faults.said.into_iter().map(|detail| Check { name, ok: false, detail }));
        if more > 0 {
            self.checks.push(Check { name, ok: false, detail: format!("{more} more faults of this kind") });
        }
        false
    }
}

/// Faults of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    said: Vec<String>,
    count: usize,
}

impl Faults {
    /// Notes a fault: what is wrong and where.
    pub fn say(&mut self, what: impl Into<String>) {
        self.count += 1;
        if self.said.len() < MOST_FAULTS {
            self.said.push(what.into());
        }
    }

    /// Notes a fault unless `holds`.
    pub(crate) fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.say(what());
        }
    }

    /// The value, or its error as a fault, with its causes.
    pub(crate) fn value<T, E: std::error::Error>(&mut self, result: Result<T, E>, place: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.say(format!("{place}: {}", chain(&error)));
                None
            }
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = MOST_FAULTS.saturating_sub(self.said.len());
        self.said.extend(other.said.into_iter().take(room));
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The faults that were kept, at most fifty.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.said
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text.push_str(": ");
        text.push_str(&found.to_string());
        cause = found.source();
    }
    text
}

/// `1 leaf`, `2 leaves`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

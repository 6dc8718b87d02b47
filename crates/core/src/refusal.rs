//! A refusal: why a command is not carried out, in words that a responder can act on at three in the morning.

use serde::{Deserialize, Serialize};

/// Why not, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{say}")]
pub struct Refusal {
    /// Which rule; stable, for programs.
    pub code: RefusalCode,
    /// The sentence.
    pub say: String,
    /// The next step, if there is one.
    pub next: Option<String>,
}

/// Kinds of refusal; stable names for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// There is no such thing, or not for this person.
    NotFound,
    /// The person may not do that.
    NotAllowed,
    /// Their own act, or that of a deputy.
    SeparationOfDuties,
    /// A second factor is missing, stale or of the wrong kind.
    SecondFactor,
    /// Something that must be said was not said.
    Incomplete,
    /// It does not fit scenario, severity or entitlement.
    DoesNotFit,
    /// The state does not permit it any more.
    WrongState,
    /// It has changed since it was seen.
    Stale,
    /// A limit is reached.
    Limit,
    /// Something still blocks it.
    Blocked,
}

impl Refusal {
    /// A refusal without a next step.
    pub fn new(code: RefusalCode, say: impl Into<String>) -> Self {
        Self { code, say: say.into(), next: None }
    }
    /// With the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(RefusalCode::NotFound, format!("{what} does not exist, or is not yours to see"))
    }
}

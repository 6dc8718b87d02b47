//! Revocation evidence: what a look at the target found, check by check.

use crate::catalog::CheckKind;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Time,
    /// Each check that was made.
    pub checks: Vec<Check>,
}

/// One check with its finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which.
    pub kind: CheckKind,
    /// What it found.
    pub finding: Finding,
    /// Who says so.
    pub said_by: SaidBy,
    /// In words, with serials and what the target answered; no secret.
    pub detail: String,
}

/// Result of a check or of a whole proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The door is shut, and the check would have noticed an open one.
    Proven,
    /// The door is open.
    Failed,
    /// It cannot be told.
    Unknown,
}

/// Who vouches for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaidBy {
    /// The gateway.
    Gateway,
    /// The connector, from its own ledger.
    Connector,
    /// The target, as seen from outside.
    Target,
    /// The target about itself, after somebody had power over it.
    SelfReported,
}

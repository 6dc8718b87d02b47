//! Gentleness: one look at a target at a time, and at most one failed connection in fifteen seconds.
//!
//! OpenSSH 9.8 and newer locks a source address out after a few failed connections (`PerSourcePenalties`); a probe that
//! trips that would lock out the gateway as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Least time between a failed connection and the next one.
pub const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// Old certificates on one connection. Each is a failure; hardened hosts hang up at the fourth (`MaxAuthTries 4`).
const OFFERS: usize = 3;

/// How one target is treated.
#[derive(Debug)]
pub struct Pace {
    /// When a connection last failed.
    pub last_failed: Option<Instant>,
    /// Most old certificates on one connection.
    pub offers: usize,
}

impl Pace {
    /// How long to wait before the next connection.
    pub fn pause(&self) -> Duration {
        self.last_failed.map_or(Duration::ZERO, |then| AFTER_FAILURE.saturating_sub(then.elapsed()))
    }
}

/// The paces of all targets, by address.
#[derive(Debug, Default)]
pub struct Paces {
    targets: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Pace>>>>,
}

impl Paces {
    /// The pace of this target. Whoever holds its lock is the only one who dials it.
    pub fn of(&self, address: &str) -> Arc<tokio::sync::Mutex<Pace>> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.len() > 4096 {
            targets.retain(|_, pace| {
                Arc::strong_count(pace) > 1 || pace.try_lock().is_ok_and(|pace| !pace.pause().is_zero())
            });
        }
        let fresh = || Arc::new(tokio::sync::Mutex::new(Pace { last_failed: None, offers: OFFERS }));
        Arc::clone(targets.entry(address.to_ascii_lowercase()).or_insert_with(fresh))
    }
}

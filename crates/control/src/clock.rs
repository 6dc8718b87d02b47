//! Where control's time comes from: a parameter, so that a whole server in a test can live at any time.

use std::time::{SystemTime, UNIX_EPOCH};

use halligan_core::time::Time;

/// A wall clock.
pub trait Clock: Send + Sync + 'static {
    /// The time by this clock.
    fn now(&self) -> Time;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        Time::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

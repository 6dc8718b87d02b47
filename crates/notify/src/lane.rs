//! A lane to one receiver: few deliveries at a time, and a rest when it keeps failing.
//!
//! The outbox has one set of hands for alerts and for what really opens and shuts access. A receiver that swallows
//! connections must not hold those hands for ten seconds an alert.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Deliveries under way to one receiver.
const AT_ONCE: usize = 4;
/// How long a delivery waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many failures in a row are bad luck; more are a dead receiver.
const BAD_LUCK: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(30);

pub struct Lane {
    turns: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
    last: String,
}

impl Lane {
    pub fn new() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), state: Mutex::default() }
    }

    /// Waits for a turn. Refuses while the receiver rests; when the rest is over one delivery tries it out.
    pub async fn enter(&self) -> Result<SemaphorePermit<'_>, String> {
        // A turn is taken before the state is looked at: those that waited while others failed must not fail as slowly.
        let turn = match tokio::time::timeout(PATIENCE, self.turns.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err("many alerts wait for this receiver".to_owned()),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = state.rests_until {
            let now = Instant::now();
            if now < until {
                return Err(format!(
                    "this receiver failed {} times and is tried again in {} s; the last failure: {}",
                    state.failures,
                    (until - now).as_secs() + 1,
                    state.last
                ));
            }
            // Longer than an attempt lasts, so that there is one at a time.
            state.rests_until = Some(now + LONGEST_REST);
        }
        Ok(turn)
    }

    /// The receiver took it.
    pub fn succeeded(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// The receiver did not take it.
    pub fn failed(&self, why: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        why.clone_into(&mut state.last);
        if state.failures > BAD_LUCK {
            state.rests_until = Some(Instant::now() + rest(state.failures));
        }
    }
}

fn rest(failures: u32) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << failures.saturating_sub(BAD_LUCK + 1).min(8));
    doubled.min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_receiver_rests_and_is_tried_out_by_one() {
        let lane = Lane::new();
        for _ in 0..=BAD_LUCK {
            let _turn = lane.enter().await.unwrap();
            lane.failed("no answer");
        }
        let say = lane.enter().await.unwrap_err();
        assert!(say.contains("no answer"), "{say}");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let first = lane.enter().await;
        assert!(first.is_ok());
        assert!(lane.enter().await.is_err(), "only one tries it out");
        lane.succeeded();
        assert!(lane.enter().await.is_ok(), "all go again");
    }

    #[tokio::test]
    async fn few_go_at_a_time_and_nobody_waits_long() {
        let lane = Lane::new();
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(lane.enter().await.unwrap());
        }
        let before = Instant::now();
        assert!(lane.enter().await.is_err());
        assert!(before.elapsed() >= PATIENCE && before.elapsed() < PATIENCE * 3);
        turns.pop();
        assert!(lane.enter().await.is_ok());
        assert_eq!(rest(1_000), LONGEST_REST);
    }
}

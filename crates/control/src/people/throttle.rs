//! Slows guessing of passwords: after a few failures an account, and a network, has to wait; longer with each further one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use halligan_core::time::{Span, Time};

/// Failures that cost nothing.
const FREE: u32 = 5;
const LONGEST_WAIT: Span = Span::minutes(15);
/// Entries kept; beyond it the oldest go.
const MOST: usize = 100_000;

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Time,
}

/// What is remembered of failed sign-ins. In memory: a restart forgives, which is why it slows and does not lock.
#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<String, Failures>>,
}

fn keys(person: &str, from: Option<IpAddr>) -> Vec<String> {
    let mut keys = vec![format!("person {}", person.chars().take(64).collect::<String>())];
    // Networks, not addresses: a /24 and a /64 belong to one guesser.
    keys.extend(from.map(|from| match from {
        IpAddr::V4(four) => {
            let [a, b, c, _] = four.octets();
            format!("net {a}.{b}.{c}")
        }
        IpAddr::V6(six) => format!("net {:x?}", six.segments().iter().take(4).collect::<Vec<_>>()),
    }));
    keys
}

impl Throttle {
    /// How long to wait before the next try; zero if it may be made now.
    pub fn wait(&self, person: &str, from: Option<IpAddr>, now: Time) -> Span {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = keys(person, from).into_iter().filter_map(|key| {
            // A network gets more tries than a person: many people sit behind one.
            let free = if key.starts_with("net") { FREE * 10 } else { FREE };
            let found = failures.get(&key)?;
            let over = found.count.checked_sub(free)?;
            let wait = Span::seconds(1i64 << over.min(10)).min(LONGEST_WAIT);
            Some(found.last.plus(wait).since(now))
        });
        waits.max().unwrap_or(Span::ZERO)
    }

    /// A try failed.
    pub fn failed(&self, person: &str, from: Option<IpAddr>, now: Time) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.retain(|_, found| now.since(found.last) < LONGEST_WAIT);
        }
        for key in keys(person, from) {
            let entry = failures.entry(key).or_insert(Failures { count: 0, last: now });
            if now.since(entry.last) > Span::hours(1) {
                entry.count = 0;
            }
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
        }
    }

    /// A sign-in worked: the person's own count is forgotten, not the network's.
    pub fn worked(&self, person: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(person, None) {
            failures.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_gets_slower_and_others_are_not_slowed() {
        let throttle = Throttle::default();
        let from = Some("192.0.2.7".parse().unwrap());
        let now = Time::from_micros(1_000_000_000);
        for _ in 0..FREE {
            throttle.failed("anna", from, now);
        }
        assert_eq!(throttle.wait("anna", from, now), Span::seconds(1));
        throttle.failed("anna", from, now);
        assert_eq!(throttle.wait("anna", None, now), Span::seconds(2));
        assert_eq!(throttle.wait("ben", None, now), Span::ZERO);
        assert_eq!(throttle.wait("anna", None, now.plus(Span::seconds(2))), Span::ZERO);
        throttle.worked("anna");
        assert_eq!(throttle.wait("anna", from, now), Span::ZERO);
    }
}

//! One thing at a time, for each of many: a server that is slow holds up nobody at another.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Locks that are forgotten when nobody holds or waits for them are looked for past so many.
const MANY: usize = 4096;

/// Locks by name, for use across calls to a server.
pub struct Locks<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> fmt::Debug for Locks<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locks")
    }
}

impl<K: Eq + Hash> Locks<K> {
    /// The lock of this name.
    pub fn of(&self, name: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get(&name).and_then(Weak::upgrade) {
            return held;
        }
        if all.len() > MANY {
            all.retain(|_, lock| lock.strong_count() > 0);
        }
        let fresh = Arc::new(tokio::sync::Mutex::new(()));
        all.insert(name, Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_lock_while_anybody_holds_it() {
        let locks = Locks::default();
        let (one, again, other) = (locks.of("a"), locks.of("a"), locks.of("b"));
        let held = one.try_lock().unwrap();
        assert!(again.try_lock().is_err() && other.try_lock().is_ok());
        drop(held);
        drop((one, again, other));
        for number in 0..=MANY {
            drop(locks.of(Box::leak(number.to_string().into_boxed_str())));
        }
        assert!(locks.0.lock().unwrap().len() <= MANY + 2);
    }
}

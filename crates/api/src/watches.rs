//! Live watches: begun by a call that is an event, then asked piece by piece. A watch belongs to one person and dies
//! when nobody asks any more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use halligan_core::ids::{Name, PersonId, SessionId};

/// A watch dies after this without a question.
const IDLE: Duration = Duration::from_secs(120);
/// Watches at one time.
const MOST: usize = 1000;

/// One watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whose.
    pub person: PersonId,
    /// Of what.
    pub session: SessionId,
    /// At which gateway.
    pub gateway: Name,
    /// Number of the last record seen.
    pub after: u64,
    last: Instant,
}

/// All watches of this server.
#[derive(Default)]
pub struct Watches(Mutex<HashMap<String, Watch>>);

impl Watches {
    /// Begins one; `None` if there are too many.
    pub fn begin(&self, id: String, person: PersonId, session: SessionId, gateway: Name) -> Option<()> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, watch| watch.last.elapsed() < IDLE);
        if all.len() >= MOST {
            return None;
        }
        all.insert(id, Watch { person, session, gateway, after: 0, last: Instant::now() });
        Some(())
    }

    /// The watch of this id, if it is this person's and of this session.
    pub fn find(&self, id: &str, person: &PersonId, session: SessionId) -> Option<Watch> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = all.get_mut(id)?;
        if watch.person != *person || watch.session != session || watch.last.elapsed() >= IDLE {
            return None;
        }
        watch.last = Instant::now();
        Some(watch.clone())
    }

    /// Everything up to there was seen.
    pub fn seen(&self, id: &str, last: u64) {
        if let Some(watch) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            watch.after = last;
        }
    }
}

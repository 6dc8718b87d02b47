//! One-time passwords: control tells their digest, bound to a person and an entitlement; a client types one; it is burned
//! on disk before it is accepted. Wrong ones are counted and stopped, and all failures look alike.

use std::collections::{HashMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use halligan_core::ids::{EntitlementName, PersonId};
use halligan_core::time::{Span, Time};
use halligan_ledger::disk::sync_folder;
use halligan_session::Secret;
use halligan_session::control_plane::{entitlement_of_login, one_time_password_digest};
use subtle::ConstantTimeEq as _;

use crate::countdown::Reading;

/// Wrong passwords for one entitlement within [`WINDOW`] after which none is accepted for it.
pub const MOST_FAILURES: usize = 10;
/// How long a failure counts.
pub const WINDOW: Span = Span::minutes(2);
/// However long control says, a password dies after this.
pub const LONGEST_LIFE: Span = Span::minutes(10);
/// Passwords that wait for one entitlement.
const MOST_WAITING: usize = 64;
/// Burned ones are remembered this long: well past any life.
const REMEMBER: Span = Span::hours(24);

/// Passwords that wait to be used, and those that were.
pub struct OneTimePasswords {
    burned: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<EntitlementName, Vec<Waiting>>,
    failures: HashMap<Option<EntitlementName>, VecDeque<u64>>,
}

struct Waiting {
    person: PersonId,
    sha256: [u8; 32],
    expires_boot: u64,
}

/// A password was not accepted. The person is told the same in every case; this is for the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("no such one-time password")]
    Unknown,
    #[error("too many wrong one-time passwords for this entitlement")]
    TooMany,
    #[error("the password could not be burned: {0}")]
    Disk(#[from] io::Error),
}

/// Why a password cannot wait here.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("the digest is not 64 hexadecimal digits")]
    Digest,
    #[error("the password has expired already")]
    Expired,
    #[error("the password was used already")]
    Burned,
    #[error("{MOST_WAITING} passwords wait for this entitlement already")]
    TooMany,
}

impl OneTimePasswords {
    /// `burned` is a folder that exists; marks older than a day are cleared away.
    pub fn open(burned: PathBuf, now: Time) -> io::Result<Self> {
        for entry in std::fs::read_dir(&burned)? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let at = text.trim().parse().map_or(now, Time::from_micros);
            if now.since(at) > REMEMBER {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(Self { burned, state: Mutex::new(State::default()) })
    }

    /// Control made a password.
    pub fn put(
        &self,
        person: PersonId,
        entitlement: EntitlementName,
        sha256: &str,
        expires: Time,
        now: Reading,
    ) -> Result<(), NotTaken> {
        let mut digest = [0; 32];
        hex::decode_to_slice(sha256, &mut digest).map_err(|_| NotTaken::Digest)?;
        let life = expires.since(now.wall).min(LONGEST_LIFE);
        if life == Span::ZERO {
            return Err(NotTaken::Expired);
        }
        // Control repeats what it is not sure of: a used one must not come to life again.
        if self.mark(&digest).exists() {
            return Err(NotTaken::Burned);
        }
        let expires_boot = now.boot.saturating_add(life.as_micros().unsigned_abs());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = state.waiting.entry(entitlement).or_default();
        waiting.retain(|one| one.expires_boot > now.boot && one.sha256 != digest);
        if waiting.len() >= MOST_WAITING {
            return Err(NotTaken::TooMany);
        }
        waiting.push(Waiting { person, sha256: digest, expires_boot });
        Ok(())
    }

    /// A client typed one. It is burned, synced, before this returns. Blocks for a write to disk.
    pub fn take(
        &self,
        login: &str,
        password: &Secret,
        now: Reading,
    ) -> Result<(PersonId, EntitlementName), Denied> {
        let mut typed = [0; 32];
        // The digest is made whatever the login is, so that an unknown one takes as long.
        let decoded = hex::decode_to_slice(one_time_password_digest(password), &mut typed);
        let entitlement = entitlement_of_login(login);
        let taken = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.forget_old(now.boot);
            let known = entitlement.clone().filter(|name| state.waiting.contains_key(name));
            if state.failures.get(&known).is_some_and(|failures| failures.len() >= MOST_FAILURES) {
                return Err(Denied::TooMany);
            }
            let taken =
                known.as_ref().filter(|_| decoded.is_ok()).and_then(|name| state.remove(name, &typed));
            if taken.is_none() {
                state.failures.entry(known).or_default().push_back(now.boot);
            }
            taken
        };
        let (Some(person), Some(entitlement)) = (taken, entitlement) else { return Err(Denied::Unknown) };
        self.burn(&typed, now.wall)?;
        Ok((person, entitlement))
    }

    fn mark(&self, digest: &[u8; 32]) -> PathBuf {
        self.burned.join(hex::encode(digest))
    }

    fn burn(&self, digest: &[u8; 32], now: Time) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.mark(digest))?;
        file.write_all(now.micros().to_string().as_bytes())?;
        file.sync_all()?;
        sync_folder(&self.burned)
    }
}

impl State {
    fn forget_old(&mut self, boot: u64) {
        let window = WINDOW.as_micros().unsigned_abs();
        self.failures.retain(|_, failures| {
            failures.retain(|at| boot.saturating_sub(*at) < window);
            !failures.is_empty()
        });
        self.waiting.retain(|_, waiting| {
            waiting.retain(|one| one.expires_boot > boot);
            !waiting.is_empty()
        });
    }

    /// Looks at every one that waits, so that the time taken does not tell which fits.
    fn remove(&mut self, name: &EntitlementName, typed: &[u8; 32]) -> Option<PersonId> {
        let waiting = self.waiting.get_mut(name)?;
        let mut found = None;
        for (place, one) in waiting.iter().enumerate() {
            if bool::from(one.sha256.ct_eq(typed)) {
                found = Some(place);
            }
        }
        found.map(|place| waiting.swap_remove(place).person)
    }
}

/// What a person is told when any login fails.
pub const LOGIN_REFUSED: &str = "You are not known here by this key, certificate or password.";

#[cfg(test)]
mod tests {
    use halligan_core::ids::Name;

    use super::*;

    fn at(seconds: i64) -> Reading {
        Reading { wall: Time::from_micros(seconds * 1_000_000), boot: seconds.unsigned_abs() * 1_000_000 }
    }
    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }
    fn filled(folder: &tempfile::TempDir) -> OneTimePasswords {
        let all = OneTimePasswords::open(folder.path().to_owned(), at(0).wall).unwrap();
        put(&all, "right").unwrap();
        all
    }
    fn put(all: &OneTimePasswords, password: &str) -> Result<(), NotTaken> {
        let digest = one_time_password_digest(&secret(password));
        let entitlement = "orders-host/root".parse().unwrap();
        all.put(Name::new("ana").unwrap(), entitlement, &digest, at(120).wall, at(0))
    }

    #[test]
    fn a_password_works_once_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(&folder);
        let (person, entitlement) = all.take("root+orders-host", &secret("right"), at(1)).unwrap();
        assert_eq!((person.as_str(), entitlement.to_string().as_str()), ("ana", "orders-host/root"));
        assert!(all.take("root+orders-host", &secret("right"), at(1)).is_err());
        let again = OneTimePasswords::open(folder.path().to_owned(), at(2).wall).unwrap();
        assert!(matches!(put(&again, "right"), Err(NotTaken::Burned)));
    }

    #[test]
    fn a_password_is_for_its_entitlement_and_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(&folder);
        assert!(matches!(all.take("admin+orders-host", &secret("right"), at(1)), Err(Denied::Unknown)));
        assert!(matches!(all.take("root+orders-host", &secret("right"), at(121)), Err(Denied::Unknown)));
    }

    #[test]
    fn guessing_is_stopped_for_the_right_one_too_and_starts_afresh_later() {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(&folder);
        for _ in 0..MOST_FAILURES {
            assert!(matches!(all.take("root+orders-host", &secret("wrong"), at(1)), Err(Denied::Unknown)));
        }
        assert!(matches!(all.take("root+orders-host", &secret("right"), at(2)), Err(Denied::TooMany)));
        assert!(all.take("root+orders-host", &secret("right"), at(3)).is_err());
        let digest = one_time_password_digest(&secret("later"));
        let entitlement: EntitlementName = "orders-host/root".parse().unwrap();
        all.put(Name::new("ana").unwrap(), entitlement, &digest, at(300).wall, at(119)).unwrap();
        assert!(matches!(all.take("root+orders-host", &secret("later"), at(120)), Err(Denied::TooMany)));
        assert!(all.take("root+orders-host", &secret("later"), at(122)).is_ok());
    }

    #[test]
    fn a_password_that_cannot_be_burned_is_not_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(&folder);
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(matches!(all.take("root+orders-host", &secret("right"), at(1)), Err(Denied::Disk(_))));
        std::fs::create_dir(folder.path()).unwrap();
    }
}

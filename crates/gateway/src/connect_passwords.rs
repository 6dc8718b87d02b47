//! Connect passwords: control puts the SCRAM keys of a password, bound to a person, an entitlement and a grant; clients prove
//! by SCRAM that they know it, for as many connections as the entitlement allows, for ten minutes, from one address.
//!
//! They live in memory only: after a restart control puts those again that are still good, with the address that used each
//! first, at whichever gateway. Whoever tries a login name, known or
//! not, has the same work done for it and the same answer. Wrong proofs are counted and stopped by name and address, so that
//! a stranger cannot lock a responder out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use halligan_core::ids::{EntitlementName, GrantId, PersonId};
use halligan_core::time::{Span, Time};
use halligan_session::control_plane::entitlement_of_login;
use halligan_session::scram::{self, ScramKeys};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::countdown::Reading;

/// Wrong proofs for one name from one address within [`WINDOW`] after which they are refused as too many.
pub const MOST_FAILURES: usize = 10;
/// How long a failure counts.
pub const WINDOW: Span = Span::minutes(2);
/// However long control says, a password takes no new connection after this.
pub const LONGEST_LIFE: Span = Span::minutes(10);
/// Passwords that wait for one entitlement. So many proofs are checked at each try, whatever waits.
const MOST_WAITING: usize = 64;
/// Names and addresses whose failures are counted apart; past that they are counted together.
const MOST_COUNTED: usize = 4096;

/// Passwords that take connections.
#[derive(Default)]
pub struct ConnectPasswords {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<EntitlementName, Vec<Waiting>>,
    failures: HashMap<Whence, VecDeque<u64>>,
}

type Whence = (Option<EntitlementName>, Option<IpAddr>);

struct Waiting {
    person: PersonId,
    grant: GrantId,
    keys: ScramKeys,
    expires_boot: u64,
    /// The first address that used it; no other may.
    client: Option<IpAddr>,
}

/// A password as control puts it.
#[derive(Debug)]
pub struct Put {
    /// Whose.
    pub person: PersonId,
    /// For what.
    pub entitlement: EntitlementName,
    /// On which grant.
    pub grant: GrantId,
    /// Its keys.
    pub keys: ScramKeys,
    /// When it dies.
    pub expires: Time,
    /// The address that used it first, as far as control was told.
    pub client: Option<IpAddr>,
}

/// A password was used from this address first, which control is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// For what.
    pub entitlement: EntitlementName,
    /// SHA-256 of its stored key, hex.
    pub password: String,
    /// From where.
    pub client: IpAddr,
}

/// A proof as a client gives it.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// The login name.
    pub login: &'a str,
    /// What was proved over.
    pub auth_message: &'a [u8],
    /// The proof.
    pub client_proof: &'a [u8; 32],
    /// From where.
    pub client: IpAddr,
}

/// Whose password it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub person: PersonId,
    /// For what.
    pub entitlement: EntitlementName,
    /// On which grant.
    pub grant: GrantId,
    /// What the client is answered.
    pub server_signature: [u8; 32],
    /// It was used for the first time.
    pub first: Option<Used>,
}

/// A proof was not accepted. The client is told the same in every case; this is for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no such connect password")]
    Unknown,
    #[error("too many wrong connect passwords for this name from this address")]
    TooMany,
    #[error("the right connect password, from another address than the one that used it first")]
    OtherAddress,
}

/// Why a password cannot wait here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("the connect password has expired already")]
    Expired,
    #[error("{MOST_WAITING} connect passwords wait for this entitlement already")]
    TooMany,
}

impl ConnectPasswords {
    /// Control made a password. One that is known already stays as it is, since control repeats what it is not sure of; but
    /// the address is control's to say, who hears of the first use at all gateways. Gives what control does not know of it.
    pub fn put(&self, put: Put, now: Reading) -> Result<Option<Used>, NotTaken> {
        let life = put.expires.since(now.wall).min(LONGEST_LIFE);
        if life == Span::ZERO {
            return Err(NotTaken::Expired);
        }
        let expires_boot = now.boot.saturating_add(life.as_micros().unsigned_abs());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = state.waiting.entry(put.entitlement.clone()).or_default();
        waiting.retain(|one| one.expires_boot > now.boot);
        let same = |one: &&mut Waiting| bool::from(one.keys.stored_key.ct_eq(&put.keys.stored_key));
        if let Some(known) = waiting.iter_mut().find(same) {
            let untold = known.client.filter(|_| put.client.is_none());
            known.client = put.client.or(known.client);
            return Ok(untold.map(|client| known.used(put.entitlement, client)));
        }
        if waiting.len() >= MOST_WAITING {
            waiting.remove(oldest_of_most(waiting, &put.person).ok_or(NotTaken::TooMany)?);
        }
        let Put { person, grant, keys, client, .. } = put;
        waiting.push(Waiting { person, grant, keys, expires_boot, client });
        Ok(None)
    }

    /// A client proved that it knows a password. Which one is found by trying each.
    pub fn take(&self, tried: Tried<'_>, now: Reading) -> Result<Found, Denied> {
        let entitlement = entitlement_of_login(tried.login);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_old(now.boot);
        let known = entitlement.filter(|name| state.waiting.contains_key(name));
        let matched = state.try_each(known.as_ref(), tried);
        let whence = state.whence(known.clone(), tried.client);
        // Nobody guesses 128 bits, and every proof was tried by now: what is wrong is not counted on for ever, and what is
        // right is never kept out by it.
        let failed = state.failures.get(&whence).map_or(0, VecDeque::len);
        if matched.is_none() && failed >= MOST_FAILURES {
            return Err(Denied::TooMany);
        }
        let found =
            known.zip(matched).ok_or(Denied::Unknown).and_then(|(entitlement, (place, signature))| {
                let one = state.waiting.get_mut(&entitlement).and_then(|waiting| waiting.get_mut(place));
                let one = one.ok_or(Denied::Unknown)?;
                let first = one.client.is_none();
                if *one.client.get_or_insert(tried.client) != tried.client {
                    return Err(Denied::OtherAddress);
                }
                let (person, grant) = (one.person.clone(), one.grant);
                let first = first.then(|| one.used(entitlement.clone(), tried.client));
                Ok(Found { person, entitlement, grant, server_signature: signature, first })
            });
        if found.is_err() {
            state.failures.entry(whence).or_default().push_back(now.boot);
        }
        found
    }

    /// A grant has ended, and with it its passwords.
    pub fn end(&self, grant: GrantId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in state.waiting.values_mut() {
            waiting.retain(|one| one.grant != grant);
        }
        state.waiting.retain(|_, waiting| !waiting.is_empty());
    }
}

/// The oldest password of whoever has most, which makes room: who makes one a second shuts nobody else out. None where
/// everybody has one, and this person none.
fn oldest_of_most(waiting: &[Waiting], person: &PersonId) -> Option<usize> {
    let of = |person: &PersonId| waiting.iter().filter(|one| one.person == *person).count();
    let most = waiting.iter().map(|one| of(&one.person)).max().unwrap_or(0);
    let whose =
        |one: &Waiting| if of(person) == most { one.person == *person } else { of(&one.person) == most };
    (most > 1 || of(person) > 0).then(|| waiting.iter().position(whose)).flatten()
}

impl Waiting {
    fn used(&self, entitlement: EntitlementName, client: IpAddr) -> Used {
        let password = hex::encode(Sha256::digest(self.keys.stored_key));
        Used { entitlement, password, client }
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

    fn whence(&self, known: Option<EntitlementName>, client: IpAddr) -> Whence {
        let own = (known, Some(client));
        if self.failures.len() < MOST_COUNTED || self.failures.contains_key(&own) {
            own
        } else {
            (own.0, None)
        }
    }

    /// Checks as many proofs as could wait, whether they do or not: the time tells neither whether the name is known nor
    /// which password fits.
    fn try_each(&self, known: Option<&EntitlementName>, tried: Tried<'_>) -> Option<(usize, [u8; 32])> {
        let waiting = known.and_then(|name| self.waiting.get(name)).map_or(&[][..], Vec::as_slice);
        let nobody = ScramKeys { stored_key: [0; 32], server_key: [0; 32] };
        let mut matched = None;
        for place in 0..MOST_WAITING {
            let keys = waiting.get(place).map_or(&nobody, |one| &one.keys);
            let outcome = scram::verify(keys, tried.auth_message, tried.client_proof);
            if let (Some(signature), true) = (outcome, place < waiting.len()) {
                matched = Some((place, signature));
            }
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use halligan_core::ids::Name;
    use halligan_session::Secret;
    use halligan_session::scram::{ScramSalt, client_key_of_password, client_proof, server_signature};

    use super::*;

    const LOGIN: &str = "read-only+orders-db";
    const MESSAGE: &[u8] = b"n=,r=a,r=ab,s=c,i=4096,c=biws,r=ab";

    fn at(seconds: i64) -> Reading {
        Reading { wall: Time::from_micros(seconds * 1_000_000), boot: seconds.unsigned_abs() * 1_000_000 }
    }
    fn salt() -> ScramSalt {
        ScramSalt { salt: [1; 16], iterations: 2 }
    }
    fn keys(password: &str) -> ScramKeys {
        ScramKeys::from_password(&Secret::new(password.to_owned()), &salt())
    }
    fn put(
        all: &ConnectPasswords,
        person: &str,
        grant: u128,
        password: &str,
    ) -> Result<Option<Used>, NotTaken> {
        put_used(all, person, grant, password, None)
    }
    fn put_used(
        all: &ConnectPasswords,
        person: &str,
        grant: u128,
        password: &str,
        client: Option<IpAddr>,
    ) -> Result<Option<Used>, NotTaken> {
        let put = Put {
            person: Name::new(person).unwrap(),
            entitlement: "orders-db/read-only".parse().unwrap(),
            grant: GrantId::from_bits(grant),
            keys: keys(password),
            expires: at(3600).wall,
            client,
        };
        all.put(put, at(0))
    }
    fn take(
        all: &ConnectPasswords,
        login: &str,
        password: &str,
        from: u8,
        now: i64,
    ) -> Result<Found, Denied> {
        let client_key = client_key_of_password(&Secret::new(password.to_owned()), &salt());
        let proof = client_proof(client_key.expose(), MESSAGE);
        let client = IpAddr::from([192, 0, 2, from]);
        all.take(Tried { login, auth_message: MESSAGE, client_proof: &proof, client }, at(now))
    }

    #[test]
    fn the_owner_is_found_by_the_proof_and_again_from_the_same_address() {
        let all = ConnectPasswords::default();
        put(&all, "ana", 1, "of ana").unwrap();
        put(&all, "bo", 2, "of bo").unwrap();
        for _ in 0..3 {
            let found = take(&all, LOGIN, "of bo", 1, 1).unwrap();
            assert_eq!((found.person.as_str(), found.grant), ("bo", GrantId::from_bits(2)));
            assert_eq!(found.server_signature, server_signature(&keys("of bo").server_key, MESSAGE));
        }
        assert_eq!(take(&all, LOGIN, "of bo", 2, 1), Err(Denied::OtherAddress));
        assert_eq!(take(&all, LOGIN, "of ana", 2, 1).unwrap().person.as_str(), "ana");
        assert_eq!(take(&all, "admin+orders-db", "of bo", 1, 1), Err(Denied::Unknown));
        assert_eq!(take(&all, "nobody", "of bo", 1, 1), Err(Denied::Unknown));
    }

    #[test]
    fn it_dies_after_ten_minutes_and_with_its_grant_whatever_control_says() {
        let all = ConnectPasswords::default();
        put(&all, "ana", 1, "of ana").unwrap();
        put(&all, "bo", 2, "of bo").unwrap();
        assert!(take(&all, LOGIN, "of ana", 1, 599).is_ok());
        // Control sends it again: it neither lives longer nor forgets its address.
        put(&all, "ana", 1, "of ana").unwrap();
        assert_eq!(take(&all, LOGIN, "of ana", 9, 599), Err(Denied::OtherAddress));
        all.end(GrantId::from_bits(2));
        assert_eq!(take(&all, LOGIN, "of bo", 1, 599), Err(Denied::Unknown));
        assert_eq!(take(&all, LOGIN, "of ana", 1, 600), Err(Denied::Unknown));
    }

    #[test]
    fn the_first_address_holds_at_every_gateway_and_after_a_restart() {
        let all = ConnectPasswords::default();
        put(&all, "ana", 1, "of ana").unwrap();
        let first = take(&all, LOGIN, "of ana", 1, 1).unwrap().first.unwrap();
        assert_eq!(first.client, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(take(&all, LOGIN, "of ana", 1, 1).unwrap().first, None);
        // Control did not hear of it: it is told again.
        assert_eq!(put(&all, "ana", 1, "of ana").unwrap(), Some(first.clone()));
        assert_eq!(put_used(&all, "ana", 1, "of ana", Some(first.client)).unwrap(), None);
        // Another gateway, or this one after a restart.
        let other = ConnectPasswords::default();
        put_used(&other, "ana", 1, "of ana", Some(first.client)).unwrap();
        assert_eq!(take(&other, LOGIN, "of ana", 2, 1), Err(Denied::OtherAddress));
        assert_eq!(take(&other, LOGIN, "of ana", 1, 1).unwrap().first, None);
        // Two gateways at once: control's word holds.
        let late = ConnectPasswords::default();
        put(&late, "ana", 1, "of ana").unwrap();
        take(&late, LOGIN, "of ana", 9, 1).unwrap();
        put_used(&late, "ana", 1, "of ana", Some(first.client)).unwrap();
        assert_eq!(take(&late, LOGIN, "of ana", 9, 1), Err(Denied::OtherAddress));
        assert!(take(&late, LOGIN, "of ana", 1, 1).is_ok());
    }

    #[test]
    fn guessing_is_told_apart_and_locks_nobody_out() {
        let all = ConnectPasswords::default();
        put(&all, "ana", 1, "of ana").unwrap();
        for _ in 0..MOST_FAILURES {
            assert_eq!(take(&all, LOGIN, "wrong", 66, 1), Err(Denied::Unknown));
        }
        assert_eq!(take(&all, LOGIN, "wrong", 66, 2), Err(Denied::TooMany));
        assert!(take(&all, LOGIN, "of ana", 1, 2).is_ok());
        assert_eq!(take(&all, LOGIN, "of ana", 66, 2), Err(Denied::OtherAddress));
        put(&all, "bo", 2, "of bo").unwrap();
        assert!(take(&all, LOGIN, "of bo", 66, 2).is_ok(), "who knows it is let in beside who guesses");
        assert_eq!(take(&all, LOGIN, "wrong", 66, 122), Err(Denied::Unknown), "it starts afresh later");
    }

    #[test]
    fn only_so_many_wait_and_whoever_makes_most_makes_room() {
        let all = ConnectPasswords::default();
        put(&all, "bo", 2, "of bo").unwrap();
        for number in 0..10 * MOST_WAITING {
            put(&all, "ana", 1, &number.to_string()).unwrap();
        }
        assert!(take(&all, LOGIN, "of bo", 1, 1).is_ok());
        let (oldest, newest) = (9 * MOST_WAITING, 10 * MOST_WAITING - 1);
        assert!(take(&all, LOGIN, &newest.to_string(), 1, 1).is_ok());
        assert!(
            take(&all, LOGIN, &(oldest + 1).to_string(), 1, 1).is_ok(),
            "all others are good for ten minutes"
        );
        assert_eq!(take(&all, LOGIN, &oldest.to_string(), 1, 1), Err(Denied::Unknown), "newer ones came");
        for person in 2..MOST_WAITING {
            put(&all, &format!("p{person}"), 3, &format!("of {person}")).unwrap();
        }
        assert!(take(&all, LOGIN, "of bo", 1, 1).is_ok() && take(&all, LOGIN, "of 9", 1, 1).is_ok());
        assert_eq!(put(&all, "carla", 4, "of carla"), Err(NotTaken::TooMany), "everybody has one");
        put(&all, "bo", 2, "of bo again").unwrap();
        assert!(take(&all, LOGIN, "of bo again", 1, 1).is_ok());
        assert_eq!(take(&all, LOGIN, "of bo", 1, 1), Err(Denied::Unknown));
    }
}

//! Cancel requests: they come on a connection of their own, without a login, and get no answer. Clients have keys of
//! ours; the target's stay here.
//!
//! A key's number tells which gateway gave it out. A request with another gateway's number has come to the wrong one
//! (a balancer between): [`Cancels::take`] says so, and passing it on to that gateway is done there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::codec::Version;
use crate::relay::Conversation;

/// The upper bits of a key's process number are the gateway's.
const GATEWAY_BITS: u32 = 10;
const OWN_BITS: u32 = 31 - GATEWAY_BITS;
/// Bytes of the secret part. A number of 21 bits is drawn at random beside the four.
const BYTES_3_0: usize = 4;
const BYTES_3_2: usize = 32;
/// Requests from one address in [`WINDOW`]; more are not looked at.
const MOST: u32 = 100;
const MOST_WRONG: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
const MOST_ADDRESSES: usize = 4096;

/// What a client is told to cancel with.
#[derive(Debug)]
pub(crate) struct CancelKey {
    pub(crate) process: u32,
    pub(crate) secret: Zeroizing<Vec<u8>>,
}

/// All keys that are given out.
#[derive(Debug)]
pub(crate) struct Cancels {
    gateway: u32,
    keys: Mutex<HashMap<u32, Entry>>,
    heard: Mutex<HashMap<IpAddr, Heard>>,
}

#[derive(Debug)]
struct Entry {
    secret: Zeroizing<Vec<u8>>,
    conversation: Arc<Conversation>,
}

#[derive(Debug)]
struct Heard {
    since: Instant,
    all: u32,
    wrong: u32,
}

/// A key that is given out; taken back when dropped.
#[derive(Debug)]
pub(crate) struct Given {
    cancels: Arc<Cancels>,
    process: u32,
}

/// Whose a request is.
pub(crate) enum Asked {
    Of(Arc<Conversation>),
    /// Another gateway gave the key out: the one with this number.
    Elsewhere(u32),
    Nobody,
    TooMany,
}

impl Cancels {
    /// `gateway` is this gateway's name, whose digest gives its number.
    pub(crate) fn new(gateway: &str) -> Self {
        let digest = Sha256::digest(gateway.as_bytes());
        let number = digest.first_chunk().copied().map_or(0, u32::from_be_bytes) >> (32 - GATEWAY_BITS);
        Self { gateway: number, keys: Mutex::default(), heard: Mutex::default() }
    }

    /// Draws a key for a conversation.
    pub(crate) fn give(
        self: &Arc<Self>,
        version: Version,
        conversation: &Arc<Conversation>,
    ) -> Result<(CancelKey, Given), getrandom::Error> {
        let bytes = if version >= Version::V3_2 { BYTES_3_2 } else { BYTES_3_0 };
        let mut secret = Zeroizing::new(vec![0; bytes]);
        getrandom::fill(&mut secret)?;
        let mut keys = lock(&self.keys);
        let process = loop {
            let mut random = [0; 4];
            getrandom::fill(&mut random)?;
            let process = (self.gateway << OWN_BITS) | (u32::from_be_bytes(random) >> (32 - OWN_BITS));
            if process != 0 && !keys.contains_key(&process) {
                break process;
            }
        };
        let entry = Entry { secret: secret.clone(), conversation: Arc::clone(conversation) };
        keys.insert(process, entry);
        let given = Given { cancels: Arc::clone(self), process };
        Ok((CancelKey { process, secret }, given))
    }

    /// Finds whose key it is. Which process numbers are in use shows in no difference of time beside that of a map; the
    /// secret is compared in constant time.
    pub(crate) fn take(&self, process: u32, secret: &[u8], from: SocketAddr, now: Instant) -> Asked {
        let mut heard = lock(&self.heard);
        if heard.len() >= MOST_ADDRESSES {
            heard.retain(|_, one| now.duration_since(one.since) < WINDOW);
        }
        if heard.len() >= MOST_ADDRESSES && !heard.contains_key(&from.ip()) {
            return Asked::TooMany;
        }
        let one = heard.entry(from.ip()).or_insert(Heard { since: now, all: 0, wrong: 0 });
        if now.duration_since(one.since) >= WINDOW {
            *one = Heard { since: now, all: 0, wrong: 0 };
        }
        one.all += 1;
        if one.all > MOST || one.wrong >= MOST_WRONG {
            return Asked::TooMany;
        }
        let gateway = process >> OWN_BITS;
        if gateway != self.gateway {
            one.wrong += 1;
            return Asked::Elsewhere(gateway);
        }
        let keys = lock(&self.keys);
        match keys.get(&process) {
            Some(entry) if bool::from(entry.secret.as_slice().ct_eq(secret)) => {
                Asked::Of(Arc::clone(&entry.conversation))
            }
            _ => {
                one.wrong += 1;
                Asked::Nobody
            }
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        lock(&self.cancels.keys).remove(&self.process);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

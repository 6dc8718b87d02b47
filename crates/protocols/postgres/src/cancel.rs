//! Cancel requests: they come on a connection of their own, without a login, and get no answer. Clients have keys of
//! ours; the target's stay here.
//!
//! A key's number tells which gateway gave it out. A request with another gateway's number has come to the wrong one
//! (a balancer between): it is given to the control plane, which brings it to the desk of that gateway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use halligan_core::ids::Name;
use halligan_session::anteroom::network;
use halligan_session::cancel::{GATEWAY_BITS, gateway_number};
use halligan_session::{CancelDesk, CancelRequest};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::codec::Version;
use crate::listener::Shared;
use crate::relay::Conversation;

/// The upper bits of a key's process number are the gateway's.
const OWN_BITS: u32 = 31 - GATEWAY_BITS;
/// Bytes of the secret part. A number of 21 bits is drawn at random beside the four.
const BYTES_3_0: usize = 4;
const BYTES_3_2: usize = 32;
/// Requests from one network in [`WINDOW`]; more are not looked at.
const MOST: u32 = 100;
const MOST_WRONG: u32 = 10;
/// Of these, given to other gateways: all strangers together share what control takes of them.
const MOST_PASSED_ON: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
const MOST_NETWORKS: usize = 4096;

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

#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    all: u32,
    wrong: u32,
    passed_on: u32,
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
    /// Another gateway gave the key out, or nobody.
    Elsewhere,
    Nobody,
    TooMany,
}

impl Heard {
    fn elsewhere(&mut self) -> Asked {
        self.passed_on += 1;
        if self.passed_on > MOST_PASSED_ON { Asked::TooMany } else { Asked::Elsewhere }
    }
}

impl Cancels {
    /// `gateway` is this gateway's name, which gives its number.
    pub(crate) fn new(gateway: &Name) -> Self {
        Self { gateway: gateway_number(gateway), keys: Mutex::default(), heard: Mutex::default() }
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
    fn take(&self, request: &CancelRequest, now: Instant) -> Asked {
        let CancelRequest { process, key, client: from, .. } = request;
        let network = network(from.ip());
        let mut heard = lock(&self.heard);
        if heard.len() >= MOST_NETWORKS {
            heard.retain(|_, one| now.duration_since(one.since) < WINDOW);
        }
        if heard.len() >= MOST_NETWORKS && !heard.contains_key(&network) {
            return Asked::TooMany;
        }
        let fresh = Heard { since: now, all: 0, wrong: 0, passed_on: 0 };
        let one = heard.entry(network).or_insert(fresh);
        if now.duration_since(one.since) >= WINDOW {
            *one = fresh;
        }
        one.all += 1;
        if one.all > MOST || one.wrong >= MOST_WRONG {
            return Asked::TooMany;
        }
        if request.gateway() != self.gateway {
            return one.elsewhere();
        }
        let keys = lock(&self.keys);
        match keys.get(process) {
            Some(entry) if bool::from(entry.secret.as_slice().ct_eq(key.expose())) => {
                Asked::Of(Arc::clone(&entry.conversation))
            }
            found => {
                one.wrong += 1;
                // Two gateways may have one number.
                if found.is_none() { one.elsewhere() } else { Asked::Nobody }
            }
        }
    }

    /// Does what is asked where the key is one of ours; else gives the request back, to be passed on.
    pub(crate) fn carry_out(&self, request: &CancelRequest) -> Carried {
        let from = request.client;
        match self.take(request, Instant::now()) {
            Asked::Of(conversation) => {
                let through = request.through.clone();
                tokio::spawn(async move { conversation.cancel(from, through.as_ref()).await });
            }
            Asked::Elsewhere => return Carried::NotOurs,
            Asked::Nobody => tracing::info!(%from, "a cancel request with a key that nobody has"),
            Asked::TooMany => tracing::warn!(%from, "too many cancel requests"),
        }
        Carried::Done
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Done,
    NotOurs,
}

/// For requests that came to other gateways.
impl CancelDesk for Cancels {
    fn cancel(&self, request: &CancelRequest) {
        if self.carry_out(request) == Carried::NotOurs {
            tracing::info!(client = %request.client, "a cancel request with a key that nobody has");
        }
    }
}

impl Shared {
    /// A client asked for it here.
    pub(crate) fn cancel(&self, request: CancelRequest) {
        if self.cancels.carry_out(&request) == Carried::NotOurs {
            self.control.pass_cancel(request);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_does_not_use_up_what_goes_to_other_gateways() {
        let cancels = Cancels::new(&"gw-1".parse().unwrap());
        let elsewhere = (cancels.gateway + 1) << OWN_BITS;
        let now = Instant::now();
        let ask = |from: &str, now| {
            let key = halligan_session::Secret::new(vec![0; 4]);
            let client = format!("{from}:5000").parse().unwrap();
            let request = CancelRequest { process: elsewhere, key, client, through: None };
            matches!(cancels.take(&request, now), Asked::Elsewhere)
        };
        let passed = (0..50).filter(|host| ask(&format!("[2001:db8::{host}]"), now)).count();
        assert_eq!(passed, MOST_PASSED_ON as usize);
        assert!(ask("[2001:db8:0:1::1]", now) && ask("192.0.2.1", now));
        assert!(ask("[2001:db8::1]", now + WINDOW));
    }
}

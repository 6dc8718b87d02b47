//! Cancel requests for a database statement that came to another gateway than the session's: brought there. Which gateway
//! that is stands in the key's number; what it does with it is nobody else's to know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use halligan_core::ids::Name;
use halligan_core::time::{Span, Time};
use halligan_link::Blob;
use halligan_link::messages::{PeerInfo, Request, Role};
use halligan_session::cancel::{CancelRequest, KEY_MOST_BYTES, gateway_number};
use halligan_session::secret::Secret;

use crate::control::Control;
use crate::timers::chain;

/// Requests of one gateway that are passed on in [`WINDOW`]; more are dropped.
const MOST: u32 = 400;
const WINDOW: Span = Span::seconds(10);

/// How many were passed on of late.
#[derive(Default)]
pub(crate) struct Cancels(Mutex<HashMap<Name, (Time, u32)>>);

impl Cancels {
    fn may_pass(&self, gateway: &Name, now: Time) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = all.entry(gateway.clone()).or_insert((now, 0));
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= MOST
    }
}

impl Control {
    /// Brings it to every other gateway with that number; mostly that is one.
    pub(crate) fn pass_cancel(&self, from: &PeerInfo, process: u32, key: Blob, client: SocketAddr) {
        if key.0.len() > KEY_MOST_BYTES || !self.0.nodes.cancels.may_pass(&from.name, self.now()) {
            tracing::warn!(gateway = %from.name, "a cancel request was dropped");
            return;
        }
        let asked = CancelRequest { process, key: Secret::new(key.0), client, through: None };
        let is = |peer: &halligan_link::Peer| {
            let info = peer.info();
            info.role == Role::Gateway
                && info.name != from.name
                && gateway_number(&info.name) == asked.gateway()
        };
        for peer in self.0.nodes.all().into_iter().filter(is) {
            let request = Request::CancelStatement {
                process,
                key: Blob(asked.key.expose().clone()),
                client,
                through: from.name.clone(),
            };
            self.0.tasks.spawn(async move {
                if let Err(error) = peer.call(request).await {
                    tracing::warn!(gateway = %peer.info().name, error = %chain(&error), "failed to pass a cancel request on");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_can_pass_on_only_so_many() {
        let (cancels, name, other) =
            (Cancels::default(), Name::new("gw-1").unwrap(), Name::new("gw-2").unwrap());
        let now = Time::from_micros(1_772_445_600_000_000);
        let passed = (0..1000).filter(|_| cancels.may_pass(&name, now)).count();
        assert_eq!(passed, MOST as usize);
        assert!(cancels.may_pass(&other, now));
        assert!(cancels.may_pass(&name, now.plus(WINDOW)));
    }
}

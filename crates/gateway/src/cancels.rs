//! Cancel requests that came to another gateway than the session's: passed on through control, to the desk of the listener
//! that gave the key out. Nobody is answered; what is too much is dropped.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use halligan_link::{Blob, Request};
use halligan_session::cancel::{KEY_MOST_BYTES, gateway_number};
use halligan_session::roster::NodeRole;
use halligan_session::{CancelDesk, CancelRequest};

use crate::engine::Engine;
use crate::live::with_sources;

/// Requests that are passed on in [`WINDOW_MICROS`]: an attacker with other gateways' numbers must not flood control.
const MOST: u32 = 200;
const WINDOW_MICROS: u64 = 10_000_000;

/// Where requests end, and how many were passed on of late.
#[derive(Default)]
pub struct Cancels {
    desks: Mutex<Vec<Weak<dyn CancelDesk>>>,
    /// Begin of the window by boot time, and how many in it.
    passed: Mutex<(u64, u32)>,
}

impl Cancels {
    /// A listener takes requests from now on.
    pub fn add(&self, desk: Weak<dyn CancelDesk>) {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.retain(|old| old.strong_count() > 0);
        desks.push(desk);
    }

    fn may_pass(&self, boot: u64) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if boot.saturating_sub(passed.0) >= WINDOW_MICROS {
            *passed = (boot, 0);
        }
        passed.1 = passed.1.saturating_add(1);
        passed.1 <= MOST
    }
}

impl Engine {
    /// Another gateway gave the key out.
    pub fn pass_cancel(&self, request: CancelRequest) {
        let number = request.gateway();
        let (own, roster) = (&self.options.name, self.roster());
        let somebodys = roster.is_some_and(|roster| {
            let nodes = &roster.roster().nodes;
            let is = |name| gateway_number(name) == number && name != own;
            nodes.iter().any(|node| node.role == NodeRole::Gateway && is(&node.name))
        });
        if !somebodys || request.key.expose().len() > KEY_MOST_BYTES {
            tracing::info!(client = %request.client, "a cancel request with a key that no gateway has");
            return;
        }
        if !self.cancels.may_pass(self.clock.boot()) {
            tracing::warn!(client = %request.client, "too many cancel requests for other gateways");
            return;
        }
        let Some(control) = self.links.control() else {
            tracing::warn!(client = %request.client, "a cancel request for another gateway is lost: control is away");
            return;
        };
        let key = Blob(request.key.expose().clone());
        let request = Request::PassCancel { process: request.process, key, client: request.client };
        self.runtime.spawn(async move {
            if let Err(error) = control.call(request).await {
                tracing::warn!("failed to pass a cancel request on: {}", with_sources(&error));
            }
        });
    }

    /// Brought by control. The answer does not wait for what becomes of it.
    pub fn take_cancel(self: &Arc<Self>, request: CancelRequest) {
        if request.key.expose().len() > KEY_MOST_BYTES {
            return;
        }
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            let desks = engine.cancels.desks.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for desk in desks.iter().filter_map(Weak::upgrade) {
                desk.cancel(&request);
            }
        });
    }
}

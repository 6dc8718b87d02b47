//! Whom this gateway is linked with: control, and the connectors of its sites. Links come and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use halligan_core::ids::Name;
use halligan_link::Peer;
use tokio::sync::watch;

/// The links.
pub struct Links {
    control: watch::Sender<Option<Peer>>,
    connectors: Mutex<HashMap<Name, Vec<Peer>>>,
    /// Boot time when control was last heard.
    control_seen: AtomicU64,
}

impl Links {
    /// Nobody yet. `control_seen` is the boot time when control was last heard, before a restart.
    pub fn new(control_seen: u64) -> Self {
        Self {
            control: watch::channel(None).0,
            connectors: Mutex::default(),
            control_seen: AtomicU64::new(control_seen),
        }
    }

    /// Control is linked.
    pub fn set_control(&self, peer: Peer) {
        self.control.send_replace(Some(peer));
    }
    /// Control, if it is linked now.
    pub fn control(&self) -> Option<Peer> {
        self.control.borrow().clone().filter(|peer| !peer.is_closed())
    }
    /// Tells when another link to control is there.
    pub fn watch_control(&self) -> watch::Receiver<Option<Peer>> {
        self.control.subscribe()
    }

    /// Control was heard.
    pub fn saw_control(&self, boot: u64) {
        self.control_seen.fetch_max(boot, Ordering::SeqCst);
    }
    /// Boot time when control was last heard.
    pub fn control_seen(&self) -> u64 {
        self.control_seen.load(Ordering::SeqCst)
    }

    /// A connector is linked, for its own site only.
    pub fn add_connector(&self, peer: Peer) {
        let mut all = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        let of_site = all.entry(peer.info().site.clone()).or_default();
        of_site.retain(|old| !old.is_closed());
        of_site.push(peer);
    }

    /// A connector of this site, the one linked last.
    pub fn connector(&self, site: &Name) -> Option<Peer> {
        let all = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(site)?.iter().rev().find(|peer| !peer.is_closed()).cloned()
    }
}

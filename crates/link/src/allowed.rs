//! Which keys may speak on links, and as whom. Taking a key away ends its live links.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use halligan_core::ids::Name;
use halligan_session::roster::Roster;
use tokio::sync::watch;

use crate::messages::PeerInfo;
use crate::node_key::KeyPrint;

/// What a listener asks about a key that was proved to it.
pub trait Allowed: Send + Sync + 'static {
    /// Who holds this key; `None` for one that may not speak.
    fn find(&self, key: &KeyPrint) -> Option<PeerInfo>;
    /// Ticks on each change, so that live links are looked at again.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The keys of a roster, in memory.
#[derive(Debug)]
pub struct AllowedNodes {
    nodes: RwLock<HashMap<KeyPrint, PeerInfo>>,
    changed: watch::Sender<u64>,
}

impl Default for AllowedNodes {
    fn default() -> Self {
        Self::new()
    }
}

impl AllowedNodes {
    /// Nobody.
    pub fn new() -> Self {
        Self { nodes: RwLock::default(), changed: watch::Sender::new(0) }
    }

    /// Takes over the nodes of a roster whose signature was checked. A key that two different nodes claim is nobody's.
    pub fn set_roster(&self, roster: &Roster) {
        let mut nodes: HashMap<KeyPrint, Option<PeerInfo>> = HashMap::new();
        for node in &roster.nodes {
            let Ok(key) = node.key_sha256.parse::<KeyPrint>() else {
                tracing::warn!(node = %node.name, "its key in the roster is no print of a key; the node is not let in");
                continue;
            };
            let info = PeerInfo::from(node);
            nodes
                .entry(key)
                .and_modify(|held| {
                    if held.as_ref() != Some(&info) {
                        *held = None;
                    }
                })
                .or_insert(Some(info));
        }
        self.change(|held| *held = nodes.into_iter().filter_map(|(key, info)| Some((key, info?))).collect());
    }

    /// Lets one key in. A node may hold two while it rotates.
    pub fn allow(&self, key: KeyPrint, info: PeerInfo) {
        self.change(|nodes| {
            nodes.insert(key, info);
        });
    }

    /// Takes one key away.
    pub fn forget(&self, key: &KeyPrint) {
        self.change(|nodes| {
            nodes.remove(key);
        });
    }

    /// Takes all keys of a node away.
    pub fn expel(&self, name: &Name) {
        self.change(|nodes| nodes.retain(|_, info| info.name != *name));
    }

    fn change(&self, how: impl FnOnce(&mut HashMap<KeyPrint, PeerInfo>)) {
        how(&mut self.nodes.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Allowed for AllowedNodes {
    fn find(&self, key: &KeyPrint) -> Option<PeerInfo> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use halligan_session::roster::{NodeRole, RosterNode};

    use super::*;

    #[test]
    fn a_key_that_two_nodes_claim_is_nobodys() {
        let node = |name: &str, key: &str| RosterNode {
            name: Name::new(name).unwrap(),
            role: NodeRole::Gateway,
            site: Name::main(),
            key_sha256: key.repeat(32),
            address: None,
        };
        let nodes = vec![node("gw-1", "aa"), node("gw-2", "aa"), node("gw-3", "bb"), node("gw-4", "zz")];
        let allowed = AllowedNodes::new();
        allowed.set_roster(&Roster { version: 1, nodes, ..Roster::default() });
        assert_eq!(allowed.find(&"aa".repeat(32).parse().unwrap()), None);
        assert_eq!(allowed.find(&"bb".repeat(32).parse().unwrap()).unwrap().name.as_str(), "gw-3");
    }
}

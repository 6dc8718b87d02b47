//! Who speaks.

use std::fmt;

use halligan_core::ids::Name;
use halligan_session::roster::RosterNode;
use serde::{Deserialize, Serialize};

use super::{Role, role_word};

/// Who is at the other end, from the roster entry of the key it proved to hold; never from what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// Its site.
    pub site: Name,
}

impl From<&RosterNode> for PeerInfo {
    fn from(node: &RosterNode) -> Self {
        Self { name: node.name.clone(), role: node.role, site: node.site.clone() }
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", role_word(self.role), self.name)
    }
}

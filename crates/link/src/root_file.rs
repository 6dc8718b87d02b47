//! What a node trusts, given to it when it joined: control's keys. All other trust is derived from this file, which
//! nothing that arrives over a link can change.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use halligan_core::ids::Name;
use serde::{Deserialize, Serialize};

use crate::error::LinkError;
use crate::files;
use crate::messages::{PeerInfo, Role};
use crate::node_key::KeyPrint;
use crate::tls::Destination;

/// Name of the root file in a node's folder.
pub const ROOT_FILE: &str = "root.json";

/// The root of a node's trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// Format, 1.
    pub version: u32,
    /// This node's name.
    pub name: Name,
    /// This node's role.
    pub role: Role,
    /// This node's site.
    pub site: Name,
    /// Who control is.
    pub control: PeerInfo,
    /// Where control listens for links, tried in turn.
    pub control_addresses: Vec<String>,
    /// Prints of control's node keys.
    pub control_node_keys: Vec<KeyPrint>,
    /// Ed25519 public key with which control signs leases and rosters, hex.
    pub control_lease_key: String,
    /// Verifier key of control's ledger (`name+hash+base64`, signed-note form).
    pub control_ledger_key: String,
}

impl RootFile {
    /// Reads the file of this folder; `None` when the node has not joined yet.
    pub fn load(folder: &Path) -> Result<Option<Self>, LinkError> {
        let path = folder.join(ROOT_FILE);
        let Some(text) = files::read_private(&path)? else { return Ok(None) };
        let root: Self = serde_json::from_str(&text)
            .map_err(|error| LinkError::io(format!("read {}", path.display()))(error.into()))?;
        root.check()
            .map_err(|say| LinkError::io(format!("use {}", path.display()))(std::io::Error::other(say)))?;
        Ok(Some(root))
    }

    /// Writes it (mode 0600), whole or not at all.
    pub fn save(&self, folder: &Path) -> Result<(), LinkError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| LinkError::io("write the root file")(error.into()))?;
        text.push('\n');
        files::write_private(&folder.join(ROOT_FILE), &text, true)
    }

    /// Whether it can be trusted as it stands.
    pub fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("it has format {}; this node knows format 1", self.version));
        }
        if self.control.role != Role::Control || self.control_node_keys.is_empty() {
            return Err("it names no control that could be recognised".to_owned());
        }
        self.lease_key().map(|_| ())
    }

    /// The key that leases and rosters must be signed with.
    pub fn lease_key(&self) -> Result<VerifyingKey, String> {
        let mut raw = [0u8; 32];
        hex::decode_to_slice(&self.control_lease_key, &mut raw)
            .ok()
            .and_then(|()| VerifyingKey::from_bytes(&raw).ok())
            .filter(|key| !key.is_weak())
            .ok_or_else(|| "control's lease key in it is no Ed25519 public key".to_owned())
    }

    /// Who this node is to others.
    pub fn info(&self) -> PeerInfo {
        PeerInfo { name: self.name.clone(), role: self.role, site: self.site.clone() }
    }

    /// Where and how to reach control.
    pub fn control(&self) -> Destination {
        Destination {
            info: self.control.clone(),
            addresses: self.control_addresses.clone(),
            keys: self.control_node_keys.clone(),
        }
    }
}

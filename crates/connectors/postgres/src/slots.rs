//! Which standing role of a server a grant holds. One at a time: a role is given to the next grant only when the last
//! certificate of the one before is over, no backend of it is left, and it is again what the set-up made it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use halligan_connector::{ConnectorError, Site, read_json, write_json};
use halligan_core::ids::GrantId;
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::connector::Inner;
use crate::server::Address;
use crate::state::{folder_of_servers, key_of_server};

/// A standing role, as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub login: String,
    /// Its group; none if it is a member of none that the set-up lists.
    pub group: Option<String>,
    pub can_login: bool,
    pub backends: i64,
    /// What it is not as the set-up made it.
    pub dirt: Vec<String>,
}

/// Who holds a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub grant: GrantId,
    /// When the last certificate of it is over.
    pub until: Time,
}

/// The standing roles of one server, as they were seen last, and who holds which. A file beside the server's; systems of the
/// catalog that are databases of one server have one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slots {
    /// Format, 1.
    pub version: u32,
    pub at: Address,
    pub known: Vec<Standing>,
    pub held: BTreeMap<String, Holder>,
}

impl Slots {
    /// Of a server; blocks.
    pub fn read(site: &Site, at: &Address) -> Result<Self, ConnectorError> {
        let found: Option<Self> = read_json(&file(site, at))?;
        let (known, held) = found.map(|found| (found.known, found.held)).unwrap_or_default();
        Ok(Self { version: 1, at: at.clone(), known, held })
    }

    /// Durable when this returns; blocks.
    pub fn save(&self, site: &Site) -> Result<(), ConnectorError> {
        halligan_connector::private_folder(&folder_of_servers(site))?;
        write_json(&file(site, &self.at), self)
    }

    /// The role that a grant holds.
    pub fn of(&self, grant: GrantId) -> Option<&str> {
        self.held.iter().find(|(_, holder)| holder.grant == grant).map(|(login, _)| login.as_str())
    }

    /// One for a grant of this group that nobody holds, in order.
    pub fn free(&self, group: &str) -> Option<&Standing> {
        self.free_ones(group).find(|role| role.backends == 0 && role.dirt.is_empty())
    }

    /// One that nobody holds, and that must be put right first.
    pub fn free_but_dirty(&self, group: &str) -> Option<&Standing> {
        self.free_ones(group).find(|role| !role.dirt.is_empty() || role.backends > 0)
    }

    fn free_ones(&self, group: &str) -> impl Iterator<Item = &Standing> {
        self.known.iter().filter(move |role| {
            role.group.as_deref() == Some(group) && role.can_login && !self.held.contains_key(&role.login)
        })
    }
}

fn file(site: &Site, at: &Address) -> PathBuf {
    folder_of_servers(site).join(format!("standing-{}.json", key_of_server(at)))
}

/// Every server that has standing roles; blocks.
pub fn with_standing_roles(inner: &Inner) -> Result<Vec<Address>, ConnectorError> {
    let folder = folder_of_servers(&inner.site);
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(found) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("standing-") && name.ends_with(".json")) {
            found.extend(read_json::<Slots>(&entry.path())?.map(|slots| slots.at));
        }
    }
    Ok(found)
}

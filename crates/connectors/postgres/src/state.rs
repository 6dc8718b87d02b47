//! What the connector remembers of the users it makes: a file beside each grant's, and one for each server where it ever
//! made any. No keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use halligan_connector::{ConnectorError, GrantStore, Site, private_folder, read_json, write_json};
use halligan_core::ids::{GrantId, Name};
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::server::Address;

/// The users of one grant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Users {
    /// Format, 1.
    pub version: u32,
    /// By name of the role.
    pub users: BTreeMap<String, UserState>,
}

/// One user, that is about to be made or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    /// For sessions of this gateway.
    pub gateway: Name,
    /// Until when it may log in.
    pub valid_until: Time,
    /// What stood at the server before it was made.
    #[serde(default)]
    pub before: Option<Standing>,
}

/// What stands at a server that no session role owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Replication slots.
    pub slots: Vec<String>,
    /// Prepared transactions.
    pub prepared: Vec<String>,
    /// Default privileges of the group.
    pub defaults: Vec<String>,
}

fn file(grants: &GrantStore, grant: GrantId) -> PathBuf {
    grants.folder_of(grant).join("postgres.json")
}

/// The users of a grant.
pub fn users(grants: &GrantStore, grant: GrantId) -> Result<Users, ConnectorError> {
    Ok(read_json(&file(grants, grant))?.unwrap_or_default())
}

/// Replaces them; durable when this returns.
pub fn save_users(grants: &GrantStore, grant: GrantId, users: &Users) -> Result<(), ConnectorError> {
    write_json(&file(grants, grant), &Users { version: 1, users: users.users.clone() })
}

fn server_folder(site: &Site) -> PathBuf {
    site.config().folder.join("postgres")
}

/// Notes that users may be at this server; durable when this returns.
pub fn note_server(site: &Site, at: &Address) -> Result<(), ConnectorError> {
    let folder = server_folder(site);
    private_folder(&folder)?;
    let key = hex::encode(Sha256::digest(format!("{}\n{}", at.system, at.address)));
    let path = folder.join(format!("server-{}.json", key.get(..24).unwrap_or(&key)));
    if read_json::<Address>(&path)?.as_ref() == Some(at) {
        return Ok(());
    }
    write_json(&path, at)
}

/// Every server where users may be.
pub fn servers(site: &Site) -> Result<Vec<Address>, ConnectorError> {
    let folder = server_folder(site);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ConnectorError::state(format!("list {}", folder.display()))(error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("server-") && name.ends_with(".json")) {
            found.extend(read_json(&entry.path())?);
        }
    }
    Ok(found)
}

//! What the connector remembers of the users it makes: a file beside each grant's, and one for each server where it ever
//! made any. No keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

use halligan_connector::{ConnectorError, GrantStore, Site, private_folder, read_json, write_json};
use halligan_core::ids::{GrantId, Name};
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::server::Address;

/// The users of one grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Format, 1.
    pub version: u32,
    /// By name of the role.
    pub users: BTreeMap<String, UserState>,
    /// What stood in each database before the first session.
    #[serde(default)]
    pub before_in: BTreeMap<String, Vec<String>>,
    /// Logins in the grant's time that no session explains.
    #[serde(default)]
    pub logins: Vec<UnexplainedLogin>,
}

/// Somebody logged in, and no session of ours explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnexplainedLogin {
    pub user: String,
    pub from: String,
    pub why: String,
    pub times: u64,
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
    /// For a standing role: the certificates that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
}

/// The certificates of one grant for a standing role. Each is a leaf; here is what a proof needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// How many there were.
    pub count: u64,
    /// Serial of the last.
    pub last: u64,
    /// When the last of them is over.
    pub until: Time,
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
    /// Subscriptions to other servers.
    #[serde(default)]
    pub subscriptions: Vec<String>,
    /// Who is a member of roles that the group may give; none where that was never asked.
    #[serde(default)]
    pub members: Option<Vec<String>>,
}

fn file(grants: &GrantStore, grant: GrantId) -> PathBuf {
    grants.folder_of(grant).join("postgres.json")
}

/// The users of a grant.
pub fn users(grants: &GrantStore, grant: GrantId) -> Result<Users, ConnectorError> {
    Ok(read_json(&file(grants, grant))?.unwrap_or_default())
}

/// Changes them, one after the other; durable when this returns. Nothing is written where nothing was changed.
pub fn change_users<T>(
    site: &Site,
    grant: GrantId,
    change: impl FnOnce(&mut Users) -> Result<T, ConnectorError>,
) -> Result<T, ConnectorError> {
    let lock = site.lock(grant);
    let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let before = users(site.grants(), grant)?;
    let mut after = Users { version: 1, ..before.clone() };
    let done = change(&mut after)?;
    if after != before {
        write_json(&file(site.grants(), grant), &after)?;
    }
    Ok(done)
}

/// Where everything of servers stands.
pub fn folder_of_servers(site: &Site) -> PathBuf {
    site.config().folder.join("postgres")
}

/// A system's name among files.
pub fn key_of(at: &Address) -> String {
    digest_of(&format!("{}\n{}", at.system, at.address))
}

/// A server's name among files, whichever systems of the catalog are there.
pub fn key_of_server(at: &Address) -> String {
    digest_of(&at.address.to_ascii_lowercase())
}

fn digest_of(text: &str) -> String {
    let key = hex::encode(Sha256::digest(text));
    key.get(..24).unwrap_or(&key).to_owned()
}

/// Notes that users may be at this server; durable when this returns.
pub fn note_server(site: &Site, at: &Address) -> Result<(), ConnectorError> {
    let folder = folder_of_servers(site);
    private_folder(&folder)?;
    let path = folder.join(format!("server-{}.json", key_of(at)));
    if read_json::<Address>(&path)?.as_ref() == Some(at) {
        return Ok(());
    }
    write_json(&path, at)
}

/// Every server where users may be.
pub fn servers(site: &Site) -> Result<Vec<Address>, ConnectorError> {
    let folder = folder_of_servers(site);
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

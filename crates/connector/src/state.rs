//! What the connector remembers of each grant: a folder with one file for the grant; kinds put files of their own beside it.
//!
//! Files are replaced as a whole and synced before anything acts on them, so `kill -9` leaves the old or the new state.
//! Nothing is loaded at start: a grant is read when it is asked for. Tombstones stay for ever.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use halligan_core::ids::GrantId;
use halligan_core::proof::Evidence;
use halligan_core::time::Time;
use halligan_ledger::disk;
use halligan_session::SignedLease;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::ConnectorError;

const FILE_MOST_BYTES: u64 = 1024 * 1024;

/// One grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantState {
    /// Format, 1.
    pub version: u32,
    /// Which.
    pub grant: GrantId,
    /// The highest fencing number seen.
    pub fencing: u64,
    /// The newest lease, if there ever was one here.
    pub lease: Option<SignedLease>,
    /// Set when it was deactivated; never unset.
    pub tombstone: Option<Tombstone>,
    /// The evidence that proved its end.
    pub proven: Option<Evidence>,
}

impl GrantState {
    /// A grant never heard of.
    pub const fn new(grant: GrantId) -> Self {
        Self { version: 1, grant, fencing: 0, lease: None, tombstone: None, proven: None }
    }
}

/// The end of a grant here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Since when.
    pub at: Time,
    /// From when on its end can be proved.
    pub provable_at: Time,
    /// Whether its certificates stand in a revocation list that was delivered.
    pub listed: bool,
}

/// The folder of all grants.
#[derive(Debug)]
pub struct GrantStore {
    folder: PathBuf,
}

impl GrantStore {
    /// Opens `folder/grants`, making it where needed.
    pub fn open(folder: &Path) -> Result<Self, ConnectorError> {
        let folder = folder.join("grants");
        private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// Where everything of one grant stands.
    pub fn folder_of(&self, grant: GrantId) -> PathBuf {
        self.folder.join(grant.to_string())
    }

    /// What is known of a grant; a new state where nothing is.
    pub fn grant(&self, grant: GrantId) -> Result<GrantState, ConnectorError> {
        let path = self.folder_of(grant).join("grant.json");
        Ok(read_json(&path)?.unwrap_or_else(|| GrantState::new(grant)))
    }

    /// Replaces it; durable when this returns.
    pub fn save_grant(&self, state: &GrantState) -> Result<(), ConnectorError> {
        let folder = self.folder_of(state.grant);
        if !folder.is_dir() {
            private_folder(&folder)?;
            disk::sync_folder(&self.folder)
                .map_err(ConnectorError::state(format!("sync {}", self.folder.display())))?;
        }
        write_json(&folder.join("grant.json"), state)
    }

    /// Every grant that was ever heard of here.
    pub fn all(&self) -> Result<Vec<GrantId>, ConnectorError> {
        let what = || format!("list {}", self.folder.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(ConnectorError::state(what()))? {
            let name = entry.map_err(ConnectorError::state(what()))?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<GrantId>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Makes a folder that only its owner enters.
pub fn private_folder(folder: &Path) -> Result<(), ConnectorError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ConnectorError::state(format!("make the folder {}", folder.display())))
}

/// Reads a file of ours.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConnectorError> {
    let what = || format!("read {}", path.display());
    let Some(bytes) = disk::read_if_present(path, FILE_MOST_BYTES).map_err(ConnectorError::state(what()))?
    else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(bytes);
    serde_json::from_slice(&bytes).map(Some).map_err(|error| ConnectorError::state(what())(error.into()))
}

/// Replaces a file of ours; durable when this returns.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ConnectorError> {
    let what = || format!("write {}", path.display());
    let bytes = serde_json::to_vec(value).map_err(|error| ConnectorError::state(what())(error.into()))?;
    disk::write_atomic(path, &Zeroizing::new(bytes), 0o600).map_err(ConnectorError::state(what()))
}

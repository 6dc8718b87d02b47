//! What the connector remembers of each grant: a folder with one file for the grant and one for each certificate.
//!
//! Files are replaced as a whole and synced before anything acts on them, so `kill -9` leaves the old or the new state.
//! Nothing is loaded at start: a grant is read when it is asked for. Tombstones stay for ever.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::Evidence;
use halligan_core::time::Time;
use halligan_ledger::disk;
use halligan_link::messages::Seed;
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

/// One certificate that may have left this connector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedCertificate {
    /// Format, 1.
    pub version: u32,
    /// Its serial.
    pub serial: u64,
    /// Made for this session.
    pub session: SessionId,
    /// OpenSSH text.
    pub certificate: String,
    /// The key's seed, until the target has refused it.
    pub seed: Option<Seed>,
    /// The principal in it.
    pub principal: String,
    /// Its `source-address`.
    pub source_address: String,
    /// When its login window is over.
    pub valid_before: Time,
    /// When the target refused it beside an accepted positive control.
    pub refused_at: Option<Time>,
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

    fn folder_of(&self, grant: GrantId) -> PathBuf {
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

    /// Every certificate of a grant, the longest valid first.
    pub fn certificates(&self, grant: GrantId) -> Result<Vec<IssuedCertificate>, ConnectorError> {
        let folder = self.folder_of(grant);
        let what = || format!("list {}", folder.display());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ConnectorError::state(what())(error)),
        };
        let mut found: Vec<IssuedCertificate> = Vec::new();
        for entry in entries {
            let path = entry.map_err(ConnectorError::state(what()))?.path();
            let named = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if named.starts_with("certificate-") && named.ends_with(".json") {
                found.extend(read_json(&path)?);
            }
        }
        found.sort_by_key(|one| (std::cmp::Reverse(one.valid_before), one.serial));
        Ok(found)
    }

    /// Writes a certificate; durable when this returns.
    pub fn save_certificate(&self, grant: GrantId, issued: &IssuedCertificate) -> Result<(), ConnectorError> {
        write_json(&self.certificate_path(grant, issued.serial), issued)
    }

    /// Notes that the target refused a certificate, and wipes its key.
    pub fn certificate_refused(
        &self,
        grant: GrantId,
        issued: &IssuedCertificate,
        at: Time,
    ) -> Result<(), ConnectorError> {
        let path = self.certificate_path(grant, issued.serial);
        let wiped = IssuedCertificate { seed: None, refused_at: Some(at), ..issued.clone() };
        // The new file has other blocks; the old ones are reached by the handle opened before. A copy-on-write file system
        // may keep them all the same, which is why a seed is worth nothing once its certificate is refused.
        let old = fs::OpenOptions::new().write(true).open(&path);
        write_json(&path, &wiped)?;
        if let Ok(old) = old {
            let length = old.metadata().map_or(0, |data| data.len().min(FILE_MOST_BYTES));
            let zeros = vec![0u8; usize::try_from(length).unwrap_or(0)];
            let _ = io::Write::write_all(&mut &old, &zeros).and_then(|()| old.sync_data());
        }
        Ok(())
    }

    fn certificate_path(&self, grant: GrantId, serial: u64) -> PathBuf {
        self.folder_of(grant).join(format!("certificate-{serial}.json"))
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

//! Certificates that may have left this connector, each in a file of its own beside its grant's.

use std::fs;
use std::io;
use std::path::PathBuf;

use halligan_connector::{ConnectorError, GrantStore, read_json, write_json};
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::time::Time;
use halligan_link::messages::Seed;
use serde::{Deserialize, Serialize};

const FILE_MOST_BYTES: u64 = 1024 * 1024;

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

/// Every certificate of a grant, the longest valid first.
pub fn certificates(grants: &GrantStore, grant: GrantId) -> Result<Vec<IssuedCertificate>, ConnectorError> {
    let folder = grants.folder_of(grant);
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
pub fn save_certificate(
    grants: &GrantStore,
    grant: GrantId,
    issued: &IssuedCertificate,
) -> Result<(), ConnectorError> {
    write_json(&certificate_path(grants, grant, issued.serial), issued)
}

/// Notes that the target refused a certificate, and wipes its key.
pub fn certificate_refused(
    grants: &GrantStore,
    grant: GrantId,
    issued: &IssuedCertificate,
    at: Time,
) -> Result<(), ConnectorError> {
    let path = certificate_path(grants, grant, issued.serial);
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

fn certificate_path(grants: &GrantStore, grant: GrantId, serial: u64) -> PathBuf {
    grants.folder_of(grant).join(format!("certificate-{serial}.json"))
}

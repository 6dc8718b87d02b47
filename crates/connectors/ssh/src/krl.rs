//! Key revocation lists, as OpenSSH's `PROTOCOL.krl` lays them out: the serials of our CA that no target may accept.
//!
//! A target that is told to read a list and finds none refuses everybody, so the list exists from the first start on and
//! is replaced as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use halligan_core::time::{Span, Time};
use halligan_ledger::disk;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, seconds};
use halligan_connector::ConnectorError;
use halligan_connector::{read_json, write_json};

const MAGIC: &[u8] = b"SSHKRL\n\0";
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_SERIAL_LIST: u8 = 0x20;
/// A serial stays listed this long past the end of its certificate, for targets whose clock is slow.
const KEEP: Span = Span::days(1);
const COMMAND_MOST: Duration = Duration::from_secs(10);

/// How targets get the list. Both may be set; with neither it is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KrlDelivery {
    /// A file that targets read (`RevokedKeys`), on this machine or on a shared disk.
    pub path: Option<PathBuf>,
    /// A program with its arguments that carries the list to the targets; the list's path is added as the last argument.
    /// It has ten seconds and must succeed only when every target has the list.
    pub command: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    version: u64,
    serials: BTreeMap<u64, Time>,
}

/// The list of this site.
#[derive(Debug)]
pub struct RevocationList {
    index: PathBuf,
    list: PathBuf,
    delivery: KrlDelivery,
    lock: Mutex<()>,
}

impl RevocationList {
    /// Opens the list in `folder` and, where a delivery is configured, makes sure that targets have one.
    pub fn open(
        folder: &Path,
        delivery: KrlDelivery,
        authority: &Authority,
        now: Time,
    ) -> Result<Self, ConnectorError> {
        let this = Self {
            index: folder.join("revoked_serials.json"),
            list: folder.join("revoked_keys"),
            delivery,
            lock: Mutex::new(()),
        };
        let bytes = this.write(authority, &[], now)?;
        if let Err(error) = this.deliver(&bytes) {
            // No reason to stay shut in an emergency: until a delivery succeeds the login window must pass.
            tracing::error!(error = error.sentence(), "the revocation list was not delivered");
        }
        Ok(this)
    }

    /// Whether targets get it at all.
    pub fn is_delivered(&self) -> bool {
        self.delivery.path.is_some() || !self.delivery.command.is_empty()
    }

    /// Adds serials (each with the end of its certificate), writes the list and delivers it. When this returns `Ok`, the
    /// targets have it.
    pub fn revoke(
        &self,
        authority: &Authority,
        serials: &[(u64, Time)],
        now: Time,
    ) -> Result<(), ConnectorError> {
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.write(authority, serials, now)?;
        self.deliver(&bytes)
    }

    fn write(
        &self,
        authority: &Authority,
        serials: &[(u64, Time)],
        now: Time,
    ) -> Result<Vec<u8>, ConnectorError> {
        let mut listed: Listed = read_json(&self.index)?.unwrap_or_default();
        listed.version += 1;
        listed.serials.retain(|_, valid_before| valid_before.plus(KEEP) > now);
        listed.serials.extend(serials.iter().copied());
        write_json(&self.index, &listed)?;
        let serials: Vec<u64> = listed.serials.keys().copied().collect();
        let bytes = encode(&authority.public_blob()?, &serials, listed.version, now);
        replace(&self.list, &bytes)?;
        Ok(bytes)
    }

    fn deliver(&self, bytes: &[u8]) -> Result<(), ConnectorError> {
        if let Some(path) = &self.delivery.path {
            replace(path, bytes)?;
        }
        self.run_command()
    }

    fn run_command(&self) -> Result<(), ConnectorError> {
        let Some((program, arguments)) = self.delivery.command.split_first() else { return Ok(()) };
        let what = || format!("deliver the revocation list by {program}");
        let fail = |why: String| ConnectorError::state(what())(std::io::Error::other(why));
        let mut child = Command::new(program)
            .args(arguments)
            .arg(&self.list)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ConnectorError::state(what()))?;
        let until = Instant::now() + COMMAND_MOST;
        loop {
            match child.try_wait().map_err(ConnectorError::state(what()))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(fail(format!("it ended with {status}"))),
                None if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(fail(format!("it was not done within {} s", COMMAND_MOST.as_secs())));
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), ConnectorError> {
    disk::write_atomic(path, bytes, 0o644)
        .map_err(ConnectorError::state(format!("write the revocation list {}", path.display())))
}

/// The bytes of a list that revokes these serials of this CA (PROTOCOL.krl, sections 1 to 3).
fn encode(ca: &[u8], serials: &[u64], version: u64, now: Time) -> Vec<u8> {
    let mut list = MAGIC.to_vec();
    list.extend(1u32.to_be_bytes()); // format
    list.extend(version.to_be_bytes());
    list.extend(seconds(now).to_be_bytes());
    list.extend(0u64.to_be_bytes()); // flags
    put_string(&mut list, b""); // reserved
    put_string(&mut list, b"halligan");
    if !serials.is_empty() {
        let mut certificates = Vec::new();
        put_string(&mut certificates, ca);
        put_string(&mut certificates, b""); // reserved
        certificates.push(SECTION_SERIAL_LIST);
        put_string(
            &mut certificates,
            &serials.iter().flat_map(|serial| serial.to_be_bytes()).collect::<Vec<u8>>(),
        );
        list.push(SECTION_CERTIFICATES);
        put_string(&mut list, &certificates);
    }
    list
}

fn put_string(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Wish, new_keypair};

    const NOW: Time = Time::from_micros(1_800_000_000_000_000);

    /// `ssh-keygen -Q` exits with 1 when a key is revoked.
    fn revoked(list: &Path, certificate: &Path) -> bool {
        let output =
            Command::new("ssh-keygen").args(["-Q", "-f"]).arg(list).arg(certificate).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) if said.contains("ok") => false,
            Some(1) if said.contains("REVOKED") => true,
            _ => panic!("{output:?}"),
        }
    }

    #[test]
    fn openssh_reads_the_list_and_finds_just_these_serials() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let delivered = folder.path().join("delivered");
        let delivery = KrlDelivery { path: Some(delivered.clone()), command: vec![] };
        let list = RevocationList::open(folder.path(), delivery.clone(), &authority, NOW).unwrap();
        let certificate = |serial: u64| {
            let wish = Wish {
                serial,
                key_id: "test".to_owned(),
                principal: "p",
                valid_after: NOW,
                valid_before: NOW.plus(Span::seconds(60)),
                source_address: "127.0.0.1/32",
                pty: true,
                force_command: None,
            };
            let path = folder.path().join(format!("{serial}-cert.pub"));
            let signed = authority.sign(&new_keypair().unwrap().0, &wish).unwrap();
            std::fs::write(&path, signed.to_openssh().unwrap()).unwrap();
            path
        };
        let (first, second, big) = (certificate(7), certificate(8), certificate(u64::MAX >> 1));
        assert!(!revoked(&delivered, &first), "an empty list revokes nobody");
        list.revoke(&authority, &[(7, NOW), (u64::MAX >> 1, NOW)], NOW).unwrap();
        assert!(revoked(&delivered, &first) && revoked(&delivered, &big));
        assert!(!revoked(&delivered, &second));
        // It survives a restart, and forgets what can open nothing any more.
        drop(list);
        let list = RevocationList::open(folder.path(), delivery, &authority, NOW).unwrap();
        assert!(revoked(&delivered, &first));
        list.revoke(&authority, &[], NOW.plus(Span::days(2))).unwrap();
        assert!(!revoked(&delivered, &first));
    }

    #[test]
    fn a_delivery_that_fails_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let delivery = KrlDelivery { path: None, command: vec!["false".to_owned()] };
        // The connector starts all the same.
        let list = RevocationList::open(folder.path(), delivery, &authority, NOW).unwrap();
        let error = list.revoke(&authority, &[], NOW).unwrap_err();
        assert!(error.sentence().contains("it ended with"), "{}", error.sentence());
        let delivery = KrlDelivery {
            path: None,
            command: ["sh", "-c", "test -s \"$1\"", "sh"].map(String::from).to_vec(),
        };
        let list = RevocationList::open(folder.path(), delivery, &authority, NOW).unwrap();
        list.revoke(&authority, &[], NOW).unwrap();
    }
}

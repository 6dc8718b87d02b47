//! SSH keys, certificates and revocation lists, all made by the stock `ssh-keygen`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// An Ed25519 key without passphrase: `PATH` and `PATH.pub`. Any key can also serve as an authority.
#[derive(Debug, Clone)]
pub struct SshKey {
    path: PathBuf,
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Certificate<'a> {
    /// The name that shows in the server's log.
    pub identity: &'a str,
    /// User certificates: principals. Host certificates: host names.
    pub principals: &'a [&'a str],
    /// As `ssh-keygen -V` takes it, such as `-1m:+1m`.
    pub validity: &'a str,
    pub serial: u64,
    /// As `ssh-keygen -O` takes them, such as `source-address=127.0.0.1/32`.
    pub options: &'a [&'a str],
    /// A certificate for a host instead of a person.
    pub host: bool,
}

impl Default for Certificate<'_> {
    fn default() -> Self {
        Self { identity: "test", principals: &[], validity: "-1m:+5m", serial: 1, options: &[], host: false }
    }
}

impl SshKey {
    /// Makes a key `NAME` in `folder`.
    pub fn generate(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        keygen(
            ["-q".as_ref(), "-t".as_ref(), "ed25519".as_ref(), "-N".as_ref(), "".as_ref()]
                .into_iter()
                .chain(["-C".as_ref(), OsStr::new(name), "-f".as_ref(), path.as_os_str()]),
        )?;
        Ok(Self { path })
    }

    /// The file with the private key.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file with the public key.
    pub fn public_path(&self) -> PathBuf {
        with_suffix(&self.path, ".pub")
    }

    /// Kind and key, without the comment: `ssh-ed25519 AAAA…`.
    pub fn public(&self) -> Result<String> {
        let text = fs::read_to_string(self.public_path()).context("failed to read the public key")?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// The fingerprint as OpenSSH prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> Result<String> {
        let text = keygen(["-l".as_ref(), "-f".as_ref(), self.public_path().as_os_str()])?;
        text.split_whitespace().nth(1).map(str::to_owned).context("ssh-keygen printed no fingerprint")
    }

    /// Signs `subject` with this key as authority. Returns the file that `ssh -o CertificateFile` takes.
    /// Each call writes a file of its own, named after the serial number.
    pub fn certify(&self, subject: &SshKey, certificate: &Certificate<'_>) -> Result<PathBuf> {
        // ssh-keygen names its output after the public key: sign a copy, so that many can stand side by side.
        let copy = with_suffix(&subject.path, &format!("-{}", certificate.serial));
        let public = with_suffix(&copy, ".pub");
        fs::copy(subject.public_path(), &public).context("failed to copy the public key")?;
        let mut arguments: Vec<String> = ["-q", "-s"].map(str::to_owned).to_vec();
        arguments.push(self.path.display().to_string());
        for (flag, value) in [
            ("-I", certificate.identity),
            ("-V", certificate.validity),
            ("-z", &certificate.serial.to_string()),
            ("-n", &certificate.principals.join(",")),
        ] {
            if !value.is_empty() {
                arguments.extend([flag.to_owned(), value.to_owned()]);
            }
        }
        for option in certificate.options {
            arguments.extend(["-O".to_owned(), (*option).to_owned()]);
        }
        if certificate.host {
            arguments.push("-h".to_owned());
        }
        arguments.push(public.display().to_string());
        keygen(arguments.iter().map(OsStr::new))?;
        fs::remove_file(&public).ok();
        Ok(with_suffix(&copy, "-cert.pub"))
    }
}

/// A key revocation list. `entries` are lines as in `ssh-keygen`'s section on key revocation lists, such as
/// `serial: 7` (which needs the `authority` that signed it) or `sha256: SHA256:…`; none make an empty list.
pub fn revocation_list(authority: Option<&SshKey>, entries: &[&str]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let (list, wanted) = (folder.path().join("list"), folder.path().join("wanted"));
    fs::write(&wanted, entries.join("\n") + "\n")?;
    let public = authority.map(SshKey::public_path);
    let mut arguments: Vec<&OsStr> = vec!["-q".as_ref(), "-k".as_ref(), "-f".as_ref(), list.as_os_str()];
    if let Some(public) = &public {
        arguments.extend(["-s".as_ref(), public.as_os_str()]);
    }
    if !entries.is_empty() {
        arguments.push(wanted.as_os_str());
    }
    keygen(arguments)?;
    fs::read(list).context("failed to read the revocation list")
}

fn keygen<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<String> {
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .output()
        .context("failed to start ssh-keygen: install openssh-client, or run `cargo xtask setup`")?;
    if !output.status.success() {
        bail!("ssh-keygen failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let authority = SshKey::generate(folder.path(), "authority").unwrap();
        let key = SshKey::generate(folder.path(), "ada").unwrap();
        let path = authority
            .certify(
                &key,
                &Certificate {
                    identity: "ada in an emergency",
                    principals: &["halligan:orders-host:app"],
                    serial: 42,
                    options: &["clear", "permit-pty", "source-address=127.0.0.1/32"],
                    ..Certificate::default()
                },
            )
            .unwrap();
        let text = keygen(["-L".as_ref(), "-f".as_ref(), path.as_os_str()]).unwrap();
        for expected in
            ["ada in an emergency", "Serial: 42", "halligan:orders-host:app", "source-address", "permit-pty"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains("permit-agent-forwarding"), "{text}");
        assert!(text.contains(&key.fingerprint().unwrap()), "{text}");
        assert!(key.public().unwrap().starts_with("ssh-ed25519 AAAA"));
    }

    #[test]
    fn a_revocation_list_names_serial_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let authority = SshKey::generate(folder.path(), "authority").unwrap();
        let empty = revocation_list(None, &[]).unwrap();
        assert!(empty.starts_with(b"SSHKRL\n\0"));
        let list = revocation_list(Some(&authority), &["serial: 7"]).unwrap();
        assert!(list.starts_with(b"SSHKRL\n\0") && list.len() > empty.len());
    }
}

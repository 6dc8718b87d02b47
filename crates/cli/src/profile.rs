//! What a person's machine remembers: which server, how it is known, the sign-in, the gateways.
//!
//! One folder that only its owner reads (`$HALLIGAN_HOME`, else `~/.config/halligan`): `profile.json`, and beside it the
//! keys of SSH and TLS with their certificates, and the pinned host keys. A file that others can read is refused, not mended in silence.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use halligan_client::types::Listener;
use halligan_client::{CertificatePrint, Client, Options, Trust};
use halligan_core::ids::PersonId;
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::people::failure::said;

/// The folder of a profile.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// What is remembered.
#[derive(Clone, Serialize, Deserialize)]
pub struct Profile {
    /// `https://…`, or `http://localhost:…`.
    pub server: String,
    /// How its certificate is known.
    pub trust: KnownBy,
    /// Who signed in last.
    pub person: Option<PersonId>,
    /// The sign-in; none after `halligan logout`.
    pub token: Option<Zeroizing<String>>,
    /// It dies then.
    pub token_expires: Option<Time>,
    /// When the SSH certificate was made and until when it is valid.
    pub certificate: Option<CertificateTimes>,
    /// The same of the client certificate, by which databases' tools log in.
    #[serde(default)]
    pub client_certificate: Option<CertificateTimes>,
    /// Gateways with the keys they are known by.
    #[serde(default)]
    pub gateways: Vec<KnownGateway>,
}

/// How a server's certificate is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum KnownBy {
    /// By the authorities that this machine trusts.
    System,
    /// By its SHA-256 alone.
    Certificate {
        /// 64 hexadecimal digits.
        sha256: String,
    },
    /// By an authority of one's own.
    Authority {
        /// Its certificate.
        pem: String,
    },
}

/// Life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateTimes {
    /// When it was made, by this machine's clock.
    pub made_at: Time,
    /// Until when it is valid.
    pub valid_until: Time,
}

impl CertificateTimes {
    /// More than half of its life is over.
    pub const fn wants_renewal(self, now: Time) -> bool {
        let life = self.valid_until.since(self.made_at).as_micros();
        now.since(self.made_at).as_micros() > life / 2
    }
}

/// A gateway, as this machine's clients find and know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGateway {
    /// Its name.
    pub name: String,
    /// Its site, as far as known.
    pub site: Option<String>,
    /// Where clients come in, by protocol, and the keys they pin.
    pub listeners: BTreeMap<String, Listener>,
    /// A person pinned it; the server's word does not replace it.
    #[serde(default)]
    pub pinned: bool,
}

impl KnownGateway {
    /// Where `ssh` comes in, if it is known by a key.
    pub fn ssh(&self) -> Option<&Listener> {
        self.listeners.get("ssh").filter(|listener| !listener.host_keys.is_empty())
    }
}

impl KnownBy {
    /// For the client.
    pub fn trust(&self) -> anyhow::Result<Trust> {
        Ok(match self {
            Self::System => Trust::System,
            Self::Certificate { sha256 } => Trust::Certificate(sha256.parse::<CertificatePrint>()?),
            Self::Authority { pem } => Trust::Authority(pem.clone()),
        })
    }
}

impl Home {
    /// `$HALLIGAN_HOME`, else `$XDG_CONFIG_HOME/halligan`, else `~/.config/halligan`.
    pub fn find() -> anyhow::Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("HALLIGAN_HOME")
            .or_else(|| set("XDG_CONFIG_HOME").map(|folder| folder.join("halligan")))
            .or_else(|| set("HOME").map(|folder| folder.join(".config/halligan")));
        match folder {
            Some(folder) => Ok(Self(folder)),
            None => {
                Err(said("failed to find your profile: neither HALLIGAN_HOME nor HOME is set", "set HOME"))
            }
        }
    }

    /// A given folder.
    #[cfg(test)]
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// The private SSH key.
    pub fn key(&self) -> PathBuf {
        self.file("id_ed25519")
    }
    /// Its public half.
    pub fn public_key(&self) -> PathBuf {
        self.file("id_ed25519.pub")
    }
    /// Its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("id_ed25519-cert.pub")
    }
    /// The private key of the client certificate.
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }
    /// The same key in the form that the driver of Java reads.
    pub fn client_key_for_java(&self) -> PathBuf {
        self.file("client.pk8")
    }
    /// The client certificate.
    pub fn client_certificate(&self) -> PathBuf {
        self.file("client.crt")
    }
    /// Pinned host keys of gateways.
    pub fn known_hosts(&self) -> PathBuf {
        self.file("known_hosts")
    }
    fn profile(&self) -> PathBuf {
        self.file("profile.json")
    }

    /// Makes the folder, for its owner alone.
    pub fn make(&self) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| format!("failed to make the folder {}", self.0.display()))
    }

    /// The profile, if there is one.
    pub fn load(&self) -> anyhow::Result<Option<Profile>> {
        let path = self.profile();
        let mode = match fs::metadata(&path) {
            Ok(found) => found.permissions().mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        };
        if mode & 0o077 != 0 {
            let say =
                format!("failed to use {}: others can read it, and it holds your sign-in", path.display());
            return Err(said(
                say,
                format!("chmod 600 {0}, and sign in again with `halligan login`", path.display()),
            ));
        }
        let text = Zeroizing::new(
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?,
        );
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let say = format!("failed to read {}: {error}", path.display());
            said(say, "remove the file and sign in again with `halligan login`")
        })
    }

    /// Writes the profile whole or not at all.
    pub fn save(&self, profile: &Profile) -> anyhow::Result<()> {
        let text = Zeroizing::new(serde_json::to_string_pretty(profile)?);
        self.write(&self.profile(), text.as_bytes())
    }

    /// Writes a file for its owner alone, whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        self.make()?;
        let what = || format!("failed to write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.0).with_context(what)?;
        file.write_all(bytes).with_context(what)?;
        file.as_file().sync_all().with_context(what)?;
        file.persist(path).with_context(what)?;
        Ok(())
    }
}

impl Profile {
    /// A profile of somebody who has not signed in yet.
    pub const fn new(server: String, trust: KnownBy) -> Self {
        Self {
            server,
            trust,
            person: None,
            token: None,
            token_expires: None,
            certificate: None,
            client_certificate: None,
            gateways: Vec::new(),
        }
    }

    /// A client of its server, without a token.
    pub fn client(&self) -> anyhow::Result<Client> {
        let mut options = Options::new(self.server.as_str());
        options.trust = self.trust.trust()?;
        Ok(Client::new(&options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halligan_core::time::Span;

    #[test]
    fn a_profile_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("deep/halligan"));
        assert!(home.load().unwrap().is_none());
        let mut profile =
            Profile::new("https://localhost:1".to_owned(), KnownBy::Certificate { sha256: "ab".repeat(32) });
        profile.token = Some(Zeroizing::new("hgn_secret".to_owned()));
        home.save(&profile).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.profile()), 0o600);
        assert_eq!(mode(home.profile().parent().unwrap()), 0o700);
        let back = home.load().unwrap().unwrap();
        assert_eq!((back.server.as_str(), back.trust), ("https://localhost:1", profile.trust));
        assert_eq!(back.token.unwrap().as_str(), "hgn_secret");
        fs::set_permissions(home.profile(), fs::Permissions::from_mode(0o640)).unwrap();
        let Err(error) = home.load() else { panic!("others can read it") };
        assert!(error.to_string().contains("others can read it"), "{error}");
    }

    #[test]
    fn a_certificate_is_renewed_in_the_second_half_of_its_life() {
        let made_at = Time::from_micros(1_000_000_000);
        let times = CertificateTimes { made_at, valid_until: made_at.plus(Span::hours(8)) };
        assert!(!times.wants_renewal(made_at.plus(Span::hours(4))));
        assert!(times.wants_renewal(made_at.plus(Span::hours(4)).plus(Span::seconds(1))));
        assert!(times.wants_renewal(made_at.plus(Span::days(9))));
    }
}

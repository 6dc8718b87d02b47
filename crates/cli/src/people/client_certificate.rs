//! The X.509 certificate of `halligan login`: gateways know its person by it in TLS, also while the server is away. The key is
//! made here and never leaves this machine.

use anyhow::Context as _;
use halligan_client::Client;
use halligan_core::time::Time;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::Zeroizing;

use crate::profile::{CertificateTimes, Home, Profile};

/// Asks for a fresh one if the one at hand is older than half of its life.
pub async fn refresh(
    home: &Home,
    profile: &mut Profile,
    client: &Client,
    always: bool,
) -> anyhow::Result<()> {
    let now = crate::output::now();
    let held = profile.client_certificate.filter(|_| home.client_certificate().exists());
    if !always && !held.is_none_or(|times| times.wants_renewal(now)) {
        return Ok(());
    }
    let key = key(home)?;
    let given = match client.client_certificate(&key.public_key_pem(), None).await {
        Ok(given) => given,
        // A server of an older version.
        Err(error) if error.status() == Some(404) => return Ok(()),
        Err(error) => return Err(anyhow::Error::new(error).context("failed to get a client certificate")),
    };
    home.write(&home.client_certificate(), given.certificate.as_bytes())?;
    profile.client_certificate = Some(CertificateTimes { made_at: now, valid_until: given.valid_until });
    home.save(profile)
}

/// Certificate and key (PEM), if they are at hand and good now.
pub fn at_hand(
    home: &Home,
    profile: &Profile,
    now: Time,
) -> anyhow::Result<Option<(String, Zeroizing<String>)>> {
    if profile.client_certificate.is_none_or(|times| times.valid_until <= now) {
        return Ok(None);
    }
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    Ok(Some((read(home.client_certificate())?, Zeroizing::new(read(home.client_key())?))))
}

/// The one that was made before, or another: its certificates are good for hours only.
fn key(home: &Home) -> anyhow::Result<KeyPair> {
    let key = kept_or_made(home)?;
    let for_java = Zeroizing::new(key.serialize_der());
    let path = home.client_key_for_java();
    if std::fs::read(&path).map(Zeroizing::new).ok().as_ref() != Some(&for_java) {
        home.write(&path, &for_java)?;
    }
    Ok(key)
}

fn kept_or_made(home: &Home) -> anyhow::Result<KeyPair> {
    let path = home.client_key();
    if let Ok(text) = std::fs::read_to_string(&path) {
        let text = Zeroizing::new(text);
        if let Ok(key) = KeyPair::from_pem(&text)
            && key.algorithm() == &PKCS_ECDSA_P256_SHA256
        {
            return Ok(key);
        }
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("failed to make a key")?;
    home.write(&path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use halligan_core::time::Span;

    use super::*;
    use crate::profile::KnownBy;

    #[test]
    fn the_key_stays_the_same_is_its_owners_alone_and_is_shown_only_while_its_certificate_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("halligan"));
        let public = key(&home).unwrap().public_key_pem();
        assert_eq!(key(&home).unwrap().public_key_pem(), public);
        for file in [home.client_key(), home.client_key_for_java()] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(home.client_key(), "rubbish").unwrap();
        let other = key(&home).unwrap();
        assert_ne!(other.public_key_pem(), public);
        let for_java = std::fs::read(home.client_key_for_java()).unwrap();
        assert_eq!(KeyPair::try_from(for_java).unwrap().public_key_pem(), other.public_key_pem());

        let mut profile = Profile::new("https://localhost:1".to_owned(), KnownBy::System);
        let now = Time::from_micros(1_772_445_600_000_000);
        assert!(at_hand(&home, &profile, now).unwrap().is_none());
        let valid_until = now.plus(Span::hours(8));
        profile.client_certificate = Some(CertificateTimes { made_at: now, valid_until });
        home.write(&home.client_certificate(), b"PEM").unwrap();
        assert!(at_hand(&home, &profile, now).unwrap().is_some());
        assert!(at_hand(&home, &profile, valid_until).unwrap().is_none());
    }
}

//! Control's own keys, each a private file in its folder: ledger, leases, link, login authority, playback.

use std::path::Path;

use ed25519_dalek::SigningKey;
use halligan_core::ids::PersonId;
use halligan_core::time::{Span, Time};
use halligan_ledger::{LedgerSigner, disk};
use halligan_link::NodeKey;
use halligan_recording::age_file::Identity;
use halligan_session::roster::LOGIN_PRINCIPAL;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::client_ca::ClientCa;
use crate::error::ControlError;

/// Control's keys.
pub struct Keys {
    /// Signs checkpoints of control's ledger.
    pub ledger: LedgerSigner,
    /// Signs leases and rosters.
    pub lease: SigningKey,
    /// Proves who control is on links.
    pub node: NodeKey,
    /// Signs the short-lived certificates of `halligan login`.
    login: PrivateKey,
    /// Signs those that are X.509.
    pub client: ClientCa,
    /// Opens recordings of class `readable`.
    pub playback: Identity,
    /// Seals accounts' secrets in the store.
    pub account: Zeroizing<[u8; 32]>,
    /// Makes the salts of login names; every gateway has it too. Made once: another would spoil the passwords in use.
    pub scram_salt: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Loads the keys of this folder; makes those that are not there yet.
    pub fn load_or_make(folder: &Path, origin: &str) -> Result<Self, ControlError> {
        let path = |name: &str| folder.join(name);
        let ledger = LedgerSigner::load_or_generate(origin, &path("ledger_key"))
            .map_err(ControlError::local("open the ledger's key"))?;
        let lease = SigningKey::from_bytes(&*seed(&path("lease_key"))?);
        let node = NodeKey::load_or_make(folder).map_err(ControlError::local("open the link key"))?;
        let login = login_key(&path("login_ca"))?;
        let client = ClientCa::load_or_make(&path("client_ca"))?;
        let playback = playback_key(&path("playback_key"))?;
        let account = seed(&path("account_key"))?;
        let scram_salt = seed(&path("scram_salt_key"))?;
        Ok(Self { ledger, lease, node, login, client, playback, account, scram_salt })
    }

    /// Public key of the login authority, `ssh-ed25519 AAAA…`.
    pub fn login_public(&self) -> Result<String, ControlError> {
        self.login.public_key().to_openssh().map_err(ControlError::local("write the login authority's key"))
    }

    /// A certificate by which `person` may log in at gateways with the key `public`, from `now` for `lifetime`.
    pub fn login_certificate(
        &self,
        person: &PersonId,
        public: &str,
        now: Time,
        lifetime: Span,
    ) -> Result<String, ControlError> {
        let key = PublicKey::from_openssh(public).map_err(ControlError::local("read the public key"))?;
        if !matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::SkEd25519) {
            return Err(ControlError::said(
                "sign the login key",
                "only Ed25519 keys are taken; make one with `ssh-keygen -t ed25519`",
            ));
        }
        let seconds = |time: Time| u64::try_from(time.micros() / 1_000_000).unwrap_or(0);
        let fail = || ControlError::local("make the login certificate");
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(ControlError::local("draw randomness"))?;
        let after = seconds(now.minus(Span::seconds(60)));
        let before = seconds(now.plus(lifetime));
        let mut builder =
            Builder::new(random.to_vec(), key.key_data().clone(), after, before).map_err(fail())?;
        let mut serial = [0u8; 8];
        getrandom::fill(&mut serial).map_err(ControlError::local("draw randomness"))?;
        builder.serial(u64::from_be_bytes(serial) >> 1).map_err(fail())?;
        builder.key_id(person.to_string()).map_err(fail())?;
        builder.cert_type(CertType::User).map_err(fail())?;
        builder.valid_principal(LOGIN_PRINCIPAL).map_err(fail())?;
        let certificate = builder.sign(&self.login).map_err(fail())?;
        certificate.to_openssh().map_err(fail())
    }
}

/// 32 random bytes in a private file, hex.
fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, ControlError> {
    let mut raw = Zeroizing::new([0u8; 32]);
    let what = || format!("use {}", path.display());
    if let Some(text) = disk::read_if_present(path, 4096).map_err(ControlError::local(what()))? {
        let text = Zeroizing::new(text);
        let digits = text.trim_ascii();
        hex::decode_to_slice(digits, &mut *raw)
            .map_err(|_| ControlError::said(what(), "it does not hold 64 hexadecimal digits"))?;
        return Ok(raw);
    }
    getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
    let text = Zeroizing::new(hex::encode(*raw));
    disk::write_atomic(path, text.as_bytes(), 0o600).map_err(ControlError::local(what()))?;
    Ok(raw)
}

fn login_key(path: &Path) -> Result<PrivateKey, ControlError> {
    let raw = seed(path)?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&raw);
    Ok(PrivateKey::from(pair))
}

fn playback_key(path: &Path) -> Result<Identity, ControlError> {
    let what = || format!("use {}", path.display());
    if let Some(text) = disk::read_if_present(path, 4096).map_err(ControlError::local(what()))? {
        let text = Zeroizing::new(text);
        let text = std::str::from_utf8(&text).map_err(ControlError::local(what()))?;
        return text.trim().parse().map_err(ControlError::local(what()));
    }
    let made = Identity::generate().map_err(ControlError::local("make the playback key"))?;
    let text = made.to_secret_text().map_err(ControlError::local("write the playback key"))?;
    disk::write_atomic(path, text.as_bytes(), 0o600).map_err(ControlError::local(what()))?;
    Ok(made)
}

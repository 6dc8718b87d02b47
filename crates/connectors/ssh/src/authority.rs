//! The site's SSH certificate authority. Its key never leaves this connector; targets trust it by one line.

use std::path::Path;

use halligan_core::time::Time;
use halligan_ledger::disk;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};
use zeroize::Zeroizing;

use halligan_connector::ConnectorError;

const KEY_FILE: &str = "site_ca";
const KEY_MOST_BYTES: u64 = 16 * 1024;

/// Signs user certificates for the targets of one site.
pub struct Authority {
    key: PrivateKey,
    public_line: String,
}

/// What a certificate shall say.
pub struct Wish<'a> {
    /// Never 0.
    pub serial: u64,
    /// Shown in the target's log.
    pub key_id: String,
    /// The one principal.
    pub principal: &'a str,
    /// From this second on.
    pub valid_after: Time,
    /// Refused from this second on.
    pub valid_before: Time,
    /// As sshd reads `source-address`: networks with commas between.
    pub source_address: &'a str,
    /// Whether a terminal may be asked for.
    pub pty: bool,
    /// Runs this whatever is asked.
    pub force_command: Option<&'a str>,
}

impl Authority {
    /// Opens the key in `folder`, or makes one (0600, OpenSSH format) where there is none.
    pub fn open(folder: &Path) -> Result<Self, ConnectorError> {
        let path = folder.join(KEY_FILE);
        let what = || format!("read or make the site's CA key {}", path.display());
        let found = disk::read_if_present(&path, KEY_MOST_BYTES)
            .map_err(ConnectorError::state(what()))?
            .map(Zeroizing::new);
        let key = match found {
            Some(text) => {
                PrivateKey::from_openssh(&*text).map_err(ConnectorError::key("read the site's CA key"))?
            }
            None => {
                let key = PrivateKey::new(KeypairData::Ed25519(new_keypair()?.0), "halligan site CA")
                    .map_err(ConnectorError::key("make the site's CA key"))?;
                let text =
                    key.to_openssh(LineEnding::LF).map_err(ConnectorError::key("write the site's CA key"))?;
                disk::write_atomic(&path, text.as_bytes(), 0o600).map_err(ConnectorError::state(what()))?;
                key
            }
        };
        let public_line =
            key.public_key().to_openssh().map_err(ConnectorError::key("read the site's CA key"))?;
        Ok(Self { key, public_line })
    }

    /// The line for `TrustedUserCAKeys`.
    pub fn public_line(&self) -> &str {
        &self.public_line
    }

    /// The public key as SSH's wire format has it, for revocation lists.
    pub fn public_blob(&self) -> Result<Vec<u8>, ConnectorError> {
        self.key.public_key().to_bytes().map_err(ConnectorError::key("write the site's CA key"))
    }

    /// Signs a user certificate over the key of `pair`.
    pub fn sign(&self, pair: &Ed25519Keypair, wish: &Wish<'_>) -> Result<Certificate, ConnectorError> {
        let mut nonce = [0u8; Builder::RECOMMENDED_NONCE_SIZE];
        getrandom::fill(&mut nonce).map_err(|_| ConnectorError::Randomness)?;
        let signed = || {
            let mut builder =
                Builder::new(nonce, pair.public, seconds(wish.valid_after), seconds(wish.valid_before))?;
            builder.serial(wish.serial)?;
            builder.cert_type(CertType::User)?;
            builder.key_id(wish.key_id.clone())?;
            builder.valid_principal(wish.principal)?;
            builder.critical_option("source-address", wish.source_address)?;
            if let Some(command) = wish.force_command {
                builder.critical_option("force-command", command)?;
            }
            if wish.pty {
                builder.extension("permit-pty", "")?;
            }
            builder.sign(&self.key)
        };
        signed().map_err(ConnectorError::key("sign a certificate"))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.public_line)
    }
}

/// A new Ed25519 key and its seed.
pub fn new_keypair() -> Result<(Ed25519Keypair, Zeroizing<[u8; 32]>), ConnectorError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *seed).map_err(|_| ConnectorError::Randomness)?;
    Ok((Ed25519Keypair::from_seed(&seed), seed))
}

/// A random serial of 63 bits, never 0 (which a revocation list cannot name).
pub fn new_serial() -> Result<u64, ConnectorError> {
    loop {
        let mut bytes = [0u8; 8];
        getrandom::fill(&mut bytes).map_err(|_| ConnectorError::Randomness)?;
        let serial = u64::from_be_bytes(bytes) >> 1;
        if serial != 0 {
            return Ok(serial);
        }
    }
}

/// Whole seconds since 1970, rounded down: certificates know no smaller unit.
pub fn seconds(time: Time) -> u64 {
    u64::try_from(time.micros().div_euclid(1_000_000)).unwrap_or(0)
}

//! SCRAM-SHA-256 verifiers as PostgreSQL stores them (`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_connector::ConnectorError;
use halligan_link::messages::Seed;
use halligan_session::Secret;
use halligan_session::scram::{ITERATIONS, ScramKeys, ScramSalt};
use halligan_vault::Vault;
use zeroize::Zeroizing;

/// Keys of a session role. No password belongs to them: both are random.
#[derive(Clone, Debug)]
pub struct RoleKeys {
    /// What the gateway proves itself with.
    pub client_key: Seed,
    /// What the server proves itself with.
    pub server_key: Seed,
    salt: [u8; 16],
}

impl RoleKeys {
    /// New ones.
    pub fn make() -> Result<Self, ConnectorError> {
        Ok(Self { client_key: Seed::new(random()?), server_key: Seed::new(random()?), salt: random()? })
    }

    /// What the server is told.
    pub fn verifier(&self) -> String {
        let keys = ScramKeys::from_client_key(self.client_key.expose(), *self.server_key.expose());
        text(&self.salt, &keys)
    }
}

/// The verifier of a password of the connector's own account, for the set-up script. The password must be random: then
/// the verifier gives nothing away.
pub fn verifier_of_password(password: &Secret) -> Result<String, ConnectorError> {
    let salt = ScramSalt { salt: random()?, iterations: ITERATIONS };
    Ok(text(&salt.salt, &ScramKeys::from_password(password, &salt)))
}

/// The verifier of the connector's own password in a vault. Where there is no password yet, one of 256 random bits is made
/// and kept.
pub fn login_verifier(vault: &Vault, secret: &str) -> Result<String, ConnectorError> {
    let read = || ConnectorError::key("open the vault");
    let password = match vault.get(secret).map_err(read())? {
        Some(password) => password,
        None => {
            let bytes = Zeroizing::new(random::<32>()?);
            let made = Zeroizing::new(hex::encode(bytes.as_slice()).into_bytes());
            vault.put(secret, &made).map_err(read())?;
            made
        }
    };
    let text =
        std::str::from_utf8(&password).map_err(ConnectorError::key("read a password that is no text"))?;
    verifier_of_password(&Secret::new(text.to_owned()))
}

fn text(salt: &[u8; 16], keys: &ScramKeys) -> String {
    let (salt, stored, server) =
        (STANDARD.encode(salt), STANDARD.encode(keys.stored_key), STANDARD.encode(keys.server_key));
    format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}")
}

fn random<const N: usize>() -> Result<[u8; N], ConnectorError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| ConnectorError::Randomness)?;
    Ok(bytes)
}

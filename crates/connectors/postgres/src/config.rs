//! What a connector for PostgreSQL is told when it starts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halligan_connector::ConnectorError;
use halligan_vault::Vault;
use zeroize::Zeroizing;

use crate::authority::ClientAuthority;

/// How the connector's own account proves itself at the servers.
#[derive(Clone)]
pub enum LoginCredential {
    /// A password from the vault: the secret `SECRET-SYSTEM` if there is one, else `SECRET`.
    Vault {
        /// The vault.
        vault: Arc<Vault>,
        /// Name of the secret.
        secret: String,
    },
    /// A client certificate, read anew at each connection.
    Certificate {
        /// Chain, PEM.
        certificate: PathBuf,
        /// Key, PEM.
        key: PathBuf,
    },
}

impl LoginCredential {
    /// The password for this system, if it is one.
    pub(crate) fn password(&self, system: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ConnectorError> {
        let Self::Vault { vault, secret } = self else { return Ok(None) };
        let get = |name: &str| vault.get(name).map_err(ConnectorError::key("open the vault"));
        // A system's name may be too long or too strange for a file; then there is only the common secret.
        let own = format!("{secret}-{system}");
        let found = match vault.path(&own) {
            Ok(_) => get(&own)?,
            Err(_) => None,
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => get(secret)?.map(Some).ok_or_else(|| {
                ConnectorError::refused(format!(
                    "the vault holds no secret `{secret}` to log in at {system} with; `halligan connector postgres-setup` makes one"
                ))
            }),
        }
    }
}

impl fmt::Debug for LoginCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault { secret, .. } => write!(f, "secret {secret}"),
            Self::Certificate { certificate, .. } => write!(f, "certificate {}", certificate.display()),
        }
    }
}

/// Settings of the PostgreSQL part of one connector.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// The connector's own account at the servers (default `halligan_connector`).
    pub login: String,
    /// How it proves itself.
    pub credential: LoginCredential,
    /// Networks of the site's gateways (`192.0.2.7/32`): from there, and from nowhere else, session roles may come in.
    pub gateways: Vec<String>,
    /// Who signs the certificates that open standing roles; none = grants with `activation: prepared` are refused.
    pub authority: Option<ClientAuthority>,
    /// How long such a certificate is good (default 2 minutes; never beyond the grant's deadline).
    pub certificate_life: Duration,
    /// How often a server with living grants is swept (default 2 s; a role outlives its deadline by at most twice that).
    pub sweep: Duration,
    /// How often a server without any is (default 60 s): roles come back with a backup that is restored.
    pub sweep_idle: Duration,
}

impl PostgresConfig {
    /// With the defaults.
    pub fn new(credential: LoginCredential, gateways: Vec<String>) -> Self {
        Self {
            login: "halligan_connector".to_owned(),
            credential,
            gateways,
            authority: None,
            certificate_life: Duration::from_secs(120),
            sweep: Duration::from_secs(2),
            sweep_idle: Duration::from_secs(60),
        }
    }
}

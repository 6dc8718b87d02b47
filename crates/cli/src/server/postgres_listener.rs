//! The gateway's listener for PostgreSQL clients, where one is wanted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_core::ids::Name;
use halligan_gateway::Gateway;
use halligan_link::messages::ClientListener;
use halligan_protocol_postgres::{PostgresConfig, PostgresListener};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::api::host_of;
use super::gateway_role::public_address;
use crate::config::{Config, address_of};

/// The protocol under which people's machines are told of it.
pub const POSTGRES: &str = "postgres";
/// A certificate is told as it is only as long as it is no longer than this, in base64: control takes no more.
const MOST_BYTES: usize = 8000;

/// Takes the address, and tells where it is. Nothing if the configuration names none.
pub async fn bind(
    config: &Config,
    folder: &Path,
    gateway: &Gateway,
    name: &Name,
) -> anyhow::Result<Option<PostgresListener>> {
    let Some(listen) = &config.gateway.postgres_listen else { return Ok(None) };
    let address = address_of(listen)
        .with_context(|| format!("failed to read gateway.postgres_listen = \"{listen}\""))?;
    let mut postgres = PostgresConfig::new(address, name.clone(), folder);
    if let (Some(certificate), Some(key)) =
        (&config.gateway.postgres_certificate, &config.gateway.postgres_key)
    {
        postgres.certificate_file.clone_from(certificate);
        postgres.key_file.clone_from(key);
    }
    let host =
        |address: &str| address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
    postgres.names.extend(config.gateway.postgres_public_address.as_deref().and_then(host));
    postgres.names.extend(config.gateway.public_address.as_deref().and_then(host));
    postgres.names.extend(host_of(config.server.public_url.as_deref()));
    postgres.login_grace = Duration::from_secs(u64::from(config.limits.login_seconds));
    postgres.most_connections = usize::try_from(config.limits.connections)?;
    postgres.drain = Duration::from_secs(config.server.drain_seconds);
    let listener = PostgresListener::bind(postgres, Arc::new(gateway.clone())).await?;
    let at = public_address(config, config.gateway.postgres_public_address.as_ref(), listener.local_addr())?;
    tracing::info!(address = at, "people's PostgreSQL clients are told to come here");
    let told = ClientListener { address: at, host_keys: pinned(listener.certificate_pem()) };
    gateway.listens(POSTGRES, told);
    Ok(Some(listener))
}

/// The certificate in one line, for machines that pin it.
fn pinned(pem: &str) -> Vec<String> {
    let first = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let line = first.map(|der| STANDARD.encode(&der)).unwrap_or_default();
    if line.is_empty() || line.len() > MOST_BYTES {
        tracing::warn!(
            bytes = line.len(),
            "the certificate for PostgreSQL clients is too long to be told: `halligan psql` and `halligan connect` do not come in here"
        );
        return Vec::new();
    }
    vec![format!("certificate {line}")]
}

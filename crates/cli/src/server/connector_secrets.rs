//! What a connector logs in at PostgreSQL servers with: secrets in its vault, and the set-up script that knows only their
//! verifiers.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use halligan_connector_postgres::{ClientAuthority, LoginCredential, PostgresConfig, Setup, login_verifier};
use halligan_core::ids::Name;
use halligan_link::{Role, RootFile};
use halligan_vault::{SECRET_MOST_BYTES, Vault, VaultKey};
use zeroize::Zeroizing;

use super::process::make_private;
use crate::config::Config;

/// Name of the secret that opens every PostgreSQL server of the site.
pub const POSTGRES_SECRET: &str = "postgres";

/// Name of the secret that signs what opens standing roles.
pub const POSTGRES_AUTHORITY: &str = "postgres-ca";
/// Standing roles of a group, unless it says otherwise.
const STANDING_ROLES: u8 = 4;

/// The connector's folder: its own, or the one beside the server's.
pub fn folder(config: &Config) -> anyhow::Result<PathBuf> {
    let own = RootFile::load(&config.server.folder)?.is_some_and(|root| root.role == Role::Connector);
    Ok(if own { config.server.folder.clone() } else { config.connector_folder() })
}

/// Its vault. The key is made where there is none.
pub fn vault(config: &Config, folder: &std::path::Path) -> anyhow::Result<Vault> {
    let secrets = folder.join("vault");
    make_private(&secrets)?;
    let key = match &config.connector.vault_key {
        Some(path) => VaultKey::read(path)?,
        None => VaultKey::read_or_make(&folder.join("vault_key"))?,
    };
    Ok(Vault::new(secrets, key))
}

/// Settings of the connector's PostgreSQL part.
pub fn postgres(config: &Config, folder: &std::path::Path) -> anyhow::Result<PostgresConfig> {
    let said = &config.connector.postgres;
    let vault = Arc::new(vault(config, folder)?);
    let authority = ClientAuthority::new(Arc::clone(&vault), POSTGRES_AUTHORITY);
    let credential = match (&said.client_certificate, &said.client_key) {
        (Some(certificate), Some(key)) => {
            LoginCredential::Certificate { certificate: certificate.clone(), key: key.clone() }
        }
        _ => LoginCredential::Vault { vault, secret: POSTGRES_SECRET.to_owned() },
    };
    let gateways = if said.gateways.is_empty() { &config.connector.source_addresses } else { &said.gateways };
    let mut options = PostgresConfig::new(credential, gateways.clone());
    options.login.clone_from(&said.login);
    options.authority = Some(authority);
    Ok(options)
}

/// Keeps what standard input holds.
pub fn set_secret(config: &Config, name: &str) -> anyhow::Result<()> {
    let of_system = name.strip_prefix(POSTGRES_SECRET).and_then(|rest| rest.strip_prefix('-'));
    if name != POSTGRES_SECRET && of_system.is_none_or(|system| system.parse::<Name>().is_err()) {
        bail!(
            "no connector asks for a secret `{name}`: write {POSTGRES_SECRET}, or {POSTGRES_SECRET}-SYSTEM for one server"
        );
    }
    if std::io::stdin().is_terminal() {
        bail!("the secret is read from standard input, as in: halligan connector secret set {name} < FILE");
    }
    let mut secret = Zeroizing::new(Vec::new());
    let most = SECRET_MOST_BYTES as u64 + 1;
    std::io::stdin().lock().take(most).read_to_end(&mut secret).context("failed to read the secret")?;
    let bare =
        secret.strip_suffix(b"\n").map_or(secret.as_slice(), |bare| bare.strip_suffix(b"\r").unwrap_or(bare));
    let vault = vault(config, &folder(config)?)?;
    vault.put(name, bare)?;
    println!("The secret `{name}` is sealed in {}.", vault.path(name)?.display());
    Ok(())
}

/// What a set-up script is made from.
#[derive(Debug, Args)]
// The verb that takes it has the same name, which clap would give both.
#[group(skip)]
pub struct PostgresSetup {
    /// A database that sessions may open; may be repeated. The first is the one that the connector itself opens.
    #[arg(long = "database", value_name = "NAME", required = true)]
    databases: Vec<String>,
    /// A NOLOGIN role that sessions may belong to (`account` of an entitlement); may be repeated.
    #[arg(long = "group", value_name = "ROLE", required = true)]
    groups: Vec<String>,
    /// An address or network of gateways, as the server sees them; may be repeated.
    #[arg(long = "gateway", value_name = "ADDRESS", required = true)]
    gateways: Vec<String>,
    /// An address or network of the connector, as the server sees it; may be repeated.
    #[arg(long = "connector", value_name = "ADDRESS", required = true)]
    connectors: Vec<String>,
    /// A group that shall have standing roles too, for `activation: prepared`, and how many (4): `ROLE` or `ROLE=COUNT`; may be
    /// repeated. They are opened by certificates of the connector's own authority, which is printed.
    #[arg(long, value_name = "ROLE[=COUNT]", value_parser = standing)]
    prepared: Vec<(String, u8)>,
    /// Lets the connector look in the server's log for logins that no session explains. It sees lines about logins only.
    #[arg(long)]
    read_log: bool,
    /// The system has a password of its own, and not the one of the site.
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
}

fn standing(text: &str) -> Result<(String, u8), String> {
    match text.split_once('=') {
        None => Ok((text.to_owned(), STANDING_ROLES)),
        Some((group, count)) => {
            let count = count.parse().map_err(|_| format!("`{count}` is no number of roles"))?;
            Ok((group.to_owned(), count))
        }
    }
}

/// The script with what to do with it. Makes and keeps the connector's password where there is none yet.
pub fn setup_text(config: &Config, wish: PostgresSetup) -> anyhow::Result<String> {
    let said = &config.connector.postgres;
    let verifier = if said.client_certificate.is_some() {
        None
    } else {
        let vault = vault(config, &folder(config)?)?;
        let name = match &wish.system {
            Some(system) => format!("{POSTGRES_SECRET}-{system}"),
            None => POSTGRES_SECRET.to_owned(),
        };
        Some(login_verifier(&vault, &name)?)
    };
    let client_authority = if wish.prepared.is_empty() {
        None
    } else {
        let vault = Arc::new(vault(config, &folder(config)?)?);
        Some(ClientAuthority::new(vault, POSTGRES_AUTHORITY).certificate()?)
    };
    let setup = Setup {
        databases: wish.databases,
        groups: wish.groups,
        connector: said.login.clone(),
        verifier,
        gateways: wish.gateways,
        connectors: wish.connectors,
        prepared: wish.prepared,
        client_authority,
        read_log: wish.read_log,
    };
    let (explanation, script, hba) = (setup.explanation(), setup.script()?, setup.hba()?);
    let lines: String = hba.lines().map(|line| format!("-- {line}\n")).collect();
    Ok(format!("{explanation}{script}\n-- Lines for pg_hba.conf, without the dashes:\n{lines}"))
}

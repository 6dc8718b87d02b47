//! The connector's own connections: one kept for each server, so that it is there when the server takes no new ones, and
//! short ones for work inside a database. Nothing here takes longer than [`CALL_MOST`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halligan_connector::ConnectorError;
use halligan_core::catalog::PostgresTarget;
use halligan_core::ids::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config};

use crate::config::{LoginCredential, PostgresConfig};
use crate::tls::Tls;

/// Longest for one call.
pub const CALL_MOST: Duration = Duration::from_secs(15);
/// Longest for a connection.
const CONNECT_MOST: Duration = Duration::from_secs(8);
/// Set at the start of each connection. The last: people can set it too, and what they did must be undone.
const SETTINGS: &str = "SET statement_timeout = '12s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '15s'; \
     SET client_encoding = 'UTF8'; SET search_path = pg_catalog; SET default_transaction_read_only = off";

/// A server, as a lease or the catalog names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The system.
    pub system: Name,
    /// `host:port`.
    pub address: String,
    /// The database for what concerns the whole server: the first that the catalog names.
    pub database: String,
    /// Who signed its certificate, PEM.
    pub server_ca: String,
    /// The name in it.
    pub server_name: Option<String>,
}

impl Address {
    /// Of a system; or what the catalog is missing.
    pub fn of(system: &Name, address: &str, target: Option<&PostgresTarget>) -> Result<Self, String> {
        let Some(target) = target else {
            return Err("the catalog names no databases and no server CA (`postgres:`)".to_owned());
        };
        let Some(database) = target.databases.first() else {
            return Err("the catalog names no database".to_owned());
        };
        let this = Self {
            system: system.clone(),
            address: address.to_owned(),
            database: database.clone(),
            server_ca: target.server_ca.clone(),
            server_name: target.server_name.clone(),
        };
        this.host()?;
        Tls::new(&this.server_ca, this.trusted_name()?, None).map_err(|error| error.sentence())?;
        Ok(this)
    }

    fn host(&self) -> Result<(&str, u16), String> {
        let bad = || format!("`{}` is no address of the form host:port", self.address);
        let (host, port) = self.address.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok((host, port.parse().map_err(|_| bad())?))
    }

    fn trusted_name(&self) -> Result<&str, String> {
        match &self.server_name {
            Some(name) => Ok(name),
            None => self.host().map(|(host, _)| host),
        }
    }
}

/// A login without a password: what the server answers to it says whether the way there is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knock {
    /// `pg_hba.conf` refuses it.
    Refused,
    /// It was asked for a password, or let in.
    Open,
    /// Something else happened.
    Unclear(String),
}

/// A login by client certificate: how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateKnock {
    /// TLS took the certificate; what came then (logged in, refused by `pg_hba.conf`, …) in words.
    Taken(String),
    /// TLS refused it.
    NotTaken(String),
    /// Something else happened.
    Unclear(String),
}

/// The servers of one site.
#[derive(Debug)]
pub struct Servers {
    config: PostgresConfig,
    kept: Mutex<HashMap<Address, Arc<Client>>>,
    /// The name of our own tries to get in, by which a server's log tells them from others'.
    probe: String,
}

impl Servers {
    pub fn new(config: PostgresConfig) -> Self {
        let mut random = [0; 8];
        // Without randomness it is a name like any other, and our tries are told as others' are.
        let named = getrandom::fill(&mut random).is_ok();
        let probe = if named { format!("halligan probe {}", hex::encode(random)) } else { String::new() };
        Self { config, kept: Mutex::default(), probe }
    }

    /// Whether a login with this `application_name` was a try of this process.
    pub fn is_probe(&self, application: &str) -> bool {
        !self.probe.is_empty() && application == self.probe
    }

    /// The connection that is kept, made anew where it broke.
    async fn kept(&self, at: &Address) -> Result<Arc<Client>, ConnectorError> {
        let held = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
        if let Some(client) = held.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let client = Arc::new(self.connect(at, &at.database).await?);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone(), Arc::clone(&client));
        Ok(client)
    }

    /// Lets the kept connection go, where nothing is living there.
    pub fn let_go(&self, at: &Address) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(at);
    }

    /// Calls a function of the set-up over the kept connection; its answer is JSON.
    pub async fn call<T: DeserializeOwned>(
        &self,
        at: &Address,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, ConnectorError> {
        let client = self.kept(at).await?;
        let answer = ask(&client, at, what, sql, parameters).await;
        if answer.is_err() && client.is_closed() {
            // It broke while nobody used it, as after a restart of the server. All calls may be repeated.
            self.let_go(at);
            let client = self.kept(at).await?;
            return ask(&client, at, what, sql, parameters).await;
        }
        if matches!(&answer, Err(ConnectorError::Target { source, .. }) if source.is::<TookTooLong>()) {
            self.let_go(at);
        }
        answer
    }

    /// Sees to it that a connection is there for when the server takes no new ones.
    pub async fn hold(&self, at: &Address) -> Result<(), ConnectorError> {
        self.kept(at).await.map(|_| ())
    }

    /// The same inside a database of the server, over a connection of its own where there can be one.
    pub async fn call_in<T: DeserializeOwned>(
        &self,
        at: &Address,
        database: &str,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, ConnectorError> {
        match self.connect(at, database).await {
            Ok(client) => ask(&client, at, what, sql, parameters).await,
            // The server is full, perhaps. The kept connection is in this database.
            Err(_) if database == at.database => self.call(at, what, sql, parameters).await,
            Err(error) => Err(error),
        }
    }

    async fn connect(&self, at: &Address, database: &str) -> Result<Client, ConnectorError> {
        let what = || format!("connect to {} ({}) as {}", at.system, at.address, self.config.login);
        let mut config = base(at, database).map_err(ConnectorError::refused)?;
        config.user(&self.config.login).application_name("halligan connector");
        let client = match &self.config.credential {
            LoginCredential::Vault { .. } => {
                if let Some(password) = self.config.credential.password(at.system.as_str())? {
                    config.password(password.as_slice());
                }
                None
            }
            LoginCredential::Certificate { certificate, key } => {
                let read = async |path: &std::path::Path| {
                    tokio::fs::read(path)
                        .await
                        .map_err(ConnectorError::state(format!("read {}", path.display())))
                };
                Some((read(certificate).await?, zeroize::Zeroizing::new(read(key).await?)))
            }
        };
        let client = client.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
        let tls = Tls::new(&at.server_ca, at.trusted_name().map_err(ConnectorError::refused)?, client)?;
        let connecting = async {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(connection);
            client.batch_execute(SETTINGS).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match timeout(CONNECT_MOST, connecting).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(ConnectorError::target(what())(sentence(&error))),
            Err(_) => Err(ConnectorError::target(what())(TookTooLong)),
        }
    }

    /// Tries to come in as the role that never logs in, from here.
    pub async fn knock(&self, at: &Address) -> Knock {
        let tls = at
            .trusted_name()
            .and_then(|name| Tls::new(&at.server_ca, name, None).map_err(|error| error.sentence()));
        let (mut config, tls) = match (base(at, &at.database), tls) {
            (Ok(config), Ok(tls)) => (config, tls),
            (Err(why), _) | (_, Err(why)) => return Knock::Unclear(why),
        };
        config.user("halligan_probe").application_name(&self.probe).password("none");
        let error = match timeout(CONNECT_MOST, config.connect(tls)).await {
            Err(_) => return Knock::Unclear("it did not answer".to_owned()),
            Ok(Ok(_)) => return Knock::Open,
            Ok(Err(error)) => error,
        };
        let Some(said) = error.as_db_error() else { return Knock::Unclear(sentence(&error)) };
        // A role that may not log in is told so only after the door let it through.
        if *said.code() == SqlState::INVALID_PASSWORD || said.routine() == Some("InitializeSessionUserId") {
            Knock::Open
        } else if *said.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            Knock::Refused
        } else {
            Knock::Unclear(sentence(&error))
        }
    }
}

impl Servers {
    /// Tries to come in as a standing role by this certificate, from here. Nothing is asked of the server then.
    pub async fn knock_with(
        &self,
        at: &Address,
        login: &str,
        certificate: &str,
        key: &str,
    ) -> CertificateKnock {
        let shown = Some((certificate.as_bytes(), key.as_bytes()));
        let tls = at
            .trusted_name()
            .and_then(|name| Tls::new(&at.server_ca, name, shown).map_err(|error| error.sentence()));
        let (mut config, tls) = match (base(at, &at.database), tls) {
            (Ok(config), Ok(tls)) => (config, tls),
            (Err(why), _) | (_, Err(why)) => return CertificateKnock::Unclear(why),
        };
        config.user(login).application_name(&self.probe);
        match timeout(CONNECT_MOST, config.connect(tls)).await {
            Err(_) => CertificateKnock::Unclear("it did not answer".to_owned()),
            Ok(Ok(_)) => CertificateKnock::Taken("it opened".to_owned()),
            Ok(Err(error)) if error.as_db_error().is_some() => {
                CertificateKnock::Taken(format!("TLS took it, then: {}", sentence(&error)))
            }
            Ok(Err(error)) if tls_refused(&error) => CertificateKnock::NotTaken(sentence(&error)),
            Ok(Err(error)) => CertificateKnock::Unclear(sentence(&error)),
        }
    }
}

/// Whether the other side ended TLS by an alert, as it does when it takes no certificate.
fn tls_refused(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let inner = next.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::AlertReceived(_))) {
            return true;
        }
        cause = next.source();
    }
    false
}

fn base(at: &Address, database: &str) -> Result<Config, String> {
    let (host, port) = at.host()?;
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .dbname(database)
        .ssl_mode(SslMode::Require)
        .connect_timeout(Duration::from_secs(5))
        .tcp_user_timeout(Duration::from_secs(10))
        .keepalives_idle(Duration::from_secs(10));
    if let Ok(address) = host.parse::<IpAddr>() {
        config.hostaddr(address);
    }
    Ok(config)
}

/// The server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("it did not answer in time")]
struct TookTooLong;

async fn ask<T: DeserializeOwned>(
    client: &Client,
    at: &Address,
    what: &str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<T, ConnectorError> {
    let what = || format!("{what} at {} ({})", at.system, at.address);
    let asking = async {
        let row = client.query_one(sql, parameters).await?;
        row.try_get::<_, String>(0)
    };
    let text = match timeout(CALL_MOST, asking).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(ConnectorError::target(what())(sentence(&error))),
        Err(_) => return Err(ConnectorError::target(what())(TookTooLong)),
    };
    serde_json::from_str(&text).map_err(ConnectorError::target(what()))
}

/// What the server said, with the code, and without anything that it quotes from a statement.
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(next) = cause {
                text.push_str(": ");
                text.push_str(&next.to_string());
                cause = next.source();
            }
            text
        }
    }
}

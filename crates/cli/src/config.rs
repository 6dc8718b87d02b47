//! The server's configuration: one TOML file for all three roles. What it says is here; how it is read, and where each
//! value comes from, in `config/load.rs`; what fits together, in `config/check.rs`.

mod check;
mod load;

pub use check::{address_of, expected};
pub use load::{Loaded, Overrides, load};

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node and its API.
    pub server: Server,
    /// Where control keeps what it must not lose.
    pub store: Store,
    /// Control's ledger.
    pub ledger: Ledger,
    /// Who can open every recording, offline.
    pub auditors: Auditors,
    /// Links with other nodes.
    pub link: Link,
    /// The gateway role.
    pub gateway: Gateway,
    /// The connector role.
    pub connector: Connector,
    /// How alerts leave; which go where stands in the catalog.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub notify: halligan_notify::NotifyConfig,
    /// Bounds.
    pub limits: Limits,
}

/// This node and its API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Name of this control node: `[a-z0-9._-]`.
    pub name: String,
    /// Its site.
    pub site: String,
    /// State folder of this node. Each role has a folder of its own in it.
    pub folder: PathBuf,
    /// Where the API listens.
    pub listen: String,
    /// The address that people and tools use, `https://halligan.example.org`. Default: made of `listen`.
    pub public_url: Option<String>,
    /// Serve plain HTTP. Only for a loopback address.
    pub plain_http: bool,
    /// Own certificate; without it one is made on the first start.
    pub tls: Tls,
    /// Person id of the first administrator, on the first start.
    pub administrator: String,
    /// How long sessions may go on after a stop was asked for, in seconds.
    pub drain_seconds: u64,
    /// What is logged: a level, or directives such as `info,halligan_link=debug`.
    pub log_level: String,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: "control".to_owned(),
            site: "main".to_owned(),
            folder: PathBuf::from("/var/lib/halligan"),
            listen: "127.0.0.1:7300".to_owned(),
            public_url: None,
            plain_http: false,
            tls: Tls::default(),
            administrator: "admin".to_owned(),
            drain_seconds: 10,
            log_level: "info".to_owned(),
        }
    }
}

/// The API's certificate, PEM files; read again on SIGHUP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificate chain.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// Which engine keeps the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One file, one node.
    #[default]
    Sqlite,
    /// A server, for several nodes.
    Postgres,
}

/// Where control keeps what it must not lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Which engine.
    pub kind: StoreKind,
    /// SQLite: the file. Default: `control/store.db` in the state folder.
    pub path: Option<PathBuf>,
    /// PostgreSQL: connection string or URL, without a password.
    pub url: Option<String>,
    /// PostgreSQL: file with the password; read anew for each connection.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: PEM file with the roots that the server's certificate must chain to.
    pub root_certificate: Option<PathBuf>,
}

/// Control's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Its name in every checkpoint, `example.org/halligan`. It cannot be changed later.
    pub origin: String,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { origin: "halligan/control".to_owned() }
    }
}

/// Who can open every recording, offline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auditors {
    /// Public keys, `age1…`. Without any an identity is made on the first start: move it offline.
    pub recipients: Vec<String>,
}

/// Links with other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Where control listens for gateways and connectors of other processes. Default: nowhere.
    pub listen: Option<String>,
    /// Where they reach it, `host:port`; goes into join tokens. Default: `listen`.
    pub addresses: Vec<String>,
    /// Nodes to write a join token for at each start until they have joined: `ROLE:NAME`, for a gateway with the address
    /// where connectors reach it: `gateway:gw-1@192.0.2.7:7302`. Files `join-NAME.token` in the state folder.
    pub write_join_tokens: Vec<String>,
}

/// The gateway role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Whether it runs in the server's process.
    pub enabled: bool,
    /// Its name in the server's process. In a process of its own the join token gives it.
    pub name: String,
    /// Where people's SSH clients come in.
    pub listen: String,
    /// Where they reach it, `host:port`, where that is another address than `listen` (all interfaces, a forwarded port).
    /// People's machines learn it from the server. Default: `listen`; where that is all interfaces, the host of
    /// `server.public_url`, else this machine's name.
    pub public_address: Option<String>,
    /// Where connectors come in, in a process of its own.
    pub link_listen: String,
    /// An OpenSSH host certificate for its host key, shown to clients that know its CA.
    pub host_certificate: Option<PathBuf>,
    /// Where people's PostgreSQL clients come in, `0.0.0.0:6432`. Default: nowhere.
    pub postgres_listen: Option<String>,
    /// Where they reach it, as `public_address`.
    pub postgres_public_address: Option<String>,
    /// PEM of the certificate that they see, and of those that vouch for it. Default: a self-made one in the gateway's
    /// folder, to which clients bind (`channel_binding=require`).
    pub postgres_certificate: Option<PathBuf>,
    /// PEM of its key.
    pub postgres_key: Option<PathBuf>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            enabled: true,
            name: "gw-1".to_owned(),
            listen: "0.0.0.0:2222".to_owned(),
            public_address: None,
            link_listen: "127.0.0.1:7302".to_owned(),
            host_certificate: None,
            postgres_listen: None,
            postgres_public_address: None,
            postgres_certificate: None,
            postgres_key: None,
        }
    }
}

/// The connector role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connector {
    /// Whether it runs in the server's process.
    pub enabled: bool,
    /// Its name in the server's process. In a process of its own the join token gives it.
    pub name: String,
    /// Networks from which certificates open a target's door: the site's gateways *and* this connector, as targets see
    /// them. Default: loopback only.
    pub source_addresses: Vec<String>,
    /// How far behind a target's clock may be, in seconds.
    pub clock_slack_seconds: u32,
    /// How targets get the list of revoked certificates. Without it a proof waits for the login window to pass.
    pub krl: Krl,
    /// File with the key of the connector's vault (64 hexadecimal digits, for its owner only), as systemd's
    /// `LoadCredential=` gives it. Default: `vault_key` in the connector's folder, made when missing.
    pub vault_key: Option<PathBuf>,
    /// How it logs in at PostgreSQL servers.
    pub postgres: ConnectorPostgres,
}

impl Default for Connector {
    fn default() -> Self {
        Self {
            enabled: true,
            name: "con-1".to_owned(),
            source_addresses: vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()],
            clock_slack_seconds: 30,
            krl: Krl::default(),
            vault_key: None,
            postgres: ConnectorPostgres::default(),
        }
    }
}

/// How a connector logs in at PostgreSQL servers: with the secret `postgres` of its vault, or with a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorPostgres {
    /// Its account at the servers.
    pub login: String,
    /// Networks of the gateways, as servers see them: nobody else may come in as a role of sessions. Empty = those of
    /// `connector.source_addresses`, which hold the connector's own too: then no login is tried from there to see whether the
    /// rules in the file are those in force.
    pub gateways: Vec<String>,
    /// PEM of its client certificate and those that vouch for it.
    pub client_certificate: Option<PathBuf>,
    /// PEM of its key.
    pub client_key: Option<PathBuf>,
}

impl Default for ConnectorPostgres {
    fn default() -> Self {
        Self {
            login: "halligan_connector".to_owned(),
            gateways: Vec::new(),
            client_certificate: None,
            client_key: None,
        }
    }
}

/// How targets get the list of revoked certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Krl {
    /// A file that targets read (`RevokedKeys`), here or on a shared disk.
    pub path: Option<PathBuf>,
    /// A program with arguments that carries the list to the targets; the list's path is added as the last argument.
    pub command: Vec<String>,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most live sessions of a gateway.
    pub sessions: u32,
    /// Most live sessions of one person at a gateway.
    pub sessions_per_person: u32,
    /// Most connections to a gateway.
    pub connections: u32,
    /// Seconds from connecting to being signed in.
    pub login_seconds: u32,
    /// With less disk than this free, in MiB, a gateway opens no session.
    pub disk_reserve_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 2_000,
            sessions_per_person: 50,
            connections: 8_192,
            login_seconds: 60,
            disk_reserve_mib: 256,
        }
    }
}

impl Config {
    /// The store's file with SQLite.
    pub fn store_path(&self) -> PathBuf {
        self.store.path.clone().unwrap_or_else(|| self.control_folder().join("store.db"))
    }
    /// Control's own folder.
    pub fn control_folder(&self) -> PathBuf {
        self.server.folder.join("control")
    }
    /// The folder of the gateway in this process.
    pub fn gateway_folder(&self) -> PathBuf {
        self.server.folder.join("gateway")
    }
    /// The folder of the connector in this process.
    pub fn connector_folder(&self) -> PathBuf {
        self.server.folder.join("connector")
    }
    /// The local socket by which a running node is asked.
    pub fn socket(&self) -> PathBuf {
        self.server.folder.join("admin.sock")
    }
}

/// The JSON Schema of the configuration file.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Config)
}

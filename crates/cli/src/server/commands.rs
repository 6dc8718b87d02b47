//! What operators type, as arguments, and which file carries it out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{self, Question};
use super::logs::{self, LogForm};
use super::{connector_secrets, join, one, process, recover, separate};
use crate::config::{self, Loaded, Overrides};
use crate::output::{Format, json, printable, table};

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// The configuration file. Without it defaults count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state folder.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Source {
    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        if let Some(folder) = &self.folder {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            overrides.values.push(("server.folder", Value::from(folder.to_string_lossy()), "--folder"));
        }
        overrides
    }

    fn load(&self, overrides: &Overrides) -> anyhow::Result<Loaded> {
        config::load(self.config.as_deref(), overrides)
    }

    /// The local socket of the node that runs with this configuration.
    fn socket(&self) -> anyhow::Result<PathBuf> {
        Ok(self.load(&self.overrides())?.config.socket())
    }
}

/// `halligan server`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Server {
    #[command(subcommand)]
    verb: Option<ServerVerb>,
    #[command(flatten)]
    source: Source,
    /// A throw-away start: loopback only, plain HTTP on localhost, a temporary folder unless one is given.
    #[arg(long)]
    dev: bool,
    /// Where the API listens.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where SSH clients come in.
    #[arg(long, value_name = "ADDRESS:PORT")]
    ssh_listen: Option<String>,
    /// Person id of the first administrator, on the first start.
    #[arg(long, value_name = "PERSON")]
    admin: Option<String>,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
}

#[derive(Debug, Subcommand)]
enum ServerVerb {
    /// How is the running server, and who is connected to it?
    Status(Source),
    /// Stops the running server in order.
    Stop(Source),
}

/// A role in a process of its own.
#[derive(Debug, Args)]
pub struct Role {
    #[command(flatten)]
    source: Source,
    /// Where SSH clients come in (gateway only).
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where connectors come in (gateway only).
    #[arg(long, value_name = "ADDRESS:PORT")]
    link_listen: Option<String>,
    /// Where PostgreSQL clients come in (gateway only).
    #[arg(long, value_name = "ADDRESS:PORT")]
    postgres_listen: Option<String>,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
}

/// `halligan connector`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Connector {
    #[command(subcommand)]
    verb: Option<ConnectorVerb>,
    #[command(flatten)]
    source: Source,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
}

#[derive(Debug, Subcommand)]
enum ConnectorVerb {
    /// Prints what to install at a target so that it lets this site's certificates in.
    Setup {
        /// The system, as the catalog names it.
        system: String,
        /// The account on it.
        account: String,
        #[command(flatten)]
        source: Source,
    },
    /// Prints the set-up script and the lines of pg_hba.conf for a PostgreSQL server. Makes the connector's password,
    /// where there is none yet, and keeps it in the connector's vault; the script holds only its verifier.
    PostgresSetup {
        #[command(flatten)]
        wish: connector_secrets::PostgresSetup,
        #[command(flatten)]
        source: Source,
    },
    /// Looks after the secrets in the connector's vault.
    Secret {
        #[command(subcommand)]
        verb: SecretVerb,
    },
}

#[derive(Debug, Subcommand)]
enum SecretVerb {
    /// Keeps what standard input holds under this name.
    Set {
        /// `postgres`, or `postgres-SYSTEM` for one server.
        name: String,
        #[command(flatten)]
        source: Source,
    },
}

/// `halligan node`.
#[derive(Debug, Args)]
pub struct Node {
    #[command(subcommand)]
    verb: NodeVerb,
}

#[derive(Debug, Subcommand)]
enum NodeVerb {
    /// Joins with a one-shot token; the folder then belongs to that node.
    Join {
        /// The token's file; `-` reads standard input.
        token: String,
        /// The new node's state folder.
        #[arg(long)]
        folder: PathBuf,
    },
    /// How is the node that runs on a folder?
    Status(Source),
}

/// `halligan config`.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Checks the configuration and shows where each value is from.
    Check {
        #[command(flatten)]
        source: Source,
        /// As `halligan server --dev` would read it.
        #[arg(long)]
        dev: bool,
    },
    /// Prints the JSON Schema of the file, for editors.
    Schema,
}

/// `halligan backup`.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    source: Source,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// `halligan ledger`.
#[derive(Debug, Args)]
pub struct Ledger {
    #[command(subcommand)]
    verb: LedgerVerb,
}

#[derive(Debug, Subcommand)]
enum LedgerVerb {
    /// Opens a new epoch after the store has gone back in time. Asks for two administrators and a reason; the server must
    /// not run.
    Recover(Source),
    /// Has the running server replay its ledger and compare every document with it: an edit by SQL shows.
    Check,
}

/// Runs a server, or asks one.
pub async fn server(command: Server, format: Format) -> anyhow::Result<()> {
    match command.verb {
        Some(ServerVerb::Status(source)) => {
            show(&admin::ask(&source.socket()?, &Question::Status {}).await?, format)
        }
        Some(ServerVerb::Stop(source)) => {
            show(&admin::ask(&source.socket()?, &Question::Stop {}).await?, format)
        }
        None => run_server(command).await,
    }
}

async fn run_server(command: Server) -> anyhow::Result<()> {
    let mut overrides = command.source.overrides();
    overrides.dev = command.dev;
    let flags = [
        ("server.listen", &command.listen, "--listen"),
        ("gateway.listen", &command.ssh_listen, "--ssh-listen"),
        ("server.administrator", &command.admin, "--admin"),
    ];
    for (path, value, flag) in flags {
        overrides.values.extend(value.clone().map(|value| (path, Value::from(value), flag)));
    }
    // Removed with all that is in it when the server ends in order.
    let mut throw_away = None;
    if command.dev && command.source.folder.is_none() && command.source.config.is_none() {
        let folder =
            tempfile::Builder::new().prefix("halligan-dev-").tempdir().context("failed to make a folder")?;
        overrides.values.push(("server.folder", Value::from(folder.path().to_string_lossy()), "--dev"));
        throw_away = Some(folder);
    }
    let loaded = command.source.load(&overrides)?;
    begin(command.log, &loaded)?;
    let outcome = one::run(loaded.config).await;
    drop(throw_away);
    outcome
}

/// Before any state is touched.
fn begin(log: LogForm, loaded: &Loaded) -> anyhow::Result<()> {
    process::harden()?;
    logs::start(log, &loaded.config.server.log_level)
}

/// Runs a gateway of its own.
pub async fn gateway(command: Role) -> anyhow::Result<()> {
    let mut overrides = command.source.overrides();
    let flags = [
        ("gateway.listen", &command.listen, "--listen"),
        ("gateway.link_listen", &command.link_listen, "--link-listen"),
        ("gateway.postgres_listen", &command.postgres_listen, "--postgres-listen"),
    ];
    for (path, value, flag) in flags {
        overrides.values.extend(value.clone().map(|value| (path, Value::from(value), flag)));
    }
    let loaded = command.source.load(&overrides)?;
    begin(command.log, &loaded)?;
    separate::gateway(loaded.config).await
}

/// Runs a connector of its own, or asks one.
pub async fn connector(command: Connector, format: Format) -> anyhow::Result<()> {
    match command.verb {
        None => {}
        Some(ConnectorVerb::Setup { system, account, source }) => {
            let answer = admin::ask(&source.socket()?, &Question::SshdSetup { system, account }).await?;
            return match (format, answer.get("text").and_then(Value::as_str)) {
                (Format::Table, Some(text)) => {
                    println!("{text}");
                    Ok(())
                }
                _ => json(&answer),
            };
        }
        Some(ConnectorVerb::PostgresSetup { wish, source }) => {
            process::harden()?;
            let config = source.load(&source.overrides())?.config;
            print!("{}", connector_secrets::setup_text(&config, wish)?);
            return Ok(());
        }
        Some(ConnectorVerb::Secret { verb: SecretVerb::Set { name, source } }) => {
            process::harden()?;
            let config = source.load(&source.overrides())?.config;
            return connector_secrets::set_secret(&config, &name);
        }
    }
    let loaded = command.source.load(&command.source.overrides())?;
    begin(command.log, &loaded)?;
    separate::connector(loaded.config).await
}

/// Makes this machine a node, or asks it.
pub async fn node(command: Node, format: Format) -> anyhow::Result<()> {
    match command.verb {
        NodeVerb::Join { token, folder } => {
            process::harden()?;
            let info = join::join_node(&token, &folder).await?;
            match format {
                Format::Table => println!("{} is now {info}. Start it on this folder.", folder.display()),
                Format::Json => {
                    json(&serde_json::json!({ "name": info.name, "role": info.role, "site": info.site }))?
                }
            }
            Ok(())
        }
        NodeVerb::Status(source) => show(&admin::ask(&source.socket()?, &Question::Status {}).await?, format),
    }
}

/// Looks at the configuration.
pub fn config(command: Config, format: Format) -> anyhow::Result<ExitCode> {
    match command.verb {
        ConfigVerb::Schema => json(&config::schema())?,
        ConfigVerb::Check { source, dev } => {
            let mut overrides = source.overrides();
            overrides.dev = dev;
            let all = source.load(&overrides)?.all()?;
            match format {
                Format::Json => {
                    let rows: Vec<Value> = all
                        .into_iter()
                        .map(|(key, value, origin)| {
                            serde_json::json!({ "key": key, "value": value, "origin": origin.to_string() })
                        })
                        .collect();
                    json(&rows)?;
                }
                Format::Table => {
                    let mut table = table(&["KEY", "VALUE", "FROM"]);
                    for (key, value, origin) in all {
                        table.add_row([key, shown(&value), origin.to_string()]);
                    }
                    println!("{table}");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies the running server's store.
pub async fn backup(command: Backup, format: Format) -> anyhow::Result<()> {
    let to = absolute(&command.to)?;
    let answer = admin::ask(&command.source.socket()?, &Question::Backup { to }).await?;
    show(&answer, format)
}

/// Looks after the ledger.
pub async fn ledger(command: Ledger, format: Format) -> anyhow::Result<ExitCode> {
    match command.verb {
        LedgerVerb::Recover(source) => {
            process::harden()?;
            recover::recover(&source.load(&source.overrides())?.config).await?;
            Ok(ExitCode::SUCCESS)
        }
        LedgerVerb::Check => crate::people::ledger::check(format).await,
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("failed to find {}", path.display()))
}

/// An answer of the local socket: JSON, or its leaves as rows.
fn show(answer: &Value, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return json(answer);
    }
    let mut table = table(&["WHAT", "VALUE"]);
    if let Value::Object(map) = answer {
        for (key, value) in map {
            match value {
                Value::Object(inner) => {
                    for (inner_key, value) in inner {
                        table.add_row([format!("{key}.{inner_key}"), shown(value)]);
                    }
                }
                Value::Array(items) => {
                    for item in items {
                        table.add_row([key.clone(), row(item)]);
                    }
                }
                other => {
                    table.add_row([key.clone(), shown(other)]);
                }
            }
        }
    }
    println!("{table}");
    Ok(())
}

/// A record in one line.
fn row(item: &Value) -> String {
    match item {
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key} {}", shown(value))).collect::<Vec<_>>().join(", ")
        }
        other => shown(other),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.lines().map(printable).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

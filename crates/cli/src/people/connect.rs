//! Into a database with any tool and without a password: a Unix socket in a private folder, behind which this process logs
//! in at the gateway. The password never leaves its memory: no argument, environment or file holds it. When the server cannot
//! be asked for one, the client certificate at hand is used: gateways know people without it.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use halligan_client::types::Listener;
use halligan_client::{Client, ClientError};
use halligan_core::ids::EntitlementName;
use halligan_protocol_postgres::Door;
use halligan_session::Secret;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::client_certificate;
use super::desk::Desk;
use super::failure::{self, said};
use crate::output::printable;
use crate::server::postgres_listener::POSTGRES;

/// The name that libpq looks for in the folder.
const SOCKET: &str = ".s.PGSQL.5432";
/// A gateway that does not take the connection in this time is away.
const REACHED_WITHIN: Duration = Duration::from_secs(3);
/// The password is made anew well before it dies.
const RENEW_EVERY: Duration = Duration::from_secs(8 * 60);

/// Opens a session with the stock `psql`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything after SYSTEM/ROLE goes to psql. Put -- before options that halligan has too, such as -o."
)]
pub struct Psql {
    /// Where to; you hold an active grant of it.
    #[arg(value_name = "SYSTEM/ROLE")]
    entitlement: EntitlementName,
    /// The database, if the entitlement opens several.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Options for psql.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PSQL ARGUMENT")]
    arguments: Vec<String>,
}

/// Keeps a socket open for pg_dump, drivers and graphical tools, until it is interrupted.
#[derive(Debug, Args)]
pub struct Connect {
    /// Where to; you hold an active grant of it.
    #[arg(value_name = "SYSTEM/ROLE")]
    entitlement: EntitlementName,
    /// The database, if the entitlement opens several.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// What tools connect to.
struct Opened {
    folder: tempfile::TempDir,
    database: String,
    login: String,
    door: Arc<Door>,
    /// Makes passwords; none where a certificate is used.
    passwords: Option<Client>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Psql {
    /// Runs `psql` to its end, and ends as it did.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let opened = open(desk, &self.entitlement, self.database.as_deref()).await?;
        let mut psql = tokio::process::Command::new("psql");
        psql.arg("-h").arg(opened.folder.path()).args(["-p", "5432", "-U", &opened.login]);
        if !opened.database.is_empty() {
            psql.args(["-d", &opened.database]);
        }
        psql.args(&self.arguments);
        // Ctrl-C is for psql: it cancels the statement.
        let _ours = signal(SignalKind::interrupt()).context("failed to watch for signals")?;
        let mut running = psql.spawn().map_err(|error| {
            said(format!("failed to start psql: {error}"), "install the PostgreSQL client")
        })?;
        let status = tokio::select! {
            status = running.wait() => status.context("failed to wait for psql")?,
            never = renew(&opened, &self.entitlement) => match never {},
        };
        opened.serving.abort();
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

impl Connect {
    /// Says how to connect, and keeps the door open.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let mut opened = open(desk, &self.entitlement, self.database.as_deref()).await?;
        let mut serving = std::mem::replace(&mut opened.serving, tokio::spawn(async { Ok(()) }));
        let folder = opened.folder.path().display().to_string();
        // A client that names none gets the first of its entitlement: its user's name stands for that.
        let database = if opened.database.is_empty() { &opened.login } else { &opened.database };
        let database = printable(database);
        let line = format!("host={folder} port=5432 dbname={database} user={}", printable(&opened.login));
        let told = serde_json::json!({
            "host": folder, "port": 5432, "database": database, "user": opened.login, "connection": line,
        });
        desk.print(&told, |_| {
            format!("{line}\n\nfor example: psql \"{line}\"\n             pg_dump -h {folder} -U {} {}\n\nCtrl-C closes it.",
                printable(&opened.login), database)
        })?;
        let mut terminated = signal(SignalKind::terminate()).context("failed to watch for signals")?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(()),
            // The folder goes with it.
            _ = terminated.recv() => Ok(()),
            never = renew(&opened, &self.entitlement) => match never {},
            served = &mut serving => {
                served.context("the socket closed")?.context("the socket closed")?;
                Ok(())
            }
        }
    }
}

async fn open(desk: &Desk, entitlement: &EntitlementName, wanted: Option<&str>) -> anyhow::Result<Opened> {
    let client = desk.client()?;
    let made = match client.connect_password(entitlement).await {
        Ok(made) => made,
        Err(error) => {
            let away = matches!(error, ClientError::Unreachable { .. }) || error.code() == Some("blocked");
            let error = anyhow::Error::new(error).context(format!("failed to open {entitlement}"));
            return if away { by_certificate(desk, entitlement, wanted, error).await } else { Err(error) };
        }
    };
    // For the hour when the server is away.
    let mut profile = desk.profile()?;
    if let Err(error) = client_certificate::refresh(&desk.home, &mut profile, &client, false).await {
        tracing::debug!(%error, "no client certificate");
    }
    let database = match wanted {
        Some(wanted) if made.databases.iter().any(|name| name == wanted) => wanted.to_owned(),
        Some(wanted) => {
            return Err(said(
                format!("{entitlement} does not open the database {}", printable(wanted)),
                format!("choose one of: {}", made.databases.join(", ")),
            ));
        }
        None => made.databases.first().cloned().unwrap_or_default(),
    };
    let gateways = client.gateways().await.context("failed to ask where the gateways are")?;
    let at = gateways
        .into_iter()
        .filter(|gateway| made.gateways.contains(&gateway.name))
        .find_map(|mut gateway| gateway.listeners.remove(POSTGRES))
        .ok_or_else(no_gateway)?;
    let certificate = certificate_of(&at)?;
    let secret = Secret::new(made.password.to_string());
    let door = Door::new(&at.address, &certificate, made.login.clone(), database.clone(), secret);
    listen(door, made.login.clone(), database, Some(client))
}

/// The server cannot make a password. `error` says why, if there is no other way.
async fn by_certificate(
    desk: &Desk,
    entitlement: &EntitlementName,
    database: Option<&str>,
    error: anyhow::Error,
) -> anyhow::Result<Opened> {
    let profile = desk.profile()?;
    let Some((certificate, key)) = client_certificate::at_hand(&desk.home, &profile, crate::output::now())?
    else {
        return Err(error);
    };
    failure::print(&error);
    eprintln!("going on with the client certificate at hand");
    let mut reachable = None;
    for at in profile.gateways.iter().filter_map(|gateway| gateway.listeners.get(POSTGRES)) {
        let dialled = tokio::net::TcpStream::connect(&at.address);
        if tokio::time::timeout(REACHED_WITHIN, dialled).await.is_ok_and(|dialled| dialled.is_ok()) {
            reachable = Some(at);
            break;
        }
    }
    let at = reachable.ok_or_else(no_gateway)?;
    let login = format!("{}+{}", entitlement.role, entitlement.system);
    let database = database.unwrap_or_default().to_owned();
    let own = (certificate.as_str(), &Secret::new(key.to_string()));
    let door = Door::by_certificate(&at.address, &certificate_of(at)?, login.clone(), database.clone(), own);
    listen(door, login, database, None)
}

fn no_gateway() -> anyhow::Error {
    said(
        "failed to find a gateway that lets database clients in",
        "ask an administrator to set gateway.postgres_listen",
    )
}

/// The certificate that a gateway shows, PEM.
fn certificate_of(at: &Listener) -> anyhow::Result<String> {
    let told = at.host_keys.iter().find_map(|line| line.strip_prefix("certificate "));
    told.map(|base64| format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"))
        .ok_or_else(|| {
            said(
                format!("the gateway at {} does not say which certificate it shows", printable(&at.address)),
                "use `halligan password` and your own tool",
            )
        })
}

fn listen(
    door: Result<Door, String>,
    login: String,
    database: String,
    passwords: Option<Client>,
) -> anyhow::Result<Opened> {
    let door = Arc::new(door.map_err(|why| said(why, "ask an administrator"))?);
    let folder = private_folder()?;
    let socket = folder.path().join(SOCKET);
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("failed to listen on {}", socket.display()))?;
    let serving = tokio::spawn(Arc::clone(&door).serve(listener));
    Ok(Opened { folder, database, login, door, passwords, serving })
}

/// Only its owner can enter it. It is removed at the end.
fn private_folder() -> anyhow::Result<tempfile::TempDir> {
    let mut made = tempfile::Builder::new();
    made.prefix("halligan-").permissions(std::fs::Permissions::from_mode(0o700));
    let runtime = PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw()));
    let folder = if runtime.is_dir() { made.tempdir_in(runtime) } else { made.tempdir() };
    folder.context("failed to make a private folder")
}

/// Makes passwords for later connections, for as long as somebody waits beside it.
async fn renew(opened: &Opened, entitlement: &EntitlementName) -> Infallible {
    let Some(client) = &opened.passwords else { return std::future::pending().await };
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match client.connect_password(entitlement).await {
            Ok(made) => opened.door.renew(Secret::new(made.password.to_string())),
            // Open connections end by themselves; new ones are refused by the gateway.
            Err(error) => tracing::debug!(%error, "no new password"),
        }
    }
}

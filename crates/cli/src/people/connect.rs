//! Into a database with any tool and without a password: a Unix socket in a private folder, behind which this process logs
//! in at a gateway. The password never leaves its memory: no argument, environment or file holds it. When the server cannot
//! be asked for one, the client certificate at hand is used: gateways know people without it. Where to go, and by what, is
//! decided anew whenever the door finds no way in ([`Ways`]).

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use halligan_client::ClientError;
use halligan_client::types::{ConnectPassword, Listener};
use halligan_core::ids::EntitlementName;
use halligan_protocol_postgres::{Door, Means, Place, Renewal};
use halligan_session::Secret;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::client_certificate;
use super::desk::Desk;
use super::failure::{self, said};
use super::sign_in::keep_gateways;
use super::ssh::write_known_hosts;
use crate::output::printable;
use crate::profile::{Home, KnownGateway, Profile};
use crate::server::postgres_listener::POSTGRES;

/// The name that libpq looks for in the folder.
const SOCKET: &str = ".s.PGSQL.5432";
/// A server that does not answer in this time is away: there is another way in.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// The password is made anew well before it dies, and if that fails, soon again, and then less often.
const RENEW_EVERY: Duration = Duration::from_secs(8 * 60);
const RENEW_AGAIN: Duration = Duration::from_secs(20);

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
    /// The gateway, by name or address; all that lead there if not said.
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
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
    /// The gateway, by name or address; all that lead there if not said.
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
}

/// What tools connect to.
struct Opened {
    folder: tempfile::TempDir,
    database: String,
    login: String,
    door: Arc<Door>,
    serving: tokio::task::JoinHandle<()>,
}

impl Psql {
    /// Runs `psql` to its end, and ends as it did.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let opened = open(desk, self.entitlement, self.gateway, self.database.as_deref()).await?;
        let mut psql = tokio::process::Command::new("psql");
        psql.arg("-h").arg(opened.folder.path()).args(["-p", "5432", "-U", &opened.login]);
        if !opened.database.is_empty() {
            psql.args(["-d", &opened.database]);
        }
        psql.args(&self.arguments);
        // These would lead past the door, to a server that asks for a password.
        psql.env_remove("PGHOSTADDR").env_remove("PGSERVICE");
        // Ctrl-C is for psql: it cancels the statement.
        let _ours = signal(SignalKind::interrupt()).context("failed to watch for signals")?;
        let mut ended = signal(SignalKind::terminate()).context("failed to watch for signals")?;
        let mut hung_up = signal(SignalKind::hangup()).context("failed to watch for signals")?;
        let mut running = psql.spawn().map_err(|error| {
            said(format!("failed to start psql: {error}"), "install the PostgreSQL client")
        })?;
        let status = loop {
            tokio::select! {
                status = running.wait() => break status.context("failed to wait for psql")?,
                never = renew(&opened) => match never {},
                // psql has no way in without this process.
                _ = ended.recv() => pass_on(&running, Signal::TERM),
                _ = hung_up.recv() => pass_on(&running, Signal::HUP),
            }
        };
        opened.serving.abort();
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

fn pass_on(to: &tokio::process::Child, signal: Signal) {
    let number = to.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(number) = number
        && let Err(error) = kill_process(number, signal)
    {
        tracing::debug!(%error, "psql took no signal");
    }
}

impl Connect {
    /// Says how to connect, and keeps the door open.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let mut opened = open(desk, self.entitlement, self.gateway, self.database.as_deref()).await?;
        let mut serving = std::mem::replace(&mut opened.serving, tokio::spawn(async {}));
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
        let mut hung_up = signal(SignalKind::hangup()).context("failed to watch for signals")?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(()),
            // The folder goes with it.
            _ = terminated.recv() => Ok(()),
            _ = hung_up.recv() => Ok(()),
            never = renew(&opened) => match never {},
            served = &mut serving => served.context("the socket closed"),
        }
    }
}

/// How a person gets to a database: asked again whenever the door finds no way in.
#[derive(Clone)]
struct Ways {
    home: Home,
    entitlement: EntitlementName,
    /// The only gateway that is wanted.
    gateway: Option<String>,
}

/// A way in.
struct Made {
    means: Means,
    login: String,
    /// Those that the entitlement opens, where that is known.
    databases: Vec<String>,
}

/// Why the server made no password.
struct NotMade {
    /// Nobody has decided anything: a gateway may still let us in.
    away: bool,
    error: anyhow::Error,
}

impl From<anyhow::Error> for NotMade {
    fn from(error: anyhow::Error) -> Self {
        Self { away: false, error }
    }
}

impl Ways {
    fn profile(&self) -> anyhow::Result<Profile> {
        self.home.load()?.ok_or_else(|| said("you are not signed in", "sign in with `halligan login`"))
    }

    /// By a password that the server makes.
    async fn by_password(&self) -> Result<Made, NotMade> {
        let mut profile = self.profile()?;
        let token = profile
            .token
            .clone()
            .ok_or_else(|| said("you are not signed in", "sign in with `halligan login`"))?;
        let client = profile.client()?.with_token(token);
        let asked = tokio::time::timeout(ANSWERED_WITHIN, client.connect_password(&self.entitlement)).await;
        let context = format!("failed to open {}", self.entitlement);
        let made: ConnectPassword = match asked {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => {
                let away = is_away(&error);
                return Err(NotMade { away, error: anyhow::Error::new(error).context(context) });
            }
            Err(_) => {
                let error =
                    anyhow::anyhow!("{} does not answer", printable(&profile.server)).context(context);
                return Err(NotMade { away: true, error });
            }
        };
        // Both for the hour when the server is away. Where the gateways are is known from the last time too.
        let kept = async {
            let gateways = client.gateways().await?;
            // Read again: somebody may have signed in meanwhile.
            profile = self.profile()?;
            let before = profile.gateways.clone();
            keep_gateways(&mut profile, gateways);
            if profile.gateways != before {
                write_known_hosts(&self.home, &profile)?;
                self.home.save(&profile)?;
            }
            client_certificate::refresh(&self.home, &mut profile, &client, false).await
        };
        match tokio::time::timeout(ANSWERED_WITHIN, kept).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "not everything is at hand for when the server is away")
            }
            Err(_) => tracing::debug!("the server does not answer any more"),
        }
        let told = |gateway: &KnownGateway| made.gateways.iter().any(|name| name.as_str() == gateway.name);
        let places = self.places(&profile, told)?;
        let secret = Secret::new(made.password.to_string());
        let means = Means::password(&places, secret).map_err(cannot_be_used)?;
        Ok(Made { means, login: made.login, databases: made.databases })
    }

    /// By the client certificate at hand, at any gateway that is known. None if there is no certificate.
    fn by_certificate(&self) -> anyhow::Result<Option<Made>> {
        let profile = self.profile()?;
        let at_hand = client_certificate::at_hand(&self.home, &profile, crate::output::now())?;
        let Some((certificate, key)) = at_hand else { return Ok(None) };
        let places = self.places(&profile, |_| true)?;
        let key = Secret::new(key.to_string());
        let means = Means::certificate(&places, &certificate, &key).map_err(cannot_be_used)?;
        let login = format!("{}+{}", self.entitlement.role, self.entitlement.system);
        Ok(Some(Made { means, login, databases: Vec::new() }))
    }

    fn places(&self, profile: &Profile, leads: impl Fn(&KnownGateway) -> bool) -> anyhow::Result<Vec<Place>> {
        let known = profile.gateways.iter().filter_map(|gateway| {
            let at = gateway.listeners.get(POSTGRES)?;
            let named = |name: &String| gateway.name == *name || at.address == *name;
            (leads(gateway) && self.gateway.as_ref().is_none_or(named)).then_some(at)
        });
        let (mut places, mut wrong) = (Vec::new(), None);
        for at in known {
            match certificate_of(at) {
                Ok(certificate) => places.push(Place { address: at.address.clone(), certificate }),
                Err(error) => wrong = Some(error),
            }
        }
        match (places.is_empty(), wrong) {
            (false, _) => Ok(places),
            (true, Some(error)) => Err(error),
            (true, None) => Err(self.no_gateway()),
        }
    }

    fn no_gateway(&self) -> anyhow::Error {
        match &self.gateway {
            Some(name) => said(
                format!(
                    "the gateway {} is not known, or does not lead there for database clients",
                    printable(name)
                ),
                "leave --gateway out; `halligan doctor` names those that are known",
            ),
            None => said(
                "no gateway is known that lets database clients in there",
                "sign in with `halligan login` while the server is there; if that does not help, ask an administrator to set gateway.postgres_listen",
            ),
        }
    }

    /// Other means for the door: the server may be back, or away.
    async fn any(self) -> Option<Means> {
        let made = match self.by_password().await {
            Ok(made) => Some(made),
            Err(failed) if failed.away => self.by_certificate().unwrap_or_else(|error| {
                tracing::debug!(%error, "no certificate to go on with");
                None
            }),
            Err(failed) => {
                tracing::debug!(error = %failed.error, "no new password");
                None
            }
        };
        made.map(|made| made.means)
    }
}

/// Nobody has said no: there is no server, or it is sick, or somebody else answers in its place.
fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Answer { .. })
        || error.status().is_some_and(|status| status >= 500)
        || error.code() == Some("blocked")
}

fn cannot_be_used(why: String) -> anyhow::Error {
    said(why, "ask an administrator")
}

async fn open(
    desk: &Desk,
    entitlement: EntitlementName,
    gateway: Option<String>,
    wanted: Option<&str>,
) -> anyhow::Result<Opened> {
    // Says so if nobody has signed in here.
    desk.client()?;
    let ways = Ways { home: desk.home.clone(), entitlement, gateway };
    let what = format!("asking the server for a way to {}", ways.entitlement);
    let made = match desk.waiting(&what, ways.by_password()).await {
        Ok(made) => made,
        Err(failed) if failed.away => match ways.by_certificate() {
            Ok(None) => return Err(failed.error),
            Ok(Some(made)) => {
                failure::print(&failed.error);
                eprintln!("going on with the client certificate at hand");
                made
            }
            Err(error) => {
                failure::print(&failed.error);
                return Err(error);
            }
        },
        Err(failed) => return Err(failed.error),
    };
    let Made { means, login, databases } = made;
    let database = match wanted {
        Some(wanted) if !databases.is_empty() && !databases.iter().any(|name| name == wanted) => {
            return Err(said(
                format!("{} does not open the database {}", ways.entitlement, printable(wanted)),
                format!("choose one of: {}", databases.join(", ")),
            ));
        }
        Some(wanted) => wanted.to_owned(),
        None => databases.first().cloned().unwrap_or_default(),
    };
    let renewal: Renewal = Box::new(move || Box::pin(ways.clone().any()));
    let door = Arc::new(Door::new(login.clone(), database.clone(), means, renewal));
    let folder = private_folder()?;
    let socket = folder.path().join(SOCKET);
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("failed to listen on {}", socket.display()))?;
    let serving = tokio::spawn(Arc::clone(&door).serve(listener));
    Ok(Opened { folder, database, login, door, serving })
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

/// Only its owner can enter it. It is removed at the end.
fn private_folder() -> anyhow::Result<tempfile::TempDir> {
    let mut made = tempfile::Builder::new();
    made.prefix("halligan-").permissions(std::fs::Permissions::from_mode(0o700));
    let runtime = PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw()));
    let folder = if runtime.is_dir() { made.tempdir_in(runtime) } else { made.tempdir() };
    folder.context("failed to make a private folder")
}

/// Sees to it that later connections find a way in, for as long as somebody waits beside it.
async fn renew(opened: &Opened) -> Infallible {
    let mut pause = RENEW_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        // Open connections go on whatever comes of it; a new one asks for itself.
        pause = match opened.door.renew().await {
            true => RENEW_EVERY,
            false if pause == RENEW_EVERY => RENEW_AGAIN,
            false => (pause * 2).min(RENEW_EVERY),
        };
    }
}

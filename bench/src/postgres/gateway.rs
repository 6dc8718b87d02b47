//! The gateway in a process of its own, so that its processor time and its memory can be read: the engine, its links by
//! mutual TLS to control and connector, and the listener for PostgreSQL clients.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use halligan_core::ids::Name;
use halligan_gateway::{Gateway, Options as GatewayOptions, SystemClock};
use halligan_link::{
    AllowedNodes, KeyPrint, LinkListener, NodeKey, PeerInfo, Role, RootFile, Timing, keep_connected,
};
use halligan_protocol_postgres::{PostgresConfig, PostgresListener};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::story::name;

/// The gateway's name.
pub const GATEWAY: &str = "gw-1";
/// The connector's.
pub const CONNECTOR: &str = "con-1";

/// A node's facts.
pub fn info(role: Role, text: &str) -> PeerInfo {
    PeerInfo { name: name(text), role, site: Name::main() }
}

/// The process.
pub struct GatewayProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    folder: PathBuf,
    /// Print of its node key.
    pub print: String,
    /// Where connectors reach it.
    pub link_address: String,
}

impl GatewayProcess {
    /// Starts it; it waits for [`Self::join`].
    pub fn start(folder: &Path, connector: KeyPrint) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("as-postgres-gateway")
            .arg(folder)
            .arg(connector.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the gateway")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the gateway has no output")?);
        let folder = folder.to_owned();
        let mut this =
            Self { child, input, output, folder, print: String::new(), link_address: String::new() };
        let said = this.read()?;
        this.print = text(&said, "print")?;
        this.link_address = text(&said, "link")?;
        Ok(this)
    }

    /// Tells it who control is, and gives the port of its listener.
    pub fn join(&mut self, root: &RootFile) -> Result<u16> {
        let input = self.input.as_mut().context("the gateway takes no input")?;
        writeln!(input, "{}", serde_json::to_string(root)?)?;
        let said = self.read()?;
        let port = said.get("port").and_then(Value::as_u64).context("the gateway named no port")?;
        Ok(u16::try_from(port)?)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the gateway ended before it was ready ({})", self.child.wait()?);
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its certificate and key, which others may show too: what TLS costs is the same everywhere.
    pub fn certificate(&self) -> Result<(String, String)> {
        let read = |file: &str| std::fs::read_to_string(self.folder.join(file));
        Ok((read("postgres_certificate.pem")?, read("postgres_key.pem")?))
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        drop(self.input.take());
        let end = Instant::now() + Duration::from_secs(15);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // Nothing to do when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value.get(key).and_then(Value::as_str);
    Ok(found.with_context(|| format!("the gateway did not say its {key}"))?.to_owned())
}

/// The process itself. Its input is control's facts in one line; it ends with its input.
pub async fn child(arguments: &[String]) -> Result<()> {
    let [folder, connector] = arguments else { bail!("a folder and the connector's print are needed") };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let key = NodeKey::make()?;
    let allowed = Arc::new(AllowedNodes::new());
    allowed.allow(connector.parse()?, info(Role::Connector, CONNECTOR));
    let mut links = LinkListener::bind("127.0.0.1:0", &key, allowed, Timing::default()).await?;
    say(&json!({ "print": key.print().to_string(), "link": links.address().to_string() }))?;
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let root: RootFile = serde_json::from_str(&line.await??)?;
    let lease_key = root.lease_key().map_err(anyhow::Error::msg)?;
    let mut options = GatewayOptions::new(folder.clone(), name(GATEWAY), lease_key);
    options.most_sessions_per_person = options.most_sessions;
    let gateway = Gateway::start(options, Arc::new(SystemClock))?;
    gateway.follow_control(Arc::new(keep_connected(
        root.control(),
        key,
        gateway.handler(),
        Timing::default(),
    )));
    let door = gateway.clone();
    tokio::spawn(async move {
        while let Ok(peer) = links.accept(door.handler()).await {
            door.connector_joined(peer);
        }
    });
    let config = PostgresConfig::new("127.0.0.1:0".parse()?, name(GATEWAY), &folder);
    let listener = PostgresListener::bind(config, Arc::new(gateway.clone())).await?;
    let port = listener.local_addr().port();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(stop.clone()));
    say(&json!({ "port": port }))?;
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    stop.cancel();
    // Its clients have gone.
    let _ = tokio::time::timeout(Duration::from_secs(10), serving).await;
    Ok(())
}

fn say(value: &Value) -> Result<()> {
    println!("{value}");
    std::io::stdout().flush()?;
    Ok(())
}

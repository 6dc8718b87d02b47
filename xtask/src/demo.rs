//! Commands that build a program of the workspace and run it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, root, run, target};
use crate::setup;

fn build_halligan() -> Result<()> {
    run(&mut cargo(&["build", "--locked", "-p", "halligan-cli"]))
}

fn built(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// Sets up, builds `halligan` and the program that plays the demonstration, and hands over to it.
pub fn demo(arguments: &[String]) -> Result<()> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match (argument.as_str(), rest.as_slice().first().map(String::as_str)) {
            ("--check" | "--crash-sweep", _) => {}
            ("--seed" | "--rounds" | "--only", Some(number)) if number.parse::<u64>().is_ok() => {
                rest.next();
            }
            ("--layout", Some("one" | "three")) | ("--store", Some("sqlite" | "postgres")) => {
                rest.next();
            }
            _ => {
                bail!(
                    "demo takes --check, --layout one|three, --store sqlite|postgres, --crash-sweep, --seed N, --rounds N and --only N, not {argument:?}"
                )
            }
        }
    }
    setup::setup()?;
    run(cargo(&["build", "--locked", "-p", "halligan-cli", "-p", "halligan-testkit"]).args([
        "--bin",
        "halligan",
        "--bin",
        "halligan-demo",
    ]))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    play(&arguments)
}

/// Plays the demonstration with the programs that are built.
pub fn play(arguments: &[&str]) -> Result<()> {
    let mut demo = Command::new(built("halligan-demo"));
    run(demo.args(arguments).current_dir(root()).env("HALLIGAN_BIN", built("halligan")))
}

/// Measures, with optimisation.
pub fn bench(arguments: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--locked", "--release", "-p", "halligan-bench", "--"]);
    run(command.args(arguments))
}

/// Writes the API's description anew. A test compares the file with what the program says.
pub fn openapi() -> Result<()> {
    build_halligan()?;
    let output = Command::new(built("halligan"))
        .arg("openapi")
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start halligan")?;
    if !output.status.success() || output.stdout.is_empty() {
        bail!("`halligan openapi` failed ({})", output.status);
    }
    let path = root().join("docs/openapi.json");
    fs::write(&path, output.stdout).with_context(|| format!("failed to write {}", path.display()))?;
    println!("wrote docs/openapi.json");
    Ok(())
}

/// Writes the manual pages.
pub fn man() -> Result<()> {
    build_halligan()?;
    let folder = target().join("man");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    run(Command::new(built("halligan")).arg("man").arg(&folder))?;
    println!("wrote the manual pages to {}", folder.display());
    Ok(())
}

//! What every file of the repository keeps to.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file is a room. Above `LONG` it is named, above `TOO_LONG` it is refused.
const LONG: usize = 600;
const TOO_LONG: usize = 900;

/// Folders of one machine. In pieces, so that this file does not name them.
const MACHINES: &[&[&str]] =
    &[&["/wo", "rk/"], &["/tmp/", "hw"], &["/ro", "ot/"], &["/Us", "ers/"], &["/build", "s/"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every tracked file, with its text; pictures and the like are left out.
fn tracked() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let read = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let files: Vec<_> = names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect();
    assert!(files.iter().any(|(name, _)| name == "Cargo.toml"), "git lists no files");
    files
}

/// Where `text` names a folder of one machine: at the start of a path, not in the midst of one.
fn machine_path(text: &str) -> Option<&str> {
    text.lines().find(|line| {
        MACHINES.iter().map(|pieces| pieces.concat()).any(|path| {
            line.match_indices(&path).any(|(at, _)| {
                let before = line.get(..at).and_then(|before| before.chars().next_back());
                !before.is_some_and(|c| c.is_alphanumeric() || "._-}/".contains(c))
            })
        })
    })
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let named: Vec<String> = tracked()
        .iter()
        .filter_map(|(name, text)| machine_path(text).map(|line| format!("{name}: {}", line.trim())))
        .collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
    let home = ["/ro", "ot/.ssh/id"].concat();
    assert!(machine_path(&format!("see {home}")).is_some(), "the rule sees nothing");
    assert!(machine_path(&format!("https://example.org{home}")).is_none(), "an address is no path");
}

#[test]
fn every_crate_says_what_it_is() {
    let silent: Vec<String> = tracked()
        .into_iter()
        .filter(|(name, _)| name.ends_with("src/lib.rs") || name.ends_with("src/main.rs"))
        .filter(|(_, text)| text.lines().take_while(|line| line.starts_with("//!")).count() < 3)
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "these do not say what they are, never do, and where to start: {silent:?}");
}

#[test]
fn no_file_is_too_long() {
    let mut long: Vec<(usize, String)> = tracked()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > LONG)
        .collect();
    long.sort();
    for (lines, name) in &long {
        println!("long: {name} has {lines} lines");
    }
    let too_long: Vec<_> = long.iter().filter(|(lines, _)| *lines > TOO_LONG).collect();
    assert!(too_long.is_empty(), "a file is one idea, at most {TOO_LONG} lines: {too_long:?}");
}

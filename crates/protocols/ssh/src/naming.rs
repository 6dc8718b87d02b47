//! Names that a client sends, and what may become of them: environment variables, commands, transfer tools.

use halligan_recording::Direction;
use halligan_session::end_reason::printable;
use sha2::{Digest as _, Sha256};

/// Most characters of a command that go into a ledger leaf (a leaf is at most 32 KiB, and escaping can grow text sixfold).
const LEDGER_CHARACTERS: usize = 3_000;
/// Longest value of an environment variable that is passed on.
const ENVIRONMENT_BYTES: usize = 256;

/// Whether an environment variable may be set at the target: language, terminal, time zone. Everything that a loader or a
/// shell acts on (`LD_*`, `BASH_ENV`, `PATH`, …) stays out because only these are let in.
pub(crate) fn environment_allowed(name: &str, value: &str) -> bool {
    let known = matches!(name, "LANG" | "LANGUAGE" | "TERM" | "COLORTERM" | "TZ")
        || name.strip_prefix("LC_").is_some_and(|rest| {
            !rest.is_empty() && rest.len() <= 32 && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        });
    known && value.len() <= ENVIRONMENT_BYTES && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A command as it stands in a ledger leaf: printable, and named by digest where it is too long.
pub(crate) fn command_for_ledger(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command);
    let shown = printable(&text, LEDGER_CHARACTERS);
    if text.chars().nth(LEDGER_CHARACTERS).is_some() {
        let digest = hex::encode(Sha256::digest(command));
        return format!("{shown}… ({} bytes, sha256 {digest})", command.len());
    }
    shown
}

/// A transfer that runs as a command: `scp -O`, rsync, git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandTransfer {
    /// What runs: `scp`, `rsync`, `git`.
    pub tool: &'static str,
    /// Which way the content goes.
    pub direction: Direction,
    /// The last word of the command.
    pub path: String,
}

/// Recognises a transfer by the command that its client starts at the target.
pub(crate) fn command_transfer(command: &[u8]) -> Option<CommandTransfer> {
    let text = std::str::from_utf8(command).ok()?;
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let program = first.rsplit('/').next().unwrap_or(first);
    let rest: Vec<&str> = words.collect();
    let flag = |wanted: char| {
        rest.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(wanted))
    };
    let (tool, direction) = match program {
        "scp" if flag('t') => ("scp", Direction::Upload),
        "scp" if flag('f') => ("scp", Direction::Download),
        "rsync" if rest.contains(&"--server") && rest.contains(&"--sender") => ("rsync", Direction::Download),
        "rsync" if rest.contains(&"--server") => ("rsync", Direction::Upload),
        "git-receive-pack" => ("git", Direction::Upload),
        "git-upload-pack" | "git-upload-archive" => ("git", Direction::Download),
        _ => return None,
    };
    let path = rest.last().copied().unwrap_or_default().trim_matches(['\'', '"']);
    Some(CommandTransfer { tool, direction, path: printable(path, 1_000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_language_terminal_and_time_zone_are_passed_on() {
        for name in ["LANG", "LC_ALL", "LC_CTYPE", "TERM", "COLORTERM", "TZ"] {
            assert!(environment_allowed(name, "C.UTF-8"), "{name}");
        }
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "PATH",
            "DYLD_INSERT_LIBRARIES",
            "lang",
            "LC_",
            "LC_a=b",
            "GIT_SSH",
            "",
        ] {
            assert!(!environment_allowed(name, "x"), "{name}");
        }
        assert!(!environment_allowed("LANG", "C\nLD_PRELOAD=/tmp/x"));
        assert!(!environment_allowed("LANG", "\u{0}"));
        assert!(!environment_allowed("LANG", &"x".repeat(257)));
    }

    #[test]
    fn transfers_are_recognised_by_what_their_client_starts() {
        let known = |command: &str| {
            let found = command_transfer(command.as_bytes())?;
            Some((found.tool, found.direction.word(), found.path))
        };
        assert_eq!(known("scp -t /tmp/x"), Some(("scp", "upload", "/tmp/x".into())));
        assert_eq!(known("/usr/bin/scp -v -r -f '/var/log'"), Some(("scp", "download", "/var/log".into())));
        assert_eq!(
            known("rsync --server -vlogDtpre.iLsfxCIvu . /srv/"),
            Some(("rsync", "upload", "/srv/".into()))
        );
        assert_eq!(
            known("rsync --server --sender -vre . /srv/"),
            Some(("rsync", "download", "/srv/".into()))
        );
        assert_eq!(known("git-upload-pack 'a/b.git'"), Some(("git", "download", "a/b.git".into())));
        assert_eq!(known("cat scp -t"), None);
        assert_eq!(known(""), None);
        assert_eq!(command_transfer(b"scp -t \xff"), None);
    }

    #[test]
    fn a_long_command_is_cut_and_named_by_its_digest() {
        assert_eq!(command_for_ledger(b"ls -l\x1b[2J"), "ls -l\u{fffd}[2J");
        let long = "x".repeat(5_000);
        let shown = command_for_ledger(long.as_bytes());
        assert!(shown.len() < 3_200 && shown.contains("5000 bytes, sha256 "), "{shown}");
    }
}

//! Where a recording comes from: the server, in the clear; or a file, opened by an auditor's own key.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use halligan_client::types::ReplayForm;
use halligan_core::ids::SessionId;
use halligan_recording::{Identity, RecordingReader};
use zeroize::Zeroizing;

use crate::people::desk::Desk;
use crate::people::failure::said;

/// Largest file that an identity is read from, in bytes.
const MOST_IDENTITY_BYTES: u64 = 64 * 1024;

/// A session, or a recording's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// At the server.
    Session(SessionId),
    /// On this machine, encrypted.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::File(PathBuf::from(text)), Self::Session))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(id) => id.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The recording in the clear, in this form, as a file that vanishes when closed.
pub async fn fetch(desk: &Desk, session: SessionId, form: ReplayForm) -> anyhow::Result<BufReader<File>> {
    let client = desk.client()?;
    let mut file = tempfile::tempfile().context("failed to make a temporary file")?;
    let fetched = desk.waiting("fetching the recording", client.replay(session, form, &mut file)).await;
    fetched.with_context(|| format!("failed to fetch the recording of {session}"))?;
    file.rewind()?;
    Ok(BufReader::new(file))
}

/// Opens a recording's file with the auditor's key.
pub fn open(path: &Path, identity: Option<&Path>) -> anyhow::Result<RecordingReader<BufReader<File>>> {
    let Some(identity) = identity else {
        return Err(said(
            format!("failed to open {}: it is encrypted", path.display()),
            "add --identity FILE, the age key that it was recorded for",
        ));
    };
    let identity = read_identity(identity)?;
    RecordingReader::open_as(path, &identity)
        .with_context(|| format!("failed to open the recording {}", path.display()))
}

/// The first `AGE-SECRET-KEY-1…` of a file, as `age-keygen` writes it.
pub fn read_identity(path: &Path) -> anyhow::Result<Identity> {
    let what = || format!("failed to read the key in {}", path.display());
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .with_context(what)?
        .take(MOST_IDENTITY_BYTES)
        .read_to_string(&mut text)
        .with_context(what)?;
    let Some(line) = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-")) else {
        return Err(said(format!("{}: there is none", what()), "give a file that `age-keygen` wrote"));
    };
    line.parse().with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_found_among_comments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        let identity = Identity::generate().unwrap();
        let text = format!("# created: today\n# public key: x\n{}\n", *identity.to_secret_text().unwrap());
        std::fs::write(&file, text).unwrap();
        assert_eq!(read_identity(&file).unwrap().recipient(), identity.recipient());
        std::fs::write(&file, "nothing\n").unwrap();
        assert!(read_identity(&file).is_err());
    }

    #[test]
    fn what_is_no_session_is_a_file() {
        assert_eq!("ses_x".parse(), Ok(Source::File("ses_x".into())));
        let id = "ses_00000000000000000000000001";
        assert_eq!(id.parse(), Ok(Source::Session(id.parse().unwrap())));
    }
}

//! What is asked of the person at the terminal. Where nobody sits there, nothing is asked: the flag is named instead.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use halligan_client::ClientError;
use zeroize::Zeroizing;

use super::failure::{asks_for_factor, said};
use crate::output::printable;

/// Longest password that is read from a file, in bytes.
const MOST_SECRET_BYTES: u64 = 4096;

/// Somebody sits there.
pub fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A line, with echo.
pub fn line(question: &str) -> anyhow::Result<String> {
    eprint!("{question} ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("failed to read your answer")?;
    Ok(answer.trim().to_owned())
}

/// Yes or no; anything but `y` and `yes` is no.
pub fn yes(question: &str) -> anyhow::Result<bool> {
    Ok(matches!(line(&format!("{question} [y/N]"))?.to_lowercase().as_str(), "y" | "yes"))
}

/// A password without echo, or the first line of a file.
pub fn password(question: &str, file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    if let Some(file) = file {
        return first_line(file);
    }
    if !somebody() {
        return Err(said(
            "failed to ask for a password: nobody sits at this terminal",
            "give --password-file FILE",
        ));
    }
    rpassword::prompt_password(format!("{question} "))
        .map(Zeroizing::new)
        .context("failed to read the password")
}

/// A new password, asked for twice.
pub fn new_password(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let first = password("New password:", file)?;
    if file.is_none() && *password("The same again:", None)? != *first {
        return Err(said("failed to set the password: the two differ", "try again"));
    }
    Ok(first)
}

/// The first line of a file that holds a secret.
pub fn first_line(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let what = || format!("failed to read {}", file.display());
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(file).with_context(what)?;
    BufReader::new(opened.take(MOST_SECRET_BYTES)).read_line(&mut text).with_context(what)?;
    let line = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if line.is_empty() {
        return Err(said(
            format!("{}: its first line is empty", what()),
            "put the secret into its first line",
        ));
    }
    Ok(line)
}

/// A code for this act: the one that was given, or what the person types.
pub fn code(given: Option<&str>) -> anyhow::Result<String> {
    match given {
        Some(code) => Ok(code.to_owned()),
        None if somebody() => line("Code of your authenticator:"),
        None => Err(said(
            "failed to ask for a code of your authenticator: nobody sits at this terminal",
            "give --totp CODE",
        )),
    }
}

/// Makes a call that may need a fresh code: without one first, and again with one if the server asks for it.
pub async fn with_code<T, F, A>(given: Option<&str>, call: F) -> anyhow::Result<T>
where
    F: Fn(Option<String>) -> A,
    A: Future<Output = Result<T, ClientError>>,
{
    match call(given.map(str::to_owned)).await {
        Err(error) if given.is_none() && asks_for_factor(&error) && somebody() => {
            eprintln!("{}", printable(&error.to_string()));
            Ok(call(Some(code(None)?)).await?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "correct horse \r\nsecond\n").unwrap();
        assert_eq!(first_line(&file).unwrap().as_str(), "correct horse ");
        std::fs::write(&file, "\n").unwrap();
        assert!(first_line(&file).is_err());
        assert!(first_line(&folder.path().join("none")).is_err());
    }
}

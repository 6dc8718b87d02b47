//! What a person reads when something did not work: what failed and why in one line, what to do in the next.

use std::borrow::Cow;

use halligan_client::ClientError;

use crate::output::printable;

/// A failure of our own, with the next step.
#[derive(Debug, thiserror::Error)]
#[error("{say}")]
struct Said {
    say: String,
    next: String,
}

/// A failure in a sentence, and what to do.
pub fn said(say: impl Into<String>, next: impl Into<String>) -> anyhow::Error {
    Said { say: say.into(), next: next.into() }.into()
}

/// Prints it.
pub fn print(error: &anyhow::Error) {
    eprint!("{}", text(error));
}

fn text(error: &anyhow::Error) -> String {
    let whole = format!("{error:#}");
    let mut lines = whole.lines().map(printable);
    let mut text = format!("halligan: {}\n", lines.next().unwrap_or_default());
    for line in lines {
        text.push_str("  ");
        text.push_str(&line);
        text.push('\n');
    }
    if let Some(next) = next_step(error) {
        text.push_str("next: ");
        text.push_str(&printable(&next));
        text.push('\n');
    }
    text
}

fn next_step(error: &anyhow::Error) -> Option<Cow<'_, str>> {
    if let Some(own) = error.chain().find_map(|cause| cause.downcast_ref::<Said>()) {
        return Some(Cow::Borrowed(&own.next));
    }
    let problem = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>())?;
    if let Some(next) = problem.next_step() {
        return Some(Cow::Borrowed(next));
    }
    Some(Cow::Borrowed(match problem {
        ClientError::Unreachable { .. } => "`halligan doctor` looks at every part of the way",
        ClientError::Problem(_) if problem.status() == Some(401) => "sign in again with `halligan login`",
        ClientError::Problem(_) if asks_for_factor(problem) => "give a fresh code with --totp",
        ClientError::Answer { .. } => {
            "compare `halligan --version` with the server's, which `halligan doctor` shows"
        }
        _ => return None,
    }))
}

/// The server wants a code of the authenticator.
pub fn asks_for_factor(error: &ClientError) -> bool {
    error.code() == Some("second_factor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use halligan_client::types::Problem;

    fn problem(status: u16, code: &str, next: Option<&str>) -> anyhow::Error {
        let error = ClientError::Problem(Box::new(Problem {
            kind: String::new(),
            title: String::new(),
            status,
            detail: "the request was decided\u{1b}[2J already".to_owned(),
            code: code.to_owned(),
            next: next.map(str::to_owned),
        }));
        anyhow::Error::new(error).context("failed to approve req_1")
    }

    #[test]
    fn a_failure_says_what_and_what_next() {
        assert_eq!(
            text(&problem(409, "wrong_state", Some("look with `halligan show`"))),
            "halligan: failed to approve req_1: the request was decided\\u{1b}[2J already\nnext: look with `halligan show`\n"
        );
        assert!(
            text(&problem(401, "signed_out", None)).ends_with("next: sign in again with `halligan login`\n")
        );
        assert!(
            text(&problem(403, "second_factor", None)).ends_with("next: give a fresh code with --totp\n")
        );
        assert_eq!(text(&said("failed to x\ny", "do z")), "halligan: failed to x\n  y\nnext: do z\n");
        assert_eq!(text(&anyhow::anyhow!("failed")), "halligan: failed\n");
    }
}

//! What can go wrong on the way to the server and back.

use crate::types::Problem;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no, in a sentence for the person.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The address cannot be used.
    #[error(
        "`{address}` is no address of a server: write https://…, or http://localhost for a server on this machine"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// The rules for certificates cannot be used.
    #[error("failed to set up what to trust: {why}")]
    Trust {
        /// What is wrong.
        why: String,
    },
    /// It did not come to a call.
    #[error("failed to reach {server}")]
    Unreachable {
        /// Which server.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what this version understands.
    #[error("failed to understand the answer of {server}: {why}")]
    Answer {
        /// Which server.
        server: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// The stable name of the problem, if the server said no: `not_found`, `second_factor`, …
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }
    /// What to do instead, if the server said so.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem.next.as_deref(),
            _ => None,
        }
    }
    /// The HTTP status of the problem.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
    /// Nobody could be reached: another server may be tried.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

//! What can keep the connector from doing what it was asked, as sentences.

use halligan_session::BadSigned;

/// Why the connector did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// Rules forbid it. The sentence may be shown to anybody who may speak with the connector.
    #[error("{0}")]
    Refused(String),
    /// The lease is not one of control's.
    #[error(transparent)]
    Lease(#[from] BadSigned),
    /// A file of the state folder could not be read or written. Nothing was done.
    #[error("failed to {what}")]
    State {
        /// What was tried, on which file.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The connector's own ledger did not take the leaf, so its effect did not happen.
    #[error("the connector's ledger could not be written")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key or certificate could not be made or read.
    #[error("failed to {what}")]
    Key {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The target did not do it or could not be reached.
    #[error("failed to {what}")]
    Target {
        /// What was tried, and where.
        what: String,
        /// Why it failed; no secrets.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
    /// A piece of work inside ended without an answer.
    #[error("the connector failed inside; see its log")]
    Inside,
}

impl ConnectorError {
    /// Rules forbid it.
    pub fn refused(say: impl Into<String>) -> Self {
        Self::Refused(say.into())
    }
    /// A file of the state folder, for `map_err`.
    pub fn state(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::State { what, source }
    }
    /// A key or certificate, for `map_err`.
    pub fn key<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Key { what, source: source.into() }
    }
    /// The target, for `map_err`.
    pub fn target<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let what = what.into();
        move |source| Self::Target { what, source: source.into() }
    }
    /// The error with its causes in one line.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        text
    }
}

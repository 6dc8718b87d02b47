//! What can go wrong in control, in words for the person who reads it.

use halligan_core::refusal::Refusal;
use halligan_store::{CommitError, StoreError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not be read.
    #[error("failed to read the store")]
    Store(#[from] StoreError),
    /// The store did not take it.
    #[error("failed to record it")]
    Commit(#[from] CommitError),
    /// Others kept changing the same things.
    #[error("others are changing the same thing right now; try again")]
    Busy,
    /// A stored document cannot be read.
    #[error("failed to read {what}: the stored form is not one that this version knows")]
    Form {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Something local failed.
    #[error("failed to {what}")]
    Local {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not fit into a leaf.
    #[error("failed to record it: one event is larger than a leaf may be")]
    TooLarge,
}

impl ControlError {
    /// For `map_err`: names what was tried.
    pub fn local<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Local { what, source: source.into() }
    }

    /// A local failure in words.
    pub fn said(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Local { what: what.into(), source: why.into().into() }
    }
}

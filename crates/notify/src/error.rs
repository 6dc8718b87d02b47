//! What can be wrong with the configuration, and how errors are told.

use std::path::PathBuf;

/// A configuration that no alert can leave by.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The sender is no mail address.
    #[error("smtp.from: `{from}` is not a mail address; write `Halligan <halligan@example.org>`")]
    From {
        /// What stands there.
        from: String,
        /// What is wrong with it.
        #[source]
        source: lettre::address::AddressError,
    },
    /// One of user and password is missing.
    #[error("smtp.user and smtp.password_file go together: one of them is missing")]
    HalfALogin,
    /// Authorities without TLS make no sense.
    #[error("smtp.root_file is set, but smtp.tls is none-on-loopback")]
    RootsWithoutTls,
    /// The public URL is none.
    #[error("public_url: `{url}` is not an http or https URL without user, query and fragment")]
    PublicUrl {
        /// What stands there.
        url: String,
    },
    /// A PEM file cannot be used.
    #[error("failed to read authorities from {}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The HTTP client cannot be built.
    #[error("failed to set up TLS for webhooks")]
    Client {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Asked to test a route that is not in the catalog.
    #[error("there is no route {route} in the catalog in force; there are: {known}")]
    NoRoute {
        /// What was asked for.
        route: String,
        /// What there is.
        known: String,
    },
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Several libraries repeat their cause in their own text.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    crate::text::one_line(&text, 600)
}

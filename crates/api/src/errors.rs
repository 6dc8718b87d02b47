//! Why the API cannot be served.

use crate::certificate::CertificateError;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error("failed to listen at {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Plain HTTP was asked for where others could listen in.
    #[error("plain HTTP is served on this machine's own address only (127.0.0.1 or ::1), not at {address}")]
    NotLoopback {
        /// Where.
        address: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

//! What can go wrong between two nodes, in sentences.

/// A call or a connection that failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection is gone; every waiting call gets this.
    #[error("the link to {peer} is closed: {why}")]
    Closed {
        /// Who was at the other end.
        peer: String,
        /// Why it ended.
        why: String,
    },
    /// No answer in time. The other side may have done what it was asked.
    #[error("{peer} did not answer `{request}` within {seconds} s; it may have been done all the same")]
    TimedOut {
        /// Who was asked.
        peer: String,
        /// What was asked.
        request: &'static str,
        /// How long we waited.
        seconds: u64,
    },
    /// The other side answered with an error.
    #[error("{peer} says: {say}")]
    Said {
        /// Who said it.
        peer: String,
        /// Its sentence.
        say: String,
    },
    /// Nodes that ask each other in circles.
    #[error("`{request}` would be a call within too many calls; the nodes ask one another in circles")]
    TooDeep {
        /// What was to be asked.
        request: &'static str,
    },
    /// A message does not fit a frame.
    #[error("`{what}` is {bytes} bytes long; a link carries at most {most} at a time")]
    TooLarge {
        /// Which message.
        what: &'static str,
        /// Its size as a frame.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// The other side claimed a frame beyond the limit. Nothing was allocated for it.
    #[error(
        "the peer announced a frame of {claimed} bytes; at most {most} are taken, so the link was closed"
    )]
    OversizedFrame {
        /// What it claimed.
        claimed: u64,
        /// The limit.
        most: usize,
    },
    /// Bytes that are no frame of ours.
    #[error("the peer sent what is no message of a Halligan link: {detail}")]
    Malformed {
        /// What was wrong.
        detail: String,
    },
    /// Nothing came, or nothing could be sent, for too long.
    #[error("nothing was heard from the peer for {seconds} s")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The key of the other side is not one that we may speak with.
    #[error("{address} showed the key {found}, which is not the one expected there; nothing was sent to it")]
    WrongKey {
        /// Where we dialled.
        address: String,
        /// SHA-256 of the key it showed.
        found: String,
    },
    /// The other side does not let us in.
    #[error("{address} refused this node: {why}")]
    Refused {
        /// Where we dialled.
        address: String,
        /// What is known of the reason.
        why: String,
    },
    /// TLS could not be set up.
    #[error("failed to set up TLS for {what}")]
    Tls {
        /// For what.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network or a file failed.
    #[error("failed to {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl LinkError {
    /// For `map_err` on input and output.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

//! What can go wrong, as sentences without secrets.

use std::io;
use std::path::PathBuf;

/// Why a secret could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file could not be read or written.
    #[error("failed to {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key's file does not hold a key.
    #[error("{}: a vault key is 64 hexadecimal digits", .0.display())]
    NoKey(PathBuf),
    /// Others could read the key.
    #[error("{}: others than its owner may read this key (mode {mode:o}); it must be 0600 or 0400", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a name that becomes a file.
    #[error("`{0}` is no name of a secret: [a-z0-9._-], 1 to 64 characters, not beginning with a dot")]
    BadName(String),
    /// It was sealed under another key.
    #[error("the secret `{name}` was sealed under key {sealed}, this is key {here}")]
    OtherKey {
        /// Which secret.
        name: String,
        /// Id of the key that sealed it.
        sealed: String,
        /// Id of the key at hand.
        here: String,
    },
    /// The file is no secret of ours, or was changed.
    #[error("the file of the secret `{0}` was changed or is not one of ours")]
    Broken(String),
    /// Refused before it is sealed.
    #[error("the secret `{name}` is empty or longer than {most} bytes")]
    Size {
        /// Which secret.
        name: String,
        /// The bound.
        most: usize,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

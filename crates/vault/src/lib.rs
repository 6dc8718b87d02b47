//! Secrets that a node must keep: each sealed in a file of its own, under a key that lies elsewhere.
//!
//! It must never write a secret or a key unsealed, take either from the environment or an argument, show one in an error,
//! or open what was sealed under another name or another key. It is no password manager: a handful of secrets of machines.
//!
//! Start reading at `vault.rs` (the form of a file), then `key.rs` (where the key comes from).

mod error;
mod key;
mod vault;

pub use error::VaultError;
pub use key::VaultKey;
pub use vault::{SECRET_MOST_BYTES, Vault};

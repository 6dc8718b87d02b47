//! The typed HTTP client of Halligan's API, and the bodies that go over it.
//!
//! It must never accept a server whose certificate it was not told to trust, speak plain HTTP to anything but this
//! machine, or write a token anywhere. Without the feature `http` only the types are left, which is what the server
//! takes. Start reading at `types.rs`, then `calls.rs`.

pub mod types;

#[cfg(feature = "http")]
mod calls;
#[cfg(feature = "http")]
mod catalog_calls;
#[cfg(feature = "http")]
mod client;
#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod trust;

#[cfg(feature = "http")]
pub use client::{Client, Options};
#[cfg(feature = "http")]
pub use error::ClientError;
#[cfg(feature = "http")]
pub use trust::{CertificatePrint, ShownCertificate, Trust, look_at_certificate};

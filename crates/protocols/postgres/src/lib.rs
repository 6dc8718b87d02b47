//! PostgreSQL through the gateway: what stands on the wire, what it means, and what of it is recorded.
//!
//! A listener for stock clients, one recorded leg to the target, and [`Door`], the person's end, by which tools get to a
//! gateway without a password. Without I/O: [`codec`] cuts the two streams into messages that are read and bytes that are
//! passed, [`audit`] follows the conversation and says what to record, [`parameters`] makes bound values readable,
//! [`classify`] labels statements, [`mask`] takes secrets out of them, [`scram`] proves who somebody is.
//!
//! This crate must never pass a byte whose record could not be written, hold a body that is only passed on, allocate
//! what a length merely claims, or take a label for a lock: what a person may do is bound by their database role.
//!
//! Start reading at [`listener`] (who may connect), then `connection.rs` (one client from its first packet to its end),
//! `relay.rs` (the bytes), `guard.rs` (what does not pass), and [`codec`] and [`audit`] below them.

pub mod audit;
mod cancel;
mod certificate;
pub mod classify;
pub mod codec;
mod connection;
mod door;
#[cfg(test)]
mod double;
mod gait;
mod guard;
mod lexer;
pub mod listener;
mod login;
pub mod mask;
mod out;
pub mod parameters;
mod pumps;
mod recorder;
mod relay;
pub mod scram;
mod socket;
mod startup;
mod upstream;
mod workers;

pub use certificate::CertificateError;
pub use door::{Door, Means, Place, Renewal};
pub use listener::{ListenError, PostgresConfig, PostgresListener};

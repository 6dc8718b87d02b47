//! SSH through the gateway: a listener for stock clients, one recorded leg to the target, and nothing beside it.
//!
//! Who somebody is comes from a verified signature or a one-time password and is asked of the control plane; a
//! [`halligan_session::Session`] is opened before anything is dialled; every byte is recorded before it goes on.
//! Shell, exec and sftp pass, if the lease says so. Every other channel type and request is refused and written down.
//!
//! This crate must never trust a host key on first use, pass a byte that could not be recorded, let one leg wait for
//! the other inside a protocol handler, or say to a stranger why they were refused.
//!
//! Start reading at [`server`] (who may connect), then `handler.rs` (what a client may ask), `connection.rs` (one
//! person's connection and its end), `relay.rs` (the bytes), `recorder.rs` and `sftp/` (what is written down).

mod auth;
mod channel;
mod connection;
mod flow;
mod handler;
mod host_key;
mod naming;
mod recorder;
mod refuse;
mod relay;
pub mod server;
mod sftp;
mod socket;
mod upstream;

pub use host_key::HostKeyError;
pub use server::{ListenError, SshConfig, SshListener};

//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2, without I/O.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>
//!
//! A [`Scanner`] for each direction takes bytes as they come and gives pieces in order: the messages that are
//! read, each whole and with its own bytes, and between them ranges of everything else, however it was cut.
//! All pieces put together are the stream. A body that is only passed on is never held, so the buffer grows
//! for messages that are read alone, and those have a bound that is looked at before the bytes are awaited.

mod client;
mod error;
pub mod exercise;
mod frame;
mod read;
mod server;
mod startup;
mod write;

pub use client::{Bind, FromClient, FromClientMessage, Target};
pub use error::CodecError;
pub use frame::{Flow, MAX_AUTHENTICATION_BYTES, NotKept, Passing, Piece, Rule, Scanner};
pub use server::{
    Authentication, Column, CopyFormat, FromServer, FromServerMessage, ServerMessage, TransactionStatus,
    columns, first_field, rows_of_tag,
};
pub use startup::{First, MAX_STARTUP_BYTES, Negotiated, Startup, Version, negotiate, read_first};
pub use write::{AuthenticationRequest, Severity, Writer};

/// Reads what a client sends.
pub type ClientScanner = Scanner<FromClient>;
/// Reads what a server sends.
pub type ServerScanner = Scanner<FromServer>;

//! The wire between control, gateways and connectors: what they may say ([`messages`]), how it is framed ([`frame`],
//! [`peer`]), and how it travels inside one process ([`in_process`]).
//!
//! It must never believe what a peer says about itself: name, role and site come from the roster entry of the key that
//! the peer proved to hold. It must never allocate what a peer merely claims, nor know what a message does.
//! Start reading at `messages.rs`, then `peer.rs`, then `tls.rs`.

pub mod error;
pub mod frame;
pub mod in_process;
pub mod messages;
pub mod peer;

pub use error::LinkError;
pub use in_process::in_process;
pub use messages::{Blob, Hello, LiveSession, PeerInfo, Request, Response, Role};
pub use peer::{BoxFuture, Handler, Peer, Timing};

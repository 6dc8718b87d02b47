//! The wire between control, gateways and connectors: what they may say ([`messages`]), how it is framed and called
//! ([`peer`]), and the two ways it travels: inside one process ([`in_process`]) and over mutual TLS 1.3 ([`tls`],
//! [`listener`], [`keep`]). How a node joins, changes its key and is expelled stands in [`join`], [`rotate`], [`allowed`].
//!
//! It must never believe what a peer says about itself: name, role and site come from the roster entry of the key that
//! the peer proved to hold. It must never allocate what a peer merely claims, nor know what a message does.
//! Start reading at `messages.rs`, then `peer.rs`, then `tls.rs`.

pub mod allowed;
pub mod error;
mod files;
mod frame;
pub mod in_process;
pub mod join;
pub mod keep;
pub mod listener;
pub mod messages;
pub mod node_key;
pub mod peer;
pub mod report;
pub mod root_file;
pub mod rotate;
pub mod tls;

pub use allowed::{Allowed, AllowedNodes};
pub use error::LinkError;
pub use in_process::in_process;
pub use join::{Admission, JoinAttempt, JoinRefused, JoinToken, PendingJoin, Welcome, join};
pub use keep::{KeptLink, LinkState, keep_connected};
pub use listener::LinkListener;
pub use messages::{Blob, Hello, LiveSession, PeerInfo, Request, Response, Role};
pub use node_key::{KeyPrint, NodeKey};
pub use peer::{BoxFuture, Handler, Peer, Timing};
pub use root_file::RootFile;
pub use tls::{Destination, connect};

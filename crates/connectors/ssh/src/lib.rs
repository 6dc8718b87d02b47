//! The connector for SSH hosts: it alone holds its site's CA key, makes a key and certificate for each session, refuses
//! everything once a grant has ended, and proves at the target that the door is shut.
//!
//! It must never listen, never hear a client, never issue for a grant whose tombstone is stored, and never open a channel
//! at a target. It obeys only leases that control's key signed. A certificate's serial is a synced leaf of its own ledger
//! before the certificate leaves.
//!
//! It makes the sessions' keys itself and keeps each until the target has refused its certificate: so the proof offers the
//! very certificate of the session with a real signature, also when the gateway is gone. That gives it no power it lacks,
//! for it can sign any certificate of its site.
//!
//! Start reading at `connector.rs` (what may be issued), then `look.rs` (the proof), then `probe.rs` (one connection).

mod authority;
mod certificates;
mod config;
mod connector;
mod host_key;
mod krl;
mod look;
mod pace;
mod probe;
mod setup;

pub use config::ConnectorConfig;
pub use connector::{Issued, SshConnector};
pub use krl::KrlDelivery;

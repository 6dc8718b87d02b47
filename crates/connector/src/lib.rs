//! What a site's connector is, whatever kind of targets it serves: a node with a ledger of its own, that obeys leases which
//! control signed, remembers each grant with its fencing number and tombstone, and answers control and the site's gateways.
//!
//! It must never listen, never act for a grant whose tombstone is stored or by an overtaken fencing number, and never act
//! before what it is about to do is on its disk. How a door is opened, shut and looked at is each kind's own crate
//! (`connectors/ssh`, `connectors/postgres`): they implement [`Connector`] and are put together in [`SiteConnectors`].
//!
//! Start reading at `connector.rs` (what a kind must do), then `site.rs` (what every kind keeps to), then `handler.rs`.

mod config;
mod connector;
mod error;
mod handler;
mod journal;
mod kinds;
mod node;
mod site;
mod state;

pub use config::{Clock, SiteConfig, system_clock};
pub use connector::Connector;
pub use error::ConnectorError;
pub use handler::ConnectorHandler;
pub use journal::Journal;
pub use kinds::SiteConnectors;
pub use node::{NodeError, serve};
pub use site::Site;
pub use state::{GrantState, GrantStore, Tombstone, private_folder, read_json, write_json};

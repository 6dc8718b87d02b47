//! The connector for PostgreSQL servers: makes a login role for each grant and gateway, ends it, and proves at the server
//! that it is gone, that nothing of it is left, and that nobody gets in past the gateways.
//!
//! It must never know a password of a session role (none exists: the verifier is made from random keys), never send one in
//! SQL, never connect to a server whose certificate the pinned authority did not sign, and never act for a grant whose
//! tombstone is stored. Its own account owns nothing and can only call the functions of the set-up script (`setup.sql`),
//! which take no names but ours and no groups but those listed.
//!
//! Standing roles (`activation: prepared`, `standing.rs`) are for servers that take no writes when they are needed: they are
//! opened by client certificates of minutes, and stay.
//!
//! Start reading at `setup.sql` (what happens at the server), then `connector.rs` (when), `ending.rs` and `look.rs` (the
//! proof), `watch.rs` (what is cleaned up unasked).

mod authority;
mod before;
mod check;
mod config;
mod connector;
mod direct_path;
mod ending;
mod hba;
mod locks;
mod logins;
mod look;
mod names;
mod network;
mod server;
mod setup;
mod slots;
mod standing;
mod standing_look;
mod state;
mod tls;
mod verifier;
mod watch;

pub use authority::ClientAuthority;
pub use config::{LoginCredential, PostgresConfig};
pub use connector::{IssuedUser, PostgresConnector};
pub use names::{session_role, standing_role};
pub use setup::{BadSetup, Setup};
pub use standing::IssuedCertificate;
pub use verifier::{login_verifier, verifier_of_password};

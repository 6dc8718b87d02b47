//! The shell around the core: load, decide, commit, then effects. One way in ([`Control::run`]), whatever the source: a
//! person through the API, a node's report, the clock.
//!
//! No rule lives here. It must never perform an effect that is not in the outbox of a committed decision, never mint a
//! credential for a target, and never touch session bytes. Start reading at `run.rs`, then `effects.rs`, then `nodes.rs`.

pub mod administration;
pub mod apply_catalog;
mod cancels;
pub mod catalog;
pub mod client_ca;
pub mod clock;
mod connect_passwords;
pub mod control;
pub mod documents;
pub mod effects;
pub mod error;
pub mod evidence;
pub mod figures;
pub mod keys;
pub mod leases;
mod listeners;
pub mod live_check;
pub mod load;
pub mod mirror;
mod node_leaves;
pub mod nodes;
pub mod passwords;
pub mod people;
pub mod recordings;
pub mod roster;
pub mod run;
pub mod sequencer;
pub mod status;
pub mod timers;
pub mod views;
pub mod witness;

pub use control::{Control, ControlOptions};
pub use error::ControlError;
/// In which direction a list of the store runs.
pub use halligan_store::Order;
pub use run::{Outcome, Wish};

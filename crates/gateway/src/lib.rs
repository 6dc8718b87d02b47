//! The gateway's engine: it holds leases and enforces each alone, opens sessions and ends them, records, and reports to
//! control. It owns person, grant, deadline, recorder and kill switch once, for all protocols.
//!
//! It must never know a protocol's bytes, dial a target, hold a private key of a recording or a target, let a byte pass
//! that is not recorded or that comes after the deadline, or need control to keep a promise.
//! Start reading at `engine.rs` (what there is), then `opening.rs` (a session begins), `live.rs` (it lives and ends),
//! `holds.rs` (a statement waits for a second person), `granting.rs` (leases come and go), `threads.rs` (deadlines),
//! `report.rs` (what control is told).

mod cancels;
pub mod certificate;
pub mod client_certificate;
pub mod clock;
pub mod connect_passwords;
pub mod countdown;
mod database;
mod engine;
mod granting;
mod handler;
mod held;
mod holds;
pub mod journal;
mod links;
mod live;
mod login;
pub mod metrics;
pub mod one_time;
mod opening;
mod report;
mod restart;
pub mod shelf;
pub mod spool;
mod stopping;
mod threads;
mod watchers;
mod witness;

pub use clock::{Clock, SystemClock};
pub use engine::{Gateway, LEAST_DISK_RESERVE, Options, StartError, Status};

//! The connector against a real PostgreSQL with its set-up.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod check;
mod client;
mod crash;
mod ending;
mod life;
mod majors;
mod setup;
mod standing;
mod traces;
mod world;

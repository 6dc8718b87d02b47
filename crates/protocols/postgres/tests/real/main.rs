//! PostgreSQL through a gateway: real clients, a real server, the real engine between them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod certificates;
mod clients;
mod doors;
mod drivers;
mod ends;
mod flood;
mod holds;
mod majors;
mod newer;
mod programs;
mod raw;
mod regress;
mod standing;
mod support;
mod tools;
mod traps;

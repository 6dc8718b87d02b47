//! PostgreSQL through a gateway: real clients, a real server, the real engine between them.

mod clients;
mod ends;
mod flood;
mod holds;
mod raw;
mod support;
mod throughput;
mod traps;

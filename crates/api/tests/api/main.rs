//! The API as it is served: rights, stories, its description.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod http;
mod killed;
mod matrix;
mod openapi;
mod rows;
mod story;
mod transport;
mod world;

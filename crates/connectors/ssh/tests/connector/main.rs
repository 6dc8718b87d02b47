//! The connector against a real sshd and the stock client. Needs root, for sshd changes to other accounts.

#![expect(clippy::unwrap_used, reason = "tests")]
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod proof;
mod rules;
mod world;

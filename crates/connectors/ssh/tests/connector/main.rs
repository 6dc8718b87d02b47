//! The connector against a real sshd and the stock client. Needs root, for sshd changes to other accounts.

#![expect(clippy::unwrap_used, reason = "tests")]

mod node;
mod proof;
mod rules;
mod world;

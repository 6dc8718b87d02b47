//! Real counterparts for tests: an OpenSSH server, a mail server, stock SSH clients, a phone's
//! one-time codes, a network that can be cut, and programs that can be stopped and killed.
//!
//! Nothing here pretends. Each server is the program that people run, on loopback, on a free port,
//! in a folder of its own, and it ends with the value that started it. Only what was started here is
//! ever ended, by its process id. No crate of the product may depend on this one outside its tests,
//! and this one knows no crate of the product: it sees what a stranger on the network would see.
//!
//! Start with [`sshd::TestSshd`] and [`ssh_client::SshClient`]; `cargo xtask setup` installs what they need.

pub mod mail;
pub mod postgres;
pub mod postgres_programs;
pub mod postgres_target;
pub mod process;
pub mod proxy;
pub mod small_disk;
pub mod ssh_client;
pub mod ssh_keys;
pub mod sshd;
pub mod totp;

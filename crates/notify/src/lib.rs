//! Tells people: alerts as signed webhooks and as mail, over the routes of the catalog in force.
//!
//! Control's outbox calls [`Notifier`] through `AlertSink`, at least once for each alert and route, until it succeeds.
//! This crate must never decide anything, hold a decision up, retry by itself, follow a redirect, send in clear text
//! beyond this machine, or put what somebody typed into a header unescaped.
//!
//! Start reading at [`Notifier`]; `message` has the words, `webhook` and `mail` the two ways out, `lane` keeps a dead
//! receiver from holding up the living. `docs/alerts.md` is what receivers read.

mod address;
mod config;
mod error;
mod lane;
mod mail;
mod message;
mod notifier;
mod problems;
mod signature;
mod text;
mod webhook;

pub use config::{NotifyConfig, SmtpConfig, SmtpTls};
pub use error::NotifyError;
pub use notifier::{CatalogInForce, Notifier, TestDelivery};

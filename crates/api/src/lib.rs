//! The HTTP API `/api/v1`: authenticate, load, run, answer.
//!
//! No rule lives here: rights are control's and the core's. It must never tell a stranger that something exists, show
//! what went wrong inside, or decide anything. Start reading at `routes.rs`, then `act.rs`, then `serve.rs`.

mod act;
mod answer;
mod body;
mod caller;
mod certificate;
mod errors;
mod limits;
mod openapi;
mod problem;
pub mod routes;
mod serve;
mod views;
mod watches;

pub use certificate::{Certificate, CertificateError};
pub use errors::ServeError;
pub use openapi::openapi_text;
pub use routes::{Api, router};
pub use serve::{Served, Serving, serve};

//! The domain of Halligan, pure: what a request, grant, session, incident and review are and which rules they obey.
//!
//! It must never do input or output, read a clock, draw randomness or wait: time and ids are parameters.
//! [`decide`](decide::decide) turns a command into events or a refusal, [`apply`](apply::apply) turns events into new
//! documents, [`react`](react::react) says what has to happen in the world because of them.
//! Start reading at `command.rs` (what can be asked), `event.rs` (what can have happened), then the folder of an aggregate.

pub mod apply;
pub mod catalog;
pub mod change;
pub mod command;
pub mod decide;
pub mod effect;
pub mod event;
pub mod grant;
pub mod ids;
pub mod incident;
pub mod leaf;
pub mod node_event;
pub mod proof;
pub mod react;
pub mod refusal;
pub mod request;
pub mod review;
pub mod session;
pub mod standing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod world;

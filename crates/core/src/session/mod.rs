//! Sessions, as control knows them. See `state.rs` for what a session is, `decide.rs` for how reports become events,
//! `hold.rs` for statements that wait for a second person.

mod apply;
mod decide;
mod hold;
mod state;

pub(crate) use apply::apply;
pub(crate) use decide::decide;
pub(crate) use hold::decide as decide_hold;
pub use hold::{may_release, releasers};
pub use state::*;

//! Sessions, as control knows them. See `state.rs` for what a session is, `decide.rs` for how reports become events.

mod apply;
mod decide;
mod state;

pub(crate) use apply::apply;
pub(crate) use decide::decide;
pub use state::*;

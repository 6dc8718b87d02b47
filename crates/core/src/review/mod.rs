//! Reviews: taking up, judging, deferring. See `state.rs` for what a review is, `decide.rs` for its rules.

mod apply;
mod decide;
mod state;

pub(crate) use apply::apply;
pub(crate) use decide::*;
pub use decide::{barred, due_at};
pub use state::*;

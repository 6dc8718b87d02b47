//! Grants: activation, extension, ending, proof. See `state.rs` for what a grant is, `decide.rs` for its rules.

mod apply;
mod decide;
mod state;

pub(crate) use apply::apply;
pub(crate) use decide::*;
pub use decide::{due_at, may_oversee};
pub use state::*;

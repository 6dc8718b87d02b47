//! Incidents: opening, mitigating, closing. See `state.rs` for what an incident is, `decide.rs` for its rules.

mod apply;
mod decide;
mod state;

pub(crate) use apply::apply;
pub use decide::may_see;
pub(crate) use decide::*;
pub use state::*;

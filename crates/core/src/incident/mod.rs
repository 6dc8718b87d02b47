//! Incidents: opening, mitigating, closing. See `state.rs` for what an incident is, `decide.rs` for its rules.

mod apply;
mod decide;
mod rights;
mod state;

pub(crate) use apply::apply;
pub(crate) use decide::*;
pub use rights::may_see;
pub use state::*;

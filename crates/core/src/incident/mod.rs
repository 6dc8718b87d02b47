//! Incidents: opening, mitigating, closing. See `state.rs` for what an incident is, `decide.rs` for its rules.

mod decide;
mod state;

pub use decide::may_see;
pub(crate) use decide::*;
pub use state::*;

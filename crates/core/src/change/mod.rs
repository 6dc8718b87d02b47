//! Changes of Halligan itself: catalog, factors, people. Widening ones need a second person (rule 11).

mod apply;
mod decide;
mod state;

pub(crate) use apply::apply;
pub use decide::{confirmers, due_at};
pub(crate) use decide::{decide, wake};
pub use state::*;

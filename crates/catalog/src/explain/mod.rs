//! "If this person asks for this, what happens, and why?" and "who could get in here, and how?"

mod ask;
mod who;

pub use ask::{Ask, AskError, BypassWay, Explanation, Outcome, StepWay, explain_ask};
pub use who::{Way, WhoExplanation, WhoRow, explain_who};

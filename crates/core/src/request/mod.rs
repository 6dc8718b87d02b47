//! Requests: filing, deciding, escalating, bypassing, lapsing.

mod approval;
mod decide;
mod file;
mod state;

pub use approval::barred;
pub(crate) use approval::eligible;
pub use approval::{Standing as ApprovalStanding, standing as approval_standing};
pub use decide::due_at;
pub(crate) use decide::*;
pub(crate) use file::*;
pub use state::*;

//! Requests: filing, deciding, attesting, escalating, bypassing, lapsing.

mod apply;
mod approval;
mod attest;
mod bypass;
mod decide;
mod escalate;
mod file;
mod granted;
mod scenario;
mod state;
mod wake;

pub(crate) use apply::{apply, approvers};
pub use approval::barred;
pub(crate) use approval::eligible;
pub use approval::{Standing as ApprovalStanding, standing as approval_standing};
pub(crate) use approval::{factor_counts, met, named};
pub(crate) use attest::attest_severity;
pub(crate) use bypass::bypass;
pub(crate) use decide::*;
pub(crate) use escalate::{Graver, escalate};
pub(crate) use file::*;
pub(crate) use granted::granted;
pub use state::*;
pub use wake::due_at;
pub(crate) use wake::wake;

//! Tables and cards: how requests, grants, sessions, incidents and reviews look on a terminal.

mod grants;
mod incidents;
mod requests;
mod reviews;
mod sessions;

pub use grants::{grant_card, grant_table, login_hint};
pub use incidents::{incident_card, incident_table};
pub use requests::{blocked, request_card, request_table, request_title};
pub use reviews::{review_card, review_table};
pub use sessions::{session_card, session_table};

use halligan_core::request::Mode;

/// What stands before everything that is emergency.
pub const BOLT: &str = "⚡";

/// `⚡ ` before what is emergency, nothing before what is not.
pub const fn bolt(mode: Mode) -> &'static str {
    match mode {
        Mode::Emergency => "⚡ ",
        Mode::Standard => "",
    }
}

/// `INC-7`, or nothing.
pub fn incident_name(number: Option<u64>) -> String {
    number.map(|number| format!("INC-{number}")).unwrap_or_default()
}

/// Names with commas between them.
pub fn names<'a, T: std::fmt::Display + 'a>(of: impl IntoIterator<Item = &'a T>) -> String {
    of.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

//! People and how they sign in. `account.rs` is what may be shown, `secrets.rs` what may not; `sign_in.rs` is the way in,
//! `enrol.rs` how somebody gets there, `throttle.rs` what slows guessing.
//!
//! Throttling slows passwords by account and network; it never refuses a key login, or anyone could lock responders out.

pub mod account;
pub mod enrol;
pub mod password;
pub mod secrets;
pub mod sign_in;
pub mod throttle;
pub mod totp;

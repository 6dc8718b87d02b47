//! The three roles as processes: start, wiring, stop, and the local socket by which an operator asks a running one.
//!
//! Start reading at `one.rs` (all roles in one process), then `separate.rs` (a gateway or connector of its own).

pub mod admin;
pub mod api;
pub mod commands;
pub mod connector_role;
pub mod connector_secrets;
pub mod control_role;
pub mod first;
pub mod gateway_role;
pub mod join;
pub mod local_links;
pub mod logs;
pub mod manual;
pub mod one;
pub mod postgres_listener;
pub mod process;
pub mod recover;
pub mod separate;
pub mod stop;

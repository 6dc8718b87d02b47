//! PostgreSQL through the gateway: what stands on the wire, what it means, and what of it is recorded.
//!
//! Everything here so far is without I/O: [`codec`] cuts the two streams into messages that are read and bytes that
//! are passed, [`audit`] follows the conversation and says what to record, [`parameters`] makes bound values readable,
//! [`classify`] labels statements, [`mask`] takes secrets out of them, [`scram`] proves who somebody is.
//!
//! This crate must never pass a byte whose record could not be written, hold a body that is only passed on, allocate
//! what a length merely claims, or take a label for a lock: what a person may do is bound by their database role.
//!
//! Start reading at [`codec`], then [`audit`].

pub mod audit;
pub mod classify;
pub mod codec;
mod lexer;
pub mod mask;
pub mod parameters;
pub mod scram;

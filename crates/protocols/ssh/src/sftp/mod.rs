//! What happens inside an sftp channel, read along from the bytes that pass: files opened, moved and changed, and what
//! was transferred with its digest. `wire.rs` finds packets in the stream, `audit.rs` knows what they mean.
//! Bytes are never changed or held back; what cannot be understood ends the session.

mod audit;
mod wire;

pub(crate) use audit::{SftpAudit, TransferDone};
pub(crate) use wire::Unreadable;

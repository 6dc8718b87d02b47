//! All that a protocol may know of the control plane: who somebody is, the [`lease`] in the gateway's hand, the session
//! that records and ends, and the words in which nodes report.
//!
//! It must never know a protocol, a database or the control plane's insides. A session cannot be opened without the
//! audit receipt of the gateway's own ledger, and a person comes only out of a roster that control signed.
//! Start reading at `control_plane.rs`, then `session.rs`, `lease.rs`, `node_event.rs`.

pub mod anteroom;
pub mod cancel;
pub mod control_plane;
pub mod end_reason;
pub mod lease;
pub use halligan_core::node_event;
pub mod roster;
pub mod scram;
pub mod secret;
pub mod session;
pub mod signed;
pub use halligan_core::proof;

pub use anteroom::{Admitted, Anteroom, AnteroomLimits, Waiting};
pub use cancel::{CancelDesk, CancelRequest};
pub use control_plane::{BoxFuture, ClientConnection, ControlPlane, LoginProof, Person, Refusal};
pub use end_reason::EndReason;
pub use lease::{Lease, SignedLease};
pub use node_event::{NodeEvent, NodeLeaf};
pub use roster::{NodeRole, Roster, SignedRoster, VerifiedRoster};
pub use scram::{ScramKeys, ScramSalt};
pub use secret::Secret;
pub use session::{
    Answer, DatabaseCertificate, DatabaseCredential, Ended, Question, Session, SessionParts, SshCredential,
    Written,
};
pub use signed::BadSigned;

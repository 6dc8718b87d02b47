//! A leaf of control's ledger: one command that was carried out, with its events and what became of the documents.
//!
//! The bytes that are stored are the bytes that are hashed. A leaf names id, revision and SHA-256 of each document that
//! it changed, so that replaying events through [`apply`](crate::apply::apply) and comparing shows an edit by SQL.

use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::event::Event;
use crate::ids::IncidentId;
use crate::time::Time;

/// One carried-out command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Format, 1.
    pub v: u32,
    /// When, by control's clock; never below the leaf before it.
    pub at: Time,
    /// Who.
    pub actor: Actor,
    /// Version of the catalog by which it was decided.
    pub catalog: u64,
    /// What happened.
    pub body: LeafBody,
    /// The documents as they are afterwards.
    pub documents: Vec<DocumentDigest>,
    /// Its place in the chain of its incident.
    pub chain: Option<ChainLink>,
}

/// What a leaf is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LeafBody {
    /// Events of the domain.
    Events {
        /// In order.
        events: Vec<Event>,
    },
    /// A new catalog is in force.
    CatalogApplied {
        /// Its version.
        version: u64,
        /// SHA-256 of its canonical text, hex.
        sha256: String,
        /// Number of systems.
        systems: u64,
        /// SHA-256 over the sorted systems' canonical texts, hex.
        systems_sha256: String,
        /// What changed, in lines; cut after a hundred.
        changes: Vec<String>,
        /// The version that it rolls back to, if it does.
        rolls_back_to: Option<u64>,
    },
    /// Something about how people sign in: enrolled, changed, signed in, refused. Never a secret.
    Identity {
        /// In a word: `signed_in`, `sign_in_refused`, `factor_enrolled`, `token_made`, …
        what: String,
        /// Whose.
        person: String,
        /// More, without secrets.
        detail: String,
    },
    /// Something about nodes: joined, key changed, expelled, a report taken in.
    Node {
        /// In a word: `joined`, `expelled`, `rotated`, `report`.
        what: String,
        /// Which.
        node: String,
        /// More, without secrets.
        detail: String,
    },
    /// An incident's evidence was taken out of the house. Never part of a chain: a closed incident stays as it was.
    Evidence {
        /// In a word: `exported`.
        what: String,
        /// Of which incident.
        incident: IncidentId,
        /// More.
        detail: String,
    },
    /// First leaf of an epoch after a loss: see `halligan ledger recover`.
    Epoch {
        /// The last head that anybody has seen, as a signed note.
        last_head: String,
        /// Why.
        reason: String,
        /// Who (two people).
        people: Vec<String>,
    },
}

/// A document as it is after a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentDigest {
    /// `request`, `grant`, …
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its revision.
    pub revision: u64,
    /// SHA-256 of its stored bytes, hex.
    pub sha256: String,
}

/// The numbered chain of one incident: a gap in it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The incident.
    pub incident: IncidentId,
    /// From 1, without gaps.
    pub number: u64,
    /// RFC 6962 leaf hash (hex) of the chain's leaf before this; empty for the first.
    pub previous: String,
}

/// A leaf larger than this is never written.
pub const LEAF_MAX_BYTES: usize = 32 * 1024;

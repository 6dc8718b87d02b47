//! What goes into the store and what comes out: bytes and names, no domain.

use std::fmt;

use crate::error::CommitError;

/// Longest leaf in bytes. (C2SP tlog-tiles allows 65,535; the design keeps below half of it.)
pub const LEAF_LIMIT: usize = 32 * 1024;
/// Longest document, outbox or answer body in bytes.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// Longest kind, id, index name, index value or topic in bytes. (A PostgreSQL index row ends near 2,700.)
pub const NAME_LIMIT: usize = 512;
/// Most rows of one sort in one commit.
pub const ROW_LIMIT: usize = 10_000;

/// Names one document: what it is, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    /// What it is, for example `request`.
    pub kind: String,
    /// Which one. Lists are in the byte order of this.
    pub id: String,
}

impl DocumentKey {
    /// Names a document.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// A document as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub key: DocumentKey,
    /// 1 when it is made, one more with each write.
    pub revision: u64,
    /// Number of the commit that wrote this revision. No two revisions under one key share it,
    /// not even when the document was deleted and made again.
    pub written_by: u64,
    /// When it wants to be looked at, in microseconds since 1970.
    pub due_at: Option<i64>,
    /// The bytes that were written.
    pub body: Vec<u8>,
}

/// One document to be made, replaced or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentWrite {
    /// Its name.
    pub key: DocumentKey,
    /// The revision it must have now; 0: it must not exist. It will have this plus one.
    pub expected_revision: u64,
    /// The new bytes; empty when it is deleted.
    pub body: Vec<u8>,
    /// (index, value) pairs under which [`crate::Store::by_index`] finds it. They replace the old ones.
    pub indexes: Vec<(String, String)>,
    /// When it wants to be looked at, in microseconds since 1970.
    pub due_at: Option<i64>,
    /// Delete it. Its next life under the same key starts at revision 1 again.
    pub deleted: bool,
}

impl DocumentWrite {
    /// Writes `body` over `expected_revision` (0: makes it), without index or due time.
    pub fn put(key: DocumentKey, expected_revision: u64, body: Vec<u8>) -> Self {
        Self { key, expected_revision, body, indexes: Vec::new(), due_at: None, deleted: false }
    }

    /// Deletes the document that has `expected_revision`.
    pub fn delete(key: DocumentKey, expected_revision: u64) -> Self {
        Self { key, expected_revision, body: Vec::new(), indexes: Vec::new(), due_at: None, deleted: true }
    }
}

/// The documents that a decision was made of. If one has moved, the commit is refused.
///
/// It is filled from documents, not from bare revisions: a revision number alone cannot tell a
/// document from its successor after a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet(pub(crate) Vec<(DocumentKey, Option<Version>)>);

/// Which state of a document was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    pub(crate) written_by: u64,
}

impl ReadSet {
    /// A decision that looked at no document.
    pub fn new() -> Self {
        Self::default()
    }

    /// The decision rests on this document as it was read.
    pub fn saw(&mut self, document: &Document) {
        let version = Version { revision: document.revision, written_by: document.written_by };
        self.0.push((document.key.clone(), Some(version)));
    }

    /// The decision rests on there being no such document.
    pub fn saw_nothing(&mut self, key: DocumentKey) {
        self.0.push((key, None));
    }

    /// The decision rests on what [`crate::Store::get`] answered for `key`.
    pub fn looked(&mut self, key: &DocumentKey, answer: Option<&Document>) {
        match answer {
            Some(document) => self.saw(document),
            None => self.saw_nothing(key.clone()),
        }
    }

    /// How many looks it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when the decision looked at nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An effect to be performed after the commit, at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Idempotency key. A second row with the id of one that still waits is the same effect and is not added.
    pub id: String,
    /// Who performs it.
    pub topic: String,
    /// What to do.
    pub body: Vec<u8>,
    /// Not earlier than this, in microseconds since 1970.
    pub not_before: i64,
}

/// What one decision wants recorded: all of it, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// New leaves of the ledger; they get consecutive indices.
    pub leaves: Vec<Vec<u8>>,
    /// Documents to write; each key at most once.
    pub documents: Vec<DocumentWrite>,
    /// Effects to perform.
    pub outbox: Vec<OutboxRow>,
    /// What the decision looked at.
    pub read_set: ReadSet,
    /// When it was decided, in microseconds since 1970. The recorded time never goes back: it is the
    /// larger of this and the last one.
    pub commit_time: i64,
    /// Key under which the same wish is recorded only once, and what to answer to its repetitions.
    pub idempotency: Option<(String, Vec<u8>)>,
}

/// A commit that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitDone {
    /// Index of its first leaf (the ledger's size before, if it had none).
    pub first_leaf: u64,
    /// Size of the ledger with its leaves.
    pub next_leaf: u64,
    /// The recorded time, in microseconds since 1970.
    pub time: i64,
}

/// The ledger's head as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// Number of leaves.
    pub size: u64,
    /// The last recorded time, in microseconds since 1970; 0 before the first commit.
    pub last_time: i64,
    /// The last head that was meant to be signed.
    pub signed: Option<SignedHead>,
}

/// A tree head that is about to be signed, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Number of leaves under it.
    pub size: u64,
    /// RFC 6962 root hash.
    pub root: [u8; 32],
    /// Text of the checkpoint.
    pub note: String,
}

/// An outbox row in the hands of one worker until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Idempotency key.
    pub id: String,
    /// Who performs it.
    pub topic: String,
    /// What to do.
    pub body: Vec<u8>,
    /// How often it was claimed, this time included.
    pub attempts: u64,
    /// What went wrong the last time; empty at first.
    pub last_error: String,
}

/// How much waits in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxStats {
    /// Rows not done, whether leased, delayed or ready.
    pub count: u64,
    /// When the oldest of them was committed, in microseconds since 1970.
    pub oldest: Option<i64>,
}

/// In which direction a list runs over the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest id first.
    Ascending,
    /// Largest id first.
    Descending,
}

impl Commit {
    /// Refuses what must never reach the engine, before anything is queued.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        for (what, count) in [
            ("leaves", self.leaves.len()),
            ("documents", self.documents.len()),
            ("outbox rows", self.outbox.len()),
            ("looks in the read set", self.read_set.len()),
        ] {
            if count > ROW_LIMIT {
                return refuse(format!("{count} {what} in one commit, at most {ROW_LIMIT} fit"));
            }
        }
        for leaf in &self.leaves {
            if leaf.len() > LEAF_LIMIT {
                return refuse(format!("a leaf has {} bytes, at most {LEAF_LIMIT} are allowed", leaf.len()));
            }
        }
        let mut keys = std::collections::HashSet::with_capacity(self.documents.len());
        for write in &self.documents {
            check_key(&write.key)?;
            check_write(write)?;
            if !keys.insert(&write.key) {
                return refuse(format!("{} is written twice in one commit", write.key));
            }
        }
        for (key, _) in &self.read_set.0 {
            check_key(key)?;
        }
        for row in &self.outbox {
            check_name("outbox id", &row.id)?;
            check_name("topic", &row.topic)?;
            check_body("an outbox row", &row.body)?;
        }
        if let Some((key, answer)) = &self.idempotency {
            check_name("idempotency key", key)?;
            check_body("an answer", answer)?;
        }
        Ok(())
    }
}

fn check_write(write: &DocumentWrite) -> Result<(), CommitError> {
    check_body("a document", &write.body)?;
    for (name, value) in &write.indexes {
        check_name("index name", name)?;
        check_name("index value", value)?;
    }
    let leftover = !write.body.is_empty() || !write.indexes.is_empty() || write.due_at.is_some();
    if write.deleted && (write.expected_revision == 0 || leftover) {
        return refuse(format!("the deletion of {} must name a revision and carry nothing else", write.key));
    }
    if write.expected_revision >= i64::MAX as u64 {
        return refuse(format!("revision {} of {} is out of range", write.expected_revision, write.key));
    }
    Ok(())
}

pub(crate) fn check_key(key: &DocumentKey) -> Result<(), CommitError> {
    check_name("kind", &key.kind)?;
    check_name("id", &key.id)
}

/// Names are 1 to [`NAME_LIMIT`] bytes without control characters. U+10FFFF is kept free: it ends
/// a descending list.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), CommitError> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return refuse(format!("{what} of {} bytes, 1 to {NAME_LIMIT} are allowed", name.len()));
    }
    if name.chars().any(|c| c.is_control() || c == char::MAX) {
        return refuse(format!("{what} contains a control character"));
    }
    Ok(())
}

fn check_body(what: &str, body: &[u8]) -> Result<(), CommitError> {
    if body.len() > BODY_LIMIT {
        return refuse(format!("{what} has {} bytes, at most {BODY_LIMIT} are allowed", body.len()));
    }
    Ok(())
}

fn refuse(reason: String) -> Result<(), CommitError> {
    Err(CommitError::Refused { reason })
}

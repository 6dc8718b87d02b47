//! A witness's judgement of somebody else's checkpoint (C2SP tlog-witness). Pure: the caller keeps
//! (size, root) for each origin and replaces it by compare-and-set *before* the cosignature leaves.

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::{Checkpoint, cosign, decimal, hash_lines, open};
use crate::hash::{Hash, empty_root};
use crate::keys::{LedgerKey, LedgerSigner};
use crate::merkle::{MAX_PROOF, verify_consistency};
use crate::note::{MAX_NOTE_BYTES, NoteError, NoteSignature, SignedNote};

/// What is sent to a witness: the head that the sender believes it has, the proof from there, the new head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    pub old: u64,
    pub proof: Vec<Hash>,
    pub note: SignedNote,
}

/// The last head that this witness cosigned for an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub size: u64,
    pub root: Hash,
}

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store the new head in place of exactly the one judged against, durably, then cosign.
    Accept(Accepted),
    /// 404: we know no key of this origin.
    UnknownOrigin,
    /// 403: no key that we trust for this origin has signed, or a known one's signature is broken.
    BadSignature,
    /// 400: the old size is larger than the new one, or the request is no checkpoint.
    BadRequest,
    /// 409: the sender believes in another head than ours, or shows another tree of the same size; carries
    /// our size.
    Conflict { size: u64 },
    /// 422: the proof does not lead from our head to the new one. Keep the request: it may be evidence.
    BadProof,
}

impl Verdict {
    /// The HTTP status that C2SP tlog-witness gives this answer.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Accept(_) => 200,
            Self::BadRequest => 400,
            Self::BadSignature => 403,
            Self::UnknownOrigin => 404,
            Self::Conflict { .. } => 409,
            Self::BadProof => 422,
        }
    }
}

/// A checkpoint that continues what the witness has seen. Only [`judge`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    previous: Option<Seen>,
    checkpoint: Checkpoint,
    note: SignedNote,
}

impl Accepted {
    /// What was judged against: the compare of the compare-and-set.
    #[must_use]
    pub fn previous(&self) -> Option<Seen> {
        self.previous
    }

    /// The head to store.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The cosignature, `time` in Unix seconds. Call it only after the new head is stored durably.
    ///
    /// # Errors
    /// When the time does not fit 63 bits.
    pub fn cosign(&self, signer: &LedgerSigner, time: u64) -> Result<NoteSignature, NoteError> {
        cosign(signer, &self.note, time)
    }
}

/// Judges a new checkpoint. `seen` is the last head cosigned for its origin, `trusted` the keys of all
/// ledgers that this witness looks after.
#[must_use]
pub fn judge(seen: Option<Seen>, trusted: &[LedgerKey], request: &AddCheckpoint) -> Verdict {
    let Ok(claimed) = Checkpoint::parse(request.note.body()) else { return Verdict::BadRequest };
    let keys: Vec<LedgerKey> = trusted.iter().filter(|key| key.name() == claimed.origin).cloned().collect();
    if keys.is_empty() {
        return Verdict::UnknownOrigin;
    }
    let Ok(checkpoint) = open(&request.note.to_string(), &keys) else { return Verdict::BadSignature };
    if request.old > checkpoint.size || request.proof.len() > MAX_PROOF {
        return Verdict::BadRequest;
    }
    let Seen { size, root } = seen.unwrap_or_else(|| Seen { size: 0, root: empty_root() });
    if request.old != size || (checkpoint.size == size && checkpoint.root != root) {
        return Verdict::Conflict { size };
    }
    match verify_consistency(size, checkpoint.size, &request.proof, &root, &checkpoint.root) {
        Ok(()) => Verdict::Accept(Accepted { previous: seen, checkpoint, note: request.note.clone() }),
        Err(_) => Verdict::BadProof,
    }
}

impl fmt::Display for AddCheckpoint {
    /// The request body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "old {}\n{}\n{}", self.old, hash_lines(&self.proof), self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = |why| NoteError::Malformed { why };
        if text.len() > MAX_NOTE_BYTES + 4096 {
            return Err(bad("the request is too long"));
        }
        let (head, note) = text.split_once("\n\n").ok_or_else(|| bad("the request has no checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or_else(|| bad("the request does not begin with the old size"))?;
        let proof = lines.map(str::parse::<Hash>).collect::<Result<Vec<_>, _>>();
        let proof = proof.map_err(|_| bad("a proof line is no hash"))?;
        if proof.len() > MAX_PROOF {
            return Err(bad("the proof has more than 63 lines"));
        }
        Ok(Self { old, proof, note: SignedNote::parse(note)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{open_note, sign};
    use crate::hash::leaf_hash;
    use crate::tree::{MemoryTree, TileReader as _};

    struct Log {
        signer: LedgerSigner,
        tree: MemoryTree,
    }

    impl Log {
        fn new(leaves: u64) -> Self {
            let mut tree = MemoryTree::new();
            tree.extend((0..leaves).map(|n| leaf_hash(&n.to_be_bytes())));
            Self { signer: LedgerSigner::generate("example.org/log").unwrap(), tree }
        }

        fn seen(&self, size: u64) -> Option<Seen> {
            Some(Seen { size, root: self.tree.root_at(size).unwrap() })
        }

        fn request(&self, old: u64, new: u64) -> AddCheckpoint {
            let root = self.tree.root_at(new).unwrap();
            let head = Checkpoint { origin: "example.org/log".into(), size: new, root };
            let proof = if old <= new { self.tree.consistency_proof(old, new).unwrap() } else { Vec::new() };
            AddCheckpoint { old, proof, note: sign(&self.signer, &head).unwrap() }
        }
    }

    #[test]
    fn answers_follow_the_specification() {
        let log = Log::new(100);
        let keys = [log.signer.key()];
        assert_eq!(judge(None, &keys, &log.request(0, 7)).http_status(), 200);
        assert_eq!(judge(log.seen(7), &keys, &log.request(7, 100)).http_status(), 200);
        assert_eq!(judge(log.seen(7), &keys, &log.request(7, 7)).http_status(), 200);
        assert_eq!(judge(log.seen(7), &[], &log.request(7, 100)), Verdict::UnknownOrigin);
        let other_key = LedgerSigner::generate("example.org/log").unwrap().key();
        assert_eq!(judge(log.seen(7), &[other_key], &log.request(7, 100)), Verdict::BadSignature);
        assert_eq!(judge(log.seen(7), &keys, &log.request(100, 7)), Verdict::BadRequest);
        assert_eq!(judge(log.seen(9), &keys, &log.request(7, 100)), Verdict::Conflict { size: 9 });
        assert_eq!(judge(log.seen(100), &keys, &log.request(7, 50)), Verdict::Conflict { size: 100 });
        assert_eq!(judge(None, &keys, &log.request(7, 100)), Verdict::Conflict { size: 0 });
        let mut bent = log.request(7, 100);
        bent.proof[0] = leaf_hash(b"other");
        assert_eq!(judge(log.seen(7), &keys, &bent), Verdict::BadProof);
    }

    #[test]
    fn a_rewritten_history_gets_no_cosignature() {
        let (log, mut fork) = (Log::new(100), Log::new(0));
        fork.tree.extend((0..100_u64).map(|n| leaf_hash(&(n + u64::from(n == 3)).to_be_bytes())));
        fork.signer = log.signer;
        let seen = Some(Seen { size: 50, root: log.tree.root_at(50).unwrap() });
        let keys = [fork.signer.key()];
        assert_eq!(judge(seen, &keys, &fork.request(50, 100)), Verdict::BadProof);
        assert_eq!(judge(seen, &keys, &fork.request(50, 50)), Verdict::Conflict { size: 50 });
    }

    #[test]
    fn a_request_goes_over_the_wire_and_its_cosignature_verifies() {
        let (log, witness) = (Log::new(20), LedgerSigner::generate("example.org/witness").unwrap());
        let request = log.request(8, 20);
        let received: AddCheckpoint = request.to_string().parse().unwrap();
        assert_eq!(received, request);
        let Verdict::Accept(accepted) = judge(log.seen(8), &[log.signer.key()], &received) else {
            panic!("a good request was not accepted")
        };
        let mut note = request.note.clone();
        note.add(accepted.cosign(&witness, 1_700_000_000).unwrap()).unwrap();
        let opened = open_note(&note, &[log.signer.key(), witness.cosigner_key()]).unwrap();
        assert_eq!(opened.cosigned.len(), 1);
        assert!("old 01\n\n".parse::<AddCheckpoint>().is_err());
    }
}

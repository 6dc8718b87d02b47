//! Receipts (C2SP tlog-proof): one file that shows offline that a leaf is in a ledger.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checkpoint::{decimal, hash_lines};
use crate::hash::{Hash, leaf_hash};
use crate::merkle::{MAX_PROOF, ProofError, verify_inclusion};
use crate::note::{MAX_NOTE_BYTES, NoteError, SignedNote};
use crate::policy::{PolicyError, TrustPolicy, Trusted};

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
const MAX_EXTRA_BYTES: usize = 64 * 1024;

/// Why a receipt is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("failed to read a receipt: {why}")]
    Malformed { why: &'static str },
    #[error("failed to read a receipt's checkpoint")]
    Note(#[from] NoteError),
    #[error("failed to trust a receipt's checkpoint")]
    Policy(#[from] PolicyError),
    #[error("failed to verify a receipt")]
    Proof(#[from] ProofError),
}

/// A leaf's place in a ledger, with everything needed to check it but the leaf and the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionReceipt {
    pub index: u64,
    /// Sibling of the leaf first.
    pub hashes: Vec<Hash>,
    pub note: SignedNote,
    /// Not authenticated by anything; for the reader's convenience only. At most 64 KiB.
    pub extra: Option<Vec<u8>>,
}

impl InclusionReceipt {
    /// Checks that this leaf stands in a ledger that the policy trusts.
    ///
    /// # Errors
    /// When the checkpoint is not trusted or the leaf is not where the receipt says.
    pub fn verify(&self, leaf: &[u8], policy: &TrustPolicy) -> Result<Trusted, ReceiptError> {
        self.verify_hash(&leaf_hash(leaf), policy)
    }

    /// As [`Self::verify`], for a leaf of which only the hash is at hand.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_hash(&self, leaf: &Hash, policy: &TrustPolicy) -> Result<Trusted, ReceiptError> {
        let trusted = policy.trust(&self.note)?;
        let head = &trusted.checkpoint;
        verify_inclusion(leaf, self.index, head.size, &self.hashes, &head.root)?;
        Ok(trusted)
    }
}

impl fmt::Display for InclusionReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        write!(f, "index {}\n{}\n{}", self.index, hash_lines(&self.hashes), self.note)
    }
}

impl FromStr for InclusionReceipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let bad = |why| ReceiptError::Malformed { why };
        if text.len() > MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES {
            return Err(bad("it is too long"));
        }
        let rest = text.strip_prefix(HEADER).ok_or_else(|| bad("its first line is another"))?;
        let (head, note) = rest.split_once("\n\n").ok_or_else(|| bad("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with("extra ")).map(|line| {
            let encoded = line.strip_prefix("extra ").unwrap_or_default();
            STANDARD.decode(encoded).map_err(|_| bad("its extra line is no base64"))
        });
        let extra = extra.transpose()?;
        if extra.as_ref().is_some_and(|extra| extra.len() > MAX_EXTRA_BYTES) {
            return Err(bad("its extra data is longer than 64 KiB"));
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or_else(|| bad("it has no index"))?;
        let hashes = lines.map(str::parse::<Hash>).collect::<Result<Vec<_>, _>>();
        let hashes = hashes.map_err(|_| bad("a proof line is no hash"))?;
        if hashes.len() > MAX_PROOF {
            return Err(bad("its proof has more than 63 hashes"));
        }
        Ok(Self { index, hashes, note: SignedNote::parse(note)?, extra })
    }
}

impl Serialize for InclusionReceipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InclusionReceipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, cosign, sign};
    use crate::keys::LedgerSigner;
    use crate::tree::{MemoryTree, TileReader as _};

    #[test]
    fn a_receipt_goes_as_text_and_holds_for_its_leaf_only() {
        let (log, witness) =
            (LedgerSigner::generate("a/log").unwrap(), LedgerSigner::generate("a/witness").unwrap());
        let mut tree = MemoryTree::new();
        tree.extend((0..300_u32).map(|n| leaf_hash(&n.to_be_bytes())));
        let head = Checkpoint { origin: "a/log".into(), size: tree.size(), root: tree.root() };
        let mut note = sign(&log, &head).unwrap();
        note.add(cosign(&witness, &note, 1_700_000_000).unwrap()).unwrap();
        let hashes = tree.inclusion_proof(299, 300).unwrap();
        let mut receipt = InclusionReceipt { index: 299, hashes, note, extra: None };
        let policy = TrustPolicy::with_witnesses(&[log.key()], &[("w", witness.cosigner_key())], 1).unwrap();
        for extra in [None, Some(Vec::new()), Some(b"gateway 1".to_vec())] {
            receipt.extra = extra;
            let read: InclusionReceipt = receipt.to_string().parse().unwrap();
            assert_eq!(read, receipt);
            let trusted = read.verify(&299_u32.to_be_bytes(), &policy).unwrap();
            assert_eq!(trusted.witnesses, [("w".into(), 1_700_000_000)]);
        }
        assert!(receipt.verify(&298_u32.to_be_bytes(), &policy).is_err());
        receipt.index = 298;
        assert!(receipt.verify(&299_u32.to_be_bytes(), &policy).is_err());
        for wrong in ["", HEADER, "c2sp.org/tlog-proof@v2\nindex 1\n\n"] {
            assert!(wrong.parse::<InclusionReceipt>().is_err());
        }
        assert!(receipt.to_string().replace("index 298", "index 0298").parse::<InclusionReceipt>().is_err());
    }
}

//! Checkpoints (C2SP tlog-checkpoint): the signed head of a ledger, and cosignatures upon it.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::keys::{KeyKind, LedgerKey, LedgerSigner, check_name};
use crate::merkle::MAX_SIZE;
use crate::note::{NoteError, NoteSignature, SignedNote, cosigned_message};

/// The head of a ledger: this origin had this many leaves with this root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a checkpoint's note text. Extension lines, which nobody could audit, are refused.
    ///
    /// # Errors
    /// When the text is not exactly three canonical lines.
    pub fn parse(body: &str) -> Result<Self, NoteError> {
        let bad = |why| NoteError::BadCheckpoint { why };
        let mut lines =
            body.strip_suffix('\n').ok_or_else(|| bad("it does not end in a newline"))?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(bad("it is not three lines: origin, size, root"));
        };
        check_name(origin)?;
        let size = decimal(size).ok_or_else(|| bad("its size is no plain number"))?;
        let root = root.parse().map_err(|_| bad("its root is no hash"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl fmt::Display for Checkpoint {
    /// The note text, as it is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)
    }
}

/// A decimal number without sign or leading zeros, below the largest tree size.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten().filter(|size| *size < MAX_SIZE)
}

/// Signs a checkpoint. Whoever calls this has stored (size, root) durably before, and never signs two trees.
///
/// # Errors
/// When the checkpoint is of another origin than the key, or not representable.
pub fn sign(signer: &LedgerSigner, checkpoint: &Checkpoint) -> Result<SignedNote, NoteError> {
    if signer.origin() != checkpoint.origin {
        let (expected, found) = (signer.origin().to_owned(), checkpoint.origin.clone());
        return Err(NoteError::OtherOrigin { expected, found });
    }
    let body = checkpoint.to_string();
    Checkpoint::parse(&body)?;
    let bytes = signer.sign_bytes(body.as_bytes()).to_vec();
    let line = NoteSignature { name: signer.origin().to_owned(), key_id: signer.key().id(), bytes };
    Ok(SignedNote::new(body, vec![line]))
}

/// Cosigns a checkpoint of another ledger (`cosignature/v1`), `time` in Unix seconds. Only after
/// [`crate::witness::judge`] accepted it and the new head was stored durably.
///
/// # Errors
/// When the note is no checkpoint, or the time does not fit 63 bits.
pub fn cosign(signer: &LedgerSigner, note: &SignedNote, time: u64) -> Result<NoteSignature, NoteError> {
    Checkpoint::parse(note.body())?;
    if i64::try_from(time).is_err() {
        return Err(NoteError::BadTime { time });
    }
    let mut bytes = time.to_be_bytes().to_vec();
    bytes.extend_from_slice(&signer.sign_bytes(cosigned_message(note.body(), time).as_bytes()));
    Ok(NoteSignature { name: signer.origin().to_owned(), key_id: signer.cosigner_key().id(), bytes })
}

/// A cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    pub key: LedgerKey,
    /// Unix time in seconds, as the witness says.
    pub time: u64,
}

/// A checkpoint that verified, with who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub checkpoint: Checkpoint,
    /// The ledger's own key that signed.
    pub ledger: LedgerKey,
    /// Valid cosignatures by keys other than the ledger's own, each underlying key once.
    pub cosigned: Vec<Cosigned>,
}

/// Verifies a checkpoint's text against the keys we trust (see [`open_note`]).
///
/// # Errors
/// As [`open_note`]; when the text is no note.
pub fn open(note: &str, keys: &[LedgerKey]) -> Result<Checkpoint, NoteError> {
    open_note(&SignedNote::parse(note)?, keys).map(|opened| opened.checkpoint)
}

/// Verifies a checkpoint against the keys we trust, of ledgers and witnesses. The ledger itself must have
/// signed: a key of kind 0x01 whose name is the checkpoint's origin.
///
/// # Errors
/// When a known key's signature does not hold, the ledger has not signed, or the text is no checkpoint.
pub fn open_note(note: &SignedNote, keys: &[LedgerKey]) -> Result<Opened, NoteError> {
    let verified = note.verify(keys)?;
    let checkpoint = Checkpoint::parse(note.body())?;
    let signed_by = || verified.iter().filter_map(|seen| Some((keys.get(seen.key)?, seen.time)));
    let ledger = signed_by()
        .map(|(key, _)| key)
        .find(|key| key.kind() == KeyKind::Ed25519 && key.name() == checkpoint.origin)
        .ok_or_else(|| NoteError::NotByItsLedger { origin: checkpoint.origin.clone() })?
        .clone();
    let mut cosigned: Vec<Cosigned> = Vec::new();
    for (key, time) in signed_by() {
        // Nobody is their own witness, and two names of one key are one witness.
        let counted = key.same_key(&ledger) || cosigned.iter().any(|seen| seen.key.same_key(key));
        if let (KeyKind::CosignatureV1, Some(time), false) = (key.kind(), time, counted) {
            cosigned.push(Cosigned { key: key.clone(), time });
        }
    }
    Ok(Opened { checkpoint, ledger, cosigned })
}

/// Lines of hashes, as proofs carry them.
pub(crate) fn hash_lines(hashes: &[Hash]) -> String {
    hashes.iter().fold(String::new(), |mut lines, hash| {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{hash}");
        lines
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::leaf_hash;

    fn signer(origin: &str) -> LedgerSigner {
        LedgerSigner::from_seed(origin, leaf_hash(origin.as_bytes()).as_bytes()).unwrap()
    }

    fn head(size: u64) -> Checkpoint {
        Checkpoint { origin: "halligan.example/control".into(), size, root: leaf_hash(b"root") }
    }

    #[test]
    fn sign_cosign_open() {
        let (control, gateway) = (signer("halligan.example/control"), signer("halligan.example/gw-1"));
        let mut note = sign(&control, &head(7)).unwrap();
        note.add(cosign(&gateway, &note, 1_700_000_000).unwrap()).unwrap();
        let keys = [control.key(), gateway.cosigner_key()];
        let opened = open_note(&SignedNote::parse(&note.to_string()).unwrap(), &keys).unwrap();
        assert_eq!(opened.checkpoint, head(7));
        assert_eq!(opened.cosigned, [Cosigned { key: keys[1].clone(), time: 1_700_000_000 }]);
        // The gateway's word alone is no checkpoint of control.
        assert!(matches!(open(&note.to_string(), &keys[1..]), Err(NoteError::NotByItsLedger { .. })));
        // Sixteen unknown signatures do no harm, one broken known one does.
        for n in 0..16 {
            note.add(cosign(&signer(&format!("w{n}")), &note, 5).unwrap()).unwrap();
        }
        assert_eq!(open(&note.to_string(), &keys).unwrap(), head(7));
        let mut broken = cosign(&gateway, &note, 1_700_000_000).unwrap();
        broken.bytes[0] ^= 1;
        note.add(broken).unwrap();
        assert!(matches!(open(&note.to_string(), &keys), Err(NoteError::BadSignature { .. })));
    }

    #[test]
    fn nobody_is_their_own_witness() {
        let control = signer("halligan.example/control");
        let mut note = sign(&control, &head(7)).unwrap();
        note.add(cosign(&control, &note, 1).unwrap()).unwrap();
        let keys = [control.key(), control.cosigner_key()];
        assert!(open_note(&note, &keys).unwrap().cosigned.is_empty());
    }

    #[test]
    fn a_key_signs_only_its_own_ledger() {
        assert!(matches!(sign(&signer("other"), &head(7)), Err(NoteError::OtherOrigin { .. })));
        let huge = head(u64::MAX);
        assert!(sign(&signer("halligan.example/control"), &huge).is_err());
    }

    #[test]
    fn only_the_canonical_text_is_a_checkpoint() {
        let good = head(10).to_string();
        assert_eq!(Checkpoint::parse(&good).unwrap(), head(10));
        for wrong in [
            good.replace("\n10\n", "\n010\n"),
            good.replace("\n10\n", "\n+10\n"),
            good.replace("\n10\n", "\n-1\n"),
            good.replace("\n10\n", "\n 10\n"),
            good.replace("\n10\n", "\n99999999999999999999\n"),
            good.replace("=\n", "\n"),
            good.replace("control", "con trol"),
            format!("{good}extension\n"),
            good.trim_end().to_owned(),
        ] {
            assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        /// No single changed bit of a signed checkpoint opens.
        #[test]
        fn a_flipped_bit_is_refused(size in 0_u64..1 << 40, place in 0_usize..300, bit in 0_u8..8) {
            let control = signer("halligan.example/control");
            let note = sign(&control, &head(size)).unwrap().to_string();
            let mut bytes = note.clone().into_bytes();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(open(&text, &[control.key()]).is_err(), "{text}");
            }
            prop_assert!(open(&note, &[control.key()]).is_ok());
        }
    }
}

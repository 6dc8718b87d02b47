//! Signed notes (C2SP signed-note): a text and the signature lines below it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::keys::{COSIGNATURE_HEADER, KeyKind, LedgerKey, check_name};

/// A longer note is refused unread. Sixteen post-quantum signatures fit.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;
/// A note with more signatures is refused (C2SP demands that at least 16 be accepted).
pub const MAX_SIGNATURES: usize = 64;
const MARK: &str = "\u{2014} ";

/// Why a note, checkpoint or key is refused.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    #[error("failed to read a signed note: {why}")]
    Malformed { why: &'static str },
    #[error("failed to read a checkpoint: {why}")]
    BadCheckpoint { why: &'static str },
    #[error(
        "failed to verify a note: the signature of {name}, a key we know, does not fit; it was changed or forged"
    )]
    BadSignature { name: String },
    #[error("failed to verify a note: no key that we trust has signed it")]
    Unsigned,
    #[error("failed to verify a checkpoint of {origin}: none of our keys of that ledger has signed it")]
    NotByItsLedger { origin: String },
    #[error("failed to read key {text}: expected name+id+base64 of an Ed25519 key")]
    BadKey { text: String },
    #[error("failed to read a key: signature type 0x{kind:02x} is not supported")]
    UnknownKeyKind { kind: u8 },
    #[error(
        "failed to use {name:?} as origin or key name: it is empty, too long, reserved, or holds a space, a plus or a control character"
    )]
    BadName { name: String },
    #[error("failed to use a key of {found} for the ledger {expected}")]
    OtherOrigin { expected: String, found: String },
    #[error("failed to open the key file {path}")]
    KeyFile {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to open the key file {path}: others than its owner can read it (run chmod 600)")]
    KeyFileOpen { path: String },
    #[error("failed to read the key file {path}: it is no private key")]
    BadKeyFile { path: String },
    #[error("failed to make a key: the operating system gives no randomness")]
    NoRandomness,
    #[error("failed to cosign: {time} is no time")]
    BadTime { time: u64 },
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: String,
    pub key_id: [u8; 4],
    /// What the key's kind says: 64 bytes of Ed25519, or a time before them.
    pub bytes: Vec<u8>,
}

impl fmt::Display for NoteSignature {
    /// The line, with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_vec();
        bytes.extend_from_slice(&self.bytes);
        writeln!(f, "{MARK}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let bad = || NoteError::Malformed { why: "a signature line is not of the form «— name base64»" };
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (name, encoded) =
            line.strip_prefix(MARK).and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
        check_name(name)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| bad())?;
        let (key_id, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        if rest.is_empty() {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: rest.to_vec() })
    }
}

/// A note that was read but not yet verified. Its text form is canonical: parsing and printing give the
/// same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    body: String,
    signatures: Vec<NoteSignature>,
}

/// A signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Place of the key in the list given to [`SignedNote::verify`].
    pub key: usize,
    /// Unix time in seconds, as the cosigner says; `None` for a ledger's own signature.
    pub time: Option<u64>,
}

impl SignedNote {
    pub(crate) fn new(body: String, signatures: Vec<NoteSignature>) -> Self {
        Self { body, signatures }
    }

    /// The note with this key's signature lines only.
    pub(crate) fn only(&self, key: &LedgerKey) -> Self {
        let mine = self.signatures.iter().filter(|line| key.answers_to(&line.name, line.key_id));
        Self { body: self.body.clone(), signatures: mine.cloned().collect() }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// When it is too long or not a note.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let bad = |why| NoteError::Malformed { why };
        if text.len() > MAX_NOTE_BYTES {
            return Err(bad("it is longer than 128 KiB"));
        }
        if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(bad("it holds a control character"));
        }
        let split = text.rfind("\n\n").ok_or_else(|| bad("no empty line before the signatures"))?;
        let (body, signatures) = text.split_at(split + 1);
        let lines = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or_else(|| bad("no signature at its end"))?;
        if lines.split('\n').count() > MAX_SIGNATURES {
            return Err(bad("it has more than 64 signatures"));
        }
        let signatures = lines.split('\n').map(str::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { body: body.to_owned(), signatures })
    }

    /// The signed text, with its last newline. Not trusted until verified.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, unless the very same is there.
    ///
    /// # Errors
    /// When the note has 64 already.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::Malformed { why: "it has more than 64 signatures" });
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The signatures of keys that we know. Unknown keys are ignored; a known key whose signature does not
    /// hold condemns the whole note. Each key counts once, with its earliest time.
    ///
    /// # Errors
    /// When a known key's signature does not hold, or no known key has signed.
    pub fn verify(&self, keys: &[LedgerKey]) -> Result<Vec<Verified>, NoteError> {
        let mut verified: Vec<Verified> = Vec::new();
        for line in &self.signatures {
            for (place, key) in keys.iter().enumerate() {
                if !key.answers_to(&line.name, line.key_id) {
                    continue;
                }
                let time = check(key, &self.body, &line.bytes)
                    .ok_or_else(|| NoteError::BadSignature { name: line.name.clone() })?;
                match verified.iter_mut().find(|seen| seen.key == place) {
                    Some(seen) => seen.time = seen.time.min(time),
                    None => verified.push(Verified { key: place, time }),
                }
            }
        }
        if verified.is_empty() { Err(NoteError::Unsigned) } else { Ok(verified) }
    }
}

/// `None` when the signature does not hold, else its time if it has one.
fn check(key: &LedgerKey, body: &str, bytes: &[u8]) -> Option<Option<u64>> {
    match key.kind() {
        KeyKind::Ed25519 => key.verifies(body.as_bytes(), bytes).then_some(None),
        KeyKind::CosignatureV1 => {
            let (time, signature) = bytes.split_first_chunk::<8>()?;
            let time = u64::from_be_bytes(*time);
            let holds = i64::try_from(time).is_ok()
                && key.verifies(cosigned_message(body, time).as_bytes(), signature);
            holds.then_some(Some(time))
        }
    }
}

/// What an Ed25519 cosigner signs (C2SP tlog-cosignature).
pub(crate) fn cosigned_message(body: &str, time: u64) -> String {
    format!("{COSIGNATURE_HEADER}\ntime {time}\n{body}")
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.body)?;
        self.signatures.iter().try_for_each(|line| write!(f, "{line}"))
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::parse(text)
    }
}

impl Serialize for SignedNote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignedNote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_of_the_reference_implementation_verifies() {
        let note = SignedNote::parse(NOTE).unwrap();
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.verify(&[KEY.parse().unwrap()]).unwrap(), [Verified { key: 0, time: None }]);
        let changed = SignedNote::parse(&NOTE.replace("answer", "Answer")).unwrap();
        assert!(matches!(changed.verify(&[KEY.parse().unwrap()]), Err(NoteError::BadSignature { .. })));
        assert!(matches!(note.verify(&[]), Err(NoteError::Unsigned)));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let many = format!("x\n\n{}", "\u{2014} n AAAAAAA=\n".repeat(65));
        for wrong in [
            "",
            "x\n",
            "x\n\n",
            "x\n\n\u{2014} name\n",
            "x\n\n- name AAAAAAA=\n",
            "x\n\n\u{2014} name AAAAAAA=",
            "x\r\n\n\u{2014} name AAAAAAA=\n",
            "x\n\n\u{2014} name AAAAAA==\n",
            "x\n\n\u{2014} na+me AAAAAAA=\n",
            "x\n\n\u{2014} name  AAAAAAA=\n",
            many.as_str(),
        ] {
            assert!(SignedNote::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(SignedNote::parse("x\n\n\u{2014} name AAAAAAA=\n").is_ok(), "the form itself is right");
    }
}

//! The auditor's trust file (C2SP tlog-policy): which ledgers, which witnesses, and how many of them suffice.
//! A group counts a witness once, and a ledger's own key never witnesses for it.

use std::collections::HashMap;
use std::fmt;

use crate::checkpoint::{Checkpoint, open_note};
use crate::keys::{KeyKind, LedgerKey};
use crate::note::{NoteError, SignedNote};

/// A larger trust file is refused unread.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;
const NONE: &str = "none";

/// Why a trust file is refused, or a checkpoint does not satisfy it. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed to read the trust policy: it is larger than 256 KiB or not text")]
    NotText,
    #[error("failed to read the trust policy, line {line}: {why}")]
    Line { line: usize, why: String },
    #[error("failed to read the trust policy, line {line}")]
    Key {
        line: usize,
        #[source]
        source: NoteError,
    },
    #[error("failed to read the trust policy: it has no quorum line")]
    NoQuorum,
    #[error("failed to trust a checkpoint")]
    Note(#[from] NoteError),
    #[error(
        "failed to trust a checkpoint of {origin} at {size}: the quorum {quorum} is not reached, cosigned by {cosigned:?} only"
    )]
    QuorumNotReached { origin: String, size: u64, quorum: String, cosigned: Vec<String> },
}

/// A ledger that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedLog {
    pub key: LedgerKey,
    pub url: Option<String>,
}

/// A witness that can count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedWitness {
    pub name: String,
    pub key: LedgerKey,
    pub url: Option<String>,
}

/// `threshold` of these members (witnesses or groups) must have witnessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub threshold: usize,
    pub members: Vec<String>,
}

/// A trust policy. Prints as a policy file that parses to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    logs: Vec<TrustedLog>,
    witnesses: Vec<TrustedWitness>,
    groups: Vec<Group>,
    quorum: String,
}

/// A checkpoint that satisfies a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    pub checkpoint: Checkpoint,
    pub ledger: LedgerKey,
    /// Names (of this policy) and Unix times in seconds of all witnesses whose cosignature holds.
    pub witnesses: Vec<(String, u64)>,
}

impl TrustPolicy {
    /// A policy that accepts these ledgers without witnesses (`quorum none`).
    ///
    /// # Errors
    /// When a key is not a ledger's or stands twice.
    pub fn unwitnessed(logs: &[LedgerKey]) -> Result<Self, PolicyError> {
        Self::with_witnesses(logs, &[], 0)
    }

    /// A policy that accepts these ledgers when `threshold` of the named witnesses have cosigned; a threshold
    /// of 0 is `quorum none`.
    ///
    /// # Errors
    /// When a key is of the wrong kind or stands twice, a name is unfit, or the threshold is too high.
    pub fn with_witnesses(
        logs: &[LedgerKey],
        witnesses: &[(&str, LedgerKey)],
        threshold: usize,
    ) -> Result<Self, PolicyError> {
        let mut text = String::new();
        for key in logs {
            text.push_str(&format!("log {key}\n"));
        }
        for (name, key) in witnesses {
            text.push_str(&format!("witness {name} {key}\n"));
        }
        if threshold == 0 {
            text.push_str("quorum none\n");
        } else {
            let names: Vec<&str> = witnesses.iter().map(|(name, _)| *name).collect();
            text.push_str(&format!(
                "group all-witnesses {threshold} {}\nquorum all-witnesses\n",
                names.join(" ")
            ));
        }
        Self::parse(text.as_bytes())
    }

    /// Reads a policy file. Names and comments must be UTF-8 here (the specification allows any octets).
    ///
    /// # Errors
    /// With the line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::NotText);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::NotText)?;
        let mut reader = PolicyReader::default();
        for (line, content) in (1..).zip(text.split('\n')) {
            reader.line(line, content)?;
        }
        let quorum = reader.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Self { logs: reader.logs, witnesses: reader.witnesses, groups: reader.groups, quorum })
    }

    /// The ledgers that are accepted. May be empty: then [`Self::trust`] refuses everything.
    #[must_use]
    pub fn logs(&self) -> &[TrustedLog] {
        &self.logs
    }

    /// The witnesses that can count.
    #[must_use]
    pub fn witnesses(&self) -> &[TrustedWitness] {
        &self.witnesses
    }

    /// Name of the witness or group that must have witnessed, or `none`.
    #[must_use]
    pub fn quorum(&self) -> &str {
        &self.quorum
    }

    /// All keys of the policy, ledgers and witnesses.
    #[must_use]
    pub fn keys(&self) -> Vec<LedgerKey> {
        let logs = self.logs.iter().map(|log| log.key.clone());
        logs.chain(self.witnesses.iter().map(|witness| witness.key.clone())).collect()
    }

    /// Accepts a checkpoint that a listed ledger signed and the quorum cosigned.
    ///
    /// # Errors
    /// When any signature of a known key is broken, no listed ledger signed, or the quorum is not reached.
    pub fn trust(&self, note: &SignedNote) -> Result<Trusted, PolicyError> {
        let opened = open_note(note, &self.keys())?;
        let witnesses: Vec<(String, u64)> = self
            .witnesses
            .iter()
            .filter_map(|witness| {
                let held = opened.cosigned.iter().find(|held| held.key.same_key(&witness.key))?;
                Some((witness.name.clone(), held.time))
            })
            .collect();
        if self.reached(witnesses.iter().map(|(name, _)| name.as_str())) {
            return Ok(Trusted { checkpoint: opened.checkpoint, ledger: opened.ledger, witnesses });
        }
        Err(PolicyError::QuorumNotReached {
            origin: opened.checkpoint.origin,
            size: opened.checkpoint.size,
            quorum: self.quorum.clone(),
            cosigned: witnesses.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn reached<'a>(&'a self, witnesses: impl Iterator<Item = &'a str>) -> bool {
        let mut witnessed: HashMap<&str, ()> = witnesses.map(|name| (name, ())).collect();
        // Groups name only what stands before them, so one pass in order decides them all.
        for group in &self.groups {
            let count = group.members.iter().filter(|name| witnessed.contains_key(name.as_str())).count();
            if count >= group.threshold {
                witnessed.insert(&group.name, ());
            }
        }
        self.quorum == NONE || witnessed.contains_key(self.quorum.as_str())
    }
}

#[derive(Default)]
struct PolicyReader {
    logs: Vec<TrustedLog>,
    witnesses: Vec<TrustedWitness>,
    groups: Vec<Group>,
    quorum: Option<String>,
    /// Every defined name, and whether it is a member of a group already.
    names: HashMap<String, bool>,
}

impl PolicyReader {
    fn line(&mut self, line: usize, content: &str) -> Result<(), PolicyError> {
        let wrong = |why: &str| PolicyError::Line { line, why: why.to_owned() };
        if content.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(wrong("it holds a control character"));
        }
        let items: Vec<&str> = content.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match *items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(line, key, None),
            ["log", key, url] => self.log(line, key, Some(url)),
            ["witness", name, key] => self.witness(line, name, key, None),
            ["witness", name, key, url] => self.witness(line, name, key, Some(url)),
            ["group", name, threshold, ref members @ ..] if !members.is_empty() => {
                self.group(line, name, threshold, members)
            }
            ["quorum", name] if self.quorum.is_none() => {
                if name != NONE && !self.names.contains_key(name) {
                    return Err(wrong(&format!("{name} is not defined on a line before it")));
                }
                self.quorum = Some(name.to_owned());
                Ok(())
            }
            ["quorum", _] => Err(wrong("there is more than one quorum line")),
            _ => Err(wrong("expected log, witness, group or quorum with their items")),
        }
    }

    fn log(&mut self, line: usize, key: &str, url: Option<&str>) -> Result<(), PolicyError> {
        let key = key_of(line, key, KeyKind::Ed25519)?;
        if self.logs.iter().any(|log| log.key.same_key(&key)) {
            return Err(PolicyError::Line { line, why: "this ledger's key is listed twice".to_owned() });
        }
        self.logs.push(TrustedLog { key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn witness(&mut self, line: usize, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyError> {
        let key = key_of(line, key, KeyKind::CosignatureV1)?;
        if self.witnesses.iter().any(|witness| witness.key.same_key(&key)) {
            return Err(PolicyError::Line { line, why: "this witness's key is listed twice".to_owned() });
        }
        self.define(line, name)?;
        self.witnesses.push(TrustedWitness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn group(
        &mut self,
        line: usize,
        name: &str,
        threshold: &str,
        members: &[&str],
    ) -> Result<(), PolicyError> {
        let wrong = |why: String| PolicyError::Line { line, why };
        let threshold = match threshold {
            "all" => members.len(),
            "any" => 1,
            number => crate::checkpoint::decimal(number)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or_else(|| {
                    wrong(format!("expected all, any or 1 to {}, found {number}", members.len()))
                })?,
        };
        for member in members {
            match self.names.get_mut(*member) {
                Some(used @ false) => *used = true,
                Some(true) => return Err(wrong(format!("{member} is a member of a group already"))),
                None => return Err(wrong(format!("{member} is not defined on a line before it"))),
            }
        }
        self.define(line, name)?;
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), threshold, members });
        Ok(())
    }

    fn define(&mut self, line: usize, name: &str) -> Result<(), PolicyError> {
        if name == NONE || self.names.insert(name.to_owned(), false).is_some() {
            return Err(PolicyError::Line { line, why: format!("the name {name} is taken") });
        }
        Ok(())
    }
}

fn key_of(line: usize, text: &str, kind: KeyKind) -> Result<LedgerKey, PolicyError> {
    let key: LedgerKey = text.parse().map_err(|source| PolicyError::Key { line, source })?;
    if key.kind() == kind {
        return Ok(key);
    }
    let why = format!("expected a key of signature type {}, found {}", kind.byte(), key.kind().byte());
    Err(PolicyError::Line { line, why })
}

impl fmt::Display for TrustPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map_or_else(String::new, |url| format!(" {url}"));
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(f, "witness {} {}{}", witness.name, witness.key, url(&witness.url))?;
        }
        for group in &self.groups {
            writeln!(f, "group {} {} {}", group.name, group.threshold, group.members.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{cosign, sign};
    use crate::hash::leaf_hash;
    use crate::keys::LedgerSigner;

    fn signer(name: &str) -> LedgerSigner {
        LedgerSigner::from_seed(name, leaf_hash(name.as_bytes()).as_bytes()).unwrap()
    }

    fn note(cosigners: &[&str]) -> SignedNote {
        let head = Checkpoint { origin: "log".into(), size: 3, root: leaf_hash(b"root") };
        let mut note = sign(&signer("log"), &head).unwrap();
        for name in cosigners {
            note.add(cosign(&signer(name), &note, 9).unwrap()).unwrap();
        }
        note
    }

    fn two_levels() -> String {
        let mut text = format!("# who is trusted\nlog {} https://log.example/\n\n", signer("log").key());
        for name in ["x1", "x2", "x3", "y1", "y2"] {
            text += &format!("witness {} {}\n", name.to_uppercase(), signer(name).cosigner_key());
        }
        text + "group X 2 X1 X2 X3\n\tgroup  Y any Y1 Y2 \ngroup X-and-Y all X Y\nquorum X-and-Y\n"
    }

    #[test]
    fn a_quorum_of_two_levels_counts_as_written() {
        let policy = TrustPolicy::parse(two_levels().as_bytes()).unwrap();
        assert_eq!(TrustPolicy::parse(policy.to_string().as_bytes()).unwrap(), policy);
        for (cosigners, enough) in [
            (&["x1", "x3", "y2"][..], true),
            (&["x1", "x2", "x3", "y1", "y2"], true),
            (&["x1", "x3"], false),
            (&["x1", "y1", "y2"], false),
            (&[], false),
            (&["stranger", "x1", "y1"], false),
        ] {
            assert_eq!(policy.trust(&note(cosigners)).is_ok(), enough, "{cosigners:?}");
        }
        let trusted = policy.trust(&note(&["x1", "x3", "y2"])).unwrap();
        assert_eq!(trusted.witnesses, [("X1".into(), 9), ("X3".into(), 9), ("Y2".into(), 9)]);
    }

    #[test]
    fn one_key_never_counts_twice() {
        let (log, x1) = (signer("log").key(), signer("x1").cosigner_key());
        let renamed = LedgerKey::new("renamed", KeyKind::CosignatureV1, x1.public_bytes()).unwrap();
        assert!(
            TrustPolicy::with_witnesses(std::slice::from_ref(&log), &[("a", x1), ("b", renamed)], 2).is_err()
        );
        assert!(TrustPolicy::unwitnessed(&[log.clone(), log.clone()]).is_err());
        // The ledger's own key under the name of a witness is no witness.
        let own = TrustPolicy::with_witnesses(&[log], &[("own", signer("log").cosigner_key())], 1).unwrap();
        assert!(matches!(own.trust(&note(&["log"])), Err(PolicyError::QuorumNotReached { .. })));
    }

    #[test]
    fn a_policy_without_witnesses_still_wants_the_ledger() {
        let policy = TrustPolicy::unwitnessed(&[signer("log").key()]).unwrap();
        assert!(policy.trust(&note(&[])).is_ok());
        let stranger = TrustPolicy::unwitnessed(&[signer("other").key()]).unwrap();
        assert!(stranger.trust(&note(&[])).is_err());
    }

    #[test]
    fn wrong_files_are_refused_with_their_line() {
        let good = two_levels();
        for (wrong, line) in [
            (good.replace("quorum X-and-Y", "quorum Z"), 12),
            (good.replace("group X 2 X1", "group X 4 X1"), 9),
            (good.replace("group X 2 X1", "group X 0 X1"), 9),
            (good.replace("group X 2 X1", "group X 2 X1 X1"), 9),
            (good.replace("any Y1 Y2", "any Y1 Y2 X1"), 10),
            (good.replace("any Y1 Y2", "any none"), 10),
            (good.replace("group X 2", "group none 2"), 9),
            (format!("{good}quorum X\n"), 13),
            (good.replace("# who", "\u{7}# who"), 1),
            (good.replacen("log ", "witness log ", 1), 2),
            (good.replace("witness X1", "witless X1"), 4),
        ] {
            match TrustPolicy::parse(wrong.as_bytes()) {
                Err(PolicyError::Line { line: found, .. } | PolicyError::Key { line: found, .. }) => {
                    assert_eq!(found, line, "{wrong}");
                }
                other => panic!("{other:?} for {wrong}"),
            }
        }
        assert!(matches!(TrustPolicy::parse(b"# nothing\n"), Err(PolicyError::NoQuorum)));
    }
}

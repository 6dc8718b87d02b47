//! Judges a batch of commits against what the database holds, without touching it.
//!
//! Both engines do the same: hold the head row, look up what the batch names, plan, write the
//! plan, commit. A commit sees the writes of those before it in its batch; one that is refused
//! leaves no trace. Pure, so that the rules are the same on both engines.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::CommitError;
use crate::types::{Commit, CommitDone, DocumentKey, DocumentWrite, OutboxRow, ROW_LIMIT, Version};

/// The head row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) last_time: i64,
    pub(crate) commits: u64,
}

/// What the database holds of that which a batch names. Absent is absent.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) head: Head,
    pub(crate) documents: HashMap<DocumentKey, Held>,
    pub(crate) answers: HashMap<String, Vec<u8>>,
}

/// What must be looked up before a batch can be planned.
#[derive(Debug, Default)]
pub(crate) struct Questions<'a> {
    pub(crate) documents: HashSet<&'a DocumentKey>,
    pub(crate) answers: HashSet<&'a str>,
}

/// A document that the database holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) version: Version,
    pub(crate) indexes: Indexes,
}

/// (index, value) pairs of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes(BTreeSet<(String, String)>);

impl Indexes {
    /// Names hold no control characters, so a tab and a line feed part them.
    pub(crate) fn encode(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect()
    }

    pub(crate) fn decode(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// How one document leaves the batch.
#[derive(Debug)]
pub(crate) struct Change {
    /// There was one before the batch.
    pub(crate) existed: bool,
    /// Its index rows before the batch.
    had: Indexes,
    /// What stays; nothing: delete it.
    pub(crate) stays: Option<Stays>,
}

impl Change {
    /// Index rows that must go.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &(String, String)> {
        self.had
            .0
            .iter()
            .filter(|pair| !self.stays.as_ref().is_some_and(|stays| stays.indexes.0.contains(*pair)))
    }

    /// Index rows that must come.
    pub(crate) fn added(&self) -> impl Iterator<Item = &(String, String)> {
        self.stays.iter().flat_map(|stays| &stays.indexes.0).filter(|pair| !self.had.0.contains(*pair))
    }
}

#[derive(Debug)]
pub(crate) struct Stays {
    pub(crate) version: Version,
    pub(crate) body: Vec<u8>,
    pub(crate) indexes: Indexes,
    pub(crate) due_at: Option<i64>,
}

/// An outbox row with its place.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) seq: u64,
    pub(crate) row: OutboxRow,
    pub(crate) time: i64,
}

/// What to write for a batch, and what to answer once it is on disk.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) outcomes: Vec<Result<CommitDone, CommitError>>,
    pub(crate) head: Head,
    /// Index of the first new leaf.
    pub(crate) first_leaf: u64,
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) documents: BTreeMap<DocumentKey, Change>,
    pub(crate) outbox: Vec<Effect>,
    /// Key, answer, commit's time.
    pub(crate) answers: Vec<(String, Vec<u8>, i64)>,
}

impl Plan {
    /// True when at least one commit was admitted.
    pub(crate) fn writes(&self) -> bool {
        self.outcomes.iter().any(Result::is_ok)
    }
}

/// Names what the batch rests on.
pub(crate) fn questions<'a>(commits: impl Iterator<Item = &'a Commit>) -> Questions<'a> {
    let mut questions = Questions::default();
    for commit in commits {
        questions.documents.extend(commit.read_set.0.iter().map(|(key, _)| key));
        questions.documents.extend(commit.documents.iter().map(|write| &write.key));
        questions.answers.extend(commit.idempotency.iter().map(|(key, _)| key.as_str()));
    }
    questions
}

/// Judges the commits in order.
pub(crate) fn plan(commits: impl Iterator<Item = Commit>, found: Found) -> Plan {
    let current = found.documents.iter().map(|(key, held)| (key.clone(), held.version)).collect();
    let mut planner = Planner {
        plan: Plan {
            outcomes: Vec::new(),
            head: found.head,
            first_leaf: found.head.size,
            leaves: Vec::new(),
            documents: BTreeMap::new(),
            outbox: Vec::new(),
            answers: Vec::new(),
        },
        current,
        held: found.documents,
        answered: found.answers,
    };
    for commit in commits {
        let outcome = planner.judge(&commit).map(|()| planner.admit(commit));
        planner.plan.outcomes.push(outcome);
    }
    planner.plan
}

struct Planner {
    plan: Plan,
    /// As the batch has made it so far.
    current: HashMap<DocumentKey, Version>,
    /// As it was before the batch.
    held: HashMap<DocumentKey, Held>,
    answered: HashMap<String, Vec<u8>>,
}

impl Planner {
    fn judge(&self, commit: &Commit) -> Result<(), CommitError> {
        // First: a repetition conflicts with its own first success, and must not say so.
        if let Some((key, _)) = &commit.idempotency
            && let Some(answer) = self.answered.get(key)
        {
            return Err(CommitError::Duplicate { answer: answer.clone() });
        }
        for (key, seen) in &commit.read_set.0 {
            if self.current.get(key) != seen.as_ref() {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        for write in &commit.documents {
            let revision = self.current.get(&write.key).map_or(0, |version| version.revision);
            if revision != write.expected_revision {
                return Err(CommitError::Conflict { key: write.key.clone() });
            }
        }
        Ok(())
    }

    fn admit(&mut self, commit: Commit) -> CommitDone {
        let head = &mut self.plan.head;
        let first_leaf = head.size;
        head.size += commit.leaves.len() as u64;
        head.last_time = head.last_time.max(commit.commit_time);
        head.commits += 1;
        let done = CommitDone { first_leaf, next_leaf: head.size, time: head.last_time };
        let written_by = head.commits;

        self.plan.leaves.extend(commit.leaves);
        for write in commit.documents {
            self.write(write, written_by);
        }
        // At most ROW_LIMIT rows a commit: no two commits' places overlap.
        let places = written_by * ROW_LIMIT as u64..;
        let effects = places.zip(commit.outbox).map(|(seq, row)| Effect { seq, row, time: done.time });
        self.plan.outbox.extend(effects);
        if let Some((key, answer)) = commit.idempotency {
            self.answered.insert(key.clone(), answer.clone());
            self.plan.answers.push((key, answer, done.time));
        }
        done
    }

    fn write(&mut self, write: DocumentWrite, written_by: u64) {
        let version = Version { revision: write.expected_revision + 1, written_by };
        if write.deleted {
            self.current.remove(&write.key);
        } else {
            self.current.insert(write.key.clone(), version);
        }
        let stays = (!write.deleted).then(|| Stays {
            version,
            body: write.body,
            indexes: Indexes(write.indexes.into_iter().collect()),
            due_at: write.due_at,
        });
        let held = self.held.remove(&write.key);
        self.plan
            .documents
            .entry(write.key)
            // The first write of the batch has taken what was held; it stands in `had`.
            .or_insert_with(|| Change {
                existed: held.is_some(),
                had: held.map(|held| held.indexes).unwrap_or_default(),
                stays: None,
            })
            .stays = stays;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Document, ReadSet};

    fn found() -> Found {
        Found {
            head: Head { size: 10, last_time: 100, commits: 7 },
            documents: HashMap::from([(key("a"), held(3, 5, "owner\teva\nstate\topen\n"))]),
            answers: HashMap::from([("old".to_owned(), b"said".to_vec())]),
        }
    }

    fn held(revision: u64, written_by: u64, indexes: &str) -> Held {
        Held { version: Version { revision, written_by }, indexes: Indexes::decode(indexes) }
    }

    fn key(id: &str) -> DocumentKey {
        DocumentKey::new("thing", id)
    }

    fn put(id: &str, expected: u64) -> Commit {
        Commit {
            leaves: vec![format!("{id}{expected}").into_bytes()],
            documents: vec![DocumentWrite::put(key(id), expected, vec![1])],
            ..Commit::default()
        }
    }

    #[test]
    fn a_refused_commit_leaves_its_batch_mates_alone() {
        let plan = plan([put("a", 3), put("a", 3), put("a", 4)].into_iter(), found());
        assert!(plan.outcomes[0].is_ok());
        assert!(matches!(&plan.outcomes[1], Err(CommitError::Conflict { key: k }) if *k == key("a")));
        assert_eq!(plan.outcomes[2].as_ref().unwrap().first_leaf, 11);
        assert_eq!(plan.leaves, [b"a3".to_vec(), b"a4".to_vec()]);
        assert_eq!(plan.head, Head { size: 12, last_time: 100, commits: 9 });
        let change = &plan.documents[&key("a")];
        assert!(change.existed);
        assert_eq!(change.stays.as_ref().unwrap().version, Version { revision: 5, written_by: 9 });
    }

    #[test]
    fn a_batch_sees_its_own_answers() {
        let mut first = put("b", 0);
        first.idempotency = Some(("new".into(), b"yes".to_vec()));
        let mut again = put("b", 0);
        again.idempotency = first.idempotency.clone();
        let mut old = put("c", 0);
        old.idempotency = Some(("old".into(), Vec::new()));
        let plan = plan([first, again, old].into_iter(), found());
        assert!(plan.outcomes[0].is_ok());
        assert!(matches!(&plan.outcomes[1], Err(CommitError::Duplicate { answer }) if answer == b"yes"));
        assert!(matches!(&plan.outcomes[2], Err(CommitError::Duplicate { answer }) if answer == b"said"));
        assert_eq!(plan.leaves.len(), 1);
    }

    #[test]
    fn a_document_made_again_is_not_the_one_that_was_read() {
        let old = Document { key: key("a"), revision: 1, written_by: 2, due_at: None, body: Vec::new() };
        let mut found = found();
        found.documents.insert(key("a"), held(1, 6, ""));
        let mut commit = Commit::default();
        commit.read_set.saw(&old);
        assert!(matches!(plan([commit].into_iter(), found).outcomes[0], Err(CommitError::Conflict { .. })));
    }

    #[test]
    fn made_and_deleted_in_one_batch_leaves_nothing() {
        let delete = Commit { documents: vec![DocumentWrite::delete(key("n"), 1)], ..Commit::default() };
        let mut absent = Commit { read_set: ReadSet::new(), ..Commit::default() };
        absent.read_set.saw_nothing(key("n"));
        let plan = plan([put("n", 0), absent.clone(), delete, absent].into_iter(), found());
        assert!(plan.outcomes[0].is_ok() && plan.outcomes[2].is_ok() && plan.outcomes[3].is_ok());
        assert!(matches!(plan.outcomes[1], Err(CommitError::Conflict { .. })));
        let change = &plan.documents[&key("n")];
        assert!(!change.existed && change.stays.is_none());
    }

    #[test]
    fn time_never_goes_back() {
        let at = |time| Commit { commit_time: time, ..Commit::default() };
        let plan = plan([at(50), at(200), at(150)].into_iter(), found());
        let times: Vec<_> = plan.outcomes.iter().map(|outcome| outcome.as_ref().unwrap().time).collect();
        assert_eq!(times, [100, 200, 200]);
    }

    #[test]
    fn only_index_rows_that_change_are_touched() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let indexed = |expected, pairs: Vec<(String, String)>| {
            let mut commit = put("a", expected);
            commit.documents[0].indexes = pairs;
            commit
        };
        let first = indexed(3, vec![pair("state", "late")]);
        let second = indexed(4, vec![pair("state", "shut"), pair("owner", "eva"), pair("state", "shut")]);
        let plan = plan([first, second].into_iter(), found());
        let change = &plan.documents[&key("a")];
        assert_eq!(change.removed().collect::<Vec<_>>(), [&pair("state", "open")]);
        assert_eq!(change.added().collect::<Vec<_>>(), [&pair("state", "shut")]);
        let stays = &change.stays.as_ref().unwrap().indexes;
        assert_eq!(stays.encode(), "owner\teva\nstate\tshut\n");
        assert_eq!(&Indexes::decode(&stays.encode()), stays);
    }

    #[test]
    fn places_in_the_outbox_rise() {
        let row = |id: &str| OutboxRow { id: id.into(), topic: "t".into(), body: Vec::new(), not_before: 0 };
        let commit = |ids: [&str; 2]| Commit { outbox: ids.map(row).to_vec(), ..Commit::default() };
        let plan = plan([commit(["z", "y"]), commit(["b", "a"])].into_iter(), found());
        assert!(plan.outbox.is_sorted_by_key(|effect| effect.seq));
        assert_eq!(plan.outbox.iter().map(|effect| effect.row.id.as_str()).collect::<String>(), "zyba");
    }
}

//! Judges a batch of commits against what the database holds, without touching it.
//!
//! Both engines do the same: hold the head row, look up what the batch names, plan, write the
//! plan, commit. A commit sees the writes of those before it in its batch; one that is refused
//! leaves no trace. Pure, so that the rules are the same on both engines.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::CommitError;
use crate::types::{Commit, CommitDone, DocumentKey, DocumentWrite, OutboxRow, Version};

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
    pub(crate) documents: HashMap<DocumentKey, Version>,
    pub(crate) answers: HashMap<String, Vec<u8>>,
}

/// What must be looked up before a batch can be planned.
#[derive(Debug, Default)]
pub(crate) struct Questions<'a> {
    pub(crate) documents: HashSet<&'a DocumentKey>,
    pub(crate) answers: HashSet<&'a str>,
}

/// How one document leaves the batch.
#[derive(Debug)]
pub(crate) struct Change {
    /// There was one before the batch: its index rows must go.
    pub(crate) existed: bool,
    /// What stays; nothing: delete it.
    pub(crate) stays: Option<Stays>,
}

#[derive(Debug)]
pub(crate) struct Stays {
    pub(crate) version: Version,
    pub(crate) body: Vec<u8>,
    pub(crate) indexes: Vec<(String, String)>,
    pub(crate) due_at: Option<i64>,
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
    /// Each with its commit's time.
    pub(crate) outbox: Vec<(OutboxRow, i64)>,
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
        current: found.documents,
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
    current: HashMap<DocumentKey, Version>,
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
        self.plan.outbox.extend(commit.outbox.into_iter().map(|row| (row, done.time)));
        if let Some((key, answer)) = commit.idempotency {
            self.answered.insert(key.clone(), answer.clone());
            self.plan.answers.push((key, answer, done.time));
        }
        done
    }

    fn write(&mut self, write: DocumentWrite, written_by: u64) {
        let version = Version { revision: write.expected_revision + 1, written_by };
        let before = if write.deleted {
            self.current.remove(&write.key)
        } else {
            self.current.insert(write.key.clone(), version)
        };
        let stays = (!write.deleted).then_some(Stays {
            version,
            body: write.body,
            indexes: write.indexes,
            due_at: write.due_at,
        });
        self.plan
            .documents
            .entry(write.key)
            .and_modify(|change| change.stays = None)
            .or_insert(Change { existed: before.is_some(), stays: None })
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
            documents: HashMap::from([(key("a"), Version { revision: 3, written_by: 5 })]),
            answers: HashMap::from([("old".to_owned(), b"said".to_vec())]),
        }
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
        found.documents.insert(key("a"), Version { revision: 1, written_by: 6 });
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
}

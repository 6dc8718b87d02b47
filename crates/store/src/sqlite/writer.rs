//! The one writing thread: takes what waits, writes it in one transaction, syncs once, answers all.

use std::collections::HashMap;
use std::fs::File;
use std::thread;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::query;
use crate::error::{CommitError, StoreError};
use crate::plan::{self, Found, Head, Held, Indexes, Plan};
use crate::store::Written;
use crate::types::{Commit, CommitDone, DocumentKey, Version};
use crate::value::{Value, signed};

/// Most jobs in one transaction.
const BATCH: usize = 256;

const HEAD: &str = "SELECT size, last_time, commits FROM head WHERE id = 1";
const VERSION: &str = "SELECT revision, written_by, indexes FROM documents WHERE kind = $1 AND id = $2";
const ANSWER: &str = "SELECT answer FROM answers WHERE id = $1";
const UNINDEX: &str = "DELETE FROM document_index WHERE kind = $1 AND name = $2 AND value = $3 AND id = $4";
const DELETE: &str = "DELETE FROM documents WHERE kind = $1 AND id = $2";
const PUT: &str = "INSERT INTO documents (kind, id, revision, written_by, due_at, indexes, body) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, \
     written_by = excluded.written_by, due_at = excluded.due_at, indexes = excluded.indexes, body = excluded.body";
const INDEX: &str = "INSERT INTO document_index (kind, name, value, id) VALUES ($1, $2, $3, $4)";
const LEAF: &str = "INSERT INTO leaves (idx, body) VALUES ($1, $2)";
const OUTBOX: &str = "INSERT INTO outbox \
     (seq, id, topic, body, created, not_before, leased_until, owner, attempts, error) \
     VALUES ($1, $2, $3, $4, $5, $6, 0, '', 0, '') ON CONFLICT (id) DO NOTHING";
const REMEMBER: &str = "INSERT INTO answers (id, answer, created) VALUES ($1, $2, $3)";
const MOVE_HEAD: &str = "UPDATE head SET size = $1, last_time = $2, commits = $3 WHERE id = 1";

#[derive(Debug)]
pub(super) enum Job {
    Commit { commit: Commit, reply: oneshot::Sender<Result<CommitDone, CommitError>> },
    Write { text: &'static str, parameters: Vec<Value>, reply: oneshot::Sender<Result<Written, StoreError>> },
    Stop { done: oneshot::Sender<()> },
}

pub(super) struct Writer {
    connection: Connection,
    /// Held as long as this thread may write.
    lock: File,
    changed: watch::Sender<u64>,
}

/// What one transaction holds.
#[derive(Default)]
struct Batch {
    commits: Vec<Commit>,
    commit_replies: Vec<oneshot::Sender<Result<CommitDone, CommitError>>>,
    writes: Vec<(&'static str, Vec<Value>)>,
    write_replies: Vec<oneshot::Sender<Result<Written, StoreError>>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, job: Job) {
        match job {
            Job::Commit { commit, reply } => {
                self.commits.push(commit);
                self.commit_replies.push(reply);
            }
            Job::Write { text, parameters, reply } => {
                self.writes.push((text, parameters));
                self.write_replies.push(reply);
            }
            Job::Stop { done } => self.stop = Some(done),
        }
    }

    fn is_open(&self) -> bool {
        self.stop.is_none() && self.commits.len() + self.writes.len() < BATCH
    }
}

impl Writer {
    pub(super) fn new(connection: Connection, lock: File, changed: watch::Sender<u64>) -> Self {
        Self { connection, lock, changed }
    }

    /// Runs until the last handle on the store is gone, or it is told to stop.
    pub(super) fn spawn(mut self, mut queue: mpsc::Receiver<Job>) -> std::io::Result<()> {
        thread::Builder::new().name("halligan-store".into()).spawn(move || {
            let mut stop = None;
            while stop.is_none()
                && let Some(job) = queue.blocking_recv()
            {
                let mut batch = Batch::default();
                batch.add(job);
                while batch.is_open()
                    && let Ok(job) = queue.try_recv()
                {
                    batch.add(job);
                }
                stop = batch.stop.take();
                self.settle(batch);
            }
            drop(queue);
            drop(self.connection);
            drop(self.lock);
            if let Some(done) = stop {
                // Nobody waits any more: fine.
                let _ = done.send(());
            }
        })?;
        Ok(())
    }

    /// Writes the batch, then answers. Nobody hears of success before the sync, and a conflict with
    /// a batch-mate is no conflict if the batch is lost: so all answers wait.
    fn settle(&mut self, batch: Batch) {
        let Batch { commits, commit_replies, writes, write_replies, .. } = batch;
        if commits.is_empty() && writes.is_empty() {
            return;
        }
        // A reply that nobody waits for is dropped: the commit stands.
        match self.write(commits, writes) {
            Ok((outcomes, written)) => {
                if outcomes.iter().any(Result::is_ok) {
                    self.changed.send_modify(|count| *count += 1);
                }
                for (reply, outcome) in commit_replies.into_iter().zip(outcomes) {
                    let _ = reply.send(outcome);
                }
                for (reply, outcome) in write_replies.into_iter().zip(written) {
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, cause = ?std::error::Error::source(&error), "a batch could not be written");
                for reply in commit_replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
                for reply in write_replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "two lists of outcomes, one for each sort of job")]
    fn write(
        &mut self,
        commits: Vec<Commit>,
        writes: Vec<(&'static str, Vec<Value>)>,
    ) -> Result<(Vec<Result<CommitDone, CommitError>>, Vec<Result<Written, StoreError>>), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut written = Vec::with_capacity(writes.len());
        for (text, parameters) in writes {
            let outcome = run(&transaction, text, &parameters);
            // A full disk ends the whole transaction: then nobody's write stands.
            if let (Err(error), true) = (&outcome, transaction.is_autocommit()) {
                return Err(error.clone());
            }
            written.push(outcome);
        }
        let found = look_up(&transaction, &commits)?;
        let plan = plan::plan(commits.into_iter(), found);
        if plan.writes() {
            apply(&transaction, &plan)?;
        }
        transaction.commit()?;
        Ok((plan.outcomes, written))
    }
}

fn run(transaction: &Transaction<'_>, text: &str, parameters: &[Value]) -> Result<Written, StoreError> {
    if transaction.prepare_cached(text)?.column_count() > 0 {
        let rows = query(transaction, text, parameters)?;
        return Ok(Written { changed: rows.len() as u64, rows });
    }
    let changed = transaction.prepare_cached(text)?.execute(rusqlite::params_from_iter(parameters))?;
    Ok(Written { changed: changed as u64, rows: Vec::new() })
}

fn look_up(transaction: &Transaction<'_>, commits: &[Commit]) -> Result<Found, StoreError> {
    let questions = plan::questions(commits.iter());
    let (size, last_time, count): (i64, i64, i64) =
        transaction.prepare_cached(HEAD)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut documents = HashMap::with_capacity(questions.documents.len());
    let mut version = transaction.prepare_cached(VERSION)?;
    for key in questions.documents {
        let found: Option<(i64, i64, String)> = version
            .query_row([&key.kind, &key.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        if let Some((revision, written_by, indexes)) = found {
            let version = Version { revision: count_of(revision)?, written_by: count_of(written_by)? };
            documents.insert(key.clone(), Held { version, indexes: Indexes::decode(&indexes) });
        }
    }
    let mut answers = HashMap::new();
    let mut answer = transaction.prepare_cached(ANSWER)?;
    for key in questions.answers {
        if let Some(said) = answer.query_row([key], |row| row.get(0)).optional()? {
            answers.insert(key.to_owned(), said);
        }
    }
    let head = Head { size: count_of(size)?, last_time, commits: count_of(count)? };
    Ok(Found { head, documents, answers })
}

fn count_of(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::damaged(format!("a count of {number}")))
}

fn apply(transaction: &Transaction<'_>, plan: &Plan) -> Result<(), StoreError> {
    let mut leaf = transaction.prepare_cached(LEAF)?;
    for (index, body) in (plan.first_leaf..).zip(&plan.leaves) {
        leaf.execute(params![signed(index)?, body])?;
    }
    for (key, change) in &plan.documents {
        write_document(transaction, key, change)?;
    }
    let mut outbox = transaction.prepare_cached(OUTBOX)?;
    for effect in &plan.outbox {
        let row = &effect.row;
        outbox.execute(params![
            signed(effect.seq)?,
            row.id,
            row.topic,
            row.body,
            effect.time,
            row.not_before
        ])?;
    }
    let mut remember = transaction.prepare_cached(REMEMBER)?;
    for (key, answer, time) in &plan.answers {
        remember.execute(params![key, answer, time])?;
    }
    let head = plan.head;
    let moved = transaction.prepare_cached(MOVE_HEAD)?.execute(params![
        signed(head.size)?,
        head.last_time,
        signed(head.commits)?
    ])?;
    if moved != 1 {
        return Err(StoreError::damaged("the head row is missing"));
    }
    Ok(())
}

fn write_document(
    transaction: &Transaction<'_>,
    key: &DocumentKey,
    change: &plan::Change,
) -> Result<(), StoreError> {
    let mut unindex = transaction.prepare_cached(UNINDEX)?;
    for (name, value) in change.removed() {
        unindex.execute([&key.kind, name, value, &key.id])?;
    }
    let mut index = transaction.prepare_cached(INDEX)?;
    for (name, value) in change.added() {
        index.execute([&key.kind, name, value, &key.id])?;
    }
    if let Some(stays) = &change.stays {
        let (revision, written_by) = (signed(stays.version.revision)?, signed(stays.version.written_by)?);
        let indexes = stays.indexes.encode();
        let parameters = params![key.kind, key.id, revision, written_by, stays.due_at, indexes, stays.body];
        transaction.prepare_cached(PUT)?.execute(parameters)?;
    } else if change.existed {
        transaction.prepare_cached(DELETE)?.execute([&key.kind, &key.id])?;
    }
    Ok(())
}

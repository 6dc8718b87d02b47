//! The one writing task of a node: takes what waits, and records it in one transaction of two round trips.
//!
//! The first holds the head row and looks up what the batch names, the second writes the plan and
//! commits. Holding the head row serialises all nodes, so nothing that was looked up can move, and
//! every statement's rows are few arrays. Statements are sent without waiting for one another; in
//! a transaction that has failed, PostgreSQL turns `COMMIT` into a rollback.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::connection::Connector;
use crate::error::{CommitError, StoreError};
use crate::plan::{self, Effect, Found, Head, Held, Indexes, Plan};
use crate::types::{Commit, CommitDone, DocumentKey, Version};
use crate::value::{Row as Values, signed};

/// Most commits in one transaction.
const BATCH: usize = 256;
/// Longest wait for one round trip; above the server's own limits.
const PATIENCE: Duration = Duration::from_secs(20);

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const HEAD: &str = "SELECT size, last_time, commits FROM head WHERE id = 1 FOR UPDATE";
const VERSIONS: &str = "SELECT d.kind, d.id, d.revision, d.written_by, d.indexes \
     FROM unnest($1::text[], $2::text[]) AS k(kind, id) JOIN documents d ON d.kind = k.kind AND d.id = k.id";
const ANSWERS: &str = "SELECT a.id, a.answer FROM unnest($1::text[]) AS k(id) JOIN answers a ON a.id = k.id";
const UNINDEX: &str = "DELETE FROM document_index i \
     USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(kind, name, value, id) \
     WHERE i.kind = k.kind AND i.name = k.name AND i.value = k.value AND i.id = k.id";
const DELETE: &str = "DELETE FROM documents d \
     USING unnest($1::text[], $2::text[]) AS k(kind, id) WHERE d.kind = k.kind AND d.id = k.id";
const PUT: &str = "INSERT INTO documents (kind, id, revision, written_by, due_at, indexes, body) SELECT * FROM unnest( \
     $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[]) \
     ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, \
     written_by = excluded.written_by, due_at = excluded.due_at, indexes = excluded.indexes, body = excluded.body";
const INDEX: &str = "INSERT INTO document_index (kind, name, value, id) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])";
const LEAVES: &str = "INSERT INTO leaves (idx, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
const OUTBOX: &str = "INSERT INTO outbox \
     (seq, id, topic, body, created, not_before, leased_until, owner, attempts, error) \
     SELECT n.seq, n.id, n.topic, n.body, n.created, n.not_before, 0, '', 0, '' \
     FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[]) \
     AS n(seq, id, topic, body, created, not_before) ON CONFLICT (id) DO NOTHING";
const REMEMBER: &str = "INSERT INTO answers (id, answer, created) \
     SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])";
const MOVE_HEAD: &str = "UPDATE head SET size = $1, last_time = $2, commits = $3 WHERE id = 1";

#[derive(Debug)]
pub(super) enum Job {
    Commit { commit: Commit, reply: oneshot::Sender<Result<CommitDone, CommitError>> },
    Stop { done: oneshot::Sender<()> },
}

/// Runs until the last handle on the store is gone, or it is told to stop.
pub(super) async fn run(connector: Connector, mut queue: mpsc::Receiver<Job>, changed: watch::Sender<u64>) {
    let mut writer = Writer { connector, session: None };
    let mut stop = None;
    while stop.is_none()
        && let Some(job) = queue.recv().await
    {
        let (mut commits, mut replies) = (Vec::new(), Vec::new());
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Commit { commit, reply } => {
                    commits.push(commit);
                    replies.push(reply);
                }
                Job::Stop { done } => stop = Some(done),
            }
            if stop.is_none() && commits.len() < BATCH {
                next = queue.try_recv().ok();
            }
        }
        if commits.is_empty() {
            continue;
        }
        // A reply that nobody waits for is dropped: the commit stands.
        match writer.record(commits).await {
            Ok(outcomes) => {
                if outcomes.iter().any(Result::is_ok) {
                    changed.send_modify(|count| *count += 1);
                }
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                writer.session = None;
                tracing::error!(%error, cause = ?std::error::Error::source(&error), "a batch could not be written");
                for reply in replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
            }
        }
    }
    if let Some(done) = stop {
        // Nobody waits any more: fine.
        let _ = done.send(());
    }
}

struct Writer {
    connector: Connector,
    session: Option<Session>,
}

impl Writer {
    /// On an error the outcome is unknown and the connection must go.
    async fn record(
        &mut self,
        commits: Vec<Commit>,
    ) -> Result<Vec<Result<CommitDone, CommitError>>, StoreError> {
        let reused = self.session.is_some();
        let found = match self.look_up(&commits).await {
            // Nothing was written yet: a connection that died while idle is worth a second try.
            Err(error) if reused => {
                tracing::debug!(%error, "the writer connects again");
                self.session = None;
                self.look_up(&commits).await?
            }
            other => other?,
        };
        let session = self.session.as_ref().ok_or_else(super::closed)?;
        let plan = plan::plan(commits.into_iter(), found);
        patiently(session.finish(&plan)).await?;
        Ok(plan.outcomes)
    }

    async fn look_up(&mut self, commits: &[Commit]) -> Result<Found, StoreError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => patiently(Session::open(&self.connector)).await?,
        };
        let session = self.session.insert(session);
        patiently(session.look_up(commits)).await
    }
}

async fn patiently<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(PATIENCE, work).await.map_err(StoreError::unavailable)?
}

/// A connection with the writer's statements prepared.
struct Session {
    client: Client,
    head: Statement,
    versions: Statement,
    answers: Statement,
    unindex: Statement,
    delete: Statement,
    put: Statement,
    index: Statement,
    leaves: Statement,
    outbox: Statement,
    remember: Statement,
    move_head: Statement,
}

impl Session {
    async fn open(connector: &Connector) -> Result<Self, StoreError> {
        let client = connector.connect().await?;
        Ok(Self {
            head: client.prepare(HEAD).await?,
            versions: client.prepare(VERSIONS).await?,
            answers: client.prepare(ANSWERS).await?,
            unindex: client.prepare(UNINDEX).await?,
            delete: client.prepare(DELETE).await?,
            put: client.prepare(PUT).await?,
            index: client.prepare(INDEX).await?,
            leaves: client.prepare(LEAVES).await?,
            outbox: client.prepare(OUTBOX).await?,
            remember: client.prepare(REMEMBER).await?,
            move_head: client.prepare(MOVE_HEAD).await?,
            client,
        })
    }

    /// `biased`: the statements must reach the server in this order.
    async fn look_up(&self, commits: &[Commit]) -> Result<Found, StoreError> {
        let questions = plan::questions(commits.iter());
        let kinds: Vec<&str> = questions.documents.iter().map(|key| key.kind.as_str()).collect();
        let ids: Vec<&str> = questions.documents.iter().map(|key| key.id.as_str()).collect();
        let keys: Vec<&str> = questions.answers.into_iter().collect();
        let (begun, head, versions, answers) = tokio::join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.client.query_one(&self.head, &[]),
            self.query_unless(ids.is_empty(), &self.versions, [&kinds, &ids]),
            self.query_unless(keys.is_empty(), &self.answers, [&keys]),
        );
        begun?;
        let mut head = Values::from_postgres(&head?)?;
        let head = Head { size: head.count()?, last_time: head.int()?, commits: head.count()? };
        let mut documents = HashMap::new();
        for row in &versions? {
            let mut row = Values::from_postgres(row)?;
            let key = DocumentKey { kind: row.text()?, id: row.text()? };
            let version = Version { revision: row.count()?, written_by: row.count()? };
            documents.insert(key, Held { version, indexes: Indexes::decode(&row.text()?) });
        }
        let mut said = HashMap::new();
        for row in &answers? {
            let mut row = Values::from_postgres(row)?;
            said.insert(row.text()?, row.bytes()?);
        }
        Ok(Found { head, documents, answers: said })
    }

    async fn finish(&self, plan: &Plan) -> Result<(), StoreError> {
        if !plan.writes() {
            return Ok(self.client.batch_execute("ROLLBACK").await?);
        }
        let rows = Rows::of(plan)?;
        let head = (signed(plan.head.size)?, plan.head.last_time, signed(plan.head.commits)?);
        let (unindexed, deleted, put, indexed, leaves, outbox, remembered, moved, committed) = tokio::join!(
            biased;
            self.execute_unless(rows.stale_ids.is_empty(), &self.unindex, [
                &rows.stale_kinds, &rows.stale_names, &rows.stale_values, &rows.stale_ids]),
            self.execute_unless(rows.gone_ids.is_empty(), &self.delete, [&rows.gone_kinds, &rows.gone_ids]),
            self.execute_unless(rows.ids.is_empty(), &self.put, [
                &rows.kinds, &rows.ids, &rows.revisions, &rows.written_by, &rows.due, &rows.indexes, &rows.bodies]),
            self.execute_unless(rows.index_ids.is_empty(), &self.index, [
                &rows.index_kinds, &rows.index_names, &rows.index_values, &rows.index_ids]),
            self.execute_unless(rows.leaves.is_empty(), &self.leaves, [&rows.leaf_indices, &rows.leaves]),
            self.execute_unless(rows.outbox_ids.is_empty(), &self.outbox, [
                &rows.outbox_seqs, &rows.outbox_ids, &rows.outbox_topics, &rows.outbox_bodies, &rows.outbox_created,
                &rows.outbox_not_before]),
            self.execute_unless(rows.answer_ids.is_empty(), &self.remember, [
                &rows.answer_ids, &rows.answers, &rows.answer_times]),
            self.execute_unless(false, &self.move_head, [&head.0, &head.1, &head.2]),
            self.client.batch_execute("COMMIT"),
        );
        // The first failure is the cause; the ones after it only say that the transaction is gone.
        for outcome in [unindexed, deleted, put, indexed, leaves, outbox, remembered] {
            outcome?;
        }
        if moved? != 1 {
            return Err(StoreError::damaged("the head row is missing"));
        }
        Ok(committed?)
    }

    async fn query_unless<const N: usize>(
        &self,
        idle: bool,
        statement: &Statement,
        parameters: [&(dyn ToSql + Sync); N],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if idle { Ok(Vec::new()) } else { self.client.query(statement, &parameters).await }
    }

    async fn execute_unless<const N: usize>(
        &self,
        idle: bool,
        statement: &Statement,
        parameters: [&(dyn ToSql + Sync); N],
    ) -> Result<u64, tokio_postgres::Error> {
        if idle { Ok(0) } else { self.client.execute(statement, &parameters).await }
    }
}

/// The plan turned into one array per column.
#[derive(Default)]
struct Rows<'a> {
    stale_kinds: Vec<&'a str>,
    stale_names: Vec<&'a str>,
    stale_values: Vec<&'a str>,
    stale_ids: Vec<&'a str>,
    gone_kinds: Vec<&'a str>,
    gone_ids: Vec<&'a str>,
    kinds: Vec<&'a str>,
    ids: Vec<&'a str>,
    revisions: Vec<i64>,
    written_by: Vec<i64>,
    due: Vec<Option<i64>>,
    indexes: Vec<String>,
    bodies: Vec<&'a [u8]>,
    index_kinds: Vec<&'a str>,
    index_names: Vec<&'a str>,
    index_values: Vec<&'a str>,
    index_ids: Vec<&'a str>,
    leaf_indices: Vec<i64>,
    leaves: Vec<&'a [u8]>,
    outbox_seqs: Vec<i64>,
    outbox_ids: Vec<&'a str>,
    outbox_topics: Vec<&'a str>,
    outbox_bodies: Vec<&'a [u8]>,
    outbox_created: Vec<i64>,
    outbox_not_before: Vec<i64>,
    answer_ids: Vec<&'a str>,
    answers: Vec<&'a [u8]>,
    answer_times: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn of(plan: &'a Plan) -> Result<Self, StoreError> {
        let mut rows = Self::default();
        for (key, change) in &plan.documents {
            rows.document(key, change)?;
        }
        for (index, leaf) in (plan.first_leaf..).zip(&plan.leaves) {
            rows.leaf_indices.push(signed(index)?);
            rows.leaves.push(leaf);
        }
        for Effect { seq, row, time } in &plan.outbox {
            rows.outbox_seqs.push(signed(*seq)?);
            rows.outbox_ids.push(&row.id);
            rows.outbox_topics.push(&row.topic);
            rows.outbox_bodies.push(&row.body);
            rows.outbox_created.push(*time);
            rows.outbox_not_before.push(row.not_before);
        }
        for (key, answer, time) in &plan.answers {
            rows.answer_ids.push(key);
            rows.answers.push(answer);
            rows.answer_times.push(*time);
        }
        Ok(rows)
    }

    fn document(&mut self, key: &'a DocumentKey, change: &'a plan::Change) -> Result<(), StoreError> {
        for (name, value) in change.removed() {
            self.stale_kinds.push(&key.kind);
            self.stale_names.push(name);
            self.stale_values.push(value);
            self.stale_ids.push(&key.id);
        }
        for (name, value) in change.added() {
            self.index_kinds.push(&key.kind);
            self.index_names.push(name);
            self.index_values.push(value);
            self.index_ids.push(&key.id);
        }
        if let Some(stays) = &change.stays {
            self.kinds.push(&key.kind);
            self.ids.push(&key.id);
            self.revisions.push(signed(stays.version.revision)?);
            self.written_by.push(signed(stays.version.written_by)?);
            self.due.push(stays.due_at);
            self.indexes.push(stays.indexes.encode());
            self.bodies.push(&stays.body);
        } else if change.existed {
            self.gone_kinds.push(&key.kind);
            self.gone_ids.push(&key.id);
        }
        Ok(())
    }
}

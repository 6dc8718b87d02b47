//! The store as its callers see it: one commit, and a handful of reads with the same text on both engines.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{CommitError, StoreError};
use crate::postgres::{PostgresOptions, PostgresStore};
use crate::sql;
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::types::{
    Claimed, Commit, CommitDone, Document, DocumentKey, DocumentWrite, LedgerHead, Order, OutboxStats,
    SignedHead, check_name,
};
use crate::value::{Row, Value, signed};

/// Documents that [`Store::bulk_put`] writes in one transaction: few enough that commits of others wait little.
const BULK_CHUNK: usize = 1_000;
/// Most rows that one page returns.
const PAGE_LIMIT: usize = 10_000;

/// A handle on the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store(Engine);

#[derive(Clone, Debug)]
enum Engine {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

/// What one writing statement did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) changed: u64,
    pub(crate) rows: Vec<Row>,
}

impl Store {
    /// Opens or makes the SQLite store in one file, brings its schema up to date, and locks it
    /// against other processes.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], or what the file system says.
    pub async fn open_sqlite(options: SqliteOptions) -> Result<Self, StoreError> {
        Ok(Self(Engine::Sqlite(Arc::new(SqliteStore::open(options).await?))))
    }

    /// Connects to PostgreSQL and brings the schema up to date. Several nodes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Refused`] for a connection that would cross a network
    /// without TLS, or what the server says.
    pub async fn open_postgres(options: PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self(Engine::Postgres(Arc::new(PostgresStore::open(options).await?))))
    }

    /// Which engine this is: `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        match &self.0 {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgres",
        }
    }

    /// Records a decision: leaves, documents, outbox rows and answer, all or nothing, on disk when
    /// it returns. Dropping the future does not take the commit back.
    ///
    /// # Errors
    /// See [`CommitError`]. Only after `Unavailable` is the outcome unknown.
    pub async fn commit(&self, commit: Commit) -> Result<CommitDone, CommitError> {
        commit.check()?;
        match &self.0 {
            Engine::Sqlite(store) => store.commit(commit).await,
            Engine::Postgres(store) => store.commit(commit).await,
        }
    }

    /// Writes many documents of one kind without leaves, in chunks of their own transactions: for
    /// catalogs, whose version becomes valid by a later [`Store::commit`]. It is not one transaction:
    /// after an error the chunks before it stay.
    ///
    /// # Errors
    /// `Refused` for a document of another kind; else as [`Store::commit`].
    pub async fn bulk_put(&self, kind: &str, writes: Vec<DocumentWrite>) -> Result<(), CommitError> {
        if let Some(stray) = writes.iter().find(|write| write.key.kind != kind) {
            return Err(CommitError::Refused { reason: format!("{} is not of kind {kind}", stray.key) });
        }
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let documents = writes.by_ref().take(BULK_CHUNK).collect();
            self.commit(Commit { documents, ..Commit::default() }).await?;
        }
        Ok(())
    }

    /// Reads one document.
    pub async fn get(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let rows = self.read(sql::GET, vec![key.kind.as_str().into(), key.id.as_str().into()]).await?;
        Ok(documents(rows)?.pop())
    }

    /// Reads many documents as of one moment. Those that do not exist are left out; the order is not defined.
    pub async fn get_many(&self, keys: &[DocumentKey]) -> Result<Vec<Document>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows = match &self.0 {
            Engine::Sqlite(store) => store.get_many(keys).await?,
            Engine::Postgres(store) => store.get_many(keys).await?,
        };
        documents(rows)
    }

    /// Lists documents of one kind by id: those past `after`, at most `limit`.
    pub async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Document>, StoreError> {
        let (text, after) = match order {
            Order::Ascending => (sql::LIST_UP, after.unwrap_or(sql::FIRST)),
            Order::Descending => (sql::LIST_DOWN, after.unwrap_or(sql::LAST)),
        };
        documents(self.read(text, vec![kind.into(), after.into(), page(limit)]).await?)
    }

    /// Lists documents of one kind that were written with `(index, value)`, by id: those past
    /// `after`, at most `limit`.
    pub async fn by_index(
        &self,
        kind: &str,
        index: &str,
        value: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Document>, StoreError> {
        let (text, after) = match order {
            Order::Ascending => (sql::BY_INDEX_UP, after.unwrap_or(sql::FIRST)),
            Order::Descending => (sql::BY_INDEX_DOWN, after.unwrap_or(sql::LAST)),
        };
        let parameters = vec![kind.into(), index.into(), value.into(), after.into(), page(limit)];
        documents(self.read(text, parameters).await?)
    }

    /// Documents whose due time is at or before `now` (microseconds since 1970), longest overdue
    /// first. No kinds: all kinds. A document stays due until it is written again.
    pub async fn due(&self, now: i64, kinds: &[&str], limit: usize) -> Result<Vec<Document>, StoreError> {
        if kinds.is_empty() {
            return documents(self.read(sql::DUE, vec![now.into(), page(limit)]).await?);
        }
        let mut due = Vec::new();
        for kind in kinds {
            let rows = self.read(sql::DUE_OF_KIND, vec![(*kind).into(), now.into(), page(limit)]).await?;
            due.extend(documents(rows)?);
        }
        due.sort_by(|a, b| (a.due_at, &a.key).cmp(&(b.due_at, &b.key)));
        due.truncate(limit);
        Ok(due)
    }

    /// Leaves from index `from` on, in order, at most `limit`.
    pub async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let rows = self.read(sql::LEAVES, vec![signed(from)?.into(), page(limit)]).await?;
        rows.into_iter().map(|mut row| Ok((row.count()?, row.bytes()?))).collect()
    }

    /// The ledger's size, its last time, and the last head that was meant to be signed.
    pub async fn head(&self) -> Result<LedgerHead, StoreError> {
        let mut rows = self.read(sql::HEAD, Vec::new()).await?;
        let mut row = rows.pop().ok_or_else(|| StoreError::damaged("the head row is missing"))?;
        let (size, last_time) = (row.count()?, row.int()?);
        let signed = match row.optional_int()? {
            None => None,
            Some(size) => Some(SignedHead {
                size: u64::try_from(size).map_err(|_| StoreError::damaged("a signed size below zero"))?,
                root: root(row.bytes()?)?,
                note: row.text()?,
            }),
        };
        Ok(LedgerHead { size, last_time, signed })
    }

    /// Notes the head that is about to be signed, if the last one is still `old`. Only after `true`
    /// may a signature over `new` leave the process: so no two trees of one size are ever signed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if `new` is smaller than `old`, or of its size with another root.
    pub async fn save_signed_head(
        &self,
        old: Option<(u64, [u8; 32])>,
        new: &SignedHead,
    ) -> Result<bool, StoreError> {
        if let Some((size, root)) = old
            && (new.size < size || (new.size == size && new.root != root))
        {
            return Err(StoreError::refused(format!(
                "failed to note the signed head: size {} does not follow the signed size {size}",
                new.size
            )));
        }
        let size = signed(new.size)?;
        let (old_size, old_root) = match old {
            Some((size, root)) => (signed(size)?.into(), root.as_slice().into()),
            None => (Value::Null, Value::Null),
        };
        let note = Value::from(new.note.as_str());
        let parameters = vec![size.into(), new.root.as_slice().into(), note, old_size, old_root, size.into()];
        Ok(self.write(sql::SAVE_SIGNED_HEAD, parameters).await?.changed == 1)
    }

    /// Leases up to `limit` outbox rows that are ready at `now` to `owner`, oldest first. A row whose
    /// lease ran out is ready again. Times in microseconds.
    pub async fn outbox_claim(
        &self,
        owner: &str,
        now: i64,
        lease: i64,
        limit: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let until = now.saturating_add(lease);
        let parameters = vec![now.into(), now.into(), page(limit), owner.into(), until.into()];
        let mut claimed = Vec::new();
        for mut row in self.write(sql::OUTBOX_CLAIM, parameters).await?.rows {
            let (place, id) = ((row.int()?, row.int()?), row.text()?);
            let (topic, body, attempts, last_error) = (row.text()?, row.bytes()?, row.count()?, row.text()?);
            claimed.push((place, Claimed { id, topic, body, attempts, last_error }));
        }
        claimed.sort_by_key(|(place, _)| *place);
        Ok(claimed.into_iter().map(|(_, row)| row).collect())
    }

    /// The effect was performed: forgets the row.
    pub async fn outbox_done(&self, id: &str) -> Result<(), StoreError> {
        self.write(sql::OUTBOX_DONE, vec![id.into()]).await.map(drop)
    }

    /// The effect failed: gives the row back, not to be claimed before `not_before`.
    pub async fn outbox_retry(&self, id: &str, not_before: i64, error: &str) -> Result<(), StoreError> {
        // PostgreSQL holds no NUL in text, and an error may quote anything.
        let error = error.replace('\0', "\u{FFFD}");
        self.write(sql::OUTBOX_RETRY, vec![not_before.into(), error.as_str().into(), id.into()])
            .await
            .map(drop)
    }

    /// Gives back all that `owner` holds: it has just started, so whatever it was doing when it ended is not being done.
    /// Returns how many rows there were.
    pub async fn outbox_release(&self, owner: &str) -> Result<u64, StoreError> {
        Ok(self.write(sql::OUTBOX_RELEASE, vec![owner.into()]).await?.changed as u64)
    }

    /// What a commit with this idempotency key was answered with, if there was one.
    pub async fn answer(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut rows = self.read(sql::ANSWER, vec![key.into()]).await?;
        rows.pop().map(|mut row| row.bytes()).transpose()
    }

    /// How much waits in the outbox, and since when.
    pub async fn outbox_stats(&self) -> Result<OutboxStats, StoreError> {
        let mut rows = self.read(sql::OUTBOX_STATS, Vec::new()).await?;
        let mut row = rows.pop().ok_or_else(|| StoreError::damaged("no count of the outbox"))?;
        Ok(OutboxStats { count: row.count()?, oldest: row.optional_int()? })
    }

    /// Takes or keeps the right to make checkpoints until `now + ttl` (microseconds). False: another
    /// node has it. It is a convenience; what protects the ledger is [`Store::save_signed_head`].
    pub async fn sequencer_lock(&self, owner: &str, now: i64, ttl: i64) -> Result<bool, StoreError> {
        let until = now.saturating_add(ttl);
        let parameters = vec!["sequencer".into(), owner.into(), until.into(), now.into()];
        Ok(self.write(sql::LOCK, parameters).await?.changed == 1)
    }

    /// Gives that right back, when a node drains.
    pub async fn sequencer_unlock(&self, owner: &str) -> Result<(), StoreError> {
        self.write(sql::UNLOCK, vec!["sequencer".into(), owner.into()]).await.map(drop)
    }

    /// Reads a small setting.
    pub async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut rows = self.read(sql::META_GET, vec![key.into()]).await?;
        rows.pop().map(|mut row| row.bytes()).transpose()
    }

    /// Writes a small setting.
    pub async fn meta_put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check_name("meta key", key).map_err(|error| StoreError::refused(error.to_string()))?;
        self.write(sql::META_PUT, vec![key.into(), value.into()]).await.map(drop)
    }

    /// Forgets the answers of commits before `time` (microseconds since 1970). Returns how many.
    pub async fn forget_answers(&self, time: i64) -> Result<u64, StoreError> {
        Ok(self.write(sql::FORGET_ANSWERS, vec![time.into()]).await?.changed)
    }

    /// Writes a consistent copy of a SQLite store to a new file with mode 0600, synced. Work goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Refused`] on PostgreSQL, which has its own tools for this.
    pub async fn backup(&self, path: &Path) -> Result<(), StoreError> {
        match &self.0 {
            Engine::Sqlite(store) => store.backup(path).await,
            Engine::Postgres(_) => Err(StoreError::refused(
                "failed to back up: use PostgreSQL's own tools (pg_basebackup, pg_dump)",
            )),
        }
    }

    /// The database's clock in microseconds since 1970; with SQLite this machine's.
    pub async fn database_clock(&self) -> Result<i64, StoreError> {
        match &self.0 {
            Engine::Sqlite(store) => Ok(store.clock()),
            Engine::Postgres(store) => store.clock().await,
        }
    }

    /// A counter that moves after each batch of commits of this node. A hint: other nodes' commits do not move it.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        match &self.0 {
            Engine::Sqlite(store) => store.subscribe(),
            Engine::Postgres(store) => store.subscribe(),
        }
    }

    /// Finishes what is queued and lets go of files and connections. Later calls fail.
    pub async fn close(&self) {
        match &self.0 {
            Engine::Sqlite(store) => store.close().await,
            Engine::Postgres(store) => store.close().await,
        }
    }

    async fn read(&self, text: &'static str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            Engine::Sqlite(store) => store.read(text, parameters).await,
            Engine::Postgres(store) => store.read(text, parameters).await,
        }
    }

    async fn write(&self, text: &'static str, parameters: Vec<Value>) -> Result<Written, StoreError> {
        match &self.0 {
            Engine::Sqlite(store) => store.write(text, parameters).await,
            Engine::Postgres(store) => store.write(text, parameters).await,
        }
    }
}

fn page(limit: usize) -> Value {
    Value::Int(i64::try_from(limit.min(PAGE_LIMIT)).unwrap_or(i64::MAX))
}

fn root(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    <[u8; 32]>::try_from(bytes).map_err(|_| StoreError::damaged("a signed root is not 32 bytes"))
}

fn documents(rows: Vec<Row>) -> Result<Vec<Document>, StoreError> {
    rows.into_iter()
        .map(|mut row| {
            Ok(Document {
                key: DocumentKey { kind: row.text()?, id: row.text()? },
                revision: row.count()?,
                written_by: row.count()?,
                due_at: row.optional_int()?,
                body: row.bytes()?,
            })
        })
        .collect()
}

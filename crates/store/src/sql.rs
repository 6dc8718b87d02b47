//! The SQL that both engines run, word for word.
//!
//! `$1 … $n` appear in order of first use: SQLite numbers them by that order, PostgreSQL by name.
//! `/*skip*/` stands where PostgreSQL has a word that SQLite lacks. Page statements take an `after` that is never
//! absent: [`FIRST`] or [`LAST`] stand for the ends.

/// Before every id, for ascending lists.
pub(crate) const FIRST: &str = "";
/// After every id, for descending lists (names never contain U+10FFFF).
pub(crate) const LAST: &str = "\u{10FFFF}";

pub(crate) const GET: &str =
    "SELECT kind, id, revision, written_by, due_at, body FROM documents WHERE kind = $1 AND id = $2";

pub(crate) const LIST_UP: &str = "SELECT kind, id, revision, written_by, due_at, body FROM documents \
     WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3";
pub(crate) const LIST_DOWN: &str = "SELECT kind, id, revision, written_by, due_at, body FROM documents \
     WHERE kind = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

pub(crate) const BY_INDEX_UP: &str = "SELECT d.kind, d.id, d.revision, d.written_by, d.due_at, d.body \
     FROM document_index i JOIN documents d ON d.kind = i.kind AND d.id = i.id \
     WHERE i.kind = $1 AND i.name = $2 AND i.value = $3 AND i.id > $4 ORDER BY i.id LIMIT $5";
pub(crate) const BY_INDEX_DOWN: &str = "SELECT d.kind, d.id, d.revision, d.written_by, d.due_at, d.body \
     FROM document_index i JOIN documents d ON d.kind = i.kind AND d.id = i.id \
     WHERE i.kind = $1 AND i.name = $2 AND i.value = $3 AND i.id < $4 ORDER BY i.id DESC LIMIT $5";

pub(crate) const DUE: &str = "SELECT kind, id, revision, written_by, due_at, body FROM documents \
     WHERE due_at <= $1 ORDER BY due_at, kind, id LIMIT $2";
pub(crate) const DUE_OF_KIND: &str = "SELECT kind, id, revision, written_by, due_at, body FROM documents \
     WHERE kind = $1 AND due_at <= $2 ORDER BY due_at, id LIMIT $3";

pub(crate) const LEAVES: &str = "SELECT idx, body FROM leaves WHERE idx >= $1 ORDER BY idx LIMIT $2";
pub(crate) const HEAD: &str = "SELECT h.size, h.last_time, s.size, s.root, s.note \
     FROM head h JOIN signed_head s ON s.id = h.id WHERE h.id = 1";
/// Refuses a head beyond the leaves, and one that is not the successor of what the caller saw.
pub(crate) const SAVE_SIGNED_HEAD: &str = "UPDATE signed_head SET size = $1, root = $2, note = $3 \
     WHERE id = 1 AND size IS NOT DISTINCT FROM $4 AND root IS NOT DISTINCT FROM $5 \
     AND EXISTS (SELECT 1 FROM head WHERE id = 1 AND size >= $6)";

/// `/*skip*/`: on PostgreSQL two workers must not wait for one another's rows.
pub(crate) const OUTBOX_CLAIM: &str = "WITH ready AS (SELECT seq FROM outbox \
     WHERE not_before <= $1 AND leased_until <= $2 ORDER BY not_before, seq LIMIT $3 /*skip*/) \
     UPDATE outbox SET owner = $4, leased_until = $5, attempts = attempts + 1 \
     WHERE seq IN (SELECT seq FROM ready) RETURNING not_before, seq, id, topic, body, attempts, error";
pub(crate) const OUTBOX_DONE: &str = "DELETE FROM outbox WHERE id = $1";
pub(crate) const OUTBOX_RETRY: &str =
    "UPDATE outbox SET not_before = $1, error = $2, leased_until = 0, owner = '' WHERE id = $3";
pub(crate) const OUTBOX_RELEASE: &str =
    "UPDATE outbox SET leased_until = 0, owner = '' WHERE owner = $1 AND leased_until > 0";
pub(crate) const OUTBOX_STATS: &str = "SELECT (SELECT COUNT(*) FROM outbox), \
     (SELECT created FROM outbox ORDER BY seq LIMIT 1)";

pub(crate) const LOCK: &str = "INSERT INTO locks (id, owner, held_until) VALUES ($1, $2, $3) \
     ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, held_until = excluded.held_until \
     WHERE locks.owner = excluded.owner OR locks.held_until <= $4";
pub(crate) const UNLOCK: &str = "DELETE FROM locks WHERE id = $1 AND owner = $2";

pub(crate) const META_GET: &str = "SELECT body FROM meta WHERE id = $1";
pub(crate) const META_PUT: &str =
    "INSERT INTO meta (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
pub(crate) const ANSWER: &str = "SELECT answer FROM answers WHERE id = $1";
pub(crate) const FORGET_ANSWERS: &str = "DELETE FROM answers WHERE created < $1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_by_first_use() {
        for text in [
            GET,
            LIST_UP,
            LIST_DOWN,
            BY_INDEX_UP,
            BY_INDEX_DOWN,
            DUE,
            DUE_OF_KIND,
            LEAVES,
            HEAD,
            SAVE_SIGNED_HEAD,
            OUTBOX_CLAIM,
            OUTBOX_DONE,
            OUTBOX_RETRY,
            OUTBOX_RELEASE,
            OUTBOX_STATS,
            LOCK,
            UNLOCK,
            META_GET,
            META_PUT,
            ANSWER,
            FORGET_ANSWERS,
        ] {
            let used: Vec<usize> = text.split('$').skip(1).map(|rest| rest[..1].parse().unwrap()).collect();
            assert_eq!(used, (1..=used.len()).collect::<Vec<_>>(), "{text}");
        }
    }
    /// A list that reads the whole table, or sorts it, would be slow only where it hurts.
    #[test]
    fn every_read_follows_an_index() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let schema = include_str!("../tests/golden/schema.sqlite.sql");
        connection.execute_batch(schema).unwrap();
        for text in [
            GET,
            LIST_UP,
            LIST_DOWN,
            BY_INDEX_UP,
            BY_INDEX_DOWN,
            DUE,
            DUE_OF_KIND,
            LEAVES,
            HEAD,
            OUTBOX_CLAIM,
            OUTBOX_DONE,
            OUTBOX_RETRY,
            META_GET,
            ANSWER,
            FORGET_ANSWERS,
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            for n in 1..=statement.parameter_count() {
                statement.raw_bind_parameter(n, 1).unwrap();
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let step: String = row.get(3).unwrap();
                let slow = step.starts_with("SCAN") && step != "SCAN ready" || step.contains("TEMP B-TREE");
                assert!(!slow, "{step}: {text}");
            }
        }
    }
}

-- One text for both engines. The words BIGINT, TEXT and BLOB are the only types; src/schema.rs
-- spells them for each engine. A table marked "keyed" is its own primary index where the engine
-- can do that. Times are microseconds since 1970, UTC.

-- One row. Whoever commits holds it: it gives out leaf indices and commit numbers.
CREATE TABLE head (
    id BIGINT PRIMARY KEY,
    size BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    commits BIGINT NOT NULL
);
INSERT INTO head (id, size, last_time, commits) VALUES (1, 0, 0, 0);

-- One row, apart from head: signing never waits for a commit.
CREATE TABLE signed_head (
    id BIGINT PRIMARY KEY,
    size BIGINT,
    root BLOB,
    note TEXT
);
INSERT INTO signed_head (id) VALUES (1);

CREATE TABLE leaves (
    idx BIGINT PRIMARY KEY,
    body BLOB NOT NULL
);

-- written_by is the number of the commit that wrote the row: it tells a document from
-- another one that was made under the same key after a deletion. indexes repeats the rows of
-- document_index, so that a write touches only those that change.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    written_by BIGINT NOT NULL,
    due_at BIGINT,
    indexes TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX documents_due ON documents (due_at, kind, id) WHERE due_at IS NOT NULL;
CREATE INDEX documents_due_by_kind ON documents (kind, due_at, id) WHERE due_at IS NOT NULL;

CREATE TABLE document_index (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (kind, name, value, id)
) /*keyed*/;

-- seq rises with each commit: new rows stand at the end, the oldest is the first.
CREATE TABLE outbox (
    seq BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    body BLOB NOT NULL,
    created BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    owner TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX outbox_ready ON outbox (not_before, seq);

-- Answers to commits that carried an idempotency key.
CREATE TABLE answers (
    id TEXT PRIMARY KEY,
    answer BLOB NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX answers_created ON answers (created);

CREATE TABLE meta (
    id TEXT PRIMARY KEY,
    body BLOB NOT NULL
);

CREATE TABLE locks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    held_until BIGINT NOT NULL
);

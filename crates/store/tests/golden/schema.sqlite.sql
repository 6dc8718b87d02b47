CREATE TABLE answers (
    id TEXT PRIMARY KEY,
    answer BLOB NOT NULL,
    created INTEGER NOT NULL
);
CREATE TABLE document_index (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (kind, name, value, id)
) WITHOUT ROWID;
CREATE TABLE documents (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    written_by INTEGER NOT NULL,
    due_at INTEGER,
    indexes TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE TABLE head (
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    commits INTEGER NOT NULL
);
CREATE TABLE leaves (
    idx INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE locks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    held_until INTEGER NOT NULL
);
CREATE TABLE meta (
    id TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    body BLOB NOT NULL,
    created INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,
    owner TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL
);
CREATE TABLE refinery_schema_history(
             version int4 PRIMARY KEY,
             name VARCHAR(255),
             applied_on VARCHAR(255),
             checksum VARCHAR(255));
CREATE TABLE signed_head (
    id INTEGER PRIMARY KEY,
    size INTEGER,
    root BLOB,
    note TEXT
);
CREATE INDEX answers_created ON answers (created);
CREATE INDEX documents_due ON documents (due_at, kind, id) WHERE due_at IS NOT NULL;
CREATE INDEX documents_due_by_kind ON documents (kind, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_ready ON outbox (not_before, seq);

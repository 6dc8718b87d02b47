//! The schema, held by golden files, and a store from the future.
//!
//! `HALLIGAN_BLESS=1` writes the files anew.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::path::Path;

use halligan_store::{PostgresOptions, SqliteOptions, Store, StoreError};
use halligan_testkit::postgres::TestPostgres;

const FUTURE: &str = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
     VALUES (99, 'later', '2031-01-01T00:00:00Z', '1')";

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("HALLIGAN_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(golden, found, "{name} has changed: a released migration never changes, add one");
}

#[tokio::test]
async fn sqlite_schema_is_the_golden_one_and_a_newer_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap().close().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    let texts: Vec<String> = connection
        .prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    compare("schema.sqlite.sql", &format!("{};\n", texts.join(";\n")));

    connection.execute_batch(FUTURE).unwrap();
    drop(connection);
    let outcome = Store::open_sqlite(SqliteOptions::new(&path)).await;
    assert!(matches!(outcome, Err(StoreError::Newer { found: 99, known: 1 })), "{outcome:?}");
}

#[tokio::test]
async fn postgres_schema_is_the_golden_one_and_a_newer_one_is_refused() {
    let server = TestPostgres::start().unwrap();
    let options = PostgresOptions::new(server.url());
    Store::open_postgres(options.clone()).await.unwrap().close().await;
    let columns = server
        .sql(
            "postgres",
            "SELECT table_name || '.' || column_name || ' ' || data_type || COALESCE(' collate ' || collation_name, '') \
             || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END \
             FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
        )
        .unwrap();
    let indexes = server
        .sql("postgres", "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname")
        .unwrap();
    compare("schema.postgres.txt", &format!("{columns}\n\n{indexes}\n"));

    server.sql("postgres", FUTURE).unwrap();
    let outcome = Store::open_postgres(options).await;
    assert!(matches!(outcome, Err(StoreError::Newer { found: 99, known: 1 })), "{outcome:?}");
}

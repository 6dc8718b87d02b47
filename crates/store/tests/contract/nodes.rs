//! What only several nodes, or only one, can do.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use halligan_store::{CommitError, PostgresOptions, SqliteOptions, Store, StoreError};
use halligan_testkit::postgres::TestPostgres;

use crate::home::{Home, is_conflict, key, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_race_and_one_wins() {
    let home = Home::postgres();
    // They start together on an empty database: one migrates, the other waits.
    let (one, two) = tokio::join!(home.open(), home.open());
    one.commit(put("a", 0, "start")).await.unwrap();
    let rounds = 30;
    for round in 1..=rounds {
        let (left, right) =
            tokio::join!(one.commit(put("a", round, "one")), two.commit(put("a", round, "two")));
        assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
        assert!(is_conflict(&left) || is_conflict(&right));
        let body = if left.is_ok() { "one" } else { "two" };
        assert_eq!(two.get(&key("a")).await.unwrap().unwrap().body, body.as_bytes());
    }
    let before = one.head().await.unwrap().size;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let store = if n % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move {
                for step in 0..5 {
                    store.commit(put(&format!("{n}"), step, &format!("{n}/{step}"))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let leaves = one.leaves(0, 10_000).await.unwrap();
    assert_eq!(leaves.len() as u64, before + 320);
    assert!(leaves.iter().enumerate().all(|(at, (index, _))| at as u64 == *index));

    // What one node read, the other moved.
    let mut rests_on_old = put("b", 0, "x");
    let seen = one.get(&key("a")).await.unwrap().unwrap();
    rests_on_old.read_set.saw(&seen);
    two.commit(put("a", rounds + 1, "moved")).await.unwrap();
    assert!(is_conflict(&one.commit(rests_on_old).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_found_again() {
    let mut server = TestPostgres::start().unwrap();
    let store = Store::open_postgres(PostgresOptions::new(server.url())).await.unwrap();
    store.commit(put("a", 0, "one")).await.unwrap();
    server.stop().unwrap();
    let outcome = store.commit(put("a", 1, "down")).await;
    assert!(matches!(outcome, Err(CommitError::Unavailable { .. })), "{outcome:?}");
    assert!(matches!(store.get(&key("a")).await, Err(StoreError::Unavailable { .. })));
    server.resume().unwrap();
    store.commit(put("a", 1, "two")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().body, b"two");
    assert_eq!(store.head().await.unwrap().size, 2);
    // An idle connection that died in between costs nobody a commit.
    server.stop().unwrap();
    server.resume().unwrap();
    store.commit(put("a", 2, "three")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().body, b"three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_head_row_ends_in_an_error_not_in_a_hang() {
    let server = TestPostgres::start().unwrap();
    let store = Store::open_postgres(PostgresOptions::new(server.url())).await.unwrap();
    let (holder, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    holder.batch_execute("BEGIN; SELECT * FROM head FOR UPDATE").await.unwrap();
    let began = Instant::now();
    let outcome = store.commit(put("a", 0, "one")).await;
    assert!(matches!(outcome, Err(CommitError::Unavailable { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(store.get(&key("a")).await.unwrap(), None, "reads do not wait for the writer");
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.commit(put("a", 0, "two")).await.unwrap();
    drop(holder);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn postgres_over_a_network_needs_tls() {
    for url in ["host=db.example user=x", "host=10.0.0.1 user=x", "host=localhost hostaddr=10.0.0.1 user=x"] {
        let outcome = Store::open_postgres(PostgresOptions::new(url)).await;
        assert!(matches!(outcome, Err(StoreError::Refused { .. })), "{outcome:?}");
    }
    let options = PostgresOptions::new("postgres://u:hunter2@localhost/x");
    assert!(!format!("{options:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_and_the_password_comes_from_a_file() {
    let mut server = TestPostgres::start().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.put_file("cert.pem", &made.cert.pem()).unwrap();
    let key_file = server.put_file("key.pem", &made.signing_key.serialize_pem()).unwrap();
    let stranger = server.put_file("other.pem", &other.cert.pem()).unwrap();
    server.sql("postgres", "CREATE ROLE ha LOGIN PASSWORD 'right'").unwrap();
    server.sql("postgres", "CREATE DATABASE ha OWNER ha").unwrap();
    let rules = "local all postgres trust\nhostssl all ha 127.0.0.1/32 scram-sha-256\n";
    let rules = server.put_file("hba.conf", rules).unwrap();
    let password = server.put_file("password", "right\n").unwrap();
    let wrong = server.put_file("wrong", "wrong").unwrap();
    server.restart_with("hba_file", rules.to_str().unwrap()).unwrap();
    server.restart_with("ssl_cert_file", certificate.to_str().unwrap()).unwrap();
    server.restart_with("ssl_key_file", key_file.to_str().unwrap()).unwrap();
    server.restart_with("ssl", "on").unwrap();

    let options =
        |host: &str, root: Option<&std::path::PathBuf>, secret: &std::path::PathBuf| PostgresOptions {
            root_certificate: root.cloned(),
            password_file: Some(secret.clone()),
            ..PostgresOptions::new(format!(
                "host={host} hostaddr=127.0.0.1 port={} user=ha dbname=ha",
                server.port()
            ))
        };
    let store = Store::open_postgres(options("localhost", Some(&certificate), &password)).await.unwrap();
    store.commit(put("a", 0, "one")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().body, b"one");
    let encrypted = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'ha'";
    assert_eq!(server.sql("postgres", encrypted).unwrap(), "t");
    for refused in [
        options("localhost", Some(&stranger), &password),
        options("elsewhere", Some(&certificate), &password),
        options("localhost", None, &password),
        options("localhost", Some(&certificate), &wrong),
        options("localhost", Some(&certificate), &certificate.with_file_name("missing")),
    ] {
        assert!(Store::open_postgres(refused.clone()).await.is_err(), "{refused:?}");
    }
}

#[tokio::test]
async fn sqlite_is_private_and_held_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
    store.commit(put("a", 0, "one")).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert!(seen >= 3, "the database, its log and its lock");
    let second = Store::open_sqlite(SqliteOptions::new(&path)).await;
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    store.close().await;
    Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_a_whole_store() {
    let home = Home::sqlite();
    let store = home.open().await;
    for n in 0..200 {
        store.commit(put(&format!("{n}"), 0, "kept")).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let busy = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 200..400 {
                store.commit(put(&format!("{n}"), 0, "later")).await.unwrap();
            }
        })
    };
    store.backup(&path).await.unwrap();
    busy.await.unwrap();
    assert!(store.backup(&path).await.is_err(), "an older copy is never overwritten");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let copy = Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
    let size = copy.head().await.unwrap().size;
    assert!((200..=400).contains(&size));
    assert_eq!(copy.leaves(0, 1_000).await.unwrap().len() as u64, size);
    assert!(store.backup(&folder.path().join("no/such/folder")).await.is_err());

    let other = Home::postgres().open().await;
    assert!(matches!(other.backup(&folder.path().join("x")).await, Err(StoreError::Refused { .. })));
}

//! `kill -9` at any moment: everything that was acknowledged is there, and nothing half.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halligan_store::{Commit, DocumentKey, DocumentWrite, Order, PostgresOptions, SqliteOptions, Store};
use halligan_testkit::postgres::TestPostgres;
use halligan_testkit::process::Child;

const PATH: &str = "HALLIGAN_CRASH_STORE";

/// One leaf and one document, which names its leaf's text: half a commit would show.
fn step(id: &str) -> Commit {
    let text = format!("leaf of {id}").into_bytes();
    Commit {
        leaves: vec![text.clone()],
        documents: vec![DocumentWrite::put(DocumentKey::new("step", id), 0, text)],
        ..Commit::default()
    }
}

/// Commits for ever, and calls `acknowledged` with id and leaf of each that the store has acknowledged.
fn busy(
    store: &Store,
    life: &str,
    acknowledged: impl Fn(&str, u64) + Clone + Send + 'static,
) -> Vec<tokio::task::JoinHandle<()>> {
    (0..16)
        .map(|task| {
            let (store, life, acknowledged) = (store.clone(), life.to_owned(), acknowledged.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let id = format!("{life}-{task}-{n}");
                    let Ok(done) = store.commit(step(&id)).await else { return };
                    acknowledged(&id, done.first_leaf);
                }
            })
        })
        .collect()
}

/// Every acknowledged step is whole, and the store holds nothing but whole steps.
async fn check(store: &Store, acknowledged: &BTreeMap<String, u64>) {
    let mut leaves = Vec::new();
    loop {
        let page = store.leaves(leaves.len() as u64, 5_000).await.unwrap();
        if page.is_empty() {
            break;
        }
        leaves.extend(page);
    }
    assert!(leaves.iter().enumerate().all(|(at, (index, _))| at as u64 == *index), "a gap in the leaves");
    assert_eq!(leaves.len() as u64, store.head().await.unwrap().size);
    let texts: BTreeMap<Vec<u8>, u64> = leaves.into_iter().map(|(index, text)| (text, index)).collect();
    for (id, leaf) in acknowledged {
        assert_eq!(
            texts.get(format!("leaf of {id}").as_bytes()),
            Some(leaf),
            "{id} was acknowledged and is lost"
        );
    }
    let (mut documents, mut after) = (0, None);
    loop {
        let page = store.list("step", after.as_deref(), 5_000, Order::Ascending).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.id.clone());
        documents += page.len();
        assert!(
            page.iter().all(|document| texts.contains_key(&document.body)),
            "a document without its leaf"
        );
    }
    assert_eq!(documents, texts.len(), "a leaf without its document");
}

/// Not a test of its own: what the killed process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test below"]
async fn child() {
    let path = std::env::var(PATH).unwrap();
    let store = Store::open_sqlite(SqliteOptions::new(path)).await.unwrap();
    let life = std::process::id().to_string();
    for task in busy(&store, &life, |id, leaf| println!("ack {id} {leaf}")) {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut acknowledged = BTreeMap::new();
    for life in 0..6 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]).env(PATH, &path);
        let mut child = Child::start(&format!("life{life}"), &mut command, folder.path()).unwrap();
        child.wait_for_line("ack", Duration::from_secs(20)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(37 * life)).await;
        child.kill().unwrap();
        acknowledged.extend(parse(&child.stdout()));
        let store = Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
        check(&store, &acknowledged).await;
        store.close().await;
    }
    assert!(acknowledged.len() > 200, "the test saw only {} steps", acknowledged.len());
}

/// The last line may be cut: it was not acknowledged to anybody.
fn parse(output: &str) -> Vec<(String, u64)> {
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("ack ")?;
            let (id, leaf) = rest.split_once(' ')?;
            Some((id.to_owned(), leaf.parse().ok()?))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_what_it_acknowledged() {
    let mut server = TestPostgres::start_with(&[]).unwrap();
    let one = Store::open_postgres(PostgresOptions::new(server.url())).await.unwrap();
    let two = Store::open_postgres(PostgresOptions::new(server.url())).await.unwrap();
    let acknowledged = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    for life in 0..3 {
        let count = Arc::new(AtomicU64::new(0));
        let note = {
            let (acknowledged, count) = (Arc::clone(&acknowledged), Arc::clone(&count));
            move |id: &str, leaf: u64| {
                acknowledged.lock().unwrap().insert(id.to_owned(), leaf);
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut tasks = busy(&one, &format!("one{life}"), note.clone());
        tasks.extend(busy(&two, &format!("two{life}"), note));
        while count.load(Ordering::Relaxed) < 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        for task in tasks {
            task.await.unwrap();
        }
        server.resume().unwrap();
        let known = acknowledged.lock().unwrap().clone();
        check(&one, &known).await;
    }
}

/// A disk that fills up: what was acknowledged stays, the rest is told, and it goes on when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_survives_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    let path = folder.path().join("db");
    let store = Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut refused = 0;
    for n in 0..20_000 {
        let id = format!("{n}");
        let mut commit = step(&id);
        commit.outbox.push(halligan_store::OutboxRow {
            id: id.clone(),
            topic: "t".into(),
            body: vec![7; 4_096],
            not_before: 0,
        });
        match store.commit(commit).await {
            Ok(done) => acknowledged.insert(id, done.first_leaf),
            Err(_) => {
                refused += 1;
                if refused == 20 {
                    break;
                }
                None
            }
        };
    }
    assert_eq!(refused, 20, "the disk never filled up");
    assert!(!acknowledged.is_empty());
    check(&store, &acknowledged).await;
    std::fs::remove_file(ballast).unwrap();
    let done = store.commit(step("room again")).await.unwrap();
    acknowledged.insert("room again".into(), done.first_leaf);
    store.close().await;
    let store = Store::open_sqlite(SqliteOptions::new(&path)).await.unwrap();
    check(&store, &acknowledged).await;
    store.close().await;
}

struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(on: &'a Path) -> Option<Self> {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(on).status().ok()?;
        status.success().then_some(Self(on))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a failing test may still have files open here.
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

//! Durable commits a second, with many tasks at once: `commits [seconds] [tasks]`.
//!
//! Each commit writes one leaf, one document with an index, one outbox row, and rests on a read set
//! of two documents. One line a figure: engine, nodes, commits a second, mean latency. The disk
//! syncs for real; so the same file on a RAM disk would be no measurement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use halligan_store::{Commit, DocumentKey, DocumentWrite, OutboxRow, PostgresOptions, SqliteOptions, Store};
use halligan_testkit::postgres::TestPostgres;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 =
        arguments.next().map_or(Ok(5), |text| text.parse()).context("seconds must be a number")?;
    let tasks: u64 =
        arguments.next().map_or(Ok(64), |text| text.parse()).context("tasks must be a number")?;
    let patience = Duration::from_secs(seconds);

    for round in 0..3 {
        let folder = tempfile::tempdir_in(".")?;
        let store = Store::open_sqlite(SqliteOptions::new(folder.path().join("db"))).await?;
        measure(&format!("sqlite, 1 node, round {round}"), std::slice::from_ref(&store), tasks, patience)
            .await?;
        store.close().await;

        let server = TestPostgres::start_with(&[("shared_buffers", "256MB"), ("max_wal_size", "4GB")])?;
        let one = Store::open_postgres(PostgresOptions::new(server.url())).await?;
        measure(&format!("postgres, 1 node, round {round}"), std::slice::from_ref(&one), tasks, patience)
            .await?;
        let two = Store::open_postgres(PostgresOptions::new(server.url())).await?;
        measure(&format!("postgres, 2 nodes, round {round}"), &[one.clone(), two.clone()], tasks, patience)
            .await?;
        one.close().await;
        two.close().await;
    }
    Ok(())
}

async fn measure(name: &str, nodes: &[Store], tasks: u64, patience: Duration) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let born = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let mut running = Vec::new();
    for (task, node) in (0..tasks).zip(nodes.iter().cycle()) {
        let (store, stop, count) = (node.clone(), Arc::clone(&stop), Arc::clone(&count));
        let name = format!("{name}/{task}");
        running.push(tokio::spawn(async move {
            let person = DocumentKey::new("person", &name);
            store
                .commit(Commit {
                    documents: vec![DocumentWrite::put(person.clone(), 0, body())],
                    ..Commit::default()
                })
                .await?;
            let person = store.get(&person).await?.context("the person is missing")?;
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Ids are ordered by time, as the product's are.
                let id = format!("{:016x}{task:04x}", born + began.elapsed().as_nanos());
                let key = DocumentKey::new("request", id);
                let mut commit = Commit { leaves: vec![body()], commit_time: n, ..Commit::default() };
                commit.read_set.saw(&person);
                commit.read_set.saw_nothing(key.clone());
                commit.outbox.push(OutboxRow {
                    id: key.id.clone(),
                    topic: "mail".into(),
                    body: body(),
                    not_before: 0,
                });
                let mut write = DocumentWrite::put(key, 0, body());
                write.indexes.push(("state".into(), "pending".into()));
                commit.documents.push(write);
                store.commit(commit).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        }));
    }
    tokio::time::sleep(patience).await;
    let (done, elapsed) = (count.load(Ordering::Relaxed), began.elapsed());
    stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await??;
    }
    let done_f = f64::from(u32::try_from(done)?);
    let rate = done_f / elapsed.as_secs_f64();
    let latency = elapsed.as_secs_f64() * 1_000.0 * f64::from(u32::try_from(tasks)?) / done_f.max(1.0);
    println!("{name}: {rate:.0} commits/s, mean {latency:.2} ms");
    Ok(())
}

fn body() -> Vec<u8> {
    vec![b'x'; 400]
}

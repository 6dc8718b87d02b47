//! Durable commits per second at 64 tasks: one leaf, one document with an index, one outbox row, resting on a read set of
//! two. Every one is synced. Ids are ordered by time, as the product's are.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use halligan_store::{Commit, DocumentKey, DocumentWrite, OutboxRow, PostgresOptions, SqliteOptions, Store};
use halligan_testkit::postgres::TestPostgres;

use crate::figure::{Figure, Goal};
use crate::sample::Sample;
use crate::{Figures, Options};

const TASKS: u64 = 64;

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let time = options.size(Duration::from_secs(5), Duration::from_millis(300));
    let mut samples = [Sample::default(), Sample::default(), Sample::default()];
    let mut syncs = Sample::default();
    for _ in 0..options.size(5, 1) {
        let folder = crate::disk::folder()?;
        syncs.push(sync_micros(folder.path(), options.size(500, 20))?);
        let [sqlite, postgres, two_nodes] = &mut samples;
        let store = Store::open_sqlite(SqliteOptions::new(folder.path().join("db"))).await?;
        sqlite.push(rate(std::slice::from_ref(&store), time).await?);
        store.close().await;

        let server = TestPostgres::start_with(&[("shared_buffers", "256MB"), ("max_wal_size", "4GB")])?;
        let one = Store::open_postgres(PostgresOptions::new(server.url())).await?;
        postgres.push(rate(std::slice::from_ref(&one), time).await?);
        let two = Store::open_postgres(PostgresOptions::new(server.url())).await?;
        two_nodes.push(rate(&[one.clone(), two.clone()], time).await?);
        one.close().await;
        two.close().await;
    }
    let names = ["store/SQLite", "store/PostgreSQL, one node", "store/PostgreSQL, two nodes"];
    for ((name, goal), sample) in names.into_iter().zip([15_000.0, 5_000.0, 5_000.0]).zip(&samples) {
        let figure = Figure::new(name, sample.median(), "commits/s").range(sample.range());
        figures.add(figure.goal(Goal::AtLeast(goal)));
    }
    figures.add(Figure::new("store/one sync of this disk", syncs.median(), "µs").range(syncs.range()));
    Ok(())
}

/// The median time of `fdatasync` after 4 KiB.
fn sync_micros(folder: &Path, times: usize) -> Result<f64> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut sample = Sample::default();
    for _ in 0..times {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        sample.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(sample.median())
}

async fn rate(nodes: &[Store], time: Duration) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let born = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let began = Instant::now();
    let mut running = Vec::new();
    for (task, node) in (0..TASKS).zip(nodes.iter().cycle()) {
        let (store, stop, count) = (node.clone(), Arc::clone(&stop), Arc::clone(&count));
        running.push(tokio::spawn(async move {
            let person = DocumentKey::new("person", format!("{born}/{task}"));
            let first = vec![DocumentWrite::put(person.clone(), 0, body())];
            store.commit(Commit { documents: first, ..Commit::default() }).await?;
            let person = store.get(&person).await?.context("the person is missing")?;
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{:016x}{task:04x}", born + began.elapsed().as_nanos());
                let key = DocumentKey::new("request", id);
                let mut commit = Commit { leaves: vec![body()], commit_time: n, ..Commit::default() };
                commit.read_set.saw(&person);
                commit.read_set.saw_nothing(key.clone());
                commit.outbox.push(OutboxRow {
                    id: key.id.clone(),
                    topic: "mail".to_owned(),
                    body: body(),
                    not_before: 0,
                });
                let mut write = DocumentWrite::put(key, 0, body());
                write.indexes.push(("state".to_owned(), "pending".to_owned()));
                commit.documents.push(write);
                store.commit(commit).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(time).await;
    let (done, spent) = (count.load(Ordering::Relaxed), began.elapsed());
    stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await??;
    }
    Ok(done as f64 / spent.as_secs_f64())
}

fn body() -> Vec<u8> {
    vec![b'x'; 400]
}

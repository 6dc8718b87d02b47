//! Effects: at least once, by one worker at a time.

use std::collections::HashSet;

use halligan_store::{Claimed, Commit, OutboxRow, OutboxStats, Store};

use crate::home::Home;

fn row(id: &str, not_before: i64) -> OutboxRow {
    OutboxRow { id: id.into(), topic: "mail".into(), body: id.as_bytes().to_vec(), not_before }
}

async fn add(store: &Store, time: i64, outbox: Vec<OutboxRow>) {
    store.commit(Commit { outbox, commit_time: time, ..Commit::default() }).await.unwrap();
}

fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|row| row.id.as_str()).collect()
}

pub async fn an_effect_is_leased_retried_and_done(home: &Home) {
    let store = home.open().await;
    assert_eq!(store.outbox_stats().await.unwrap(), OutboxStats { count: 0, oldest: None });
    add(&store, 40, vec![row("a", 100), row("b", 100), row("first", 50), row("later", 500)]).await;
    add(&store, 45, vec![row("a", 0)]).await;
    assert_eq!(store.outbox_stats().await.unwrap(), OutboxStats { count: 4, oldest: Some(40) });

    assert_eq!(store.outbox_claim("w1", 49, 10, 9).await.unwrap(), []);
    assert_eq!(ids(&store.outbox_claim("w1", 100, 10, 2).await.unwrap()), ["first", "a"]);
    let rest = store.outbox_claim("w2", 100, 1_000, 9).await.unwrap();
    let expected = Claimed {
        id: "b".into(),
        topic: "mail".into(),
        body: b"b".to_vec(),
        attempts: 1,
        last_error: String::new(),
    };
    assert_eq!(rest, [expected]);
    assert_eq!(store.outbox_claim("w2", 109, 10, 9).await.unwrap(), [], "leased");

    // w1 finished one and died with the other: its lease runs out.
    store.outbox_done("first").await.unwrap();
    let again = store.outbox_claim("w2", 110, 10, 9).await.unwrap();
    assert_eq!((ids(&again), again[0].attempts), (vec!["a"], 2));
    // Whoever starts again under its name takes up at once what it was at; what others hold stays theirs.
    assert_eq!(store.outbox_release("w1").await.unwrap(), 0);
    assert_eq!(store.outbox_release("w2").await.unwrap(), 2);
    assert_eq!(ids(&store.outbox_claim("w2", 111, 1_000, 9).await.unwrap()), ["a", "b"]);
    store.outbox_retry("a", 300, "refused\0: 550").await.unwrap();
    assert_eq!(store.outbox_claim("w2", 299, 10, 9).await.unwrap(), []);
    let again = store.outbox_claim("w3", 300, 10, 9).await.unwrap();
    assert_eq!(
        (ids(&again), again[0].attempts, again[0].last_error.as_str()),
        (vec!["a"], 4, "refused\u{FFFD}: 550")
    );
    for id in ["a", "b", "later", "unknown"] {
        store.outbox_done(id).await.unwrap();
    }
    assert_eq!(store.outbox_stats().await.unwrap().count, 0);
}

pub async fn two_workers_share_the_work(home: &Home) {
    let store = home.open().await;
    add(&store, 1, (0..200).map(|n| row(&format!("{n:03}"), 0)).collect()).await;
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = store.outbox_claim(&format!("w{worker}"), 10, 1_000, 7).await.unwrap();
                    if claimed.is_empty() && store.outbox_stats().await.unwrap().count == 0 {
                        return mine;
                    }
                    assert!(claimed.len() <= 7);
                    for row in claimed {
                        store.outbox_done(&row.id).await.unwrap();
                        mine.push(row.id);
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 200, "an effect was claimed twice");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
}

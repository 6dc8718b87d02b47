//! Leaves, time, the signed head, and who sequences.

use std::time::Duration;

use halligan_store::{Commit, OutboxRow, SignedHead, StoreError};

use crate::home::{Home, put};

pub fn head_of(size: u64) -> SignedHead {
    SignedHead { size, root: [u8::try_from(size % 251).unwrap(); 32], note: format!("ledger\n{size}\n") }
}

pub async fn leaves_are_consecutive_and_in_order(home: &Home) {
    let store = home.open().await;
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for n in 0..25 {
                    let leaves = (0..=n % 3).map(|part| format!("{task}/{n}/{part}").into_bytes()).collect();
                    done.push((
                        n,
                        store.commit(Commit { leaves, commit_time: n, ..Commit::default() }).await.unwrap(),
                    ));
                }
                (task, done)
            })
        })
        .collect();
    let mut all = Vec::new();
    for handle in tasks {
        let (task, done) = handle.await.unwrap();
        assert!(done.windows(2).all(|pair| pair[0].1.next_leaf <= pair[1].1.first_leaf));
        all.extend(done.into_iter().map(|(n, done)| (done, task, n)));
    }
    all.sort_by_key(|(done, ..)| done.first_leaf);
    let leaves = store.leaves(0, 1_000).await.unwrap();
    assert!(leaves.iter().enumerate().all(|(at, (index, _))| at as u64 == *index));
    assert_eq!(leaves.len() as u64, store.head().await.unwrap().size);
    let (mut next, mut time) = (0, 0);
    for (done, task, n) in all {
        assert_eq!(done.first_leaf, next);
        next = done.next_leaf;
        assert!(done.time >= time);
        time = done.time;
        for (part, index) in (done.first_leaf..done.next_leaf).enumerate() {
            let at = usize::try_from(index).unwrap();
            assert_eq!(leaves[at].1, format!("{task}/{n}/{part}").into_bytes());
        }
    }
    assert_eq!(store.leaves(next, 5).await.unwrap(), []);
    assert_eq!(store.leaves(next - 2, 1).await.unwrap()[0].0, next - 2);
}

pub async fn time_never_goes_back(home: &Home) {
    let store = home.open().await;
    let at = |time| Commit { leaves: vec![b"tick".to_vec()], commit_time: time, ..Commit::default() };
    assert_eq!(store.commit(at(1_000)).await.unwrap().time, 1_000);
    assert_eq!(store.commit(at(400)).await.unwrap().time, 1_000);
    assert_eq!(store.commit(at(-9)).await.unwrap().time, 1_000);
    assert_eq!(store.commit(at(1_001)).await.unwrap().time, 1_001);
    store.close().await;
    let store = home.open().await;
    assert_eq!(store.commit(at(5)).await.unwrap().time, 1_001);
    assert_eq!(store.head().await.unwrap().last_time, 1_001);
}

pub async fn a_head_is_signed_once(home: &Home) {
    let store = home.open().await;
    assert!(!store.save_signed_head(None, &head_of(1)).await.unwrap(), "beyond the data");
    store.commit(Commit { leaves: vec![vec![1]; 10], ..Commit::default() }).await.unwrap();

    let racers: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            let head = SignedHead { root: [n; 32], ..head_of(4) };
            tokio::spawn(async move { (n, store.save_signed_head(None, &head).await.unwrap()) })
        })
        .collect();
    let mut winners = Vec::new();
    for handle in racers {
        let (n, won) = handle.await.unwrap();
        winners.extend(won.then_some(n));
    }
    assert_eq!(winners.len(), 1);
    let root = [winners[0]; 32];
    let signed = store.head().await.unwrap().signed.unwrap();
    assert_eq!(signed, SignedHead { root, ..head_of(4) });

    let old = Some((4, root));
    assert!(!store.save_signed_head(None, &head_of(5)).await.unwrap());
    assert!(!store.save_signed_head(Some((4, [99; 32])), &head_of(5)).await.unwrap());
    assert!(!store.save_signed_head(Some((3, root)), &head_of(5)).await.unwrap());
    assert!(!store.save_signed_head(old, &head_of(11)).await.unwrap(), "beyond the data");
    for wrong in [head_of(3), SignedHead { root: [98; 32], ..head_of(4) }] {
        assert!(matches!(store.save_signed_head(old, &wrong).await, Err(StoreError::Refused { .. })));
    }
    // The same tree may be noted again, with cosignatures.
    let cosigned = SignedHead { note: "more".into(), root, ..head_of(4) };
    assert!(store.save_signed_head(old, &cosigned).await.unwrap());
    assert!(store.save_signed_head(old, &head_of(10)).await.unwrap());
    store.close().await;
    assert_eq!(home.open().await.head().await.unwrap().signed, Some(head_of(10)));
}

pub async fn everything_is_there_after_reopening(home: &Home) {
    let store = home.open().await;
    let mut commit = put("a", 0, "kept");
    commit.outbox.push(OutboxRow { id: "e".into(), topic: "t".into(), body: b"b".to_vec(), not_before: 0 });
    commit.idempotency = Some(("wish".into(), b"said".to_vec()));
    commit.commit_time = 5;
    store.commit(commit.clone()).await.unwrap();
    store.meta_put("m", b"v").await.unwrap();
    let before = store.get(&crate::home::key("a")).await.unwrap();
    // Not closed: only dropped, as by a task that ends.
    drop(store);
    let store = home.open().await;
    assert_eq!(store.get(&crate::home::key("a")).await.unwrap(), before);
    assert_eq!(store.leaves(0, 9).await.unwrap(), [(0, b"a=kept".to_vec())]);
    assert_eq!(store.meta_get("m").await.unwrap().unwrap(), b"v");
    assert_eq!(store.outbox_stats().await.unwrap().count, 1);
    assert!(matches!(
        store.commit(commit).await,
        Err(halligan_store::CommitError::Duplicate { answer }) if answer == b"said"
    ));
    // The numbers go on where they were.
    let done = store.commit(put("b", 0, "next")).await.unwrap();
    assert_eq!((done.first_leaf, done.time), (1, 5));
    let next = store.get(&crate::home::key("b")).await.unwrap().unwrap();
    assert!(next.written_by > before.unwrap().written_by);
}

pub async fn one_node_sequences(home: &Home) {
    let store = home.open().await;
    assert!(store.sequencer_lock("n1", 1_000, 100).await.unwrap());
    assert!(store.sequencer_lock("n1", 1_050, 100).await.unwrap(), "kept");
    assert!(!store.sequencer_lock("n2", 1_149, 100).await.unwrap());
    assert!(store.sequencer_lock("n2", 1_150, 100).await.unwrap(), "lapsed");
    assert!(!store.sequencer_lock("n1", 1_151, 100).await.unwrap());
    store.sequencer_unlock("n1").await.unwrap();
    assert!(!store.sequencer_lock("n1", 1_152, 100).await.unwrap(), "not n1's to give back");
    store.sequencer_unlock("n2").await.unwrap();
    assert!(store.sequencer_lock("n1", 1_153, 100).await.unwrap());
}

pub async fn commits_are_heard_of(home: &Home) {
    let store = home.open().await;
    let mut news = store.subscribe();
    store.commit(put("a", 0, "")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), news.changed()).await.unwrap().unwrap();
    news.mark_unchanged();
    assert!(store.commit(put("a", 0, "")).await.is_err());
    assert!(!news.has_changed().unwrap(), "a refused commit is no news");
}

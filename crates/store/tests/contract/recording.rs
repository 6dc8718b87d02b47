//! Committing: all or nothing, by revision and read set, once.

use halligan_store::{
    Commit, CommitDone, CommitError, DocumentKey, DocumentWrite, Order, OutboxRow, ReadSet,
};

use crate::home::{Home, is_conflict, key, put};

pub async fn what_is_committed_can_be_read(home: &Home) {
    let store = home.open().await;
    let odd: Vec<u8> = vec![0, 255, b'\'', 0, 10];
    let mut commit = put("a", 0, "one");
    commit.leaves.push(odd.clone());
    commit.documents.push(DocumentWrite { due_at: Some(-5), ..DocumentWrite::put(key("b"), 0, odd.clone()) });
    commit.outbox.push(OutboxRow { id: "e1".into(), topic: "mail".into(), body: odd.clone(), not_before: 3 });
    commit.commit_time = 77;
    let done = store.commit(commit).await.unwrap();
    assert_eq!(done, CommitDone { first_leaf: 0, next_leaf: 2, time: 77 });

    let a = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((a.revision, a.body.as_slice(), a.due_at), (1, b"one".as_slice(), None));
    let b = store.get(&key("b")).await.unwrap().unwrap();
    assert_eq!((b.revision, &b.body, b.due_at), (1, &odd, Some(-5)));
    assert_eq!(store.get(&key("c")).await.unwrap(), None);
    assert_eq!(store.get(&DocumentKey::new("other", "a")).await.unwrap(), None);
    let mut many = store.get_many(&[key("b"), key("none"), key("a")]).await.unwrap();
    many.sort_by(|x, y| x.key.cmp(&y.key));
    assert_eq!(many, [a, b]);
    assert_eq!(store.leaves(0, 10).await.unwrap(), [(0, b"a=one".to_vec()), (1, odd)]);
    let head = store.head().await.unwrap();
    assert_eq!((head.size, head.last_time, head.signed), (2, 77, None));

    // A document may be replaced and deleted, and a commit may hold nothing but a time.
    store.commit(put("a", 1, "two")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().revision, 2);
    let gone = Commit { documents: vec![DocumentWrite::delete(key("a"), 2)], ..Commit::default() };
    store.commit(gone).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let done = store.commit(Commit { commit_time: 99, ..Commit::default() }).await.unwrap();
    assert_eq!(done, CommitDone { first_leaf: 3, next_leaf: 3, time: 99 });
}

pub async fn a_moved_document_is_a_conflict_and_leaves_no_trace(home: &Home) {
    let store = home.open().await;
    store.commit(put("a", 0, "one")).await.unwrap();
    for (id, expected) in [("a", 0), ("a", 2), ("new", 1)] {
        let mut commit = put(id, expected, "lost");
        commit.documents.insert(0, DocumentWrite::put(key("beside"), 0, b"lost".to_vec()));
        commit.outbox.push(OutboxRow { id: "e".into(), topic: "t".into(), body: Vec::new(), not_before: 0 });
        commit.idempotency = Some(("wish".into(), b"lost".to_vec()));
        commit.commit_time = 1_000;
        match store.commit(commit).await {
            Err(CommitError::Conflict { key: moved }) => assert_eq!(moved, key(id)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().body, b"one");
    assert_eq!(store.get(&key("beside")).await.unwrap(), None);
    assert_eq!((store.head().await.unwrap().size, store.head().await.unwrap().last_time), (1, 0));
    assert_eq!(store.outbox_stats().await.unwrap().count, 0);
    let mut wish = put("a", 1, "two");
    wish.idempotency = Some(("wish".into(), Vec::new()));
    store.commit(wish).await.unwrap();
}

pub async fn one_of_32_writers_wins(home: &Home) {
    let store = home.open().await;
    store.commit(put("a", 0, "start")).await.unwrap();
    for round in 1..=5 {
        let racers: Vec<_> = (0..32)
            .map(|racer| {
                let store = store.clone();
                tokio::spawn(async move { store.commit(put("a", round, &format!("racer {racer}"))).await })
            })
            .collect();
        let mut winner = None;
        for (racer, handle) in racers.into_iter().enumerate() {
            let outcome = handle.await.unwrap();
            if outcome.is_ok() {
                assert_eq!(winner.replace(racer), None, "two winners");
            } else {
                assert!(is_conflict(&outcome), "{outcome:?}");
            }
        }
        let document = store.get(&key("a")).await.unwrap().unwrap();
        assert_eq!(document.revision, round + 1);
        assert_eq!(document.body, format!("racer {}", winner.unwrap()).into_bytes());
        assert_eq!(store.head().await.unwrap().size, round + 1);
    }
}

pub async fn a_moved_read_set_is_refused(home: &Home) {
    let store = home.open().await;
    store.commit(put("policy", 0, "one approver")).await.unwrap();
    let policy = store.get(&key("policy")).await.unwrap().unwrap();
    let decide = |id: &str| {
        let mut commit = put(id, 0, "approved");
        commit.read_set.looked(&key("policy"), Some(&policy));
        commit.read_set.looked(&key("veto"), None);
        commit
    };
    store.commit(decide("r1")).await.unwrap();
    store.commit(put("veto", 0, "no")).await.unwrap();
    match store.commit(decide("r2")).await {
        Err(CommitError::Conflict { key: moved }) => assert_eq!(moved, key("veto")),
        other => panic!("{other:?}"),
    }
    let gone = Commit { documents: vec![DocumentWrite::delete(key("veto"), 1)], ..Commit::default() };
    store.commit(gone).await.unwrap();
    store.commit(decide("r3")).await.unwrap();
    store.commit(put("policy", 1, "two approvers")).await.unwrap();
    match store.commit(decide("r4")).await {
        Err(CommitError::Conflict { key: moved }) => assert_eq!(moved, key("policy")),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get(&key("r2")).await.unwrap(), None);
    assert_eq!(store.get(&key("r4")).await.unwrap(), None);
    assert!(store.get(&key("r3")).await.unwrap().is_some());
}

pub async fn a_document_made_again_is_another_one(home: &Home) {
    let store = home.open().await;
    store.commit(put("a", 0, "first life")).await.unwrap();
    let first = store.get(&key("a")).await.unwrap().unwrap();
    store
        .commit(Commit { documents: vec![DocumentWrite::delete(key("a"), 1)], ..Commit::default() })
        .await
        .unwrap();
    store.commit(put("a", 0, "second life")).await.unwrap();
    let second = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((first.revision, second.revision), (1, 1));
    let resting_on = |document| {
        let mut read_set = ReadSet::new();
        read_set.saw(document);
        Commit { read_set, ..Commit::default() }
    };
    assert!(is_conflict(&store.commit(resting_on(&first)).await));
    store.commit(resting_on(&second)).await.unwrap();
}

pub async fn conflicts_do_not_harm_their_batch(home: &Home) {
    let store = home.open().await;
    store.commit(put("taken", 0, "x")).await.unwrap();
    let handles: Vec<_> = (0..120)
        .map(|n| {
            let store = store.clone();
            let commit = if n % 3 == 0 {
                put("taken", 0, &format!("{n}"))
            } else {
                put(&format!("n{n}"), 0, &format!("{n}"))
            };
            tokio::spawn(async move { (n, store.commit(commit).await) })
        })
        .collect();
    for handle in handles {
        let (n, outcome) = handle.await.unwrap();
        if n % 3 == 0 {
            assert!(is_conflict(&outcome), "{outcome:?}");
        } else {
            let done = outcome.unwrap();
            let leaf = store.leaves(done.first_leaf, 1).await.unwrap();
            assert_eq!(leaf, [(done.first_leaf, format!("n{n}={n}").into_bytes())]);
        }
    }
    assert_eq!(store.head().await.unwrap().size, 81);
}

pub async fn the_same_wish_is_recorded_once(home: &Home) {
    let store = home.open().await;
    let wish = |n: u32| Commit {
        leaves: vec![b"wish".to_vec()],
        idempotency: Some(("press".into(), n.to_string().into_bytes())),
        commit_time: 500,
        ..Commit::default()
    };
    let handles: Vec<_> = (0..16)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { (n, store.commit(wish(n)).await) })
        })
        .collect();
    let (mut winner, mut answers) = (None, Vec::new());
    for handle in handles {
        match handle.await.unwrap() {
            (n, Ok(_)) => assert_eq!(winner.replace(n), None, "recorded twice"),
            (_, Err(CommitError::Duplicate { answer })) => answers.push(answer),
            (_, other) => panic!("{other:?}"),
        }
    }
    let said = winner.unwrap().to_string().into_bytes();
    assert_eq!(answers, vec![said.clone(); 15]);
    assert_eq!(store.head().await.unwrap().size, 1);

    // A repetition is told so even when its read set has moved by its own first success.
    let mut again = wish(99);
    again.documents.push(DocumentWrite::put(key("a"), 7, Vec::new()));
    assert!(matches!(store.commit(again).await, Err(CommitError::Duplicate { answer }) if answer == said));
    assert_eq!(store.forget_answers(500).await.unwrap(), 0);
    assert_eq!(store.forget_answers(501).await.unwrap(), 1);
    store.commit(wish(3)).await.unwrap();
}

pub async fn what_cannot_be_kept_is_refused(home: &Home) {
    let store = home.open().await;
    let writes = |writes: Vec<DocumentWrite>| Commit { documents: writes, ..Commit::default() };
    let mut leftover = DocumentWrite::delete(key("a"), 1);
    leftover.body = vec![1];
    let mut indexed = DocumentWrite::put(key("a"), 0, Vec::new());
    indexed.indexes.push(("state".into(), "a\0b".into()));
    for wrong in [
        Commit { leaves: vec![vec![0; 32 * 1024 + 1]], ..Commit::default() },
        writes(vec![DocumentWrite::put(key(""), 0, Vec::new())]),
        writes(vec![DocumentWrite::put(key("a\0"), 0, Vec::new())]),
        writes(vec![DocumentWrite::put(key(&"x".repeat(513)), 0, Vec::new())]),
        writes(vec![DocumentWrite::put(key("a"), 0, Vec::new()); 2]),
        writes(vec![DocumentWrite::put(key("a"), u64::MAX, Vec::new())]),
        writes(vec![DocumentWrite::put(key("a"), 0, vec![0; 8 * 1024 * 1024 + 1])]),
        writes(vec![DocumentWrite::delete(key("a"), 0)]),
        writes(vec![leftover]),
        writes(vec![indexed]),
    ] {
        let outcome = store.commit(wrong).await;
        assert!(matches!(outcome, Err(CommitError::Refused { .. })), "{outcome:?}");
    }
    assert!(store.save_signed_head(None, &crate::ledger::head_of(u64::MAX)).await.is_err());
    assert!(store.leaves(u64::MAX, 1).await.is_err());
    assert_eq!(store.head().await.unwrap().size, 0);
    let largest = Commit {
        leaves: vec![vec![7; 32 * 1024]],
        ..writes(vec![DocumentWrite::put(key(&"x".repeat(512)), 0, vec![7; 1024 * 1024])])
    };
    store.commit(largest).await.unwrap();
}

pub async fn many_documents_go_in_by_chunks(home: &Home) {
    let store = home.open().await;
    let write = |n: u32| DocumentWrite {
        indexes: vec![("label".into(), format!("l{}", n % 7))],
        ..DocumentWrite::put(key(&format!("{n:05}")), 0, b"{}".to_vec())
    };
    store.bulk_put("thing", (0..3_500).map(write).collect()).await.unwrap();
    let last = store.list("thing", None, 1, Order::Descending).await.unwrap();
    assert_eq!(last[0].key.id, "03499");
    assert_eq!(
        store.by_index("thing", "label", "l0", None, 1_000, Order::Ascending).await.unwrap().len(),
        500
    );
    assert_eq!(store.head().await.unwrap().size, 0);
    let outcome = store.bulk_put("thing", vec![write(9_000), write(17)]).await;
    assert!(matches!(outcome, Err(CommitError::Conflict { key: moved }) if moved == key("00017")));
    assert_eq!(store.get(&key("09000")).await.unwrap(), None);
    assert!(matches!(store.bulk_put("other", vec![write(1)]).await, Err(CommitError::Refused { .. })));
}

pub async fn a_closed_store_says_so(home: &Home) {
    let store = home.open().await;
    let queued: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(put(&format!("{n}"), 0, "")).await })
        })
        .collect();
    store.close().await;
    assert!(matches!(store.commit(put("late", 0, "")).await, Err(CommitError::Unavailable { .. })));
    assert!(store.get(&key("0")).await.is_err());
    assert!(store.meta_put("m", b"").await.is_err());
    store.close().await;
    let mut kept = Vec::new();
    for (n, handle) in queued.into_iter().enumerate() {
        match handle.await.unwrap() {
            Ok(_) => kept.push(key(&n.to_string())),
            Err(CommitError::Unavailable { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let store = home.open().await;
    assert_eq!(store.get_many(&kept).await.unwrap().len(), kept.len());
    assert_eq!(store.get(&key("late")).await.unwrap(), None);
}

//! Lists: by key, by index, by due time; and settings.

use halligan_store::{Commit, Document, DocumentKey, DocumentWrite, Order, StoreError};

use crate::home::{Home, key};

fn ids(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.key.id.as_str()).collect()
}

fn indexed(id: &str, expected: u64, value: &str) -> DocumentWrite {
    DocumentWrite {
        indexes: vec![("state".into(), value.into())],
        ..DocumentWrite::put(key(id), expected, b"x".to_vec())
    }
}

pub async fn pages_run_in_byte_order(home: &Home) {
    let store = home.open().await;
    let names = ["-a", "10", "9", "A b", "Z", "_", "a", "a-b", "aB", "ab", "z", "ä", "日本"];
    let mut documents: Vec<_> = names.iter().rev().map(|name| indexed(name, 0, "open")).collect();
    documents.push(DocumentWrite::put(DocumentKey::new("thin", "x"), 0, Vec::new()));
    documents.push(DocumentWrite::put(DocumentKey::new("things", "x"), 0, Vec::new()));
    store.commit(Commit { documents, ..Commit::default() }).await.unwrap();

    for order in [Order::Ascending, Order::Descending] {
        let mut expected = names.to_vec();
        if order == Order::Descending {
            expected.reverse();
        }
        for limit in [1, 4, 100] {
            let (mut listed, mut found) = (Vec::<String>::new(), Vec::<String>::new());
            loop {
                let page =
                    store.list("thing", listed.last().map(String::as_str), limit, order).await.unwrap();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                listed.extend(page.into_iter().map(|document| document.key.id));
            }
            loop {
                let after = found.last().map(String::as_str);
                let page = store.by_index("thing", "state", "open", after, limit, order).await.unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page.into_iter().map(|document| document.key.id));
            }
            assert_eq!(listed, expected);
            assert_eq!(found, expected);
        }
    }
    assert_eq!(store.list("thing", None, 0, Order::Ascending).await.unwrap(), []);
}

pub async fn an_index_follows_its_document(home: &Home) {
    let store = home.open().await;
    let commit = |documents| Commit { documents, ..Commit::default() };
    let mut both = indexed("both", 0, "open");
    both.indexes.extend([
        ("state".into(), "open".into()),
        ("owner".into(), "eva".into()),
        ("state".into(), "late".into()),
    ]);
    store.commit(commit(vec![indexed("a", 0, "open"), indexed("b", 0, "open"), both])).await.unwrap();
    let other = DocumentWrite { key: DocumentKey::new("other", "a"), ..indexed("a", 0, "open") };
    store.commit(commit(vec![other])).await.unwrap();
    store.commit(commit(vec![indexed("a", 1, "shut"), DocumentWrite::delete(key("b"), 1)])).await.unwrap();

    let found = |index: &'static str, value: &'static str| {
        let store = store.clone();
        async move { store.by_index("thing", index, value, None, 10, Order::Ascending).await.unwrap() }
    };
    assert_eq!(ids(&found("state", "open").await), ["both"]);
    assert_eq!(ids(&found("state", "late").await), ["both"]);
    assert_eq!(ids(&found("owner", "eva").await), ["both"]);
    let shut = found("state", "shut").await;
    assert_eq!((ids(&shut), shut[0].revision), (vec!["a"], 2));
    assert_eq!(found("state", "Open").await, []);
    store.commit(commit(vec![indexed("b", 0, "shut")])).await.unwrap();
    assert_eq!(ids(&found("state", "shut").await), ["a", "b"]);
}

pub async fn what_is_due_comes_oldest_first(home: &Home) {
    let store = home.open().await;
    let due = |kind: &str, id: &str, revision, at| DocumentWrite {
        due_at: at,
        ..DocumentWrite::put(DocumentKey::new(kind, id), revision, Vec::new())
    };
    let documents = vec![
        due("grant", "late", 0, Some(10)),
        due("grant", "soon", 0, Some(31)),
        due("review", "later", 0, Some(20)),
        due("review", "b", 0, Some(15)),
        due("review", "a", 0, Some(15)),
        due("grant", "now", 0, Some(30)),
        due("grant", "never", 0, None),
    ];
    store.commit(Commit { documents, ..Commit::default() }).await.unwrap();
    assert_eq!(ids(&store.due(30, &[], 10).await.unwrap()), ["late", "a", "b", "later", "now"]);
    assert_eq!(ids(&store.due(30, &[], 2).await.unwrap()), ["late", "a"]);
    assert_eq!(ids(&store.due(30, &["grant"], 10).await.unwrap()), ["late", "now"]);
    assert_eq!(ids(&store.due(30, &["review", "grant", "none"], 3).await.unwrap()), ["late", "a", "b"]);
    assert_eq!(store.due(9, &[], 10).await.unwrap(), []);
    let documents = vec![due("grant", "late", 1, None), due("review", "a", 1, Some(99))];
    store.commit(Commit { documents, ..Commit::default() }).await.unwrap();
    assert_eq!(ids(&store.due(30, &[], 10).await.unwrap()), ["b", "later", "now"]);
}

pub async fn settings_are_kept(home: &Home) {
    let store = home.open().await;
    assert_eq!(store.meta_get("mark").await.unwrap(), None);
    store.meta_put("mark", b"").await.unwrap();
    assert_eq!(store.meta_get("mark").await.unwrap().unwrap(), b"");
    store.meta_put("mark", &[0, 1, 255]).await.unwrap();
    assert_eq!(store.meta_get("mark").await.unwrap().unwrap(), [0, 1, 255]);
    assert!(matches!(store.meta_put("a\nb", b"").await, Err(StoreError::Refused { .. })));

    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let there = store.database_clock().await.unwrap();
    assert!((there - i64::try_from(here).unwrap()).abs() < 2_000_000, "{there}");
}

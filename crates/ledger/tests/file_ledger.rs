//! The file ledger's promises: what is acknowledged is on disk, what is signed is never contradicted, and
//! what is damaged is refused rather than repaired.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use halligan_ledger::{
    Checkpoint, EpochRequest, EpochStart, FileLedger, FileLedgerOptions, LedgerError, LedgerSigner,
    MAX_LEAF_BYTES, TileFolder, TileReader as _, TrustPolicy, leaf_hash, new_epoch, open, root_of, survey,
    verify_consistency,
};
use tempfile::TempDir;

const ORIGIN: &str = "halligan.example/gw-1";

fn signer() -> LedgerSigner {
    LedgerSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn ledger(folder: &Path) -> FileLedger {
    FileLedger::open(folder, signer()).unwrap()
}

fn leaf(number: u64) -> Vec<u8> {
    format!("entry {number} {}", "x".repeat((number % 50) as usize)).into_bytes()
}

fn fill(ledger: &FileLedger, count: u64) {
    let first = ledger.size();
    let waiters: Vec<_> = (first..first + count).map(|number| ledger.submit(leaf(number))).collect();
    for (index, waiter) in (first..).zip(waiters) {
        let receipt = waiter.wait().unwrap();
        assert_eq!(receipt.index(), index);
        assert_eq!(receipt.leaf_hash(), leaf_hash(&leaf(index)));
        assert_eq!(receipt.origin(), ORIGIN);
    }
}

fn expect_contents(ledger: &FileLedger, count: u64) {
    assert_eq!(ledger.size(), count);
    let expected: Vec<Vec<u8>> = (0..count).map(leaf).collect();
    assert_eq!(ledger.read(0..count).unwrap(), expected);
    let hashes: Vec<_> = expected.iter().map(|leaf| leaf_hash(leaf)).collect();
    assert_eq!(ledger.frontier().root(), root_of(&hashes));
    assert_eq!(ledger.root_at(count).unwrap(), root_of(&hashes));
    assert_eq!(ledger.check().unwrap().root, root_of(&hashes));
}

fn copy(from: &Path) -> (TempDir, PathBuf) {
    let holder = tempfile::tempdir().unwrap();
    let to = holder.path().join("copy");
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    (holder, to)
}

fn cut(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn entries_survive_reopening_and_are_proved() {
    let folder = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    for round in 1..=5 {
        let ledger = ledger(folder.path());
        fill(&ledger, 333);
        heads.push(ledger.checkpoint().unwrap());
        assert_eq!(ledger.checkpoint().unwrap(), heads[heads.len() - 1], "one size, one signature");
        expect_contents(&ledger, 333 * round);
    }
    let ledger = ledger(folder.path());
    let heads: Vec<Checkpoint> =
        heads.iter().map(|head| open(&head.to_string(), &[signer().key()]).unwrap()).collect();
    for pair in heads.windows(2) {
        let proof = ledger.consistency_proof(pair[0].size, pair[1].size).unwrap();
        verify_consistency(pair[0].size, pair[1].size, &proof, &pair[0].root, &pair[1].root).unwrap();
    }
    let policy = TrustPolicy::unwitnessed(&[signer().key()]).unwrap();
    let receipt = ledger.receipt(700, &ledger.last_checkpoint().unwrap()).unwrap();
    receipt.verify(&leaf(700), &policy).unwrap();
    assert!(receipt.verify(&leaf(701), &policy).is_err());
    assert!(matches!(ledger.read(0..2000), Err(LedgerError::OutOfRange { .. })));
}

#[test]
fn sixty_four_threads_share_syncs_and_everybody_gets_their_own_place() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(ledger(folder.path()));
    let barrier = Arc::new(Barrier::new(64));
    let threads: Vec<_> = (0..64_u64)
        .map(|thread| {
            let (ledger, barrier) = (ledger.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let append = |n: u64| ledger.append(format!("{thread}/{n}").into_bytes()).unwrap();
                (0..50).map(|n| (n, append(n).index())).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut seen = vec![false; 3200];
    for (thread, handle) in threads.into_iter().enumerate() {
        let mut last = None;
        for (n, index) in handle.join().unwrap() {
            assert!(last < Some(index), "a thread's entries stand in its order");
            last = Some(index);
            assert!(!std::mem::replace(&mut seen[index as usize], true));
            assert_eq!(ledger.read(index..index + 1).unwrap()[0], format!("{thread}/{n}").into_bytes());
        }
    }
    let stats = ledger.stats();
    assert_eq!(stats.size, 3200);
    assert!(stats.syncs < 1600, "64 threads made {} syncs for 3200 entries", stats.syncs);
    println!("3200 appends of 64 threads took {} syncs", stats.syncs);
}

#[test]
fn a_callback_is_called_once_and_its_panic_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path());
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    ledger.append_with(
        b"one".to_vec(),
        Box::new(move |result| {
            assert_eq!(result.unwrap().index(), 0);
            counter.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("on purpose"));
        }),
    );
    assert_eq!(ledger.append(b"two".to_vec()).unwrap().index(), 1);
    assert_eq!(called.load(Ordering::SeqCst), 1);
    let counter = called.clone();
    ledger.append_with(
        b"three".to_vec(),
        Box::new(move |result| {
            result.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }),
    );
    drop(ledger);
    assert_eq!(called.load(Ordering::SeqCst), 2, "closing writes what still waits");
}

#[test]
fn the_last_reference_may_go_in_a_callback() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(ledger(folder.path()));
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let own = ledger.clone();
    ledger.append_with(
        b"one".to_vec(),
        Box::new(move |result| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(own);
            sender.send(result.unwrap().index()).unwrap();
        }),
    );
    drop(ledger);
    assert_eq!(receiver.recv().unwrap(), 0);
}

#[test]
fn large_leaves_and_crowds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileLedgerOptions { max_waiting_bytes: 100, ..Default::default() };
    let ledger = FileLedger::open_with(folder.path(), signer(), options).unwrap();
    assert!(matches!(
        ledger.append(vec![0; MAX_LEAF_BYTES + 1]),
        Err(LedgerError::LeafTooLarge { bytes: 32769 })
    ));
    assert!(matches!(ledger.append(vec![0; 200]), Err(LedgerError::Overloaded)));
    assert_eq!(ledger.append(Vec::new()).unwrap().index(), 0);
    drop(ledger);
    let ledger = FileLedger::open(folder.path(), signer()).unwrap();
    assert_eq!(ledger.append(vec![1; MAX_LEAF_BYTES]).unwrap().index(), 1);
    assert_eq!(ledger.read(0..2).unwrap(), [Vec::new(), vec![1; MAX_LEAF_BYTES]]);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_back_to_the_last_whole_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = {
        let ledger = ledger(folder.path());
        fill(&ledger, 20);
        ledger.checkpoint().unwrap();
        let before = fs::metadata(folder.path().join("log")).unwrap().len();
        fill(&ledger, 1);
        (before, fs::metadata(folder.path().join("log")).unwrap().len())
    };
    for length in before..=after {
        let (_holder, torn) = copy(folder.path());
        cut(&torn.join("log"), length);
        let ledger = ledger(&torn);
        expect_contents(&ledger, if length == after { 21 } else { 20 });
        // And it goes on from there.
        fill(&ledger, 2);
        drop(ledger);
        expect_contents(&self::ledger(&torn), if length == after { 23 } else { 22 });
    }
    // A tail that is full length but whose middle never reached the disk is torn as well.
    for offset in before..after {
        let (_holder, torn) = copy(folder.path());
        flip(&torn.join("log"), offset);
        expect_contents(&ledger(&torn), 20);
    }
}

#[test]
fn damage_before_acknowledged_entries_is_refused_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let start = {
        let ledger = ledger(folder.path());
        let start = fs::metadata(folder.path().join("log")).unwrap().len();
        // Each waits for its own sync, so all but the last are known to be acknowledged.
        for number in 0..10 {
            ledger.append(leaf(number)).unwrap();
        }
        start
    };
    let path = folder.path().join("log");
    let last = fs::metadata(&path).unwrap().len() - (32 + leaf(9).len() as u64);
    for offset in start..last {
        let (_holder, damaged) = copy(folder.path());
        flip(&damaged.join("log"), offset);
        let before = fs::read(damaged.join("log")).unwrap();
        let refused = FileLedger::open(&damaged, signer());
        assert!(matches!(refused, Err(LedgerError::Damaged { .. })), "byte {offset}: {refused:?}");
        assert_eq!(fs::read(damaged.join("log")).unwrap(), before, "nothing was changed");
    }
}

#[test]
fn damage_behind_a_checkpoint_is_found_by_reading_and_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    {
        let ledger = ledger(folder.path());
        fill(&ledger, 300);
        ledger.checkpoint().unwrap();
    }
    flip(&folder.path().join("log"), 2000);
    let ledger = ledger(folder.path());
    assert!(matches!(ledger.check(), Err(LedgerError::Damaged { .. })));
    assert!(matches!(ledger.read(0..300), Err(LedgerError::Damaged { .. })));
}

#[test]
fn a_head_ahead_of_the_data_stops_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    fill(&ledger(folder.path()), 10);
    let (_holder, snapshot) = copy(folder.path());
    {
        let ledger = ledger(folder.path());
        fill(&ledger, 5);
        ledger.checkpoint().unwrap();
    }
    // The data goes back in time, the head does not.
    fs::copy(folder.path().join("checkpoint"), snapshot.join("checkpoint")).unwrap();
    let refused = FileLedger::open(&snapshot, signer());
    assert!(matches!(refused, Err(LedgerError::HeadAheadOfData { head: 15, data: 10 })), "{refused:?}");
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("halligan ledger recover"), "{message}");
    // Also when the log is cut by one byte, or gone.
    let log = folder.path().join("log");
    cut(&log, fs::metadata(&log).unwrap().len() - 1);
    let refused = FileLedger::open(folder.path(), signer());
    assert!(matches!(refused, Err(LedgerError::HeadAheadOfData { head: 15, data: 14 })), "{refused:?}");
    fs::remove_file(&log).unwrap();
    let refused = FileLedger::open(folder.path(), signer());
    assert!(matches!(refused, Err(LedgerError::HeadAheadOfData { head: 15, data: 0 })), "{refused:?}");
    assert!(!log.exists(), "no empty ledger is begun in its place");
}

#[test]
fn another_history_under_a_signed_head_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    {
        let (first, second) = (ledger(one.path()), ledger(two.path()));
        fill(&first, 300);
        first.checkpoint().unwrap();
        fill(&second, 299);
        second.append(b"another".to_vec()).unwrap();
        fill(&second, 3);
    }
    fs::copy(one.path().join("checkpoint"), two.path().join("checkpoint")).unwrap();
    let refused = FileLedger::open(two.path(), signer());
    assert!(matches!(refused, Err(LedgerError::HeadMismatch { size: 300, .. })), "{refused:?}");
}

#[test]
fn a_lost_or_changed_index_is_made_again_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    {
        let ledger = ledger(folder.path());
        fill(&ledger, 700);
        ledger.checkpoint().unwrap();
        fill(&ledger, 100);
    }
    for name in ["offsets", "hashes.0", "hashes.1"] {
        fs::remove_file(folder.path().join(name)).unwrap();
        expect_contents(&ledger(folder.path()), 800);
    }
    flip(&folder.path().join("hashes.1"), 5);
    expect_contents(&ledger(folder.path()), 800);
    // A power cut leaves holes where the index was not synced yet.
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("hashes.0")).unwrap();
    file.write_all_at(&[0; 3200], 700 * 32).unwrap();
    expect_contents(&ledger(folder.path()), 800);
}

#[test]
fn a_folder_has_one_origin_and_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(folder.path());
    assert!(matches!(FileLedger::open(folder.path(), signer()), Err(LedgerError::InUse { .. })));
    fill(&first, 1);
    first.checkpoint().unwrap();
    drop(first);
    let other = LedgerSigner::from_seed("halligan.example/gw-2", &[8; 32]).unwrap();
    assert!(FileLedger::open(folder.path(), other).is_err());
    let other_key = LedgerSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(matches!(FileLedger::open(folder.path(), other_key), Err(LedgerError::Note(_))));
    fs::remove_file(folder.path().join("checkpoint")).unwrap();
    let other = LedgerSigner::from_seed("halligan.example/gw-2", &[8; 32]).unwrap();
    assert!(matches!(FileLedger::open(folder.path(), other), Err(LedgerError::WrongOrigin { .. })));
    flip(&folder.path().join("log"), 40);
    assert!(matches!(FileLedger::open(folder.path(), signer()), Err(LedgerError::BadHeader { .. })));
}

#[test]
fn an_export_goes_on_and_refuses_another_log() {
    let (folder, tiles) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = ledger(folder.path());
    for count in [3, 253, 1000] {
        fill(&ledger, count);
        ledger.export_tiles(tiles.path()).unwrap();
        let head = ledger.frontier();
        assert_eq!(TileFolder::new(tiles.path()).root_at(head.size()).unwrap(), head.root());
    }
    assert_eq!(TileFolder::new(tiles.path()).read_bundle(4, 232).unwrap()[231], leaf(1255));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = self::ledger(elsewhere.path());
    other.append(b"other".to_vec()).unwrap();
    assert!(matches!(other.export_tiles(tiles.path()), Err(LedgerError::Tiles(_))));
}

#[test]
fn a_new_epoch_says_what_was_lost_and_keeps_the_rest() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("ledger");
    let seen_elsewhere = {
        let ledger = ledger(&folder);
        fill(&ledger, 10);
        ledger.checkpoint().unwrap();
        fill(&ledger, 10);
        ledger.checkpoint().unwrap()
    };
    let log = folder.join("log");
    cut(&log, fs::metadata(&log).unwrap().len() - 500);
    assert!(matches!(FileLedger::open(&folder, signer()), Err(LedgerError::HeadAheadOfData { .. })));
    let found = survey(&folder).unwrap();
    assert_eq!((found.agrees, found.data.origin.as_str()), (None, ORIGIN));
    let next = || LedgerSigner::from_seed("halligan.example/gw-1/epoch-2", &[9; 32]).unwrap();
    let people = ["person-1".to_owned(), "person-2".to_owned()];
    let old = signer();
    let request = |next| EpochRequest {
        folder: &folder,
        previous: &old,
        next,
        heads_seen: std::slice::from_ref(&seen_elsewhere),
        reason: "restored from a snapshot",
        opened_by: &people,
        opened_at: 1_700_000_000,
        options: FileLedgerOptions::default(),
    };
    // A second tree under the same origin or key would be a lie to every witness.
    assert!(new_epoch(request(signer())).is_err());
    assert!(new_epoch(request(LedgerSigner::from_seed("other", &[7; 32]).unwrap())).is_err());
    let (ledger, start, receipt) = new_epoch(request(next())).unwrap();
    assert_eq!(receipt.index(), 0);
    assert_eq!((start.lost_from, start.lost_to), (found.data.size, 20));
    assert!(found.data.size < 20 && found.data.size > 0);
    assert_eq!(start.last_head.as_ref().unwrap().body(), seen_elsewhere.body());
    let first = ledger.read(0..1).unwrap().remove(0);
    assert_eq!(EpochStart::open(&first, &signer().key()).unwrap(), start);
    let forged = String::from_utf8(first).unwrap().replace("\"lost_to\":20", "\"lost_to\":19");
    assert!(EpochStart::open(forged.as_bytes(), &signer().key()).is_err());
    assert_eq!(ledger.append(b"life goes on".to_vec()).unwrap().index(), 1);
    ledger.checkpoint().unwrap();
    drop(ledger);
    assert_eq!(FileLedger::open(&folder, next()).unwrap().size(), 2);
    let kept = survey(&parent.path().join("ledger.epoch-1")).unwrap();
    assert_eq!(kept.data, found.data, "the old files are kept as they were");
}

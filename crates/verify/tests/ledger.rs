//! Whole ledgers as folders: they verify, and a changed entry, tile, head or document shows.

#![expect(clippy::unwrap_used, reason = "tests")]

mod story;

use std::fs;
use std::path::{Path, PathBuf};

use halligan_core::leaf::Leaf;
use halligan_core::time::Span;
use halligan_ledger::{LedgerSigner, TrustPolicy};
use halligan_verify::{Report, replay, verify_consistency, verify_ledger};
use story::Shell;

fn grown(folder: &Path, incidents: u64) -> Shell {
    let mut shell = Shell::new(folder);
    shell.with_recordings = false;
    for number in 1..=incidents {
        shell.emergency(number);
        // Past the time in which one use counts as the continuation of another (rule 7).
        shell.now = shell.now.plus(Span::hours(9));
    }
    shell
}

#[track_caller]
fn fault(report: &Report, check: &str, words: &str) {
    let found = report.faults().any(|fault| fault.name == check && fault.detail.contains(words));
    assert!(found, "no fault of `{check}` says `{words}`: {:#?}", report.faults().collect::<Vec<_>>());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_ledger_verifies_and_a_changed_bit_in_any_file_shows() {
    let folder = tempfile::tempdir().unwrap();
    let shell = grown(folder.path(), 30);
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let report = verify_ledger(&tiles, &shell.policy());
    assert!(report.ok(), "{:#?}", report.faults().collect::<Vec<_>>());
    assert_eq!(report.counts.leaves, shell.control.leaves.len() as u64);
    assert!(report.counts.leaves > 256 && report.counts.documents > report.counts.leaves);
    for file in files(&tiles) {
        let before = fs::read(&file).unwrap();
        for place in [0, before.len() / 2, before.len() - 2] {
            let mut changed = before.clone();
            changed[place] ^= 4;
            fs::write(&file, &changed).unwrap();
            assert!(!verify_ledger(&tiles, &shell.policy()).ok(), "{} byte {place}", file.display());
        }
        fs::write(&file, &before).unwrap();
    }
    assert!(verify_ledger(&tiles, &shell.policy()).ok());
    // A node's ledger is told by its leaves.
    let node = folder.path().join("node");
    shell.gateway.tiles(&node);
    let report = verify_ledger(&node, &shell.policy());
    assert!(report.ok(), "{:#?}", report.faults().collect::<Vec<_>>());
}

#[test]
fn other_keys_and_missing_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shell = grown(folder.path(), 1);
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let other = LedgerSigner::from_seed("example.org/control", &[1; 32]).unwrap();
    let policy = TrustPolicy::unwitnessed(&[other.key()]).unwrap();
    fault(&verify_ledger(&tiles, &policy), "checkpoint", "no key that we trust");
    fault(&verify_ledger(&folder.path().join("none"), &policy), "checkpoint", "there is no checkpoint");
}

#[test]
fn a_ledger_that_lies_about_its_documents_or_time_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = grown(folder.path(), 1);
    // The key's owner can sign anything; replay still tells.
    let place = shell.control.leaves.len() - 3;
    let mut leaf: Leaf = serde_json::from_slice(&shell.control.leaves[place]).unwrap();
    leaf.documents[0].sha256 = "44".repeat(32);
    leaf.at = story::START.minus(Span::hours(1));
    shell.control.leaves[place] = serde_json::to_vec(&leaf).unwrap();
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let report = verify_ledger(&tiles, &shell.policy());
    fault(&report, "documents against events", "is not what its events make of it");
    fault(&report, "time never goes back", "time went back");
    fault(&report, "chains of incidents", "does not follow the leaf before it");

    let mut shell = grown(folder.path(), 1);
    shell.control.leaves.remove(5);
    let tiles = folder.path().join("shorter");
    shell.control.tiles(&tiles);
    let report = verify_ledger(&tiles, &shell.policy());
    fault(&report, "chains of incidents", "leaves are missing or doubled");
    fault(&report, "documents against events", "after revision");

    let mut shell = grown(folder.path(), 1);
    let place = shell.control.leaves.len() - 2;
    let mut leaf: Leaf = serde_json::from_slice(&shell.control.leaves[place]).unwrap();
    leaf.documents.pop();
    shell.control.leaves[place] = serde_json::to_vec(&leaf).unwrap();
    let tiles = folder.path().join("without");
    shell.control.tiles(&tiles);
    fault(&verify_ledger(&tiles, &shell.policy()), "documents against events", "names no digest of it");
}

#[test]
fn an_older_checkpoint_is_continued_or_history_was_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = grown(folder.path(), 2);
    let older = shell.control.note_at(20);
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let report = verify_consistency(&tiles, &older, &shell.policy());
    assert!(report.ok(), "{:#?}", report.faults().collect::<Vec<_>>());
    // The same ledger, cut and signed again.
    let whole = shell.control.note_at(shell.control.leaves.len());
    shell.control.leaves.truncate(15);
    let cut = folder.path().join("cut");
    shell.control.tiles(&cut);
    fault(&verify_consistency(&cut, &whole, &shell.policy()), "consistency", "leaves were cut off");
    // Another history of the same length.
    let mut shell = Shell::new(folder.path());
    shell.with_recordings = false;
    shell.reason = "another story".to_owned();
    shell.emergency(1);
    shell.emergency(2);
    let other = folder.path().join("other");
    shell.control.tiles(&other);
    fault(&verify_consistency(&other, &older, &shell.policy()), "consistency", "history was rewritten");
}

#[test]
fn a_leaf_that_is_no_leaf_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = grown(folder.path(), 1);
    let leaf = String::from_utf8(shell.control.leaves[4].clone()).unwrap();
    shell.control.leaves.push(leaf.replacen("\"v\":1", "\"v\":9", 1).into_bytes());
    shell.control.leaves.push(b"{}".to_vec());
    shell.control.leaves.push(leaf.replacen("\"event\":\"", "\"event\":\"un", 1).into_bytes());
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let report = verify_ledger(&tiles, &shell.policy());
    fault(&report, "leaves can be read", "it has format 9");
    fault(&report, "leaves can be read", "missing field");
    fault(&report, "leaves can be read", "unknown variant");
}

#[test]
fn replay_leads_to_the_documents_as_they_were_stored() {
    let folder = tempfile::tempdir().unwrap();
    let shell = grown(folder.path(), 3);
    let (replayed, faults) = replay((0..).zip(shell.control.leaves.iter().cloned()));
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(replayed.documents.len(), shell.stored.len());
    for (document, (revision, body)) in &shell.stored {
        let found = replayed.documents.get(document).unwrap();
        let sha256: [u8; 32] =
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), body)).into();
        assert_eq!((found.revision, found.sha256), (*revision, sha256), "{document:?}");
    }
}

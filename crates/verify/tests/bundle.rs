//! One emergency in one file: it verifies, and every way of lying with it is named.

#![expect(clippy::unwrap_used, reason = "tests")]

mod story;

use std::fs;
use std::path::Path;

use halligan_core::command::DocumentRef;
use halligan_core::leaf::LeafBody;
use halligan_core::node_event::NodeLeaf;
use halligan_ledger::{LedgerSigner, TrustPolicy};
use halligan_verify::container::{Archive, ArchiveWriter};
use halligan_verify::layout::{Manifest, ManifestMember};
use halligan_verify::{Options, Report, verify_bundle, write_bundle};
use story::{Shell, Told};

fn told(folder: &Path) -> (Shell, Told) {
    let mut shell = Shell::new(folder);
    // Others work at the same time, so that leaves are interleaved.
    let other = shell.up_to_session(6);
    let told = shell.emergency(7);
    shell.end_session(other);
    (shell, told)
}

fn verify(path: &Path) -> Report {
    verify_bundle(path, &Options::default())
}

#[track_caller]
fn fault(report: &Report, check: &str, words: &str) {
    let found = report.faults().any(|fault| fault.name == check && fault.detail.contains(words));
    assert!(found, "no fault of `{check}` says `{words}`: {:#?}", report.faults().collect::<Vec<_>>());
}

/// Writes a changed bundle anew, with manifest and sums that fit, as somebody would who wants to lie.
fn forged(path: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
    let archive = Archive::open(path).unwrap();
    let mut manifest: Manifest =
        serde_json::from_slice(&archive.read("manifest.json", 1 << 20).unwrap()).unwrap();
    let mut out = ArchiveWriter::new(Vec::new(), archive.written_at);
    for member in archive.members() {
        if member.name == "manifest.json" || member.name == "SHA256SUMS" {
            continue;
        }
        if let Some(body) = change(&member.name, archive.read(&member.name, 1 << 30).unwrap()) {
            out.add(&member.name, body.len() as u64, &body[..]).unwrap();
        }
    }
    manifest.members = out
        .members()
        .iter()
        .map(|(name, bytes, sha256)| ManifestMember {
            name: name.clone(),
            bytes: *bytes,
            sha256: sha256.clone(),
        })
        .collect();
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    out.add("manifest.json", text.len() as u64, &text[..]).unwrap();
    let sums: String = out.members().iter().map(|(name, _, sha256)| format!("{sha256}  {name}\n")).collect();
    out.add("SHA256SUMS", sums.len() as u64, sums.as_bytes()).unwrap();
    fs::write(path, out.finish().unwrap()).unwrap();
}

#[test]
fn a_bundle_verifies_with_and_without_the_auditors_key() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let report = verify(&path);
    assert!(report.ok(), "{:#?}", report.faults().collect::<Vec<_>>());
    assert_eq!(report.counts.recordings, 1);
    assert_eq!(report.warnings.len(), 2, "own policy, sealed recordings: {:?}", report.warnings);
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    for wanted in ["consistency", "chain of the incident", "revocation proofs", "recordings", "report"] {
        assert!(names.contains(&wanted), "{wanted}");
    }
    let options = Options { policy: Some(shell.policy()), identity: Some(shell.auditor) };
    let report = verify_bundle(&path, &options);
    assert!(report.ok(), "{:#?}", report.faults().collect::<Vec<_>>());
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert!(report.checks.iter().any(|check| check.name == "recordings read" && check.detail == "3 records"));
}

#[test]
fn stock_tools_open_the_bundle_and_check_its_sums() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new(program).args(arguments).current_dir(&out).output().unwrap();
        assert!(done.status.success(), "{program}: {done:?}");
    };
    run("tar", &["-xf".as_ref(), path.as_os_str()]);
    run("sha256sum", &["--check".as_ref(), "--strict".as_ref(), "SHA256SUMS".as_ref()]);
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("INC-7"));
}

#[test]
fn one_changed_bit_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let whole = fs::read(&path).unwrap();
    let other = folder.path().join("changed.halligan");
    // Every byte of all headers and of small members; of larger ones every 97th.
    let archive = Archive::open(&path).unwrap();
    let mut places: Vec<usize> = (0..whole.len()).step_by(97).collect();
    let mut at = 0;
    for member in archive.members() {
        places.extend((at..at + 512).step_by(3));
        let bytes = usize::try_from(member.bytes).unwrap();
        places.extend((at + 512)..(at + 512 + bytes.min(40)));
        at += 512 + bytes.div_ceil(512) * 512;
    }
    places.extend(at..whole.len());
    for place in places {
        let mut changed = whole.clone();
        changed[place] ^= 1 << (place % 8);
        fs::write(&other, &changed).unwrap();
        assert!(!verify(&other).ok(), "byte {place} of {}", whole.len());
    }
}

#[test]
fn a_cut_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let whole = fs::read(&path).unwrap();
    for part in [0, 1, 511, 512, whole.len() / 2, whole.len() - 1024, whole.len() - 1] {
        fs::write(&path, &whole[..part]).unwrap();
        fault(&verify(&path), "container", "cut short");
    }
    fault(&verify(&folder.path().join("nothing")), "container", "failed to read the file");
}

#[test]
fn a_policy_with_another_key_trusts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let stranger = LedgerSigner::from_seed("example.org/control", &[9; 32]).unwrap();
    let policy = TrustPolicy::unwitnessed(&[stranger.key()]).unwrap();
    let report = verify_bundle(&path, &Options { policy: Some(policy), identity: None });
    fault(
        &report,
        "checkpoint signatures",
        "control/checkpoint: failed to trust a checkpoint: failed to verify a note: no key that we trust",
    );
    let witness = LedgerSigner::from_seed("witness", &[8; 32]).unwrap().cosigner_key();
    let logs: Vec<_> = shell.policy().logs().iter().map(|log| log.key.clone()).collect();
    let policy = TrustPolicy::with_witnesses(&logs, &[("w", witness)], 1).unwrap();
    let report = verify_bundle(&path, &Options { policy: Some(policy), identity: None });
    fault(&report, "checkpoint signatures", "quorum");
}

#[test]
fn a_removed_leaf_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    let count = shell.contents(told).control.leaves.len();
    for removed in 0..count {
        let mut contents = shell.contents(told);
        let line = contents.control.leaves.remove(removed);
        write_bundle(&path, &contents).unwrap();
        let report = verify(&path);
        assert!(!report.ok(), "leaf {} was removed", line.index);
        if removed > 2 && removed < count - 1 {
            fault(&report, "chain of the incident", "leaves are missing or doubled");
            fault(&report, "chain of the incident", "does not follow the leaf before it");
        }
    }
    // The tail: without the closing leaf the chain says that its end is missing.
    let mut contents = shell.contents(told);
    contents.control.leaves.pop();
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "chain of the incident", "none that closes the incident");
}

#[test]
fn leaves_of_nodes_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = folder.path().join("x.halligan");
    let without = |node: &str, word: &str| {
        let mut contents = shell.contents(told);
        let part = contents.nodes.get_mut(&story::name(node)).unwrap();
        let before = part.leaves.len();
        part.leaves.retain(|line| !String::from_utf8_lossy(&line.leaf).contains(word));
        assert!(part.leaves.len() < before, "{word}");
        write_bundle(&path, &contents).unwrap();
        verify(&path)
    };
    fault(
        &without("gw-1", "session_opened"),
        "sessions at gateways",
        "no leaf of gateway gw-1 opens session",
    );
    fault(&without("gw-1", "session_ended"), "sessions at gateways", "no leaf of gateway gw-1 ends session");
    fault(&without("gw-1", "recording_finished"), "recordings", "finishes the recording of session");
    fault(&without("connector-1", "looked"), "revocation proofs", "after the tombstone");
    fault(&without("connector-1", "deactivated"), "revocation proofs", "after the tombstone");
    let mut contents = shell.contents(told);
    contents.nodes.clear();
    write_bundle(&path, &contents).unwrap();
    let report = verify(&path);
    fault(&report, "sessions at gateways", "no leaf of gateway gw-1 opens session");
    fault(&report, "recordings", "finishes the recording");
}

#[test]
fn a_leaf_that_is_in_no_ledger_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = folder.path().join("x.halligan");
    let mut contents = shell.contents(told);
    let line = contents.control.leaves.get_mut(4).unwrap();
    let text = String::from_utf8(line.leaf.clone()).unwrap();
    line.leaf = text.replacen("\"v\":1", "\"v\": 1", 1).into_bytes();
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "inclusion", "control/leaves.jsonl: leaf");
    // A leaf in its right place, under a root that was never signed.
    let mut contents = shell.contents(told);
    contents.control.leaves.get_mut(4).unwrap().index += 1;
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "inclusion", "control/leaves.jsonl: leaf");
}

#[test]
fn a_swapped_or_missing_recording_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = folder.path().join("x.halligan");
    let mut contents = shell.contents(told);
    let foreign = shell.recordings.iter().find(|(id, _)| *id != told.recording).unwrap().1.clone();
    contents.recordings = vec![(told.recording, foreign)];
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "recordings", "is not the recording that the ledger of gw-1 names");
    let mut contents = shell.contents(told);
    contents.recordings.clear();
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "recordings", "is not in the bundle");
    let mut contents = shell.contents(told);
    contents.recordings.extend(shell.recordings.iter().filter(|(id, _)| *id != told.recording).cloned());
    write_bundle(&path, &contents).unwrap();
    fault(&verify(&path), "recordings", "is of no session in the bundle");
}

#[test]
fn a_missing_or_changed_document_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = folder.path().join("x.halligan");
    let mut contents = shell.contents(told);
    contents.documents.remove(&DocumentRef::Session(told.session));
    write_bundle(&path, &contents).unwrap();
    let report = verify(&path);
    fault(&report, "documents against events", "missing from the bundle");
    fault(&report, "documents complete", "counts 1 sessions, 0 are here");
    fault(&report, "sessions numbered", "counts 1 sessions");
    fault(&report, "sessions at gateways", "of which control has no document");
    // An edit of the stored document.
    let mut contents = shell.contents(told);
    let body = contents.documents.get_mut(&DocumentRef::Grant(told.grant)).unwrap();
    *body =
        String::from_utf8(body.clone()).unwrap().replace("orders are stuck", "orders are fine").into_bytes();
    write_bundle(&path, &contents).unwrap();
    let report = verify(&path);
    fault(
        &report,
        "documents against events",
        "is not the document whose digest the last leaf about it names",
    );
    fault(&report, "documents against events", "is not what the events make of it");
}

#[test]
fn an_event_that_does_not_give_the_document_is_found() {
    // Control itself lies: document and digest agree, the events tell something else.
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Shell::new(folder.path());
    let told = shell.up_to_session(7);
    shell.world.grants.get_mut(&told.grant).unwrap().reason = "another reason".into();
    shell.end_session(told);
    shell.close(told);
    let report = verify(&shell.bundle(told));
    fault(&report, "documents against events", "is not what its events make of it");
}

#[test]
fn an_open_incident_is_no_closed_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Shell::new(folder.path());
    let told = shell.up_to_session(7);
    let report = verify(&shell.bundle(told));
    fault(&report, "incident closed", "INC-7 is not closed");
    fault(&report, "incident closed", "1 grant has no revocation proof");
    fault(&report, "revocation proofs", "has no proof: it is active");
    fault(&report, "sessions under grants", "has no end");
}

#[test]
fn a_certificate_outside_its_grant_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut shell, told) = told(folder.path());
    let (grant, session) = (told.grant, told.session);
    let found = shell.world.grants.get(&grant).unwrap().clone();
    let (at, before) = (shell.now, found.deadline.unwrap().plus(halligan_core::time::Span::hours(1)));
    shell.node(
        "connector-1",
        halligan_core::node_event::NodeEvent::CertificateIssued {
            grant,
            session,
            serial: 14,
            principal: "halligan:orders-host:ops".into(),
            key_sha256: "33".repeat(32),
            valid_after: at,
            valid_before: before,
        },
    );
    let report = verify(&shell.bundle(told));
    fault(&report, "certificates", "its serial was used before");
    fault(&report, "certificates", "after the end of grant");
    fault(&report, "certificates", "beyond the deadline");
}

#[test]
fn a_session_that_control_never_heard_of_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut shell, told) = told(folder.path());
    let opened = shell.gateway.leaves.iter().find(|leaf| {
        let text = String::from_utf8_lossy(leaf);
        text.contains("session_opened") && text.contains(&told.session.to_string())
    });
    let mut leaf: NodeLeaf = serde_json::from_slice(opened.unwrap()).unwrap();
    if let halligan_core::node_event::NodeEvent::SessionOpened { session, .. } = &mut leaf.event {
        *session = halligan_core::ids::Id::from_bits(5);
    }
    leaf.at = shell.now;
    shell.node("gw-1", leaf.event);
    fault(&verify(&shell.bundle(told)), "sessions at gateways", "of which control has no document");
}

#[test]
fn a_key_that_control_did_not_name_is_not_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut shell, told) = told(folder.path());
    let real = shell.policy();
    shell.gateway.signer = LedgerSigner::from_seed("example.org/gw-1", &[5; 32]).unwrap();
    // The bundle's own policy names the new key; control's ledger names the old one.
    let report = verify(&shell.bundle(told));
    fault(&report, "keys of nodes", "names another key of gw-1");
    let report = verify_bundle(&shell.bundle(told), &Options { policy: Some(real), identity: None });
    fault(&report, "checkpoint signatures", "nodes/gw-1/checkpoint");
}

#[test]
fn a_forged_report_is_found_although_all_digests_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let path = shell.bundle(told);
    forged(&path, |name, body| {
        let text = String::from_utf8_lossy(&body).replace("orders are stuck", "routine maintenance");
        Some(if name == "report.html" { text.into_bytes() } else { body })
    });
    let report = verify(&path);
    fault(&report, "report", "does not show what the evidence holds");
    assert_eq!(report.faults().count(), 1);
    forged(&path, |name, body| (name != "report.html").then_some(body));
    fault(&verify(&path), "report", "there is no report.html");
}

#[test]
fn the_report_holds_nothing_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Shell::new(folder.path());
    shell.reason = "<script>alert(1)</script> \"'><img src=x onerror=y> \u{202e}txt".to_owned();
    let told = shell.emergency(7);
    let path = shell.bundle(told);
    assert!(verify(&path).ok());
    let page = Archive::open(&path).unwrap().read("report.html", 1 << 30).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "the reason is shown, escaped");
    for bad in ["<script", "<img", "\u{202e}", "<a ", "http://", "https://", "url(", "@import"] {
        assert!(!page.contains(bad), "{bad}");
    }
    assert!(page.contains("default-src 'none'") && page.contains("<svg") && page.contains("@media print"));
}

#[test]
fn two_writings_of_the_same_evidence_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, told) = told(folder.path());
    let first = fs::read(shell.bundle(told)).unwrap();
    assert_eq!(first, fs::read(shell.bundle(told)).unwrap());
    let leaf = shell.control.leaves.first().unwrap();
    let first: halligan_core::leaf::Leaf = serde_json::from_slice(leaf).unwrap();
    assert!(matches!(first.body, LeafBody::Node { .. }));
}

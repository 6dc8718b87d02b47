//! Killing and hurting a real writer: this test binary starts itself as a child that appends, and then looks
//! at what the child left on disk. Every entry the child saw acknowledged must be there, and every head it
//! was given must still be a head of what is there.
//!
//! Faults come from strace; without strace that test says SKIPPED and passes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use halligan_ledger::{
    Checkpoint, FileLedger, FileLedgerOptions, Hash, LedgerError, LedgerSigner, leaf_hash, open,
};

const FOLDER: &str = "LEDGER_CHILD_FOLDER";
const ROUNDS: &str = "LEDGER_CHILD_ROUNDS";
/// Set: the child makes no checkpoints, so that a fault can only hit the writer.
const UNSIGNED: &str = "LEDGER_CHILD_UNSIGNED";
const ORIGIN: &str = "halligan.example/gw-1";

fn signer() -> LedgerSigner {
    LedgerSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: what the child does.
#[test]
#[ignore = "started by the other tests"]
fn child_appends() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let rounds: u64 = std::env::var(ROUNDS).map_or(u64::MAX, |rounds| rounds.parse().unwrap());
    say("");
    let ledger = match FileLedger::open(Path::new(&folder), signer()) {
        Ok(ledger) => Arc::new(ledger),
        Err(error) => return say(&format!("refused {error}")),
    };
    let done = Arc::new(AtomicBool::new(false));
    let signing = std::thread::spawn({
        let (ledger, done) = (ledger.clone(), done.clone());
        move || {
            while std::env::var_os(UNSIGNED).is_none() && !done.load(Ordering::Acquire) {
                match ledger.checkpoint() {
                    Ok(note) => {
                        let head = Checkpoint::parse(note.body()).unwrap();
                        say(&format!("head {} {}", head.size, head.root));
                    }
                    Err(LedgerError::DiskFull) => {}
                    Err(error) => return expect_poisoned(&ledger, &error),
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    let threads: Vec<_> = (0..4_u32)
        .map(|thread| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                for n in 0..rounds {
                    let leaf =
                        format!("{}/{thread}/{n} {}", std::process::id(), "y".repeat(n as usize % 400));
                    let hash = leaf_hash(leaf.as_bytes());
                    match ledger.append(leaf.into_bytes()) {
                        Ok(receipt) => say(&format!("ack {} {hash}", receipt.index())),
                        Err(LedgerError::DiskFull) => say("full"),
                        Err(error) => return expect_poisoned(&ledger, &error),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    done.store(true, Ordering::Release);
    signing.join().unwrap();
    say("finished");
}

/// After a fault the disk works again (each fault is injected once), and still nothing may be acknowledged.
fn expect_poisoned(ledger: &FileLedger, error: &LedgerError) {
    assert!(matches!(error, LedgerError::Poisoned { .. }), "{error:?}");
    for _ in 0..3 {
        assert!(matches!(ledger.append(b"again".to_vec()), Err(LedgerError::Poisoned { .. })));
        assert!(matches!(ledger.append_reserved(b"again".to_vec()), Err(LedgerError::Poisoned { .. })));
        assert!(matches!(ledger.checkpoint(), Err(LedgerError::Poisoned { .. })));
    }
    assert!(ledger.stats().poisoned);
    say("poisoned");
}

fn child(mut command: Command, test: &str, folder: &Path) -> Command {
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the child said.
#[derive(Default, Debug)]
struct Said {
    acknowledged: Vec<(u64, Hash)>,
    heads: Vec<(u64, Hash)>,
    other: Vec<String>,
}

impl Said {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (kind, number, hash) = (words.next(), words.next(), words.next());
        let pair = || Some((number?.parse().ok()?, hash?.parse().ok()?));
        match (kind, pair()) {
            (Some("ack"), Some(pair)) => self.acknowledged.push(pair),
            (Some("head"), Some(pair)) => self.heads.push(pair),
            _ => self.other.push(line.to_owned()),
        }
    }

    fn says(&self, word: &str) -> bool {
        self.other.iter().any(|line| line.starts_with(word))
    }
}

/// Everything acknowledged and everything signed must be in what was left behind.
fn expect_kept(folder: &Path, said: &Said) -> u64 {
    let ledger = FileLedger::open(folder, signer()).unwrap_or_else(|error| panic!("{error:?}, {said:?}"));
    for (index, hash) in &said.acknowledged {
        let entries = ledger.read(*index..index + 1);
        let entries = entries.unwrap_or_else(|error| panic!("entry {index} was acknowledged: {error}"));
        assert_eq!(leaf_hash(entries.first().unwrap()), *hash, "entry {index}");
    }
    let stored = ledger.last_checkpoint().map_or(0, |note| Checkpoint::parse(note.body()).unwrap().size);
    for (size, root) in &said.heads {
        assert!(stored >= *size, "a head of {size} entries was given out, and {stored} is stored");
        assert_eq!(ledger.root_at(*size).unwrap(), *root, "the head of {size} entries was signed");
    }
    assert_eq!(ledger.check().unwrap().root, ledger.frontier().root());
    let head = ledger.checkpoint().unwrap();
    assert_eq!(open(&head.to_string(), &[signer().key()]).unwrap().size, ledger.size());
    ledger.size()
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..8_u64 {
        let exe = std::env::current_exe().unwrap();
        let mut child = child(Command::new(exe), "child_appends", folder.path()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = said.acknowledged.len();
        let mut killed = false;
        for line in lines {
            said.line(&line.unwrap());
            // Kill in the midst of things, at another moment each time.
            if !killed && said.acknowledged.len() > before + 40 + 61 * round as usize {
                child.kill().unwrap();
                killed = true;
            }
        }
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{:?}", said.other);
        let size = expect_kept(folder.path(), &said);
        println!("round {round}: {} acknowledged, {size} on disk", said.acknowledged.len());
    }
}

fn strace(folder: &Path, inject: &str, signed: bool) -> (ExitStatus, Said, bool, String) {
    let trace = folder.join("trace");
    let mut command = Command::new("strace");
    let call = inject.split(':').next().unwrap();
    command.args(["-f", "-qq", "-o"]).arg(&trace).args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={inject}")]).arg(std::env::current_exe().unwrap());
    command.env(ROUNDS, "12");
    if !signed {
        command.env(UNSIGNED, "1");
    }
    let output = child(command, "child_appends", &folder.join("ledger")).output().unwrap();
    let mut said = Said::default();
    String::from_utf8_lossy(&output.stdout).lines().for_each(|line| said.line(line));
    let trace = fs::read_to_string(&trace).unwrap_or_default();
    let fired = trace.contains("(INJECTED)") || output.status.signal() == Some(9);
    (output.status, said, fired, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn strace_is_there() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !there {
        println!("SKIPPED: strace is not installed");
    }
    there
}

#[test]
fn failing_writes_and_syncs_poison_and_lose_nothing_acknowledged() {
    if !strace_is_there() {
        return;
    }
    let mut poisoned = 0;
    for call in ["pwrite64", "fdatasync", "fsync", "rename"] {
        for n in 1..=6 {
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("{call}:error=EIO:when={n}");
            let (status, said, fired, stderr) = strace(folder.path(), &inject, true);
            assert!(status.success(), "{inject}: {said:?} {stderr}");
            if !fired {
                continue;
            }
            // strace counts for each thread, so the same fault can hit opening, writer and signer.
            assert!(said.says("poisoned") || said.says("refused"), "{inject} went unnoticed: {said:?}");
            poisoned += usize::from(said.says("poisoned"));
            let size = expect_kept(&folder.path().join("ledger"), &said);
            println!("{inject}: {} acknowledged, {size} on disk", said.acknowledged.len());
        }
    }
    assert!(poisoned >= 10, "only {poisoned} faults hit the writer");
}

#[test]
fn a_writer_whose_sync_failed_acknowledges_nothing_more() {
    if !strace_is_there() {
        return;
    }
    for call in ["pwrite64", "fdatasync"] {
        for n in 1..=6 {
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("{call}:error=EIO:when={n}");
            let (status, said, fired, stderr) = strace(folder.path(), &inject, false);
            assert!(status.success() && fired, "{inject}: {said:?} {stderr}");
            let refused = said.says("refused");
            assert!(refused || said.says("poisoned"), "{inject} went unnoticed: {said:?}");
            assert!(refused || call == "pwrite64" || said.acknowledged.len() < 48, "{inject}: {said:?}");
            expect_kept(&folder.path().join("ledger"), &said);
        }
    }
}

#[test]
fn a_full_disk_is_survived_without_a_restart() {
    if !strace_is_there() {
        return;
    }
    let mut hit = 0;
    for n in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let inject = format!("pwrite64:error=ENOSPC:when={n}");
        let (status, said, fired, stderr) = strace(folder.path(), &inject, true);
        assert!(status.success(), "{inject}: {said:?} {stderr}");
        if fired && said.says("full") {
            hit += 1;
            assert!(said.says("finished"), "{said:?}");
            let size = expect_kept(&folder.path().join("ledger"), &said);
            assert_eq!(size, said.acknowledged.len() as u64, "what was refused is not there");
        }
    }
    assert!(hit >= 3, "only {hit} of 5 faults hit the writer");
}

#[test]
fn a_writer_killed_at_any_system_call_loses_nothing_acknowledged() {
    if !strace_is_there() {
        return;
    }
    let mut killed = 0;
    let every =
        |call: &'static str, step: usize, last: usize| (1..=last).step_by(step).map(move |n| (call, n));
    let moments = every("pwrite64", 1, 6)
        .chain(every("fdatasync", 1, 8))
        .chain(every("fsync", 1, 6))
        .chain(every("rename", 1, 4))
        .chain(every("ftruncate", 1, 3))
        .chain(every("openat", 4, 48))
        .chain(every("close", 4, 48));
    for (call, n) in moments {
        let folder = tempfile::tempdir().unwrap();
        let inject = format!("{call}:signal=KILL:when={n}");
        let (_, said, fired, _) = strace(folder.path(), &inject, true);
        killed += usize::from(fired);
        expect_kept(&folder.path().join("ledger"), &said);
    }
    assert!(killed >= 20, "only {killed} moments were reached");
}

/// Not a test of its own: how long each append waits.
#[test]
#[ignore = "started by the other tests"]
fn child_takes_time() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let ledger = FileLedger::open(Path::new(&folder), signer()).unwrap();
    for n in 0..3_u8 {
        let start = Instant::now();
        let receipt = ledger.append(vec![n]).unwrap();
        say(&format!("\nwaited {} {}", receipt.index(), start.elapsed().as_millis()));
    }
}

#[test]
fn a_receipt_waits_for_its_sync() {
    if !strace_is_there() {
        return;
    }
    let waited = |slow: bool| -> Vec<u64> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        if slow {
            command.args(["-e", "inject=fdatasync:delay_exit=150000"]);
        }
        command.arg(std::env::current_exe().unwrap());
        let output = child(command, "child_takes_time", folder.path()).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = out.lines().filter_map(|line| line.strip_prefix("waited "));
        lines.map(|line| line.split(' ').next_back().unwrap().parse().unwrap()).collect()
    };
    let (slow, quick) = (waited(true), waited(false));
    assert_eq!((slow.len(), quick.len()), (3, 3));
    assert!(slow.iter().all(|ms| *ms >= 150), "{slow:?}");
    assert!(quick.iter().any(|ms| *ms < 150), "without the delay there is nothing to see: {quick:?}");
}

/// Not a test of its own: runs where the disk has one MiB.
#[test]
#[ignore = "started by the other tests"]
fn child_on_a_small_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 300 * 1024]).unwrap();
    let options = FileLedgerOptions { reserve_bytes: 128 * 1024, ..Default::default() };
    let ledger = FileLedger::open_with(folder.join("ledger"), signer(), options).unwrap();
    let mut acknowledged = Vec::new();
    let full = loop {
        let leaf = vec![7; 20_000 + acknowledged.len()];
        match ledger.append(leaf.clone()) {
            Ok(receipt) => acknowledged.push((receipt.index(), leaf_hash(&leaf))),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LedgerError::DiskFull), "{full:?}");
    assert!(acknowledged.len() > 10);
    let closing = ledger.append_reserved(vec![8; 20_000]).unwrap();
    acknowledged.push((closing.index(), leaf_hash(&[8; 20_000])));
    assert!(ledger.stats().full);
    let ordinary = ledger.append(vec![9; 20_000]);
    assert!(matches!(ordinary, Err(LedgerError::DiskFull)), "what is left is for closing records");
    let closing = ledger.append_reserved(vec![9; 20_000]).unwrap();
    acknowledged.push((closing.index(), leaf_hash(&[9; 20_000])));
    fs::remove_file(&ballast).unwrap();
    let after = ledger.append(vec![10; 20_000]).unwrap();
    acknowledged.push((after.index(), leaf_hash(&[10; 20_000])));
    assert!(!ledger.stats().full, "the reserve was taken again");
    drop(ledger);
    expect_kept(&folder.join("ledger"), &Said { acknowledged, ..Said::default() });
    say("\nfinished");
}

#[test]
fn closing_records_fit_on_a_disk_that_is_really_full() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", mount]).arg(folder.path()).arg(std::env::current_exe().unwrap());
    let output = child(command, "child_on_a_small_disk", folder.path()).output();
    let Ok(output) = output else { return println!("SKIPPED: unshare is not installed") };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("unshare:") || err.contains("mount:") {
        return println!("SKIPPED: no private mount here: {err}");
    }
    assert!(output.status.success() && out.contains("finished"), "{out}{err}");
}

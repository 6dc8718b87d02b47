//! How fast a whole ledger verifies: `cargo run --release -p halligan-verify --example speed -- 20000`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement")]

#[path = "../tests/story/mod.rs"]
mod story;

use std::time::Instant;

use halligan_core::time::Span;
use halligan_verify::verify_ledger;

fn main() {
    let incidents =
        std::env::args().nth(1).map_or(5_000_u64, |text| text.parse().expect("a number of incidents"));
    let folder = tempfile::tempdir().unwrap();
    let mut shell = story::Shell::new(folder.path());
    shell.with_recordings = false;
    for number in 1..=incidents {
        shell.responder = format!("pat{}", number % 1000);
        shell.emergency(number);
        shell.now = shell.now.plus(Span::minutes(1));
    }
    let tiles = folder.path().join("tiles");
    shell.control.tiles(&tiles);
    let bytes: usize = shell.control.leaves.iter().map(Vec::len).sum();
    println!("{} leaves, {} bytes each", shell.control.leaves.len(), bytes / shell.control.leaves.len());
    for _ in 0..3 {
        let (start, busy) = (Instant::now(), processor_seconds());
        let report = verify_ledger(&tiles, &shell.policy());
        let took = start.elapsed();
        assert!(report.ok(), "{report:#?}");
        let per_second = report.counts.events as f64 / took.as_secs_f64();
        println!(
            "{} events, {} documents in {:.2} s ({:.2} s of processors): {per_second:.0} events/s",
            report.counts.events,
            report.counts.documents,
            took.as_secs_f64(),
            processor_seconds() - busy
        );
    }
}

/// What this process has used so far; the clock tells little on a machine that others use too.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}

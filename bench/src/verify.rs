//! How fast a whole ledger is checked offline: root from entries, tiles, signature, chains, and every document made again
//! from its events.

use std::time::Instant;

use anyhow::{Result, ensure};
use halligan_ledger::{Checkpoint, LedgerSigner, TileWriter, TrustPolicy, sign};
use halligan_verify::{replay, verify_ledger};

use crate::figure::{Figure, Goal};
use crate::sample::{Sample, process_time};
use crate::story::Story;
use crate::{Figures, Options};

/// Measures.
pub fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let folder = crate::disk::folder()?;
    let tiles = folder.path().join("tiles");
    let mut story = Story::new(2_000)?;
    let mut writer = TileWriter::open(&tiles)?;
    let mut part = Vec::new();
    for number in 1..=options.size(12_000, 40) {
        story.emergency(number)?;
        if part.len() < 40_000 {
            part.extend(story.leaves.iter().cloned());
        }
        for leaf in story.leaves.drain(..) {
            writer.append(leaf)?;
        }
    }
    let signer = LedgerSigner::generate("bench.example/control")?;
    let head = Checkpoint { origin: signer.origin().to_owned(), size: writer.size(), root: writer.root() };
    writer.commit(&sign(&signer, &head)?)?;
    let policy = TrustPolicy::unwitnessed(&[signer.key()])?;
    figures.say(&format!("  a ledger of {} leaves, {} events", head.size, story.events));

    let (mut whole, mut leaves, mut alone) = (Sample::default(), Sample::default(), Sample::default());
    let mut work = Sample::default();
    for _ in 0..options.size(5, 1) {
        let (began, used) = (Instant::now(), process_time());
        let report = verify_ledger(&tiles, &policy);
        let seconds = began.elapsed().as_secs_f64();
        work.push((process_time() - used).as_secs_f64() * 1e6 / story.events as f64);
        let faults: Vec<_> = report.faults().take(3).collect();
        ensure!(report.ok(), "the ledger does not verify: {faults:?}");
        ensure!(report.counts.events == story.events, "{:?} of {} events", report.counts, story.events);
        whole.push(report.counts.events as f64 / seconds);
        leaves.push(report.counts.leaves as f64 / seconds);

        let began = Instant::now();
        let (replayed, faults) = replay((0..).zip(part.iter().cloned()));
        ensure!(faults.is_empty() && replayed.compared > 0, "the replay found {faults:?}");
        alone.push(part.len() as f64 / began.elapsed().as_secs_f64());
    }
    let figure = Figure::new("verify/whole ledger", whole.median(), "events/s").range(whole.range());
    figures.add(figure.goal(Goal::AtLeast(200_000.0)));
    figures.add(Figure::new("verify/whole ledger", leaves.median(), "leaves/s").range(leaves.range()));
    let figure = Figure::new("verify/processor time of all threads, an event", work.median(), "µs");
    figures.add(figure.range(work.range()));
    let figure = Figure::new("verify/replay alone, one thread", alone.median(), "leaves/s");
    figures.add(figure.range(alone.range()));
    Ok(())
}

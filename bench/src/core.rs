//! Decisions per second of one core's time: the commands of one whole emergency, each on what control would have loaded for it.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result};
use halligan_core::apply::apply;
use halligan_core::decide::{Context, decide};
use halligan_core::ids::FreshIds;
use halligan_core::react::react;

use crate::figure::{Figure, Goal};
use crate::sample::{Sample, rate};
use crate::story::{Moment, Story};
use crate::{Figures, Options};

/// Measures.
pub fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let mut story = Story::new(500)?;
    story.moments = Some(Vec::new());
    story.emergency(1)?;
    let moments = story.moments.take().context("no moments were kept")?;
    let time = options.size(Duration::from_millis(60), Duration::from_millis(2));
    let mut deciding: Vec<Sample> = vec![Sample::default(); moments.len()];
    let mut whole: Vec<Sample> = vec![Sample::default(); moments.len()];
    for _ in 0..options.size(7, 1) {
        for ((moment, deciding), whole) in moments.iter().zip(&mut deciding).zip(&mut whole) {
            deciding.push(rate(time, || drop(black_box(decided(&story, moment)))));
            whole.push(rate(time, || carried_out(&story, moment)));
        }
    }
    // Each command as often as in the emergency: the sum of times, not the mean of rates.
    let mix = |samples: &[Sample]| {
        let seconds: f64 = samples.iter().map(|sample| 1.0 / sample.median()).sum();
        samples.len() as f64 / seconds
    };
    let all = Figure::new("core/decide, one emergency's commands", mix(&deciding), "decisions/s");
    figures.add(all.goal(Goal::AtLeast(500_000.0)));
    figures.add(Figure::new("core/decide, apply and react, the same", mix(&whole), "commands/s"));
    let mut seen = Vec::new();
    for (moment, sample) in moments.iter().zip(&deciding) {
        if !seen.contains(&moment.what) {
            seen.push(moment.what);
            let figure = Figure::new(format!("core/decide: {}", moment.what), sample.median(), "decisions/s");
            figures.add(figure.range(sample.range()));
        }
    }
    Ok(())
}

fn decided(story: &Story, moment: &Moment) -> Option<Vec<halligan_core::event::Event>> {
    let ids = FreshIds::new([9; 16], moment.now);
    let mut context = Context { now: moment.now, actor: &moment.actor, ids };
    decide(&moment.world, &story.facts(), &mut context, &moment.command).ok()
}

/// The pure part of carrying a command out, as control does it.
fn carried_out(story: &Story, moment: &Moment) {
    let Some(events) = decided(story, moment) else { return };
    let mut world = moment.world.clone();
    for event in &events {
        apply(&mut world, event, moment.now);
        black_box(react(&world, &story.facts(), event));
    }
    black_box(&world);
}

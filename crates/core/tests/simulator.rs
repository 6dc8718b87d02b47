//! Thousands of seeded histories in which every rule must hold, and broken variants in which it must not.
//!
//! `HALLIGAN_SEED=17 cargo test -p halligan-core --test simulator` plays one history again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use halligan_core::event::Event;
use halligan_core::testing::simulator::{BROKEN, Coverage, Mutation, run};

/// Histories of the ordinary run; `HALLIGAN_HISTORIES` asks for more.
const HISTORIES: u64 = 2_048;
const STEPS: usize = 250;
/// A broken variant must be caught within this many histories.
const MOST_TRIES: u64 = 1_200;

#[expect(
    clippy::disallowed_methods,
    reason = "which seed is played again is for the person at the keyboard to say"
)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays histories on every core until one fails; the violations come with their seeds.
fn play(from: u64, until: u64) -> (Coverage, Vec<String>) {
    let next = AtomicU64::new(from);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let parts: Vec<(Coverage, Vec<String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut coverage = Coverage::new();
                    let mut broken = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= until || broken.len() > 4 {
                            return (coverage, broken);
                        }
                        match run(seed, STEPS, Mutation::None) {
                            Ok(found) => found
                                .into_iter()
                                .for_each(|(what, count)| *coverage.entry(what).or_default() += count),
                            Err(violation) => broken.push(format!("HALLIGAN_SEED={seed}: {violation}")),
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect()
    });
    let mut coverage = Coverage::new();
    let mut broken = Vec::new();
    for (found, violations) in parts {
        found.into_iter().for_each(|(what, count)| *coverage.entry(what).or_default() += count);
        broken.extend(violations);
    }
    (coverage, broken)
}

#[test]
fn every_rule_holds_in_every_history() {
    let (from, until) = match number("HALLIGAN_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("HALLIGAN_HISTORIES").unwrap_or(HISTORIES)),
    };
    let (coverage, broken) = play(from, until);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    for (what, count) in &coverage {
        println!("{count:>9} {what}");
    }
    if until - from >= HISTORIES {
        let rare: Vec<&str> = Event::NAMES.into_iter().filter(|name| !coverage.contains_key(name)).collect();
        assert!(rare.is_empty(), "these events never happened, so nothing was learned about them: {rare:?}");
        for (what, least) in [
            ("lost a race", 500),
            ("crashed before the commit", 50),
            ("the connector refused an old number", 50),
            ("an approver was removed", 50),
            ("a message came twice", 500),
            ("a message was lost", 500),
            ("refused: separation of duties", 500),
            ("nothing to do", 1000),
            ("grant_extended", 100),
            ("incident_closed", 300),
            ("statement_held", 500),
            ("statement_released", 100),
        ] {
            let count = coverage.get(what).copied().unwrap_or(0);
            assert!(count >= least, "{what}: {count} times, and {least} were expected");
        }
    }
}

#[test]
fn every_broken_variant_is_caught_by_its_rule() {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut missed = Vec::new();
                    while let Some(mutation) = BROKEN.get(next.fetch_add(1, Ordering::Relaxed)) {
                        missed.extend(tried(*mutation).err());
                    }
                    missed
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Plays histories with something broken until its own rule catches it.
fn tried(mutation: Mutation) -> Result<(), String> {
    let mut others = std::collections::BTreeMap::new();
    let caught = (0..MOST_TRIES).find(|seed| match run(*seed, STEPS, mutation) {
        Ok(_) => false,
        Err(violation) if violation.invariant == mutation.caught_by() => {
            println!("{mutation:?}: HALLIGAN_SEED={seed}: {violation}");
            true
        }
        Err(violation) => {
            *others.entry(violation.invariant).or_insert(0) += 1;
            false
        }
    });
    match caught {
        Some(_) => Ok(()),
        None => Err(format!("{mutation:?} should break {}, and broke {others:?}", mutation.caught_by())),
    }
}

//! Decisions per second on one core: the core alone, on slices such as control loads.
//!
//! `cargo run --release -p halligan-core --features testing --example decisions`
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use halligan_core::command::{Actor, Command};
use halligan_core::decide::{Context, decide};
use halligan_core::ids::FreshIds;
use halligan_core::request::Verdict;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, emergency, node, person, span};

/// Decides the same again and again for half a second; the median of five rounds.
fn measure(what: &str, story: &Story, actor: &Actor, command: &Command) -> f64 {
    let slice = story.store.load(command);
    let facts =
        halligan_core::world::Facts { entitlements: &slice.entitlements, ..slice.organisation.facts() };
    let mut rounds: Vec<f64> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            let mut count = 0u64;
            while begun.elapsed() < Duration::from_millis(100) {
                for _ in 0..200 {
                    let mut context =
                        Context { now: story.now, actor, ids: FreshIds::new([7; 16], story.now) };
                    black_box(decide(black_box(&slice.world), &facts, &mut context, command)).unwrap();
                    count += 1;
                }
            }
            count as f64 / begun.elapsed().as_secs_f64()
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let median = rounds.get(2).copied().unwrap_or_default();
    println!("{median:>12.0} decisions/s  {what}");
    median
}

fn main() {
    let mut story = Story::begin();
    let grant = story.open("anna", emergency("anna", "orders-host/operate", "sev2")).unwrap();
    let session = story.enter(grant).unwrap();
    let waiting = story.file("cleo", emergency("cleo", "orders-host/operate", "sev2")).unwrap();
    let mut data = emergency("ben", "orders-host/data", "sev2");
    data.scenario = Some(name("data-fix"));
    let two = story.file("ben", data).unwrap();
    story.approve("kim", two).unwrap();
    let now = story.now;
    let clock = Actor::Clock;
    let decide = |request, reason: &str| Command::Decide {
        request,
        verdict: Verdict::Approve,
        version: 1,
        reason: Some(reason.to_owned()),
    };
    let file = Command::FileRequest(Box::new(emergency("anna", "billing-host/root", "sev2")));
    let scheduled = story.file("cleo", emergency("cleo", "orders-host/observe", "sev1")).unwrap();
    let scheduled = story.grant_of(scheduled).unwrap();
    let extend = Command::Extend { grant, duration: span("30m"), reason: "not done".to_owned() };
    let ended = Command::ReportSessionEnded { session, reason: "left".to_owned(), at: now };
    let figures = [
        measure("approve, one step", &story, &person("dan", now), &decide(waiting, "true")),
        measure("approve, the second of two", &story, &person("eve", now), &decide(two, "true")),
        measure("file an emergency request", &story, &person("anna", now), &file),
        measure("ask for more time", &story, &person("anna", now), &extend),
        measure("begin an activation", &story, &clock, &Command::BeginActivation { grant: scheduled }),
        measure("a session has ended", &story, &node("gw-1"), &ended),
        measure("give back", &story, &person("anna", now), &Command::GiveBack { grant }),
    ];
    let harmonic = figures.len() as f64 / figures.iter().map(|figure| 1.0 / figure).sum::<f64>();
    println!("{harmonic:>12.0} decisions/s  an even mixture (goal 500000)");
}

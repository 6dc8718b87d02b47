//! The crash sweep: short emergencies on a host or in a database, in three processes, while at seeded moments control, gateway and connector are killed
//! with SIGKILL and started again. Clients behave as real ones. After each round everything that was ever acknowledged must
//! still be true, every grant proved, and every ledger verified. See `plan.rs` for what is struck, `round.rs` for what is
//! played, `checks.rs` for what must hold.

mod caller;
mod checks;
mod database;
mod plan;
mod round;
mod shell;
mod striker;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cast::{Cast, enrol_everybody};
use crate::place::{Layout, Place, StoreKind};

use self::caller::Caller;
use self::striker::Striker;

/// How a sweep is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Drawn from the clock if not said.
    pub seed: Option<u64>,
    /// Rounds; if not said, as many as begin within [`USUAL`].
    pub rounds: Option<u64>,
    /// Only this round of the seed.
    pub only: Option<u64>,
    pub store: StoreKind,
}

/// No round begins after this time, unless their number was said.
const USUAL: Duration = Duration::from_secs(110);
/// Rounds that are planned when their number was not said.
const PLANNED: u64 = 100;

/// Who takes part. Several may give the same approval, because codes can be used once and come every 30 seconds.
const TEAM: [&str; 11] =
    ["anna", "ben", "carla", "mara", "casper", "dmitri", "samir", "sofia", "ines", "paula", "ava"];
pub const LEADS: [&str; 3] = ["carla", "mara", "casper"];
pub const OWNERS: [&str; 3] = ["dmitri", "samir", "sofia"];

/// What a round needs.
pub struct Stage {
    pub striker: Striker,
    pub cast: Cast,
    pub caller: Caller,
    pub turn: usize,
}

/// Plays the rounds of a seed.
pub async fn sweep(options: Options, sample: &Path) -> Result<()> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(clock.subsec_nanos().into());
    let rounds = options.rounds.unwrap_or(PLANNED).max(options.only.unwrap_or(0));
    println!("== Crash sweep, seed {seed}, three processes, store {:?}\n", options.store);
    let again = || {
        let store = if options.store == StoreKind::Postgres { " --store postgres" } else { "" };
        format!("again: cargo xtask demo --crash-sweep --seed {seed}{store}")
    };
    play(options, seed, rounds, sample).await.with_context(again)
}

async fn play(options: Options, seed: u64, rounds: u64, sample: &Path) -> Result<()> {
    let place = Place::start(Layout::Three, options.store).await?;
    let catalog = place.catalog(sample)?;
    widen(&catalog)?;
    let cast = enrol_everybody(&place, &catalog, &TEAM).await?;
    println!("  everybody is enrolled");
    let caller = Caller::new(place.api, seed);
    let mut stage = Stage { striker: Striker::new(place)?, cast, caller, turn: 0 };
    let begun = Instant::now();
    let mut played = 0;
    for round in plan::rounds(seed, rounds) {
        if options.only.is_some_and(|only| only != round.number) {
            continue;
        }
        if options.rounds.is_none() && options.only.is_none() && begun.elapsed() > USUAL {
            break;
        }
        let (number, from) = (round.number, Instant::now());
        println!("\n  round {number}: access ends by {:?}", round.end);
        if let Err(error) = round::play(&mut stage, &round).await {
            for process in ["server", "gateway", "connector"] {
                eprintln!("--- {process}\n{}", stage.striker.place().log(process));
            }
            return Err(error.context(format!("round {number} (alone: --only {number})")));
        }
        played += 1;
        println!("  round {number} held, {:.1} s", from.elapsed().as_secs_f64());
    }
    if played == 0 {
        bail!("no round was played");
    }
    checks::everything_ever_said(&stage).await?;
    println!(
        "\n{played} rounds, {} processes killed, {} calls repeated: everything held. Seed {seed}, {:.0} s",
        stage.striker.kills(),
        stage.caller.repeated(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// More approvers than the sample has, and no end of asking again for the same: rounds follow each other quickly.
fn widen(catalog: &Path) -> Result<()> {
    let (leads, owners) =
        (format!("members: [{}]", LEADS.join(", ")), format!("members: [{}]", OWNERS.join(", ")));
    for (file, old, new) in [
        ("organisation.yaml", "members: [carla]", leads.as_str()),
        ("organisation.yaml", "members: [dmitri]", owners.as_str()),
        ("systems.yaml", "extensions: 2, ceiling: 8h", "extensions: 250, ceiling: 1000h"),
    ] {
        let file = catalog.join(file);
        let text = fs::read_to_string(&file)?;
        if !text.contains(old) {
            bail!("the sample catalog has changed: {} has no `{old}`", file.display());
        }
        fs::write(&file, text.replace(old, new)).context("failed to write the catalog")?;
    }
    Ok(())
}

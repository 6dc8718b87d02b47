//! The demonstration: a real sshd and Halligan on this machine, and one emergency from request to closed incident.
//!
//! `halligan-demo` leaves everything running and says how to sign in; `--check` plays the whole story unattended, prints
//! each step with its duration, and ends with an error at the first that fails; `--crash-sweep` plays short emergencies
//! while processes are killed.

mod cast;
mod database;
mod http;
mod people;
mod place;
mod story;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::cast::{Cast, TEAM, enrol_everybody};
use crate::place::{Layout, Place, StoreKind};

struct Wanted {
    check: bool,
    layout: Option<Layout>,
    store: StoreKind,
    sweep: bool,
    seed: Option<u64>,
    rounds: Option<u64>,
    only: Option<u64>,
}

fn wanted() -> Result<Wanted> {
    let mut wanted = Wanted {
        check: false,
        layout: None,
        store: StoreKind::Sqlite,
        sweep: false,
        seed: None,
        rounds: None,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => wanted.check = true,
            "--crash-sweep" => wanted.sweep = true,
            "--seed" | "--rounds" | "--only" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                let number: u64 = number.with_context(|| format!("{argument} takes a number"))?;
                match argument.as_str() {
                    "--seed" => wanted.seed = Some(number),
                    "--rounds" => wanted.rounds = Some(number),
                    _ => wanted.only = Some(number),
                }
            }
            "--layout" => {
                wanted.layout = Some(match arguments.next().as_deref() {
                    Some("one") => Layout::One,
                    Some("three") => Layout::Three,
                    _ => bail!("--layout takes one or three"),
                });
            }
            "--store" => {
                wanted.store = match arguments.next().as_deref() {
                    Some("sqlite") => StoreKind::Sqlite,
                    Some("postgres") => StoreKind::Postgres,
                    _ => bail!("--store takes sqlite or postgres"),
                };
            }
            other => {
                bail!(
                    "{other} is not known; there are --check, --layout one|three, --store sqlite|postgres, --crash-sweep, --seed N, --rounds N, --only N"
                )
            }
        }
    }
    Ok(wanted)
}

/// The sample catalog, from the repository.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/catalog")
}

#[tokio::main]
async fn main() -> ExitCode {
    // Told to go, it takes with it everything that it started.
    let result = match (wanted(), told_to_go()) {
        (Ok(wanted), Ok(gone)) => tokio::select! {
            result = play(&wanted) => result,
            () = gone => if wanted.check || wanted.sweep { Err(anyhow!("interrupted")) } else { Ok(()) },
        },
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(wanted: &Wanted) -> Result<()> {
    if wanted.sweep {
        let Wanted { seed, rounds, only, store, .. } = *wanted;
        return sweep::sweep(sweep::Options { seed, rounds, only, store }, &sample()).await;
    }
    if wanted.check { check(wanted).await } else { stay(wanted).await }
}

fn told_to_go() -> Result<impl Future<Output = ()>> {
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// Plays the story in each layout that is wanted.
async fn check(wanted: &Wanted) -> Result<()> {
    let layouts = wanted.layout.map_or_else(|| vec![Layout::One, Layout::Three], |layout| vec![layout]);
    for layout in layouts {
        println!("\n== One emergency, {layout:?} process(es), store {:?}\n", wanted.store);
        let begun = Instant::now();
        story::play(layout, wanted.store, &sample()).await?;
        println!("\n   all of it: {:.1} s", begun.elapsed().as_secs_f64());
    }
    println!("\nEverything held.");
    Ok(())
}

/// Leaves everything running until it is interrupted.
async fn stay(wanted: &Wanted) -> Result<()> {
    let place = Place::start(wanted.layout.unwrap_or(Layout::One), wanted.store).await?;
    let cast: Cast = enrol_everybody(&place, &place.catalog(&sample())?, &TEAM)
        .await
        .with_context(|| place.log("server"))?;
    println!("\nHalligan is running.\n");
    println!("  API        http://localhost:{}", place.api);
    println!("  gateway    ssh -p {} ROLE+SYSTEM@127.0.0.1", place.ssh);
    println!("  databases  127.0.0.1:{} (halligan psql SYSTEM/ROLE)", place.psql);
    println!("  state      {}", place.folder.path().display());
    println!("\nEverybody is signed in already. Be one of them in a terminal of your own:\n");
    for (who, part) in [
        ("anna", "responder"),
        ("carla", "approver (leads)"),
        ("dmitri", "approver (data owner)"),
        ("sofia", "security officer"),
        ("ines", "incident lead"),
        ("ava", "auditor"),
    ] {
        println!("  {part:<22} export HALLIGAN_HOME={}", cast.person(who)?.profile().display());
    }
    println!(
        "\nThen, as anna:   halligan request shop-host/operate --emergency --severity sev1 --scenario critical-downtime \\"
    );
    println!("                   --confirm-criteria --reason \"the shop is down\" --wait 30s");
    println!("                 halligan ssh shop-host/operate");
    println!(
        "\nA code of somebody's authenticator: the file `authenticator` beside each profile holds its secret."
    );
    println!("\nCtrl-C ends it and removes the folder.");
    std::future::pending().await
}

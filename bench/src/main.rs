//! Measures Halligan: `cargo xtask bench [AREA …] [--json] [--quick]`.
//!
//! Each area measures real parts, beside the plain way to do the same thing where there is one, in interleaved rounds,
//! and gives medians. It gates nothing: a goal that is not met is printed as such and the program still ends with 0.
//! Start with `figure.rs` (what a number carries), then any area.

mod authorise;
mod control;
mod core;
mod disk;
mod figure;
mod leases;
mod organisation;
mod plant;
mod postgres;
mod process;
mod restart;
mod sample;
mod ssh;
mod store;
mod story;
mod systems;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use crate::figure::{Figure, HEADINGS};

const AREAS: [&str; 6] = ["core", "store", "control", "verify", "ssh", "postgres"];
const HELP: &str = "\
bench [AREA …] [--json] [--quick]

  core      decisions, and who may open a session
  store     durable commits, SQLite and PostgreSQL
  control   request to first byte, revoke to dead socket, kill -9 to ready, a large catalog
  verify    checking a ledger offline
  ssh       the gateway beside a direct connection and ProxyJump
  postgres  the gateway beside a direct connection and PgBouncer; also a part of it alone: postgres/transactions,
            postgres/bulk, postgres/connections, postgres/idle, postgres/revoke

  --json    one figure a line
  --quick   tiny sizes: shows that everything runs, measures nothing
";

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    /// Tiny sizes.
    pub quick: bool,
    json: bool,
    areas: Vec<String>,
}

impl Options {
    /// A size: the real one, or the tiny one.
    pub fn size<T>(&self, real: T, tiny: T) -> T {
        if self.quick { tiny } else { real }
    }
}

/// Where figures go as soon as they are known.
#[derive(Debug)]
pub struct Figures {
    json: bool,
    table: Table,
}

impl Figures {
    fn new(json: bool) -> Self {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(HEADINGS);
        Self { json, table }
    }

    /// One more figure.
    pub fn add(&mut self, figure: Figure) {
        if self.json {
            let mut out = std::io::stdout().lock();
            // Whoever reads has gone: there is nobody to tell.
            let _ = writeln!(out, "{}", figure.json());
            let _ = out.flush();
        } else {
            eprintln!("  {}", figure.row().join("  "));
            self.table.add_row(figure.row());
        }
    }

    /// Something a reader should know.
    pub fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    fn finish(&self) {
        if !self.json {
            println!("{}", self.table);
        }
    }
}

fn main() -> ExitCode {
    // TLS libraries ask the process which provider to use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    // Parts that must be processes of their own, because they are killed or their processor time is counted.
    if let [word, rest @ ..] = arguments {
        match word.as_str() {
            "as-plant" => return runtime.block_on(plant::child(rest)),
            "as-control" => return runtime.block_on(restart::control_child(rest)),
            "as-gateway" => return runtime.block_on(restart::gateway_child(rest)),
            "as-postgres-gateway" => return runtime.block_on(postgres::gateway::child(rest)),
            _ => {}
        }
    }
    let Some(options) = parse(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let mut figures = Figures::new(options.json);
    let outcome = runtime.block_on(measure(&options, &mut figures));
    // What was measured before a fault is still worth reading.
    figures.finish();
    outcome
}

fn parse(arguments: &[String]) -> Result<Option<Options>> {
    let mut options = Options { quick: false, json: false, areas: Vec::new() };
    for argument in arguments {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--help" | "-h" | "help" => return Ok(None),
            area if AREAS.contains(&area) => options.areas.push(area.to_owned()),
            part if part.strip_prefix("postgres/").is_some_and(|part| postgres::PARTS.contains(&part)) => {
                options.areas.push(part.to_owned());
            }
            other => bail!("there is no area {other:?}\n\n{HELP}"),
        }
    }
    if options.areas.is_empty() {
        options.areas = AREAS.map(str::to_owned).to_vec();
    }
    Ok(Some(options))
}

async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    for area in &options.areas {
        figures.say(&format!("{area} …"));
        let outcome = match area.as_str() {
            "core" => {
                core::measure(options, figures)?;
                authorise::measure(options, figures).await
            }
            "store" => store::measure(options, figures).await,
            "control" => {
                control::measure(options, figures).await?;
                restart::measure(options, figures).await?;
                systems::measure(options, figures).await
            }
            "verify" => verify::measure(options, figures),
            "ssh" => ssh::measure(options, figures).await,
            part => postgres::measure(part.strip_prefix("postgres/"), options, figures).await,
        };
        outcome.with_context(|| format!("failed to measure {area}"))?;
    }
    Ok(())
}

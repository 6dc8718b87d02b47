//! `pgbench -S`: one row by its key, in the three ways in which clients ask; `pgbench -N`: transactions that write, whose
//! statements are on the disk before they go on; and the processor time that each costs in between. Both of the time when everybody is in: what it takes to open and to end a session is measured apart.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::site::{ROUTES, Route, Site};
use super::{Wanted, Ways};
use crate::figure::{Figure, Goal};
use crate::process::seconds;
use crate::{Figures, Options};

/// Measures.
pub async fn measure(site: &Site, options: &Options, figures: &mut Figures) -> Result<()> {
    for (script, mode) in [("-S", "simple"), ("-S", "extended"), ("-S", "prepared"), ("-N", "prepared")] {
        for clients in ["1", "8"] {
            let (mut ways, mut cost) = (Ways::default(), Ways::default());
            for _ in 0..options.size(7, 1) {
                for route in ROUTES {
                    let (rate, micros) = pgbench(site, route, (script, mode, clients), options).await?;
                    ways.of(route).push(rate);
                    cost.of(route).push(micros);
                }
            }
            let many = if clients == "1" { "1 client" } else { "8 clients" };
            let reads = script == "-S";
            let goal = if reads { Wanted::OfPooler(Goal::RatioAtLeast(1.0)) } else { Wanted::Nothing };
            ways.report(figures, &format!("pgbench {script} {mode}, {many}"), "1/s", goal);
            let name = format!("postgres/CPU in between, {script} {mode}, {many}");
            let figure = Figure::new(name, cost.ours.median(), "µs").range(cost.ours.range());
            let figure = figure.beside_rounds("PgBouncer", &cost.ours, &cost.pooler);
            figures.add(if reads && mode == "prepared" {
                figure.goal(Goal::RatioAtMost(1.3))
            } else {
                figure
            });
        }
    }
    Ok(())
}

/// Transactions a second, and microseconds of processor time in between for each, from the first second on.
async fn pgbench(
    site: &Site,
    route: Route,
    (script, mode, clients): (&str, &str, &str),
    options: &Options,
) -> Result<(f64, f64)> {
    let mut pgbench = site.client(route, "pgbench").await?;
    let seconds_long = options.size("5", "3");
    pgbench.args(["-n", script, "-M", mode, "-c", clients, "-j", "1", "-P", "1", "-T", seconds_long]);
    let used = || site.pid(route).map_or(Ok(0.0), seconds);
    let mut child = pgbench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let said = BufReader::new(child.stderr.take().context("pgbench has no stderr")?);
    let (mut first, mut last) = (None, None);
    let mut done = 0.0;
    let mut all = String::new();
    for line in said.lines() {
        let line = line?;
        if let Some((at, rate)) = progress(&line) {
            let now = (at, used()?);
            if let Some((before, _)) = last.or(first) {
                done += (at - before) * rate;
                last = Some(now);
            } else {
                first = Some(now);
            }
        }
        all.push_str(&line);
        all.push('\n');
    }
    let mut rest = String::new();
    child.stdout.take().context("pgbench has no stdout")?.read_to_string(&mut rest)?;
    ensure!(child.wait()?.success(), "{pgbench:?}: {all}{rest}");
    let ((began, before), (ended, after)) =
        first.zip(last).with_context(|| format!("pgbench told no progress:\n{all}{rest}"))?;
    Ok((done / (ended - began), (after - before) * 1e6 / done))
}

/// When, in seconds, and at which rate since it last said so.
fn progress(line: &str) -> Option<(f64, f64)> {
    let (at, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    Some((at.parse().ok()?, rest.split_once(" tps")?.0.parse().ok()?))
}

//! `pgbench -S`: one row by its key, in the three ways in which clients ask; and the processor time that each costs in
//! between.

use anyhow::{Context as _, Result};

use super::site::{ROUTES, Route, Site, run};
use super::{Wanted, Ways};
use crate::figure::{Figure, Goal};
use crate::process::seconds;
use crate::{Figures, Options};

/// Measures.
pub async fn measure(site: &Site, options: &Options, figures: &mut Figures) -> Result<()> {
    for mode in ["simple", "extended", "prepared"] {
        for clients in ["1", "8"] {
            let (mut ways, mut cost) = (Ways::default(), Ways::default());
            for _ in 0..options.size(5, 1) {
                for route in ROUTES {
                    let (rate, micros) = pgbench(site, route, mode, clients, options).await?;
                    ways.of(route).push(rate);
                    cost.of(route).push(micros);
                }
            }
            let many = if clients == "1" { "1 client" } else { "8 clients" };
            let goal = Wanted::OfPooler(Goal::RatioAtLeast(1.0));
            ways.report(figures, &format!("pgbench -S {mode}, {many}"), "1/s", goal);
            if mode == "prepared" {
                let name = format!("postgres/CPU in between, prepared, {many}");
                let figure = Figure::new(name, cost.ours.median(), "µs").range(cost.ours.range());
                let figure = figure.beside("PgBouncer", cost.pooler.median());
                figures.add(figure.goal(Goal::RatioAtMost(1.3)));
            }
        }
    }
    Ok(())
}

/// Transactions a second, and microseconds of processor time in between for each.
async fn pgbench(
    site: &Site,
    route: Route,
    mode: &str,
    clients: &str,
    options: &Options,
) -> Result<(f64, f64)> {
    let mut pgbench = site.client(route, "pgbench").await?;
    let seconds_long = options.size("4", "1");
    pgbench.args(["-n", "-S", "-M", mode, "-c", clients, "-j", "1", "-T", seconds_long]);
    let used = || site.pid(route).map_or(Ok(0.0), seconds);
    let before = used()?;
    let output = run(&mut pgbench)?;
    let spent = used()? - before;
    let said = String::from_utf8(output.stdout)?;
    let after = |words: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(words));
        let number = rest.and_then(|rest| rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next());
        number
            .with_context(|| format!("pgbench did not say {words:?}:\n{said}"))?
            .parse::<f64>()
            .map_err(anyhow::Error::from)
    };
    let done = after("number of transactions actually processed: ")?;
    Ok((after("tps = ")?, spent * 1e6 / done))
}

//! Many rows at once: COPY, and a plain SELECT. Counted and hashed resp. counted, not kept.

use std::process::Stdio;
use std::time::Instant;

use anyhow::Result;

use super::site::{ROUTES, Site, run};
use super::{Wanted, Ways};
use crate::figure::{Figure, Goal};
use crate::process::seconds;
use crate::{Figures, Options};

/// Measures.
pub async fn measure(site: &Site, options: &Options, figures: &mut Figures) -> Result<()> {
    let rows: (u64, u64) = options.size((1_000_000, 500_000), (1_000, 1_000));
    let copy = format!("COPY (SELECT n, 'row ' || n FROM generate_series(1, {}) n) TO STDOUT", rows.0);
    let select = format!("SELECT n, 'row ' || n FROM generate_series(1, {}) n", rows.1);
    for (what, sql, count, goal) in
        [("COPY out", &copy, rows.0, 0.90), ("SELECT of 500k rows", &select, rows.1, 0.85)]
    {
        let (mut ways, mut cost) = (Ways::default(), Ways::default());
        for _ in 0..options.size(7, 1) {
            for route in ROUTES {
                let used = || site.pid(route).map_or(Ok(0.0), seconds);
                // A file as output: what psql does with rows is the same on all ways, and not much.
                let mut psql = site.client(route, "psql").await?;
                psql.args(["-X", "-q", "-A", "-t", "-o", "/dev/null", "-c", sql]).stdout(Stdio::null());
                let before = used()?;
                let begun = Instant::now();
                run(&mut psql)?;
                ways.of(route).push(count as f64 / begun.elapsed().as_secs_f64() / 1000.0);
                cost.of(route).push((used()? - before) * 1e9 / count as f64);
            }
        }
        let what = if what == "COPY out" { "COPY out of 1M rows" } else { what };
        ways.report(figures, what, "krows/s", Wanted::OfDirect(Goal::RatioAtLeast(goal)));
        let figure = Figure::new(format!("postgres/CPU in between, {what}"), cost.ours.median(), "ns/row");
        figures.add(figure.range(cost.ours.range()).beside("PgBouncer", cost.pooler.median()));
    }
    Ok(())
}

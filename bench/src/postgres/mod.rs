//! PostgreSQL through the gateway, recording on, beside a direct connection and PgBouncer in session mode (which records and
//! checks nothing). TLS on every leg of all three; the stock clients everywhere.

mod bulk;
mod connections;
pub mod gateway;
mod pooler;
mod revoke;
mod site;
mod transactions;

use anyhow::Result;

use crate::figure::{Figure, Goal};
use crate::sample::Sample;
use crate::{Figures, Options};
use site::{Route, Site};

/// What can be measured alone.
pub const PARTS: [&str; 5] = ["transactions", "bulk", "connections", "idle", "revoke"];

/// One measurement on all three ways.
#[derive(Debug, Default)]
struct Ways {
    direct: Sample,
    pooler: Sample,
    ours: Sample,
}

impl Ways {
    fn of(&mut self, route: Route) -> &mut Sample {
        match route {
            Route::Direct => &mut self.direct,
            Route::Pooler => &mut self.pooler,
            Route::Ours => &mut self.ours,
        }
    }

    /// Ours beside direct, the pooler beside direct, and the one of the two that has the goal.
    fn report(&self, figures: &mut Figures, name: &str, unit: &'static str, goal: Wanted) {
        let ours = Figure::new(format!("postgres/{name}"), self.ours.median(), unit).range(self.ours.range());
        let beside = ours.clone().beside_rounds("direct", &self.ours, &self.direct);
        match goal {
            Wanted::OfDirect(goal) => figures.add(beside.goal(goal)),
            Wanted::OfPooler(goal) => {
                figures.add(beside);
                figures.add(ours.beside_rounds("PgBouncer", &self.ours, &self.pooler).goal(goal));
            }
            Wanted::Nothing => {
                figures.add(beside);
                figures.add(ours.beside_rounds("PgBouncer", &self.ours, &self.pooler));
            }
        }
        if self.pooler.len() > 0 {
            let figure = Figure::new(format!("postgres/{name}, PgBouncer"), self.pooler.median(), unit);
            let figure = figure.range(self.pooler.range());
            figures.add(figure.beside_rounds("direct", &self.pooler, &self.direct));
        }
    }
}

/// A goal, and beside whom.
#[derive(Clone, Copy)]
enum Wanted {
    OfDirect(Goal),
    OfPooler(Goal),
    Nothing,
}

/// Measures all of it, or one of [`PARTS`].
pub async fn measure(part: Option<&str>, options: &Options, figures: &mut Figures) -> Result<()> {
    let wants = |name: &str| part.is_none_or(|part| part == name);
    if ["transactions", "bulk", "connections", "idle"].into_iter().any(wants) {
        let site = Site::start(1, options.size(10, 1)).await?;
        let outcome = async {
            if wants("transactions") {
                transactions::measure(&site, options, figures).await?;
            }
            if wants("bulk") {
                bulk::measure(&site, options, figures).await?;
            }
            if wants("connections") {
                connections::measure(&site, options, figures).await?;
            }
            if wants("idle") {
                connections::idle(&site, options, figures).await?;
            }
            anyhow::Ok(())
        };
        let outcome = outcome.await;
        site.stop().await;
        outcome?;
    }
    if wants("revoke") {
        revoke::measure(options, figures).await?;
    }
    Ok(())
}

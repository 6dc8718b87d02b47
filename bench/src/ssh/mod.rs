//! SSH through the gateway, recording on, beside a direct connection and a plain hop (`ssh -J`, which records and checks
//! nothing). The stock client everywhere; curve25519 and chacha20 unless named. A run that does not end in time counts as a
//! hang.

mod bulk;
mod interactive;
mod routes;

use anyhow::Result;

use crate::figure::{Figure, Goal};
use crate::sample::Sample;
use crate::{Figures, Options};
use routes::{Route, Routes};

/// One measurement on all three ways.
#[derive(Debug, Default)]
struct Ways {
    direct: Sample,
    hop: Sample,
    ours: Sample,
}

impl Ways {
    fn of(&mut self, route: Route) -> &mut Sample {
        match route {
            Route::Direct => &mut self.direct,
            Route::Hop => &mut self.hop,
            Route::Ours => &mut self.ours,
        }
    }

    /// Ours beside direct with the goal, and the plain hop beside direct.
    fn report(&self, figures: &mut Figures, name: &str, unit: &'static str, goal: Goal) {
        let direct = self.direct.median();
        let figure = Figure::new(format!("ssh/{name}"), self.ours.median(), unit);
        figures.add(figure.range(self.ours.range()).beside("direct", direct).goal(goal));
        if self.hop.len() > 0 {
            let figure = Figure::new(format!("ssh/{name}, ProxyJump"), self.hop.median(), unit);
            figures.add(figure.range(self.hop.range()).beside("direct", direct));
        }
    }
}

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let routes = Routes::start().await?;
    let outcome = all(&routes, options, figures);
    routes.stop();
    outcome
}

fn all(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    interactive::connect(routes, options, figures)?;
    interactive::connections(routes, options, figures)?;
    interactive::echo(routes, options, figures)?;
    interactive::idle(routes, options, figures)?;
    bulk::measure(routes, options, figures)?;
    let hangs = Figure::new("ssh/hangs", routes.hangs() as f64, "runs");
    figures.add(hangs.goal(Goal::AtMost(0.0)));
    Ok(())
}

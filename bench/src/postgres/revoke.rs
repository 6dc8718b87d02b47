//! From the revocation to the backend that is gone, across the links, with a statement that runs meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use halligan_core::command::Command;
use tokio_postgres::NoTls;

use super::site::Site;
use crate::figure::{Figure, Goal};
use crate::organisation;
use crate::sample::{Sample, millis};
use crate::{Figures, Options};

/// Systems of one site: all are the same server, at which the connector's account has twenty connections.
const TOGETHER: usize = 10;

/// Measures, in sites of its own: systems of which each is looked at all the time would stand in the way of the rest.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let mut gone = Sample::default();
    for _ in 0..options.size(6, 1) {
        let count = options.size(TOGETHER, 2);
        let site = Site::start(count + 1, 1).await?;
        let outcome = ends(&site, count, &mut gone).await;
        site.stop().await;
        outcome?;
    }
    let figure = Figure::new("postgres/revoke to backend gone, p50", gone.median(), "ms");
    figures.add(figure.range(gone.range()));
    let figure = Figure::new("postgres/revoke to backend gone, p99", gone.percentile(99.0), "ms");
    figures.add(figure.goal(Goal::AtMost(200.0)));
    Ok(())
}

/// Ends the grants of systems 1 to `count`, each in the middle of a statement.
async fn ends(site: &Site, count: usize, gone: &mut Sample) -> Result<()> {
    let (superuser, connection) =
        tokio_postgres::connect(&site.target.superuser_url("postgres"), NoTls).await?;
    let connected = tokio::spawn(connection);
    let look = superuser
        .prepare("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'halligan:%' AND query LIKE '%pg_sleep(600)'")
        .await?;
    let there = async || anyhow::Ok(superuser.query_one(&look, &[]).await?.get::<_, i64>(0));
    let until = async |wanted: i64, within: Duration| {
        let end = Instant::now() + within;
        while there().await? != wanted {
            ensure!(
                Instant::now() < end,
                "a backend {}",
                if wanted == 0 { "stays" } else { "does not come" }
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    for number in 1..=count {
        let mut psql = site.client_on(number, "psql").await?;
        psql.args(["-X", "-c", "SELECT pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut psql = psql.spawn()?;
        until(1, Duration::from_secs(20)).await.context("no session is there to be ended")?;
        let grant = site.grant(number)?;
        let reason = "the measurement is over".to_owned();
        let began = Instant::now();
        organisation::does(&site.control, "sofia", Command::Revoke { grant, reason }).await?;
        until(0, Duration::from_secs(20)).await.context("the session outlived its grant")?;
        gone.push(millis(began.elapsed()));
        psql.wait()?;
    }
    drop(superuser);
    connected.abort();
    Ok(())
}

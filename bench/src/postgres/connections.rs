//! What a connection costs: how many can be made in a second, and what one that says nothing keeps in memory.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::site::{ROUTES, Route, Site, run};
use super::{Wanted, Ways};
use crate::figure::{Figure, Goal};
use crate::process::{resident_kib, seconds};
use crate::{Figures, Options};

/// Connections that each ask once, one behind the other and eight at once.
pub async fn measure(site: &Site, options: &Options, figures: &mut Figures) -> Result<()> {
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), "SELECT 1;\n")?;
    for clients in ["1", "8"] {
        let (mut ways, mut cost) = (Ways::default(), Ways::default());
        for _ in 0..options.size(7, 1) {
            for route in ROUTES {
                let mut pgbench = site.client(route, "pgbench").await?;
                pgbench.args(["-n", "-C", "-c", clients, "-j", clients, "-T", options.size("4", "1"), "-f"]);
                pgbench.arg(script.path());
                let used = || site.pid(route).map_or(Ok(0.0), seconds);
                let before = used()?;
                let said = String::from_utf8(run(&mut pgbench)?.stdout)?;
                let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
                let rate = line.and_then(|line| line.split_whitespace().next());
                let rate: f64 = rate.with_context(|| format!("pgbench said no rate: {said}"))?.parse()?;
                ways.of(route).push(rate);
                let done = said
                    .lines()
                    .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
                let done = done.and_then(|text| text.split(['/', ' ']).next());
                let done: f64 = done.context("pgbench said no count")?.parse()?;
                cost.of(route).push((used()? - before) * 1e3 / done);
            }
        }
        let many = if clients == "1" { "one at a time" } else { "eight at once" };
        let goal = Wanted::OfDirect(Goal::RatioAtLeast(0.60));
        ways.report(figures, &format!("connections, {many}"), "1/s", goal);
        let figure =
            Figure::new(format!("postgres/CPU in between, connection, {many}"), cost.ours.median(), "ms");
        figures.add(figure.range(cost.ours.range()).beside("PgBouncer (pooled)", cost.pooler.median()));
    }
    Ok(())
}

/// What one more idle session costs the gateway.
pub async fn idle(site: &Site, options: &Options, figures: &mut Figures) -> Result<()> {
    let count: usize = options.size(300, 4);
    let pid = site.pid(Route::Ours).context("the gateway has no process")?;
    // The first sessions make what all share.
    drop(Sleepers::open(site, 4).await?);
    Sleepers::gone(site).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident_kib(pid)?;
    let sleepers = Sleepers::open(site, count).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = resident_kib(pid)?;
    drop(sleepers);
    Sleepers::gone(site).await?;
    let each = (after - before) / count as f64;
    figures.add(Figure::new("postgres/idle session, resident", each, "KiB").goal(Goal::AtMost(100.0)));
    figures.add(Figure::new("postgres/gateway with no session, resident", before / 1024.0, "MiB"));
    Ok(())
}

/// One client with many connections that asked once and wait.
struct Sleepers(Child);

impl Sleepers {
    async fn open(site: &Site, count: usize) -> Result<Self> {
        let script = tempfile::NamedTempFile::new()?;
        std::fs::write(script.path(), "SELECT 1;\n\\sleep 200 s\n")?;
        let mut pgbench: Command = site.client(Route::Ours, "pgbench").await?;
        pgbench.args(["-n", "-c", &count.to_string(), "-j", "1", "-T", "200", "-f"]).arg(script.path());
        let sleepers = Self(pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        wait(site, Duration::from_secs(120), |there| there == count).await?;
        Ok(sleepers)
    }

    async fn gone(site: &Site) -> Result<()> {
        wait(site, Duration::from_secs(30), |there| there == 0).await
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        // `timeout` hands the signal on, and ends.
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

async fn wait(site: &Site, within: Duration, enough: impl Fn(usize) -> bool) -> Result<()> {
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'halligan:%' AND query = 'SELECT 1;'";
    let until = Instant::now() + within;
    loop {
        let there: usize = site.target.sql("postgres", asked)?.trim().parse()?;
        if enough(there) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "there are {there} sessions at the server");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

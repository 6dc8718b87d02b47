//! One emergency's machine time: from the request to the first byte of the target, and from the revocation to the dead
//! session, across the link and with the stock client.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use halligan_core::command::Command;

use crate::figure::{Figure, Goal};
use crate::plant::{ACCOUNT, Plant, login};
use crate::sample::{Sample, millis};
use crate::{Figures, Options};

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let rounds: usize = options.size(40, 2);
    let plant = Plant::start(rounds + 1).await?;
    let outcome = measure_on(&plant, rounds, figures).await;
    plant.stop().await;
    outcome
}

async fn measure_on(plant: &Plant, rounds: usize, figures: &mut Figures) -> Result<()> {
    let client = plant.client()?;
    plant.ask_and_approve(0).await?;
    plant.leases(1).await?;
    plant.try_door(0).await?;

    let (mut direct, mut through) = (Sample::default(), Sample::default());
    let (mut ready, mut beyond) = (Sample::default(), Sample::default());
    let mut grants = Vec::new();
    for number in 1..=rounds {
        let began = Instant::now();
        client.ssh(plant.sshd.port(), ACCOUNT, "true").await?.ok()?;
        let of_target = millis(began.elapsed());
        let began = Instant::now();
        grants.push((number, plant.ask_and_approve(number).await?));
        plant.leases(number + 1).await?;
        let in_force = millis(began.elapsed());
        client.ssh(plant.ssh_port, &login(number), "true").await?.ok()?;
        let whole = millis(began.elapsed());
        direct.push(of_target);
        ready.push(in_force);
        through.push(whole - in_force);
        beyond.push(whole - of_target);
    }
    let figure = Figure::new("control/request to lease in force, p50", ready.median(), "ms");
    figures.add(figure.range(ready.range()));
    figures.add(Figure::new("control/request to lease in force, p99", ready.percentile(99.0), "ms"));
    let figure = Figure::new("control/`ssh true` on a fresh grant, p50", through.median(), "ms");
    figures.add(figure.range(through.range()).beside("direct", direct.median()));
    let figure = Figure::new("control/request to first byte beyond a direct ssh, p50", beyond.median(), "ms");
    figures.add(figure.range(beyond.range()));
    let figure =
        Figure::new("control/request to first byte beyond a direct ssh, p99", beyond.percentile(99.0), "ms");
    figures.add(figure.goal(Goal::AtMost(50.0)));

    let mut dead = Sample::default();
    for (number, grant) in grants {
        let mut live = client.ssh_live(plant.ssh_port, &login(number), &[], "echo in; exec sleep 600")?;
        live.wait_for("in", Duration::from_secs(10)).await?;
        let reason = "the measurement is over".to_owned();
        let began = Instant::now();
        plant.does("sofia", Command::Revoke { grant, reason }).await?;
        live.ended().await.context("the session outlived its grant")?;
        dead.push(millis(began.elapsed()));
    }
    let figure = Figure::new("control/revoke to dead session, p50", dead.median(), "ms");
    figures.add(figure.range(dead.range()));
    let figure = Figure::new("control/revoke to dead session, p99", dead.percentile(99.0), "ms");
    figures.add(figure.goal(Goal::AtMost(100.0)));
    Ok(())
}

//! The catalog in force: showing, comparing, putting another one into force.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use halligan_catalog::{CatalogFile, LoadedSystems, Systems as _, diff as compare};
use halligan_client::Client;
use halligan_client::types::{CatalogApplied, CatalogApplyWish, Paging};
use halligan_core::catalog::{Catalog, System};
use halligan_core::ids::Name;
use serde_json::Value;

use super::files::{load, load_good};
use super::shown;
use crate::output::printable;
use crate::people::ask;
use crate::people::desk::Desk;
use crate::people::failure::said as failed;
use crate::people::views::names;

/// Systems that are sent at once.
const PIECE: usize = 1000;
/// Bytes that are sent at once.
const PIECE_BYTES: usize = 4 << 20;

/// The systems in force. A comparison needs them all; they come in pages.
pub async fn systems_in_force(client: &Client) -> anyhow::Result<Vec<System>> {
    let (mut systems, mut after) = (Vec::new(), None);
    loop {
        let page = client.systems(&Paging { after, limit: Some(200) }).await;
        let page = page.context("failed to read the systems in force")?;
        systems.extend(page.items.into_iter().map(|view| view.system));
        after = page.next;
        if after.is_none() {
            return Ok(systems);
        }
    }
}

/// The catalog in force, without its systems.
pub async fn catalog_in_force(client: &Client) -> anyhow::Result<(u64, Catalog)> {
    let view = client.catalog().await.context("failed to read the catalog in force")?;
    Ok((view.version, view.catalog))
}

/// Shows all but the systems, or one system.
pub async fn show(desk: &Desk, system: Option<&Name>) -> anyhow::Result<()> {
    let client = desk.client()?;
    let Some(name) = system else {
        let view = client.catalog().await.context("failed to read the catalog in force")?;
        let yaml = CatalogFile::of(&view.catalog, Vec::new()).to_yaml()?;
        return desk.print(&view, |_| {
            format!("# version {}, SHA-256 {}\n{}", view.version, printable(&view.sha256), shown(&yaml))
        });
    };
    let mut after = None;
    loop {
        let page = client.systems(&Paging { after, limit: Some(200) }).await;
        let page = page.context("failed to read the systems in force")?;
        if let Some(view) = page.items.iter().find(|view| view.system.name == *name) {
            let file = CatalogFile::of(&Catalog::default(), vec![view.system.clone()]).to_yaml()?;
            let yaml =
                file.split_once("systems:").map_or(file.clone(), |(_, rest)| format!("systems:{rest}"));
            return desk.print(view, |_| shown(&yaml));
        }
        after = page.next;
        if after.is_none() {
            let say = format!("there is no system {name}, or it is not yours to see");
            return Err(failed(say, "`halligan catalog entitlements` lists what you may ask for"));
        }
    }
}

/// What would change.
pub async fn diff(desk: &Desk, folder: &Path, against: Option<&Path>) -> anyhow::Result<()> {
    let new = load(folder)?;
    let plan = match against {
        Some(folder) => {
            let old = load(folder)?;
            compare((&old.catalog, &old.systems), (&new.catalog, &new.systems))?
        }
        None => {
            let client = desk.client()?;
            let (_, catalog) = catalog_in_force(&client).await?;
            let systems = desk.waiting("reading the systems in force", systems_in_force(&client)).await?;
            compare((&catalog, &systems), (&new.catalog, &new.systems))?
        }
    };
    desk.print(&plan, |_| if plan.is_empty() { "Nothing changes.".to_owned() } else { shown(&plan) })
}

/// Checks here, sends the systems, puts it into force.
pub async fn apply(desk: &Desk, folder: &Path, totp: Option<&str>) -> anyhow::Result<ExitCode> {
    let loaded = load_good(desk, folder)?;
    let client = desk.client()?;
    let sending = send_systems(&client, loaded.systems.clone());
    let generation = desk.waiting("sending the systems", sending).await?;
    // The code is asked for last: it lives for half a minute.
    let totp = ask::code(totp)?;
    let wish = CatalogApplyWish { catalog: loaded.catalog, generation: Some(generation), totp };
    let done = desk.waiting("checking and comparing", client.apply_catalog(&wish)).await;
    let done = done.with_context(|| format!("failed to apply {}", folder.display()))?;
    desk.print(&done, |_| said(&done))?;
    Ok(ExitCode::SUCCESS)
}

async fn send_systems(client: &Client, systems: LoadedSystems) -> anyhow::Result<u64> {
    // Files are walked once, on a thread that may block; a piece waits while the one before is sent.
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<String>(1);
    let walk = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let (mut piece, mut count, mut failed) = (String::new(), 0usize, None);
        systems.each(&mut |_, system| {
            match serde_json::to_string(system) {
                Ok(line) => piece.push_str(&line),
                Err(error) => failed = Some(error),
            }
            piece.push('\n');
            count += 1;
            let full = count >= PIECE || piece.len() >= PIECE_BYTES;
            if full {
                count = 0;
                if sender.blocking_send(std::mem::take(&mut piece)).is_err() {
                    return ControlFlow::Break(());
                }
            }
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // The receiver is only gone when sending has failed, and then that is said.
        let _ = sender.blocking_send(piece);
        failed.map_or(Ok(()), |error| Err(error).context("failed to write a system as JSON"))
    });
    let mut generation = None;
    while let Some(piece) = pieces.recv().await {
        let put = client.put_systems(generation, piece).await.context("failed to send the systems")?;
        generation = Some(put.generation);
    }
    walk.await.context("failed to walk through the systems")??;
    generation.context("failed to send the systems: the server named no place for them")
}

/// What became of it, in words.
pub fn said(done: &CatalogApplied) -> String {
    let mut text = String::new();
    for line in &done.changes {
        text.push_str(&format!("{}\n", printable(line)));
    }
    if !done.widening.is_empty() {
        text.push_str("\nThis widens who may do what:\n");
        for line in &done.widening {
            text.push_str(&format!("  {}\n", printable(line)));
        }
    }
    match done.version {
        Some(version) => {
            text.push_str(&format!("\nVersion {version} is in force."));
            if done.single_administrator {
                text.push_str(" Single administrator: nobody else could confirm it.");
            }
        }
        None => {
            text.push_str(&format!(
                "\nNot in force yet: a second person confirms it with\n  halligan catalog confirm {}\nWho could: {}",
                done.change,
                if done.confirmers.is_empty() { "nobody".to_owned() } else { names(&done.confirmers) }
            ));
        }
    }
    text
}

/// What is proposed, in words.
pub fn proposal(value: &Value) -> String {
    let lines = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|line| format!("  {}", printable(line)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut text = format!("Changes:\n{}", lines("changes"));
    let widening = lines("widening");
    if !widening.is_empty() {
        text.push_str(&format!("\n\nThis widens who may do what:\n{widening}"));
    }
    text
}

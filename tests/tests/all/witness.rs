//! Control and a gateway as its witness: checkpoints are cosigned, and a control whose store, tiles and keys were all put
//! back to an older day is noticed by the gateway, which holds control's own signature over what came later.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use halligan_control::clock::SystemClock;
use halligan_control::{Control, ControlOptions};
use halligan_core::command::Actor;
use halligan_core::ids::Name;
use halligan_core::leaf::LeafBody;
use halligan_gateway::{Gateway, Options};
use halligan_ledger::{LedgerKey, SignedNote, open_note};
use halligan_link::{PeerInfo, Role, in_process};
use halligan_store::{SqliteOptions, Store};

use crate::spine::world::{eventually, name};

async fn control(folder: &Path) -> Result<Control> {
    let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.sqlite"))).await?;
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.join("control"),
        origin: "test.example/halligan".into(),
        auditors: Vec::new(),
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    Ok(Control::open(options, store).await?)
}

async fn link(control: &Control, gateway: &Gateway) -> Result<()> {
    let info = PeerInfo { name: name("gw-1"), role: Role::Gateway, site: Name::main() };
    control.admit_local(&info, &"11".repeat(32), None).await?;
    let (to_gateway, from_gateway) = in_process(control.handler(), control.info(), gateway.handler(), info);
    gateway.control_joined(from_gateway);
    control.connected(to_gateway);
    Ok(())
}

async fn something_happens(control: &Control) -> Result<()> {
    let body = LeafBody::Identity { what: "test".into(), person: "anna".into(), detail: "something".into() };
    control.note(&Actor::Clock, body, Vec::new()).await?;
    Ok(())
}

/// Waits for a checkpoint over everything so far with the gateway's cosignature.
async fn cosigned(control: &Control, gateway: &Gateway) -> Result<u64> {
    let keys: Vec<LedgerKey> = vec![control.keys().ledger.key(), gateway.ledger_key().as_cosigner()];
    let least = control.store().head().await?.size;
    eventually("a cosigned checkpoint", Duration::from_secs(20), async || {
        let Some(text) = control.checkpoint().borrow().clone() else { return Ok(None) };
        let opened = open_note(&SignedNote::parse(&text)?, &keys)?;
        let size = opened.checkpoint.size;
        Ok((opened.cosigned.len() == 1 && size >= least).then_some(size))
    })
    .await
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let there = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &there)?;
        } else {
            std::fs::copy(entry.path(), &there)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_and_tiles_put_back_together_are_noticed_by_a_gateway() -> Result<()> {
    let (home, backup, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let gateway_home = tempfile::tempdir()?;
    let first = control(home.path()).await?;
    let lease_key = first.keys().lease.verifying_key();
    let options = || Options::new(gateway_home.path().to_owned(), name("gw-1"), lease_key);
    let gateway = Gateway::start(options(), Arc::new(halligan_gateway::SystemClock))?;
    first.start();
    link(&first, &gateway).await?;
    something_happens(&first).await?;
    cosigned(&first, &gateway).await?;
    first.stop().await;
    copy(home.path(), backup.path())?;
    copy(home.path(), elsewhere.path())?;

    // A day goes by.
    let second = control(home.path()).await?;
    second.start();
    link(&second, &gateway).await?;
    for _ in 0..20 {
        something_happens(&second).await?;
    }
    let seen = cosigned(&second, &gateway).await?;
    second.stop().await;

    // Somebody puts everything back that control has: nothing of its own can tell.
    let back = control(backup.path()).await?;
    back.start();
    link(&back, &gateway).await?;
    let why = eventually("control to notice", Duration::from_secs(20), async || Ok(back.went_back())).await?;
    ensure!(why.contains(&format!("over {seen} leaves")) && why.contains("gw-1"), "{why}");
    ensure!(something_happens(&back).await.is_err(), "it went on deciding");
    back.stop().await;
    let refused = control(backup.path()).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(!refused.is_empty(), "it started again");

    // Another copy of that day, which writes more than was ever seen before a gateway looks: longer, and another history.
    let fork = control(elsewhere.path()).await?;
    fork.start();
    for _ in 0..60 {
        something_happens(&fork).await?;
    }
    ensure!(fork.store().head().await?.size > seen, "the fork is no longer than what was seen");
    link(&fork, &gateway).await?;
    eventually("control to notice the fork", Duration::from_secs(20), async || Ok(fork.went_back())).await?;
    ensure!(something_happens(&fork).await.is_err(), "the fork went on deciding");
    fork.stop().await;

    // The right copy goes on where it was, with the same gateway.
    let right = control(home.path()).await?;
    right.start();
    link(&right, &gateway).await?;
    something_happens(&right).await?;
    cosigned(&right, &gateway).await?;
    ensure!(right.went_back().is_none(), "the right copy is suspected");
    right.stop().await;
    Ok(())
}

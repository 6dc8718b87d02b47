//! What the emergency leaves behind: one file that an auditor verifies offline, a ledger that verifies as a folder, and a
//! store in which an edit shows.

use anyhow::{Context as _, Result};
use halligan_control::evidence::{check_store, export};
use halligan_core::command::{Actor, DocumentRef};
use halligan_core::ids::{GrantId, IncidentId};
use halligan_ledger::SignedNote;
use halligan_recording::Identity;
use halligan_store::{Commit, DocumentWrite};
use halligan_verify::{Options, verify_bundle, verify_consistency, verify_ledger};

use super::world::{World, name};

fn person(who: &str) -> Actor {
    Actor::Person { id: name(who), factor: None, token: false }
}

pub async fn proves(world: &World, incident: IncidentId, grant: GrantId) -> Result<()> {
    let control = &world.control;
    // Somebody who has no part in it gets nothing.
    let path = world.folder.path().join("INC-1.halligan");
    let kept = control.store().head().await?.signed.context("no checkpoint")?.note;
    let kept = SignedNote::parse(&kept)?;
    assert!(export(control, &person("nobody"), incident, &path, &[]).await.is_err());
    assert!(!path.exists());

    let summary = export(control, &person("ines"), incident, &path, std::slice::from_ref(&kept)).await?;
    assert_eq!((summary.number, summary.recordings), (1, 3));
    let own = verify_bundle(&path, &Options::default());
    assert!(own.ok(), "{:#?}", own.faults().collect::<Vec<_>>());
    let identity: Identity = world.auditor.to_secret_text()?.parse()?;
    let read = verify_bundle(&path, &Options { policy: None, identity: Some(identity) });
    assert!(read.ok(), "{:#?}", read.faults().collect::<Vec<_>>());
    assert!(read.checks.iter().any(|check| check.name == "consistency" && check.ok));
    assert!(read.checks.iter().any(|check| check.name == "recordings read" && check.ok));
    for check in &read.checks {
        println!("{}: {}", check.name, check.detail);
    }

    // One changed bit.
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(&path, &bytes)?;
    assert!(!verify_bundle(&path, &Options::default()).ok(), "a changed bit was not found");

    // The whole ledger, and that it continues what was signed before.
    let tiles = control.options().folder.join("tiles");
    let policy = halligan_ledger::TrustPolicy::unwitnessed(&[control.keys().ledger.key()])?;
    let whole = verify_ledger(&tiles, &policy);
    assert!(whole.ok(), "{:#?}", whole.faults().collect::<Vec<_>>());
    assert!(verify_consistency(&tiles, &kept, &policy).ok());

    // Nothing was edited; then somebody edits a document past Halligan.
    let faults = check_store(control).await?;
    assert!(faults.is_empty(), "{faults:#?}");
    let key = halligan_control::documents::key_of(&DocumentRef::Grant(grant));
    let found = control.store().get(&key).await?.context("the grant is gone")?;
    let edited = String::from_utf8(found.body)?.replace("orders are stuck", "all is well");
    let write = DocumentWrite::put(key, found.revision, edited.into_bytes());
    control.store().commit(Commit { documents: vec![write], ..Commit::default() }).await?;
    let faults = check_store(control).await?;
    assert!(faults.iter().any(|fault| fault.place == format!("grant {grant}")), "{faults:#?}");
    Ok(())
}

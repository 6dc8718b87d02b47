//! `halligan ledger recover`: a store that has gone back in time gets a new epoch of its ledger, by two people's word.
//!
//! What was signed stays true: the old tiles, the old key and the mirrors are set aside, never deleted. The new epoch is
//! a ledger of its own, with its own name and key, so that no two trees are ever signed under one name; its first new
//! leaf says what the last head was and who opened it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use halligan_control::witness::WENT_BACK_FILE;
use halligan_core::catalog::OfficeName;
use halligan_core::command::Actor;
use halligan_core::leaf::{Leaf, LeafBody};
use halligan_core::time::Time;
use halligan_ledger::{Checkpoint, LedgerSigner, SignedNote, TileFolder};
use halligan_store::{Commit, DocumentKey, DocumentWrite, Store};

use super::control_role::open_store;
use super::process::hold;
use crate::config::Config;

/// Where the store keeps the number of the epoch.
const EPOCH: &str = "ledger_epoch";
/// Numbers given since the copy was made are not known; rosters must not be numbered lower than nodes hold.
const SERIALS_SKIPPED: u64 = 1_000_000;

/// The name of the ledger in the epoch that the store is in.
pub async fn origin(store: &Store, configured: &str) -> anyhow::Result<String> {
    Ok(named(configured, epoch(store).await?))
}

fn named(configured: &str, epoch: u64) -> String {
    if epoch <= 1 { configured.to_owned() } else { format!("{configured}/epoch-{epoch}") }
}

async fn epoch(store: &Store) -> anyhow::Result<u64> {
    match store.meta_get(EPOCH).await? {
        None => Ok(1),
        Some(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .context("failed to read which epoch the ledger is in"),
    }
}

/// Opens a new epoch. The server must not run.
pub async fn recover(config: &Config) -> anyhow::Result<()> {
    let _held = hold(&config.server.folder)?;
    let folder = config.control_folder();
    let store = open_store(config).await?;
    let outcome = carry_out(config, &folder, &store, &mut std::io::stdin().lock()).await;
    store.close().await;
    outcome
}

async fn carry_out(
    config: &Config,
    folder: &Path,
    store: &Store,
    answers: &mut dyn BufRead,
) -> anyhow::Result<()> {
    let now = epoch(store).await?;
    let signer = LedgerSigner::from_seed_file(&folder.join("ledger_key"))
        .context("failed to read the ledger's key")?;
    if now > 1 && signer.origin() == named(&config.ledger.origin, now - 1) {
        // The last recovery was cut short after its leaf was written.
        set_aside(folder, now - 1)?;
        println!("The new epoch {now} is open. Start the server.");
        return Ok(());
    }
    let (lost, note) = match lost(folder, store).await? {
        Some(found) => found,
        None => bail!("nothing is to be recovered: the store holds all that was signed"),
    };
    let in_force = halligan_control::catalog::load(store).await?;
    let catalog = &in_force.head.catalog;
    let office = catalog.offices.get(&OfficeName::CloudAdministrator);
    let mut administrators: BTreeSet<String> = BTreeSet::new();
    if let Some(office) = office {
        administrators.extend(office.people.iter().map(ToString::to_string));
        for group in office.groups.iter().filter_map(|name| catalog.groups.get(name)) {
            administrators.extend(group.members.iter().map(ToString::to_string));
        }
    }
    println!(
        "The store has gone back in time. Leaves {} to {} were signed and are lost.\n\
         Restore a newer copy instead if there is one. A new epoch is loud, and is seen in every evidence bundle.\n\
         Two administrators must be present.",
        lost.start,
        lost.end.saturating_sub(1)
    );
    let first = administrator(answers, "First administrator", &administrators)?;
    let second = administrator(answers, "Second administrator", &administrators)?;
    if first == second {
        bail!("two people are needed, not one twice");
    }
    let reason = typed(answers, "Reason")?;
    if reason.len() < 10 {
        bail!("the reason will be read by auditors: write at least ten characters");
    }
    open_epoch(store, now, in_force.head.version, note, reason, vec![first, second]).await?;
    set_aside(folder, now)?;
    println!(
        "Epoch {} is open: its ledger is called {}. Start the server, and give auditors its new key.",
        now + 1,
        named(&config.ledger.origin, now + 1)
    );
    Ok(())
}

/// The range that was signed and is gone, with the last head that is known.
async fn lost(folder: &Path, store: &Store) -> anyhow::Result<Option<(std::ops::Range<u64>, String)>> {
    let head = store.head().await?;
    let mut latest = head.signed.map(|signed| (signed.size, signed.note));
    // A gateway's proof that more was signed than anybody here remembers.
    let shown = folder.join(WENT_BACK_FILE);
    if let Some(bytes) = halligan_ledger::disk::read_if_present(&shown, 64 * 1024)
        .with_context(|| format!("failed to read {}", shown.display()))?
    {
        let note =
            SignedNote::parse(&String::from_utf8_lossy(&bytes)).context("failed to read a checkpoint")?;
        let size = size_of(&note)?;
        let first = head.size.min(size.saturating_sub(1));
        return Ok(Some((first..size, note.to_string())));
    }
    let tiles = TileFolder::new(folder.join("tiles"));
    if let Some(note) = tiles.checkpoint().context("failed to read the tiles")? {
        let size = size_of(&note)?;
        if latest.as_ref().is_none_or(|(known, _)| size >= *known) {
            latest = Some((size, note.to_string()));
        }
        // The same number of leaves or more, but others: the store was replaced by one that went another way.
        if let Some(last) = size.checked_sub(1).filter(|last| *last < head.size) {
            let width = u16::try_from((size - (last / 256) * 256).min(256)).unwrap_or(256);
            let bundle = tiles.read_bundle(last / 256, width).context("failed to read the tiles")?;
            let stored = store.leaves(last, 1).await?;
            let same = bundle.last().zip(stored.first()).is_some_and(|(tile, (_, leaf))| tile == leaf);
            if !same {
                return Ok(Some((last..size, note.to_string())));
            }
        }
    }
    Ok(latest.filter(|(size, _)| *size > head.size).map(|(size, note)| (head.size..size, note)))
}

fn size_of(note: &SignedNote) -> anyhow::Result<u64> {
    Ok(Checkpoint::parse(note.body()).context("failed to read a checkpoint")?.size)
}

async fn open_epoch(
    store: &Store,
    epoch: u64,
    catalog: u64,
    last_head: String,
    reason: String,
    people: Vec<String>,
) -> anyhow::Result<()> {
    let head = store.head().await?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    let at = Time::from_micros(i64::try_from(clock).unwrap_or(i64::MAX).max(head.last_time));
    let body = LeafBody::Epoch { last_head, reason, people };
    let leaf = Leaf { v: 1, at, actor: Actor::Clock, catalog, body, documents: Vec::new(), chain: None };
    let serial = DocumentKey::new("counter", "roster");
    let found = store.get(&serial).await?;
    let held: u64 = found.as_ref().and_then(|found| serde_json::from_slice(&found.body).ok()).unwrap_or(0);
    let raised = serde_json::to_vec(&(held + SERIALS_SKIPPED))?;
    let commit = Commit {
        leaves: vec![serde_json::to_vec(&leaf)?],
        documents: vec![DocumentWrite::put(serial, found.map_or(0, |found| found.revision), raised)],
        commit_time: at.micros(),
        ..Commit::default()
    };
    store.commit(commit).await.context("failed to record the new epoch")?;
    store.meta_put(EPOCH, (epoch + 1).to_string().as_bytes()).await.context("failed to record the new epoch")
}

/// Moves what belongs to the old epoch out of the way. The key goes last: until it is gone the server refuses to start,
/// and this can be repeated.
fn set_aside(folder: &Path, epoch: u64) -> anyhow::Result<()> {
    // Nodes tell everything again, and what the store lost of it comes back.
    for name in ["tiles", "mirrors", WENT_BACK_FILE, "ledger_key"] {
        let (from, to) = (folder.join(name), folder.join(format!("{name}.epoch-{epoch}")));
        if from.exists() && !to.exists() {
            fs::rename(&from, &to).with_context(|| format!("failed to set {} aside", from.display()))?;
        }
    }
    halligan_ledger::disk::sync_folder(folder).with_context(|| format!("failed to sync {}", folder.display()))
}

fn administrator(answers: &mut dyn BufRead, what: &str, known: &BTreeSet<String>) -> anyhow::Result<String> {
    let name = typed(answers, what)?;
    if !known.contains(&name) {
        bail!("`{name}` is no administrator by the catalog in the store");
    }
    Ok(name)
}

fn typed(answers: &mut dyn BufRead, what: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        print!("{what}: ");
        std::io::stdout().flush().context("failed to ask")?;
    }
    let mut line = String::new();
    answers.read_line(&mut line).context("failed to hear the answer")?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use halligan_control::catalog::{CatalogHead, head_key};
    use halligan_core::catalog::Person;
    use halligan_core::ids::PersonId;

    use super::super::control_role;
    use super::*;
    use crate::config::{Overrides, load};

    fn config(folder: &Path) -> Config {
        let value = serde_json::Value::from(folder.to_string_lossy());
        let values = vec![("server.folder", value, "test")];
        load(None, &Overrides { dev: true, values }).unwrap().config
    }

    /// Runs control until all its leaves are signed; gives how many there are.
    async fn live(config: &Config, wish: &str) -> u64 {
        let (control, _) = control_role::start(config).await.unwrap();
        let admin = PersonId::new("admin").unwrap();
        control.first_enrolment(&admin).await.unwrap();
        if wish == "second administrator" {
            let found = control.store().get(&head_key()).await.unwrap().unwrap();
            let mut head: CatalogHead = serde_json::from_slice(&found.body).unwrap();
            let second = PersonId::new("bo").unwrap();
            head.catalog.people.insert(second.clone(), Person::default());
            let office = head.catalog.offices.get_mut(&OfficeName::CloudAdministrator).unwrap();
            office.people.insert(second);
            let write = DocumentWrite::put(head_key(), found.revision, serde_json::to_vec(&head).unwrap());
            let commit = Commit { documents: vec![write], ..Commit::default() };
            control.store().commit(commit).await.unwrap();
        }
        let size = loop {
            let head = control.store().head().await.unwrap();
            if head.signed.is_some_and(|signed| signed.size == head.size) {
                break head.size;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        control.stop().await;
        size
    }

    async fn answered(config: &Config, answers: &str) -> anyhow::Result<()> {
        let store = open_store(config).await?;
        let outcome = carry_out(config, &config.control_folder(), &store, &mut answers.as_bytes()).await;
        store.close().await;
        outcome
    }

    #[tokio::test]
    async fn two_administrators_open_a_new_epoch_after_the_store_went_back() {
        let base = tempfile::tempdir().unwrap();
        let config = config(&base.path().join("state"));
        super::super::process::make_private(&config.server.folder).unwrap();
        let before = live(&config, "second administrator").await;
        let two = "admin\nbo\nthe disk was replaced\n";
        let said = answered(&config, two).await.unwrap_err().to_string();
        assert!(said.contains("nothing is to be recovered"), "{said}");
        let copy = base.path().join("copy.db");
        let store = open_store(&config).await.unwrap();
        store.backup(&copy).await.unwrap();
        store.close().await;
        let after = live(&config, "more").await;
        assert!(after > before);

        for ending in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(config.control_folder().join(format!("store.db{ending}")));
        }
        fs::copy(&copy, config.store_path()).unwrap();
        let refused = control_role::start(&config).await.err().unwrap();
        assert!(format!("{refused:#}").contains("gone back in time"), "{refused:#}");
        assert!(
            answered(&config, "admin\nadmin\nthe disk was replaced\n").await.is_err(),
            "one person twice"
        );
        assert!(answered(&config, "admin\nmallory\nthe disk was replaced\n").await.is_err(), "a stranger");
        answered(&config, two).await.unwrap();

        let store = open_store(&config).await.unwrap();
        assert_eq!(origin(&store, &config.ledger.origin).await.unwrap(), "localhost/halligan/dev/epoch-2");
        let leaf = store.leaves(before, 1).await.unwrap().remove(0).1;
        let leaf: Leaf = serde_json::from_slice(&leaf).unwrap();
        let LeafBody::Epoch { last_head, people, .. } = leaf.body else { panic!("{:?}", leaf.body) };
        assert!(last_head.starts_with(&format!("localhost/halligan/dev\n{after}\n")), "{last_head}");
        assert_eq!(people, ["admin", "bo"]);
        store.close().await;
        assert!(config.control_folder().join("tiles.epoch-1/checkpoint").exists(), "what was signed is kept");
        let later = live(&config, "in the new epoch").await;
        assert!(later > before + 1);
        let note = fs::read_to_string(config.control_folder().join("tiles/checkpoint")).unwrap();
        assert!(note.starts_with("localhost/halligan/dev/epoch-2\n"), "{note}");
    }

    #[tokio::test]
    async fn a_store_that_knows_of_no_signed_head_is_noticed_under_what_was_published() {
        let base = tempfile::tempdir().unwrap();
        let config = config(&base.path().join("state"));
        super::super::process::make_private(&config.server.folder).unwrap();
        live(&config, "first").await;
        for ending in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(config.control_folder().join(format!("store.db{ending}")));
        }
        let refused = control_role::start(&config).await.err().unwrap();
        assert!(format!("{refused:#}").contains("gone back in time"), "{refused:#}");
    }

    #[tokio::test]
    async fn a_recovery_that_was_cut_short_is_finished_and_never_started_upon() {
        let base = tempfile::tempdir().unwrap();
        let config = config(&base.path().join("state"));
        super::super::process::make_private(&config.server.folder).unwrap();
        live(&config, "first").await;
        // The leaf and the number are in the store; nothing was moved yet.
        let store = open_store(&config).await.unwrap();
        store.meta_put(EPOCH, b"2").await.unwrap();
        store.close().await;
        assert!(control_role::start(&config).await.is_err(), "the key is of the old epoch");
        answered(&config, "").await.unwrap();
        live(&config, "second").await;
    }
}

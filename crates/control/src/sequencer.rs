//! Makes tiles and checkpoints of committed leaves. Whichever node holds the lock does it; (size, root) is stored by
//! compare-and-set before a signature leaves the process, so no two trees of one size are ever signed.

use std::path::Path;
use std::time::Duration;

use halligan_ledger::{Checkpoint, Hash, TileWriter, sign};
use halligan_store::{LedgerHead, SignedHead, Store};
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::error::ControlError;
use crate::keys::Keys;
use crate::timers::chain;

const LOCK: i64 = 5_000_000;
const PAUSE: Duration = Duration::from_millis(150);
const AT_ONCE: usize = 4096;

/// On start: a signed head that is ahead of the data stops the writer, and the tiles must lead to the signed root.
pub async fn check_head(
    store: &Store,
    folder: &Path,
    keys: &Keys,
    head: &LedgerHead,
) -> Result<(), ControlError> {
    if let Some(signed) = &head.signed
        && signed.size > head.size
    {
        return Err(ControlError::said(
            "start",
            format!(
                "a checkpoint over {} leaves was signed, but the store holds {}: it has gone back in time. Restore a newer \
                 copy, or open a new epoch with `halligan ledger recover`",
                signed.size, head.size
            ),
        ));
    }
    // Whatever the store says: one that knows of no signed head may be a copy from before the first, or another store.
    let tiles = folder.join("tiles");
    if let Some(note) = halligan_ledger::TileFolder::new(&tiles)
        .checkpoint()
        .map_err(ControlError::local("read the tiles"))?
    {
        let published = halligan_ledger::open(&note.to_string(), &[keys.ledger.key()])
            .map_err(ControlError::local("read the published checkpoint"))?;
        if published.size > head.size {
            return Err(ControlError::said(
                "start",
                format!(
                    "a checkpoint over {} leaves was published, but the store holds {}: it has gone back in time. Restore a \
                     newer copy, or open a new epoch with `halligan ledger recover`",
                    published.size, head.size
                ),
            ));
        }
        // The store must still hold the very leaves that were published.
        let last = published.size.checked_sub(1);
        if let Some(last) = last {
            let reader = halligan_ledger::TileFolder::new(&tiles);
            let width = u16::try_from((published.size - (last / 256) * 256).min(256)).unwrap_or(256);
            let bundle =
                reader.read_bundle(last / 256, width).map_err(ControlError::local("read the tiles"))?;
            let stored = store.leaves(last, 1).await?;
            let same = bundle.last().zip(stored.first()).is_some_and(|(tile, (_, leaf))| tile == leaf);
            if !same {
                return Err(ControlError::said(
                    "start",
                    "the store's leaves are not those that were published: it is another store, or one that went back in time \
                     and on. Restore the right copy, or open a new epoch with `halligan ledger recover`",
                ));
            }
        }
    }
    Ok(())
}

/// Sequences until stopped, then once more.
pub async fn run(control: Control, stop: CancellationToken) {
    let mut commits = control.store().subscribe();
    let mut writer: Option<TileWriter> = None;
    loop {
        let last = stop.is_cancelled();
        if let Err(error) = sequence(&control, &mut writer).await {
            tracing::warn!(error = %chain(&error), "failed to make a checkpoint");
            writer = None;
        }
        if last {
            let _ = control.store().sequencer_unlock(control.options().name.as_str()).await;
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { let _ = commits.changed().await; tokio::time::sleep(PAUSE).await } => {}
            () = tokio::time::sleep(Duration::from_millis(700)) => {}
        }
    }
}

/// Brings tiles and checkpoint up to what is committed.
async fn sequence(control: &Control, writer: &mut Option<TileWriter>) -> Result<(), ControlError> {
    if control.went_back().is_some() {
        return Ok(());
    }
    let store = control.store();
    let owner = control.options().name.as_str();
    if !store.sequencer_lock(owner, control.now().micros(), LOCK).await? {
        *writer = None;
        return Ok(());
    }
    let folder = control.options().folder.join("tiles");
    let mut tiles = match writer.take() {
        Some(tiles) => tiles,
        None => tokio::task::spawn_blocking(move || TileWriter::open(folder))
            .await
            .map_err(ControlError::local("open the tiles"))?
            .map_err(ControlError::local("open the tiles"))?,
    };
    loop {
        let leaves = store.leaves(tiles.size(), AT_ONCE).await?;
        if leaves.is_empty() {
            break;
        }
        let full = leaves.len() == AT_ONCE;
        tiles = tokio::task::spawn_blocking(move || {
            for (index, leaf) in leaves {
                if index != tiles.size() {
                    return Err(ControlError::said("sequence", "the store's leaves have a gap"));
                }
                tiles.append(leaf).map_err(ControlError::local("write a tile"))?;
            }
            Ok(tiles)
        })
        .await
        .map_err(ControlError::local("write tiles"))??;
        if !full {
            break;
        }
    }
    let head = store.head().await?;
    let size = tiles.size();
    if size == 0 || head.signed.as_ref().is_some_and(|signed| signed.size == size && published(control)) {
        *writer = Some(tiles);
        return Ok(());
    }
    let root = tiles.root();
    let checkpoint = Checkpoint { origin: control.options().origin.clone(), size, root };
    let note =
        sign(&control.keys().ledger, &checkpoint).map_err(ControlError::local("sign the checkpoint"))?;
    let text = note.to_string();
    let old = head.signed.as_ref().map(|signed| (signed.size, signed.root));
    let same = head.signed.as_ref().is_some_and(|signed| signed.size == size && signed.root == raw(&root));
    let new = SignedHead { size, root: raw(&root), note: text.clone() };
    if !same && !store.save_signed_head(old, &new).await? {
        return Ok(());
    }
    let tiles = tokio::task::spawn_blocking(move || tiles.commit(&note).map(|()| tiles))
        .await
        .map_err(ControlError::local("publish the checkpoint"))?
        .map_err(ControlError::local("publish the checkpoint"))?;
    *writer = Some(tiles);
    control.0.checkpoint.send_replace(Some(text));
    Ok(())
}

fn published(control: &Control) -> bool {
    control.options().folder.join("tiles").join("checkpoint").is_file()
}

fn raw(hash: &Hash) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}

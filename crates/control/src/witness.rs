//! Control's checkpoints in the hands of others: every gateway is asked to cosign each new one. A gateway that has cosigned
//! a later or another history shows it, signed by our own key; then this control decides nothing more, and its data must be
//! restored or a new epoch opened by two people.

use std::collections::HashMap;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use halligan_core::ids::Name;
use halligan_ledger::{
    Checkpoint, LedgerKey, NoteSignature, SignedNote, TileFolder, TileReader as _, disk, open, open_note,
};
use halligan_link::{Peer, Request, Response, Role};
use halligan_store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::error::ControlError;
use crate::keys::Keys;
use crate::timers::chain;

/// Where the proof lies that this control's history has gone back, until it is whole again or a new epoch is opened.
pub const WENT_BACK_FILE: &str = "went-back.note";
const NOTE_MOST_BYTES: u64 = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_secs(2);

/// Asks until stopped.
pub async fn run(control: Control, stop: CancellationToken) {
    let mut checkpoints = control.checkpoint();
    let mut cosigned: HashMap<Name, u64> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = checkpoints.changed() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
        let text = checkpoints.borrow_and_update().clone();
        if let Some(text) = text
            && control.went_back().is_none()
            && let Err(error) = round(&control, &text, &mut cosigned).await
        {
            tracing::warn!(error = %chain(&error), "failed to have a checkpoint cosigned");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Shows one checkpoint to every gateway that has not cosigned it.
async fn round(control: &Control, text: &str, cosigned: &mut HashMap<Name, u64>) -> Result<(), ControlError> {
    let mut note = SignedNote::parse(text).map_err(ControlError::local("read our own checkpoint"))?;
    let head = Checkpoint::parse(note.body()).map_err(ControlError::local("read our own checkpoint"))?;
    let mut asking = JoinSet::new();
    for peer in control.0.nodes.all() {
        let name = peer.info().name.clone();
        let old = cosigned.get(&name).copied().unwrap_or(0);
        if peer.info().role == Role::Gateway && old < head.size {
            let (control, text, size) = (control.clone(), text.to_owned(), head.size);
            asking.spawn(async move { (name, ask(&control, &peer, text, old, size).await) });
        }
    }
    let mut added = false;
    while let Some(Ok((name, answer))) = asking.join_next().await {
        match answer {
            Ok(Answer::Cosigned(line)) => {
                let signature: NoteSignature =
                    line.parse().map_err(ControlError::local("read a cosignature"))?;
                let key = node_key(control, &name).await?.as_cosigner();
                let mut shown = note.clone();
                shown.add(signature.clone()).map_err(ControlError::local("add a cosignature"))?;
                let opened = open_note(&shown, &[control.keys().ledger.key(), key.clone()]);
                if opened.is_ok_and(|opened| opened.cosigned.iter().any(|by| by.key == key)) {
                    note = shown;
                    added = true;
                    cosigned.insert(name, head.size);
                    control.count("checkpoints_cosigned");
                } else {
                    tracing::warn!(node = %name, "a cosignature does not hold");
                }
            }
            Ok(Answer::OtherHistory(shown)) => {
                if let Some(size) = judge(control, &name, &shown).await? {
                    cosigned.insert(name, size);
                }
            }
            Ok(Answer::None(why)) => {
                tracing::info!(node = %name, why, "a gateway has not cosigned a checkpoint");
            }
            Err(error) => {
                tracing::info!(node = %name, error = %chain(&error), "a gateway has not cosigned a checkpoint");
            }
        }
    }
    if added {
        let text = note.to_string();
        control.0.checkpoint.send_if_modified(|current| {
            // A newer one may have come meanwhile; its turn is next.
            let same = current
                .as_deref()
                .is_some_and(|held| SignedNote::parse(held).is_ok_and(|held| held.body() == note.body()));
            if same {
                *current = Some(text);
            }
            same
        });
    }
    Ok(())
}

enum Answer {
    Cosigned(String),
    OtherHistory(String),
    None(String),
}

async fn ask(
    control: &Control,
    peer: &Peer,
    checkpoint: String,
    old: u64,
    size: u64,
) -> Result<Answer, ControlError> {
    let mut old = old;
    for _ in 0..2 {
        let tiles = TileFolder::new(control.options().folder.join("tiles"));
        let proof = tokio::task::spawn_blocking(move || tiles.consistency_proof(old, size))
            .await
            .map_err(ControlError::local("prove that the ledger goes on"))?
            .map_err(ControlError::local("prove that the ledger goes on"))?;
        let proof = proof.iter().map(ToString::to_string).collect();
        let request = Request::Witness { checkpoint: checkpoint.clone(), old_size: old, proof };
        match peer.call(request).await.map_err(ControlError::local("ask a witness"))? {
            Response::Cosigned { note } => return Ok(Answer::Cosigned(note)),
            Response::OtherHistory { checkpoint } => return Ok(Answer::OtherHistory(checkpoint)),
            Response::WitnessedSize { size: seen } if seen <= size => old = seen,
            Response::Error { say } => return Ok(Answer::None(say)),
            other => return Ok(Answer::None(format!("it answered `{}`", other.name()))),
        }
    }
    Ok(Answer::None("it changes its mind about what it saw last".to_owned()))
}

/// A gateway says that it saw another history. Only our own signature proves it; and only if what it shows is really not
/// ours, for two control nodes may have shown it theirs in the other order.
async fn judge(control: &Control, by: &Name, shown: &str) -> Result<Option<u64>, ControlError> {
    let Ok(theirs) = open(shown, &[control.keys().ledger.key()]) else {
        tracing::warn!(node = %by, "a gateway claims another history and shows no signature of ours");
        return Ok(None);
    };
    match continues(control.store(), &control.options().folder, &theirs).await? {
        Some(true) => return Ok(Some(theirs.size)),
        // The tiles cannot tell yet: it is asked again.
        None => return Ok(None),
        Some(false) => {}
    }
    let said = sentence(theirs.size, control.store().head().await?.size, &format!("gateway {by}"));
    tracing::error!("{said}");
    control.count("history_went_back");
    // First of all nothing more is decided; that this is known after a restart comes second, and may fail.
    *control.0.went_back.write().unwrap_or_else(PoisonError::into_inner) = Some(said);
    let path = control.options().folder.join(WENT_BACK_FILE);
    disk::write_atomic(&path, shown.as_bytes(), 0o600)
        .map_err(ControlError::local(format!("write {}", path.display())))?;
    Ok(None)
}

fn sentence(theirs: u64, ours: u64, who: &str) -> String {
    format!(
        "{who} has cosigned a checkpoint over {theirs} leaves that the store and tiles here, with {ours} leaves, do not continue: \
         this control has gone back in time. It decides nothing more. Restore a newer copy, or open a new epoch with \
         `halligan ledger recover`"
    )
}

/// Whether what is here continues a checkpoint. None if the tiles cannot tell.
async fn continues(store: &Store, folder: &Path, theirs: &Checkpoint) -> Result<Option<bool>, ControlError> {
    if store.head().await?.size < theirs.size {
        return Ok(Some(false));
    }
    let (tiles, size) = (TileFolder::new(folder.join("tiles")), theirs.size);
    let root = tokio::task::spawn_blocking(move || {
        let published = Checkpoint::parse(tiles.checkpoint().ok()??.body()).ok()?.size;
        tiles.old_root(size, published).ok()
    });
    let root = root.await.map_err(ControlError::local("read the tiles"))?;
    Ok(root.map(|root| root == theirs.root))
}

/// On start: a history that was proved to have gone back is not gone on with. The proof is put away when it is whole again.
pub async fn check(store: &Store, folder: &Path, keys: &Keys) -> Result<(), ControlError> {
    let path = folder.join(WENT_BACK_FILE);
    let what = || format!("read {}", path.display());
    let Some(bytes) = disk::read_if_present(&path, NOTE_MOST_BYTES).map_err(ControlError::local(what()))?
    else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&bytes);
    let theirs = open(&text, &[keys.ledger.key()]).map_err(ControlError::local(what()))?;
    match continues(store, folder, &theirs).await? {
        Some(true) => {
            std::fs::remove_file(&path).map_err(ControlError::local(format!("remove {}", path.display())))
        }
        _ => Err(ControlError::said("start", sentence(theirs.size, store.head().await?.size, "a gateway"))),
    }
}

async fn node_key(control: &Control, name: &Name) -> Result<LedgerKey, ControlError> {
    let records = control.node_records().await?;
    let found = records.into_iter().find(|node| node.name == *name).and_then(|node| node.ledger_key);
    let unknown =
        || ControlError::said("check a cosignature", format!("the ledger's key of {name} is not known"));
    found.ok_or_else(unknown)?.parse().map_err(ControlError::local("read a node's ledger key"))
}

impl Control {
    /// Why this control decides nothing: others hold a later history of its ledger, or another.
    pub fn went_back(&self) -> Option<String> {
        self.0.went_back.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this node may decide now.
    pub fn may_decide(&self) -> Result<(), ControlError> {
        if self.clock_is_bad() {
            return Err(ControlError::said(
                "decide",
                "this node's clock is more than two seconds off the database's",
            ));
        }
        self.went_back().map_or(Ok(()), |why| Err(ControlError::said("decide", why)))
    }
}

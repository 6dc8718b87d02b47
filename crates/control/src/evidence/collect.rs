//! Finds what belongs to an incident: its documents by index, its leaves by its chain, the nodes' leaves in the mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use halligan_core::command::DocumentRef;
use halligan_core::event::Event;
use halligan_core::grant::Grant;
use halligan_core::ids::{IncidentId, Name};
use halligan_core::incident::Incident;
use halligan_core::leaf::{Leaf, LeafBody};
use halligan_core::refusal::Refusal;
use halligan_core::session::{RecordingState, Session};
use halligan_ledger::{Checkpoint, LedgerKey, MemoryTree, SignedNote, TileFolder, TrustPolicy, leaf_hash};
use halligan_link::Role;
use halligan_store::{DocumentKey, Order};
use halligan_verify::replay::reference;
use halligan_verify::{Contents, LedgerPart};

use crate::control::Control;
use crate::documents::{key_of, parse};
use crate::error::ControlError;
use crate::run::Chain;

const AT_ONCE: usize = 4096;
/// How long gateways are waited for.
const COSIGNING: Duration = Duration::from_secs(3);

/// What an export writes.
pub(super) struct Collected {
    pub contents: Contents,
    pub number: u64,
}

/// An incident's documents as of one moment: no leaf of its chain came in between.
pub(super) struct Documents {
    incident: Incident,
    bodies: BTreeMap<DocumentRef, Vec<u8>>,
    grants: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
    chain: Chain,
}

/// Reads the documents.
pub(super) async fn documents(control: &Control, id: IncidentId) -> Result<Documents, ControlError> {
    let store = control.store();
    let key = key_of(&DocumentRef::Incident(id));
    let chain_key = DocumentKey::new("chain", id.to_string());
    loop {
        let before = store.get(&chain_key).await?;
        let found = store.get(&key).await?;
        let (Some(before), Some(found)) = (before, found) else {
            return Err(Refusal::not_found(format_args!("incident {id}")).into());
        };
        let incident: Incident = parse(&key, &found.body)?;
        let mut bodies = BTreeMap::from([(DocumentRef::Incident(id), found.body)]);
        let mut grants = BTreeSet::new();
        let mut sessions = BTreeMap::new();
        for kind in ["request", "grant", "session", "review"] {
            let mut after: Option<String> = None;
            loop {
                let page = store
                    .by_index(kind, "incident", &id.to_string(), after.as_deref(), 500, Order::Ascending)
                    .await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.id.clone());
                for document in page {
                    match kind {
                        "grant" => {
                            let grant: Grant = parse(&document.key, &document.body)?;
                            grants.insert(grant.id.to_string());
                        }
                        "session" => {
                            let session: Session = parse(&document.key, &document.body)?;
                            sessions.insert(session.id.to_string(), session);
                        }
                        _ => {}
                    }
                    if let Some(reference) = reference(kind, &document.key.id) {
                        bodies.insert(reference, document.body);
                    }
                }
            }
        }
        let same = store.get(&chain_key).await?.is_some_and(|after| after.written_by == before.written_by);
        if same {
            let chain = parse(&chain_key, &before.body)?;
            return Ok(Documents { incident, bodies, grants, sessions, chain });
        }
    }
}

/// Collects the leaves that made these documents, and the rest. None if the documents have moved on meanwhile.
pub(super) async fn leaves(
    control: &Control,
    found: Documents,
    earlier: &[SignedNote],
    patience: Duration,
    pause: Duration,
) -> Result<Option<Collected>, ControlError> {
    let needed = control.store().head().await?.size;
    let checkpoint = cosigned(control, signed_beyond(control, needed, patience, pause).await?).await?;
    let nodes = nodes(control, &found).await?;
    let names: BTreeSet<Name> = nodes.iter().map(|node| node.name.clone()).collect();
    let head = Checkpoint::parse(checkpoint.body()).map_err(ControlError::local("read the checkpoint"))?;
    let mut scan = Scan::new(&found, names);
    let mut at = 0;
    while at < head.size {
        let most = usize::try_from(head.size - at).unwrap_or(AT_ONCE).min(AT_ONCE);
        let page = control.store().leaves(at, most).await?;
        at += page.len() as u64;
        if page.is_empty() {
            return Err(ControlError::said("collect leaves", "the ledger has fewer leaves than were signed"));
        }
        scan = tokio::task::spawn_blocking(move || {
            for (index, leaf) in page {
                scan.take(index, leaf);
            }
            scan
        })
        .await
        .map_err(ControlError::local("collect leaves"))?;
    }
    if scan.of_chain != found.chain.count {
        return Ok(None);
    }
    if scan.tree.root() != head.root {
        return Err(ControlError::said(
            "collect leaves",
            "the store's leaves do not give the root that was signed; run `halligan ledger check`",
        ));
    }
    let leaves = scan.leaves();
    let part = LedgerPart::collect(&scan.tree, checkpoint, leaves, earlier)
        .map_err(ControlError::local("prove the leaves"))?;
    let mut keys = vec![control.keys().ledger.key()];
    let mut parts = BTreeMap::new();
    let mut witnesses = Vec::new();
    for node in nodes {
        if node.role == Role::Gateway {
            witnesses.push((node.name.clone(), node.key.as_cosigner()));
        }
        keys.push(node.key);
        parts.insert(node.name, node.part);
    }
    // Gateways cosign. Whoever verifies may demand a number of them in a policy of their own.
    let witnesses: Vec<(&str, LedgerKey)> =
        witnesses.iter().map(|(name, key)| (name.as_str(), key.clone())).collect();
    let policy = TrustPolicy::with_witnesses(&keys, &witnesses, 0)
        .map_err(ControlError::local("write the trust policy"))?;
    let recordings = found
        .sessions
        .values()
        .filter(|session| session.recording.state == RecordingState::Stored)
        .map(|session| (session.recording.id, control.recordings().path(session.recording.id)))
        .collect();
    Ok(Some(Collected {
        number: found.incident.number,
        contents: Contents {
            incident: found.incident.id,
            created: control.now(),
            documents: found.bodies,
            control: part,
            nodes: parts,
            recordings,
            policy,
        },
    }))
}

/// Waits for a signed checkpoint over at least that many leaves.
async fn signed_beyond(
    control: &Control,
    needed: u64,
    patience: Duration,
    pause: Duration,
) -> Result<SignedNote, ControlError> {
    let wait = async {
        loop {
            if let Some(signed) = control.store().head().await?.signed
                && signed.size >= needed
            {
                return SignedNote::parse(&signed.note).map_err(ControlError::local("read the checkpoint"));
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(patience, wait).await.map_err(|_| {
        ControlError::said(
            "wait for a checkpoint",
            "none has been signed over the last leaves; is a sequencer running?",
        )
    })?
}

/// The same checkpoint, or a later one, with what gateways have cosigned; they are waited for a little, if there are any.
async fn cosigned(control: &Control, signed: SignedNote) -> Result<SignedNote, ControlError> {
    if !control.0.nodes.all().iter().any(|peer| peer.info().role == Role::Gateway) {
        return Ok(signed);
    }
    let size = |note: &SignedNote| Checkpoint::parse(note.body()).map_or(0, |head| head.size);
    let least = size(&signed);
    let mut shown = control.checkpoint();
    let wait = async {
        loop {
            let text = shown.borrow_and_update().clone();
            let note = text.and_then(|text| SignedNote::parse(&text).ok());
            if let Some(note) = note.filter(|note| note.signatures().len() > 1 && size(note) >= least) {
                return Some(note);
            }
            shown.changed().await.ok()?;
        }
    };
    Ok(tokio::time::timeout(COSIGNING, wait).await.ok().flatten().unwrap_or(signed))
}

/// Goes over control's ledger once: the whole tree for proofs, and the leaves that are wanted.
struct Scan {
    incident: IncidentId,
    /// Words of which a wanted leaf holds one; looked for before it is parsed.
    words: Vec<String>,
    sessions: BTreeSet<String>,
    nodes: BTreeSet<Name>,
    tree: MemoryTree,
    of_chain: u64,
    taken: Vec<(u64, Vec<u8>)>,
    /// Catalogs as they were applied, and those by which leaves were decided.
    catalogs: BTreeMap<u64, (u64, Vec<u8>)>,
    decided_by: BTreeSet<u64>,
}

impl Scan {
    fn new(found: &Documents, nodes: BTreeSet<Name>) -> Self {
        let mut words = vec![found.incident.id.to_string()];
        for word in ["ledger_key_pinned", "catalog_applied", "recording_played", "session_terminated"] {
            words.push(format!("\"{word}\""));
        }
        Self {
            incident: found.incident.id,
            words,
            sessions: found.sessions.keys().cloned().collect(),
            nodes,
            tree: MemoryTree::new(),
            of_chain: 0,
            taken: Vec::new(),
            catalogs: BTreeMap::new(),
            decided_by: BTreeSet::new(),
        }
    }

    fn take(&mut self, index: u64, bytes: Vec<u8>) {
        self.tree.push(leaf_hash(&bytes));
        let text = String::from_utf8_lossy(&bytes);
        if !self.words.iter().any(|word| text.contains(word.as_str())) {
            return;
        }
        let Ok(leaf) = serde_json::from_slice::<Leaf>(&bytes) else { return };
        let wanted = match (&leaf.chain, &leaf.body) {
            (Some(link), _) => {
                let ours = link.incident == self.incident;
                self.of_chain += u64::from(ours);
                if ours {
                    self.decided_by.insert(leaf.catalog);
                }
                ours
            }
            (None, LeafBody::Node { what, node, .. }) => {
                what == "ledger_key_pinned"
                    && Name::new(node.as_str()).is_ok_and(|node| self.nodes.contains(&node))
            }
            (None, LeafBody::CatalogApplied { version, .. }) => {
                self.catalogs.insert(*version, (index, bytes.clone()));
                false
            }
            (None, LeafBody::Evidence { incident, .. }) => *incident == self.incident,
            (None, LeafBody::Events { events }) => events.iter().any(|event| match event {
                Event::RecordingPlayed { session, .. } | Event::SessionTerminated { session, .. } => {
                    self.sessions.contains(&session.to_string())
                }
                _ => false,
            }),
            _ => false,
        };
        if wanted {
            self.taken.push((index, bytes));
        }
    }

    /// The wanted leaves in the ledger's order, with the catalogs by which they were decided.
    fn leaves(&mut self) -> Vec<(u64, Vec<u8>)> {
        let catalogs = std::mem::take(&mut self.catalogs);
        let mut leaves = std::mem::take(&mut self.taken);
        leaves.extend(
            catalogs
                .into_iter()
                .filter(|(version, _)| self.decided_by.contains(version))
                .map(|(_, leaf)| leaf),
        );
        leaves.sort_by_key(|(index, _)| *index);
        leaves
    }
}

/// A node's part.
struct NodePart {
    name: Name,
    role: Role,
    key: LedgerKey,
    part: LedgerPart,
}

/// The leaves about these grants and sessions in the mirrors of all nodes.
async fn nodes(control: &Control, found: &Documents) -> Result<Vec<NodePart>, ControlError> {
    let mut parts = Vec::new();
    for record in control.node_records().await? {
        let Some(key) = record.ledger_key.as_deref() else { continue };
        let key: LedgerKey = key.parse().map_err(ControlError::local("read a node's ledger key"))?;
        let words: Vec<String> = found.grants.iter().chain(found.sessions.keys()).cloned().collect();
        let (control, name) = (control.clone(), record.name.clone());
        let part = tokio::task::spawn_blocking(move || node(&control, &name, &words))
            .await
            .map_err(ControlError::local("read a mirror"))??;
        if let Some(part) = part.filter(|part| !part.leaves.is_empty()) {
            parts.push(NodePart { name: record.name, role: record.role, key, part });
        }
    }
    Ok(parts)
}

fn node(control: &Control, name: &Name, words: &[String]) -> Result<Option<LedgerPart>, ControlError> {
    let what = || format!("read the mirror of {name}");
    let tiles = TileFolder::new(control.0.mirrors.folder(name));
    let Some(note) = tiles.checkpoint().map_err(ControlError::local(what()))? else { return Ok(None) };
    let head = Checkpoint::parse(note.body()).map_err(ControlError::local(what()))?;
    let mut leaves = Vec::new();
    let mut at = 0;
    while at < head.size {
        let page = control.0.mirrors.read(name, at, 256)?;
        if page.is_empty() {
            break;
        }
        for leaf in page {
            let text = String::from_utf8_lossy(&leaf);
            if at < head.size && words.iter().any(|word| text.contains(word.as_str())) {
                leaves.push((at, leaf));
            }
            at += 1;
        }
    }
    LedgerPart::collect(&tiles, note, leaves, &[]).map(Some).map_err(ControlError::local(what()))
}

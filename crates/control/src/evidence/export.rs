//! Writes an incident's bundle. That somebody takes it out of the house is a leaf too, and so in the bundle.

use std::path::{Path, PathBuf};
use std::time::Duration;

use halligan_core::command::{Actor, DocumentRef};
use halligan_core::ids::IncidentId;
use halligan_core::incident::{Incident, may_see};
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::Refusal;
use halligan_core::world::Facts;
use halligan_ledger::SignedNote;
use halligan_verify::write_bundle;

use super::collect::{self, Collected};
use crate::control::Control;
use crate::documents::{key_of, parse};
use crate::error::ControlError;

/// The sequencer makes a checkpoint at least once a second; one that is this late will not come.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// How often documents are read again because somebody changed one meanwhile.
const MOST_ATTEMPTS: u32 = 5;

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which incident.
    pub incident: IncidentId,
    /// Its number.
    pub number: u64,
    /// Where the bundle is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Leaves of all ledgers in it.
    pub leaves: usize,
    /// Recordings in it.
    pub recordings: usize,
    /// The checkpoint of control's ledger that its leaves are proved to.
    pub checkpoint: String,
}

/// Exports an incident for whoever asks, who must be allowed to see it. `earlier` are checkpoints that somebody has kept,
/// from alerts say: the bundle proves that the ledger continues them.
///
/// It reads control's ledger from its first leaf: about a second for each 200,000 leaves.
pub async fn export(
    control: &Control,
    actor: &Actor,
    incident: IncidentId,
    path: &Path,
    earlier: &[SignedNote],
) -> Result<Summary, ControlError> {
    permitted(control, actor, incident).await?;
    let body = LeafBody::Evidence {
        what: "exported".to_owned(),
        incident,
        detail: format!("with {} checkpoints kept outside", earlier.len()),
    };
    control.note(actor, body, Vec::new()).await?;
    let mut attempt = 0;
    let collected = loop {
        let found = collect::documents(control, incident).await?;
        let found = collect::leaves(control, found, earlier, PATIENCE, PAUSE).await?;
        match found {
            Some(collected) => break collected,
            None if attempt < MOST_ATTEMPTS => attempt += 1,
            None => return Err(ControlError::Busy),
        }
    };
    let Collected { contents, number } = collected;
    let summary = Summary {
        incident,
        number,
        path: path.to_owned(),
        bytes: 0,
        leaves: contents.control.leaves.len()
            + contents.nodes.values().map(|part| part.leaves.len()).sum::<usize>(),
        recordings: contents.recordings.len(),
        checkpoint: contents.control.checkpoint.to_string(),
    };
    let to = path.to_owned();
    let written = tokio::task::spawn_blocking(move || write_bundle(&to, &contents))
        .await
        .map_err(ControlError::local("write the evidence"))?
        .map_err(ControlError::local("write the evidence"))?;
    Ok(Summary { bytes: written.bytes, ..summary })
}

/// A person must be allowed to see the incident; nodes take nothing out.
async fn permitted(control: &Control, actor: &Actor, id: IncidentId) -> Result<(), ControlError> {
    let unknown = || Refusal::not_found(format_args!("incident {id}"));
    let key = key_of(&DocumentRef::Incident(id));
    let found = control.store().get(&key).await?.ok_or_else(unknown)?;
    let incident: Incident = parse(&key, &found.body)?;
    let in_force = control.in_force();
    let entitlements = Default::default();
    let facts = Facts {
        catalog: &in_force.head.catalog,
        catalog_version: in_force.head.version,
        entitlements: &entitlements,
    };
    let seen = match actor {
        Actor::Person { id, .. } => may_see(&facts, &incident, id),
        Actor::Clock => true,
        Actor::Node { .. } => false,
    };
    if seen { Ok(()) } else { Err(unknown().into()) }
}

//! The content of a bundle as values: documents, leaves of control, leaves of nodes. Report and checks are made of it.

use std::collections::BTreeMap;

use halligan_core::command::DocumentRef;
use halligan_core::event::Event;
use halligan_core::ids::{IncidentId, Name};
use halligan_core::incident::Incident;
use halligan_core::leaf::{Leaf, LeafBody};
use halligan_core::node_event::NodeLeaf;
use halligan_core::time::Time;
use halligan_core::world::World;
use halligan_ledger::Checkpoint;

/// One incident as its bundle tells it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Its documents.
    pub world: World,
    /// Leaves of control's ledger, by index.
    pub leaves: Vec<(u64, Leaf)>,
    /// Leaves of nodes' ledgers, by index.
    pub nodes: BTreeMap<Name, Vec<(u64, NodeLeaf)>>,
    /// Checkpoints, control's first.
    pub heads: Vec<Checkpoint>,
}

impl Story {
    /// The incident's document.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.world.incidents.get(&id)
    }

    /// Puts a document in, from its stored bytes.
    pub fn insert(&mut self, document: &DocumentRef, body: &[u8]) -> Result<(), serde_json::Error> {
        let world = &mut self.world;
        match document {
            DocumentRef::Request(id) => drop(world.requests.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Grant(id) => drop(world.grants.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Session(id) => drop(world.sessions.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Incident(id) => drop(world.incidents.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Review(id) => drop(world.reviews.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Change(id) => drop(world.changes.insert(*id, serde_json::from_slice(body)?)),
            DocumentRef::Standing(id) => {
                drop(world.standings.insert(id.clone(), serde_json::from_slice(body)?));
            }
        }
        Ok(())
    }

    /// Every event of the domain, with index and time of its leaf.
    pub fn events(&self) -> impl Iterator<Item = (u64, Time, &Event)> {
        self.leaves.iter().flat_map(|(index, leaf)| {
            let events = match &leaf.body {
                LeafBody::Events { events } => events.as_slice(),
                _ => &[],
            };
            events.iter().map(move |event| (*index, leaf.at, event))
        })
    }

    /// Every event of a node.
    pub fn node_events(&self) -> impl Iterator<Item = (&Name, u64, &NodeLeaf)> {
        self.nodes
            .iter()
            .flat_map(|(node, leaves)| leaves.iter().map(move |(index, leaf)| (node, *index, leaf)))
    }
}

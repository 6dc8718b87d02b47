//! A store in memory with what matters of the real one: documents with revisions, and commits that are refused when
//! something that the decision saw has moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::organisation::Organisation;
use crate::apply::apply;
use crate::catalog::ResolvedEntitlement;
use crate::command::{Actor, Command, DocumentRef, Need};
use crate::decide::{Context, decide};
use crate::effect::Effect;
use crate::event::Event;
use crate::ids::{EntitlementName, FreshIds};
use crate::react::react;
use crate::refusal::Refusal;
use crate::time::Time;
use crate::world::{Facts, World, needs};

/// All documents, and the catalog in force.
#[derive(Clone, Debug)]
pub struct Store {
    /// Every document there is.
    pub world: World,
    /// The catalog in force; its version is in every read set.
    pub organisation: Arc<Organisation>,
    /// The time of the last commit; decisions are never made before it.
    pub last: Time,
    revisions: BTreeMap<DocumentRef, u64>,
}

/// The part of the store that a command sees, with the revisions that were seen.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The documents.
    pub world: World,
    /// The entitlements.
    pub entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    /// The catalog as it was then.
    pub organisation: Arc<Organisation>,
    seen: Vec<(DocumentRef, u64)>,
}

/// A decision that waits for its commit.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Who.
    pub actor: Actor,
    /// What was asked.
    pub command: Command,
    /// When it was decided.
    pub at: Time,
    /// What it was made on.
    pub slice: Slice,
    /// What is to happen.
    pub events: Vec<Event>,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The decision.
    pub decided: Decided,
    /// What is to be done outside.
    pub effects: Vec<Effect>,
    /// The documents that changed.
    pub changed: Vec<DocumentRef>,
}

impl Store {
    /// An empty store.
    pub fn new(organisation: Organisation, start: Time) -> Self {
        Self {
            world: World::default(),
            organisation: Arc::new(organisation),
            last: start,
            revisions: BTreeMap::new(),
        }
    }

    /// The revision of a document; 0 if there is none.
    pub fn revision(&self, document: &DocumentRef) -> u64 {
        self.revisions.get(document).copied().unwrap_or(0)
    }

    /// Loads what a command needs, and nothing else.
    pub fn load(&self, command: &Command) -> Slice {
        let mut slice = Slice {
            world: World::default(),
            entitlements: BTreeMap::new(),
            organisation: self.organisation.clone(),
            seen: Vec::new(),
        };
        loop {
            let missing = needs(&slice.world, &slice.entitlements, command);
            let mut more = false;
            for need in missing {
                match need {
                    Need::Entitlement(name) => {
                        if let Some(found) = self.organisation.entitlements.get(&name) {
                            slice.entitlements.insert(name, found.clone());
                            more = true;
                        }
                    }
                    Need::Document(document) => {
                        more = true;
                        slice.seen.push((document.clone(), self.revision(&document)));
                        copy(&self.world, &mut slice.world, &document);
                        slice.world.known.insert(document);
                    }
                }
            }
            if !more {
                return slice;
            }
        }
    }

    /// Has anything moved that this decision saw?
    pub fn moved(&self, slice: &Slice) -> bool {
        slice.organisation.version != self.organisation.version
            || slice.seen.iter().any(|(document, revision)| self.revision(document) != *revision)
    }

    /// Takes the events in, whatever the read set says: ask [`Store::moved`] first.
    pub fn commit(&mut self, decided: Decided) -> Committed {
        let mut effects = Vec::new();
        self.world.changed.clear();
        let organisation = decided.slice.organisation.clone();
        for event in &decided.events {
            apply(&mut self.world, event, decided.at);
            effects.extend(react(&self.world, &organisation.facts(), event));
        }
        let changed: Vec<DocumentRef> = std::mem::take(&mut self.world.changed).into_iter().collect();
        for document in &changed {
            *self.revisions.entry(document.clone()).or_default() += 1;
        }
        self.last = self.last.max(decided.at);
        Committed { decided, effects, changed }
    }
}

impl Slice {
    /// Decides on this slice.
    pub fn decide(
        self,
        now: Time,
        seed: [u8; 16],
        actor: &Actor,
        command: &Command,
    ) -> Result<Decided, Refusal> {
        let mut context = Context { now, actor, ids: FreshIds::new(seed, now) };
        let facts = Facts {
            catalog: &self.organisation.catalog,
            catalog_version: self.organisation.version,
            entitlements: &self.entitlements,
        };
        let events = decide(&self.world, &facts, &mut context, command)?;
        Ok(Decided { actor: actor.clone(), command: command.clone(), at: now, slice: self, events })
    }
}

/// Copies one document, if it is there.
pub fn copy(from: &World, to: &mut World, document: &DocumentRef) {
    macro_rules! copy {
        ($($kind:ident $map:ident),*) => {
            match document {$(
                DocumentRef::$kind(id) => match from.$map.get(id) {
                    Some(found) => { to.$map.insert(id.clone(), found.clone()); }
                    None => { to.$map.remove(id); }
                }
            )*}
        };
    }
    copy!(Request requests, Grant grants, Session sessions, Incident incidents, Review reviews, Standing standings, Change changes);
}

//! Loads the slice of the world that a command needs, and remembers which revisions it saw.

use std::collections::{BTreeMap, HashMap};

use halligan_core::catalog::ResolvedEntitlement;
use halligan_core::command::{Command, DocumentRef, Need};
use halligan_core::ids::EntitlementName;
use halligan_core::world::{Facts, World, needs};
use halligan_store::{DocumentKey, ReadSet, Store};

use crate::catalog::{InForce, head_key, system_key};
use crate::documents::{insert, key_of};
use crate::error::ControlError;

/// A slice of the world, with what a commit needs to know of how it was read.
#[derive(Default)]
pub struct Slice {
    /// The documents.
    pub world: World,
    /// The entitlements.
    pub entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    /// What was seen.
    pub read_set: ReadSet,
    /// Revisions of what is there.
    pub revisions: HashMap<DocumentRef, u64>,
}

impl Slice {
    /// Loads all that `command` needs.
    pub async fn load(store: &Store, in_force: &InForce, command: &Command) -> Result<Self, ControlError> {
        let mut slice = Self::default();
        match &in_force.document {
            Some(document) => slice.read_set.saw(document),
            None => slice.read_set.saw_nothing(head_key()),
        }
        loop {
            let missing = needs(&slice.world, &slice.entitlements, command);
            if missing.is_empty() {
                return Ok(slice);
            }
            let before = slice.world.known.len() + slice.entitlements.len();
            let mut gone = 0;
            for need in &missing {
                if let Need::Entitlement(name) = need {
                    match in_force.system(store, &name.system).await? {
                        Some((system, document)) => {
                            slice.read_set.saw(&document);
                            match in_force.head.catalog.resolve(&system, &name.role) {
                                Some(found) => drop(slice.entitlements.insert(name.clone(), found)),
                                None => gone += 1,
                            }
                        }
                        None => {
                            slice
                                .read_set
                                .saw_nothing(system_key(in_force.head.systems_generation, &name.system));
                            gone += 1;
                        }
                    }
                }
            }
            slice.documents(store, &missing).await?;
            // What is not in the catalog will not appear by asking again.
            let after = slice.world.known.len() + slice.entitlements.len();
            if after == before && gone == missing.len() {
                return Ok(slice);
            }
        }
    }

    async fn documents(&mut self, store: &Store, missing: &[Need]) -> Result<(), ControlError> {
        let wanted: Vec<(&DocumentRef, DocumentKey)> = missing
            .iter()
            .filter_map(|need| match need {
                Need::Document(document) => Some((document, key_of(document))),
                Need::Entitlement(_) => None,
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let keys: Vec<DocumentKey> = wanted.iter().map(|(_, key)| key.clone()).collect();
        let mut found: HashMap<DocumentKey, halligan_store::Document> = store
            .get_many(&keys)
            .await?
            .into_iter()
            .map(|document| (document.key.clone(), document))
            .collect();
        for (document, key) in wanted {
            self.world.known.insert(document.clone());
            match found.remove(&key) {
                Some(stored) => {
                    insert(&mut self.world, document, &stored.body)?;
                    self.revisions.insert(document.clone(), stored.revision);
                    self.read_set.saw(&stored);
                }
                None => self.read_set.saw_nothing(key),
            }
        }
        Ok(())
    }

    /// The facts of a decision on this slice.
    pub fn facts<'a>(&'a self, in_force: &'a InForce) -> Facts<'a> {
        Facts {
            catalog: &in_force.head.catalog,
            catalog_version: in_force.head.version,
            entitlements: &self.entitlements,
        }
    }
}

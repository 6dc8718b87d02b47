//! The catalog in force: everything but the systems in memory, one value per version; each system a document.

use std::sync::Arc;

use halligan_core::catalog::{Catalog, ResolvedEntitlement, System};
use halligan_core::ids::{EntitlementName, Name};
use halligan_store::{Document, DocumentKey, Store};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::documents::parse;
use crate::error::ControlError;

/// The head document: which version is in force, and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogHead {
    /// Grows by one with each `apply`.
    pub version: u64,
    /// Which generation of system documents is in force.
    pub systems_generation: u64,
    /// Everything but the systems.
    pub catalog: Catalog,
}

/// The catalog in force, as a decision sees it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Version and catalog.
    pub head: Arc<CatalogHead>,
    /// The document that it was read from; in every read set, so that no decision outlives its catalog.
    pub document: Option<Document>,
    /// SHA-256 of the policies' text, hex, by which leases name the policy.
    pub digest: String,
}

/// Where the head lies.
pub fn head_key() -> DocumentKey {
    DocumentKey::new("catalog", "head")
}

/// Where a system lies.
pub fn system_key(generation: u64, name: &Name) -> DocumentKey {
    DocumentKey::new(system_kind(generation), name.as_str())
}

/// The kind of system documents of a generation.
pub fn system_kind(generation: u64) -> String {
    format!("system-{generation}")
}

/// Loads what is in force.
pub async fn load(store: &Store) -> Result<InForce, ControlError> {
    let document = store.get(&head_key()).await?;
    let head = match &document {
        Some(found) => parse(&found.key, &found.body)?,
        None => CatalogHead { version: 0, systems_generation: 0, catalog: Catalog::default() },
    };
    let digest = document.as_ref().map(|found| hex::encode(Sha256::digest(&found.body))).unwrap_or_default();
    Ok(InForce { head: Arc::new(head), document, digest })
}

impl InForce {
    /// A system by name.
    pub async fn system(
        &self,
        store: &Store,
        name: &Name,
    ) -> Result<Option<(System, Document)>, ControlError> {
        let key = system_key(self.head.systems_generation, name);
        match store.get(&key).await? {
            None => Ok(None),
            Some(found) => Ok(Some((parse(&found.key, &found.body)?, found))),
        }
    }

    /// An entitlement with its system.
    pub async fn entitlement(
        &self,
        store: &Store,
        name: &EntitlementName,
    ) -> Result<Option<ResolvedEntitlement>, ControlError> {
        Ok(self
            .system(store, &name.system)
            .await?
            .and_then(|(system, _)| self.head.catalog.resolve(&system, &name.role)))
    }
}

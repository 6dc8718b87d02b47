//! What one person may see (rule 13), read from the store: for pages and API alike. Something that exists and is not
//! theirs is answered in the same words as something that does not exist.
//!
//! Lists run over the store's own order by key and look at a bounded number of documents for each answer.

mod catalog;
mod grants;
mod incidents;
mod requests;
mod reviews;
mod statements;
mod tasks;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use halligan_core::catalog::{OfficeName, ResolvedEntitlement};
use halligan_core::ids::{EntitlementName, PersonId};
use halligan_core::time::Time;
use halligan_core::world::Facts;
use halligan_store::{CommitError, Document, DocumentKey, DocumentWrite, Order};
use serde::{Deserialize, Serialize};

use crate::catalog::InForce;
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;

pub use catalog::{Offered, SeenScenario};
pub use grants::{SeenGrant, SeenSession};
pub use incidents::SeenIncident;
pub use requests::SeenRequest;
pub use reviews::SeenReview;
pub use statements::SeenStatement;
pub use tasks::{ActionToDo, ChangeToJudge, TaskList};

/// Documents looked at for one page, so that one question costs a bounded amount.
const MOST_SCANNED: usize = 2000;
const AT_ONCE: usize = 200;

/// Somebody who looks.
#[derive(Clone)]
pub struct Viewer {
    control: Control,
    person: PersonId,
    in_force: Arc<InForce>,
    now: Time,
}

/// Which documents of a kind to go through.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// All.
    All,
    /// Those written with this index and value.
    Index(&'a str, &'a str),
}

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Part<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Where to go on; none at the end.
    pub next: Option<String>,
}

/// Something that is shown.
pub trait View: Sized + Send {
    /// Kind of its documents.
    const KIND: &'static str;
    /// The view, if this person may have it.
    fn see(
        viewer: &Viewer,
        document: &Document,
    ) -> impl Future<Output = Result<Option<Self>, ControlError>> + Send;
}

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    last: u64,
}

impl Control {
    /// This person's eyes, as things stand now.
    pub fn viewer(&self, person: &PersonId) -> Viewer {
        Viewer { control: self.clone(), person: person.clone(), in_force: self.in_force(), now: self.now() }
    }

    /// A number for a new incident, never given twice. One that is not used leaves a hole, which does not matter.
    pub async fn next_incident_number(&self) -> Result<u64, ControlError> {
        let key = DocumentKey::new("counter", "incident");
        for _ in 0..24 {
            let found = self.store().get(&key).await?;
            let revision = found.as_ref().map_or(0, |found| found.revision);
            let mut counter: Counter = match &found {
                Some(found) => parse(&key, &found.body)?,
                None => Counter::default(),
            };
            counter.last += 1;
            let commit = halligan_store::Commit {
                documents: vec![DocumentWrite::put(key.clone(), revision, bytes(&counter)?)],
                commit_time: self.now().micros(),
                ..Default::default()
            };
            match self.store().commit(commit).await {
                Ok(_) => return Ok(counter.last),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Busy)
    }
}

impl Viewer {
    /// Who looks.
    pub fn person(&self) -> &PersonId {
        &self.person
    }
    /// When.
    pub const fn now(&self) -> Time {
        self.now
    }
    /// The catalog in force.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Does the person hold one of these offices?
    pub fn holds(&self, offices: &[OfficeName]) -> bool {
        offices.iter().any(|office| self.in_force.head.catalog.holds(&self.person, *office))
    }

    /// Oversight: those who see every emergency.
    pub fn oversees(&self) -> bool {
        self.holds(&[
            OfficeName::SecurityOfficer,
            OfficeName::IncidentLead,
            OfficeName::Auditor,
            OfficeName::PlatformOwner,
        ])
    }

    fn facts<'a>(&'a self, entitlements: &'a BTreeMap<EntitlementName, ResolvedEntitlement>) -> Facts<'a> {
        Facts {
            catalog: &self.in_force.head.catalog,
            catalog_version: self.in_force.head.version,
            entitlements,
        }
    }

    /// The entitlement as a map of one, as [`Facts`] wants it; empty if the catalog has it no more.
    async fn entitlement(
        &self,
        name: &EntitlementName,
    ) -> Result<BTreeMap<EntitlementName, ResolvedEntitlement>, ControlError> {
        let found = self.in_force.entitlement(self.control.store(), name).await?;
        Ok(found.into_iter().map(|found| (name.clone(), found)).collect())
    }

    async fn document<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<T>, ControlError> {
        let key = DocumentKey::new(kind, id);
        match self.control.store().get(&key).await? {
            Some(found) => Ok(Some(parse(&key, &found.body)?)),
            None => Ok(None),
        }
    }

    /// One thing by its id, if the person may see it.
    async fn one<T: View>(&self, id: &str) -> Result<Option<T>, ControlError> {
        match self.control.store().get(&DocumentKey::new(T::KIND, id)).await? {
            Some(found) => T::see(self, &found).await,
            None => Ok(None),
        }
    }

    /// A page of a list, newest first: those that the person may see and `keep` wants.
    pub async fn part<T: View>(
        &self,
        source: Source<'_>,
        after: Option<&str>,
        limit: usize,
        keep: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<Part<T>, ControlError> {
        let store = self.control.store();
        let mut items = Vec::new();
        let mut after = after.map(str::to_owned);
        let mut scanned = 0;
        loop {
            let order = Order::Descending;
            let page = match source {
                Source::All => store.list(T::KIND, after.as_deref(), AT_ONCE, order).await?,
                Source::Index(index, value) => {
                    store.by_index(T::KIND, index, value, after.as_deref(), AT_ONCE, order).await?
                }
            };
            if page.is_empty() {
                return Ok(Part { items, next: None });
            }
            for document in &page {
                scanned += 1;
                after = Some(document.key.id.clone());
                if let Some(seen) = T::see(self, document).await?
                    && keep(&seen)
                {
                    items.push(seen);
                }
                if items.len() >= limit || scanned >= MOST_SCANNED {
                    return Ok(Part { items, next: after });
                }
            }
        }
    }
}

//! The kinds of targets that one connector serves, and which of them a grant belongs to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use halligan_core::catalog::SystemKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::Evidence;
use halligan_core::time::Time;
use halligan_link::messages::{PeerInfo, Request, Response};
use halligan_session::{Lease, SignedLease};

use crate::connector::Connector;
use crate::error::ConnectorError;
use crate::site::Site;

/// One site's connector with all its kinds. Clones are the same connector.
#[derive(Clone)]
pub struct SiteConnectors {
    site: Arc<Site>,
    kinds: BTreeMap<SystemKind, Arc<dyn Connector>>,
}

impl SiteConnectors {
    /// One that serves nothing yet.
    pub const fn new(site: Arc<Site>) -> Self {
        Self { site, kinds: BTreeMap::new() }
    }

    /// Serves this kind too. It must work on the same site.
    pub fn with(mut self, connector: Arc<dyn Connector>) -> Self {
        self.kinds.insert(connector.kind(), connector);
        self
    }

    /// What they share.
    pub const fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// See [`Connector::activate`].
    pub async fn activate(&self, lease: &SignedLease) -> Result<(), ConnectorError> {
        // Which door it is for may be read before the signature is checked: every kind checks it first of all.
        let read: Lease = serde_json::from_str(&lease.payload)
            .map_err(|_| ConnectorError::refused("failed to activate: the lease cannot be read"))?;
        let Some(connector) = self.kinds.get(&read.target.kind) else {
            return Err(ConnectorError::refused(format!(
                "failed to activate grant {}: this connector serves no such target as {}",
                read.grant, read.target.system
            )));
        };
        connector.activate(lease).await
    }

    /// See [`Connector::deactivate`].
    pub async fn deactivate(&self, grant: GrantId, fencing: u64) -> Result<Time, ConnectorError> {
        self.of(grant).await?.deactivate(grant, fencing).await
    }

    /// See [`Connector::look`].
    pub async fn look(&self, grant: GrantId, fencing: u64) -> Result<Evidence, ConnectorError> {
        self.of(grant).await?.look(grant, fencing).await
    }

    /// See [`Connector::answer`].
    pub(crate) async fn answer(
        &self,
        peer: &PeerInfo,
        request: &Request,
    ) -> Option<Result<Response, ConnectorError>> {
        for connector in self.kinds.values() {
            if let Some(answer) = connector.answer(peer, request.clone()).await {
                return Some(answer);
            }
        }
        None
    }

    /// What all kinds do unasked. Never returns.
    pub async fn keep_watch(&self) {
        futures::future::join_all(self.kinds.values().map(|connector| connector.keep_watch())).await;
        std::future::pending().await
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.kinds.values().flat_map(|connector| connector.warnings()).collect()
    }

    /// The kind that the grant was activated with here. One that was never heard of has nothing to end: any kind stores
    /// its tombstone.
    async fn of(&self, grant: GrantId) -> Result<&Arc<dyn Connector>, ConnectorError> {
        let site = Arc::clone(&self.site);
        let kind = tokio::task::spawn_blocking(move || {
            let state = site.grants().grant(grant)?;
            Ok::<_, ConnectorError>(site.held_lease(&state)?.map(|lease| lease.target.kind))
        });
        let kind = kind.await.map_err(|_| ConnectorError::Inside)??;
        let found = match kind {
            Some(kind) => self.kinds.get(&kind),
            None => self.kinds.values().next(),
        };
        found.ok_or_else(|| {
            ConnectorError::refused(format!(
                "this connector does not serve the target of grant {grant} any more"
            ))
        })
    }
}

impl fmt::Debug for SiteConnectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteConnectors({:?}, {:?})", self.site.config(), self.kinds.keys())
    }
}

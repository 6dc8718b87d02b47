//! Grants and their sessions: seen by their person, the system's owner, and oversight.

use halligan_core::catalog::RecordingClass;
use halligan_core::grant::{Grant, GrantState, may_oversee, overall};
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::incident::Incident;
use halligan_core::proof::Finding;
use halligan_core::refusal::Refusal;
use halligan_core::session::Session;
use halligan_core::time::Span;
use halligan_link::Role;
use halligan_store::Document;

use super::{View, Viewer};
use crate::documents::parse;
use crate::error::ControlError;

/// A grant with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenGrant {
    /// The document.
    pub grant: Grant,
    /// Time left, if it is active.
    pub time_left: Option<Span>,
    /// What its checks say so far.
    pub finding: Finding,
    /// Number of its incident.
    pub incident_number: Option<u64>,
    /// Names of connected gateways of its site.
    pub gateways: Vec<Name>,
}

/// A session with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenSession {
    /// The document.
    pub session: Session,
    /// Number of its incident.
    pub incident_number: Option<u64>,
    /// How its recording may be seen, as the catalog has it now. The recording's own header decides.
    pub recording_class: RecordingClass,
}

impl View for SeenGrant {
    const KIND: &'static str = "grant";

    async fn see(viewer: &Viewer, document: &Document) -> Result<Option<Self>, ControlError> {
        let grant: Grant = parse(&document.key, &document.body)?;
        let entitlements = viewer.entitlement(&grant.entitlement).await?;
        if !may_oversee(&viewer.facts(&entitlements), &grant, &viewer.person, viewer.now) {
            return Ok(None);
        }
        let gateways = entitlements.get(&grant.entitlement).map(|found| {
            let peers = viewer.control.peers(Role::Gateway, &found.system.site);
            peers.iter().map(|peer| peer.info().name.clone()).collect()
        });
        let left = grant.deadline.filter(|_| grant.state == GrantState::Active);
        Ok(Some(Self {
            time_left: left.map(|deadline| deadline.since(viewer.now)),
            finding: overall(&grant),
            incident_number: viewer.incident_number(grant.incident).await?,
            gateways: gateways.unwrap_or_default(),
            grant,
        }))
    }
}

impl View for SeenSession {
    const KIND: &'static str = "session";

    async fn see(viewer: &Viewer, document: &Document) -> Result<Option<Self>, ControlError> {
        let session: Session = parse(&document.key, &document.body)?;
        let entitlements = viewer.entitlement(&session.entitlement).await?;
        let allowed = session.person == viewer.person || viewer.oversees() || {
            let grant: Option<Grant> = viewer.document("grant", &session.grant.to_string()).await?;
            grant.is_some_and(|grant| {
                may_oversee(&viewer.facts(&entitlements), &grant, &viewer.person, viewer.now)
            })
        };
        if !allowed {
            return Ok(None);
        }
        let class = entitlements.get(&session.entitlement).map(|found| found.entitlement.recording.class);
        Ok(Some(Self {
            incident_number: viewer.incident_number(session.incident).await?,
            recording_class: class.unwrap_or(RecordingClass::Sealed),
            session,
        }))
    }
}

impl Viewer {
    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Result<SeenGrant, ControlError> {
        self.one(&id.to_string()).await?.ok_or_else(|| Refusal::not_found(format_args!("grant {id}")).into())
    }

    /// One session.
    pub async fn session(&self, id: SessionId) -> Result<SeenSession, ControlError> {
        self.one(&id.to_string())
            .await?
            .ok_or_else(|| Refusal::not_found(format_args!("session {id}")).into())
    }

    pub(super) async fn incident_number(
        &self,
        id: Option<halligan_core::ids::IncidentId>,
    ) -> Result<Option<u64>, ControlError> {
        let Some(id) = id else { return Ok(None) };
        let found: Option<Incident> = self.document("incident", &id.to_string()).await?;
        Ok(found.map(|incident| incident.number))
    }
}

//! Requests: seen by those who ask, use, decide or have decided, by members of their incident, and by oversight.

use std::collections::BTreeSet;

use halligan_core::catalog::WhoContext;
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{BatchId, PersonId, RequestId};
use halligan_core::incident::Incident;
use halligan_core::refusal::Refusal;
use halligan_core::request::{Mode, Request, RequestState, approval_standing, barred};
use halligan_store::{Document, Order};

use super::{Part, Source, View, Viewer};
use crate::documents::parse;
use crate::error::ControlError;

/// A request with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The document.
    pub request: Request,
    /// Who may approve each step now.
    pub eligible: Vec<BTreeSet<PersonId>>,
    /// Steps that still want an approval.
    pub missing: Vec<usize>,
    /// Number of its incident.
    pub incident_number: Option<u64>,
    /// Where its grant stands.
    pub grant_state: Option<GrantState>,
    /// The viewer may decide it now.
    pub may_decide: bool,
    /// Why somebody who is named as approver may not.
    pub barred: Option<String>,
    /// What is to be typed for a bypass, if the viewer may bypass it.
    pub bypass_confirmation: Option<String>,
}

impl View for SeenRequest {
    const KIND: &'static str = "request";

    async fn see(viewer: &Viewer, document: &Document) -> Result<Option<Self>, ControlError> {
        let request: Request = parse(&document.key, &document.body)?;
        let entitlements = viewer.entitlement(&request.entitlement).await?;
        let facts = viewer.facts(&entitlements);
        let pending = request.state == RequestState::Pending && viewer.now < request.lapses_at;
        let standing = entitlements
            .get(&request.entitlement)
            .map(|found| approval_standing(&facts, &request, found, viewer.now));
        let (eligible, missing) = standing.map(|found| (found.eligible, found.missing)).unwrap_or_default();
        let incident: Option<Incident> = match request.incident {
            Some(id) => viewer.document("incident", &id.to_string()).await?,
            None => None,
        };
        let person = &viewer.person;
        let decides = pending && eligible.iter().any(|people| people.contains(person));
        let mine = *person == request.requester || *person == request.beneficiary;
        let visible = mine
            || decides
            || viewer.oversees()
            || request.decisions.iter().any(|decision| decision.person == *person)
            || incident.as_ref().is_some_and(|incident| incident.is_party(person));
        if !visible {
            return Ok(None);
        }
        let grant: Option<Grant> = match request.grant {
            Some(id) => viewer.document("grant", &id.to_string()).await?,
            None => None,
        };
        let scenario =
            request.scenario.as_ref().and_then(|name| viewer.in_force.head.catalog.scenarios.get(name));
        let bypasses = scenario.is_some_and(|scenario| {
            let system = entitlements.get(&request.entitlement).map(|found| &found.system);
            let context = WhoContext { beneficiary: &request.beneficiary, system, now: viewer.now };
            viewer.in_force.head.catalog.is_among(person, &scenario.bypassed_by, context)
        }) && pending
            && *person == request.beneficiary
            && request.mode == Mode::Emergency
            && request.bypass.is_none();
        Ok(Some(Self {
            may_decide: decides,
            barred: if decides || !pending { None } else { barred(&facts, &request, person) },
            bypass_confirmation: bypasses.then(|| request.entitlement.to_string()),
            incident_number: incident.map(|incident| incident.number),
            grant_state: grant.map(|grant| grant.state),
            eligible,
            missing,
            request,
        }))
    }
}

impl Viewer {
    /// One request.
    pub async fn request(&self, id: RequestId) -> Result<SeenRequest, ControlError> {
        self.one(&id.to_string())
            .await?
            .ok_or_else(|| Refusal::not_found(format_args!("request {id}")).into())
    }

    /// Requests of a batch that the person may see, in order.
    pub async fn batch(&self, id: BatchId) -> Result<Vec<SeenRequest>, ControlError> {
        let text = id.to_string();
        let page =
            self.control.store().by_index("request", "batch", &text, None, 100, Order::Ascending).await?;
        let mut seen = Vec::new();
        for document in &page {
            seen.extend(SeenRequest::see(self, document).await?);
        }
        if seen.is_empty() {
            return Err(Refusal::not_found(format_args!("batch {id}")).into());
        }
        Ok(seen)
    }

    /// Requests that the person asked or would use, newest first.
    pub async fn requests_mine(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Part<SeenRequest>, ControlError> {
        self.part(Source::Index("person", self.person.as_str()), after, limit, |_| true).await
    }
}

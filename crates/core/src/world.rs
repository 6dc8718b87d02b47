//! The documents that a decision sees, loaded for it: a slice of the store, or in the simulator the whole of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, ResolvedEntitlement};
use crate::change::ProposedChange;
use crate::command::{Command, DocumentRef, Due, Need};
use crate::grant::Grant;
use crate::ids::{ChangeId, EntitlementName, GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use crate::incident::Incident;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::review::Review;
use crate::session::Session;
use crate::standing::Standing;

/// Loaded documents. A key of `known` that has no document was looked for and is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Requests.
    pub requests: BTreeMap<RequestId, Request>,
    /// Grants.
    pub grants: BTreeMap<GrantId, Grant>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Incidents.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// Reviews.
    pub reviews: BTreeMap<ReviewId, Review>,
    /// Standings.
    pub standings: BTreeMap<PersonId, Standing>,
    /// Changes that wait for a second person, or did.
    pub changes: BTreeMap<ChangeId, ProposedChange>,
    /// What has been looked for.
    pub known: BTreeSet<DocumentRef>,
    /// What `apply` has changed since the world was loaded.
    pub changed: BTreeSet<DocumentRef>,
}

/// What a decision knows besides documents.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The catalog in force.
    pub catalog: &'a Catalog,
    /// Its version.
    pub catalog_version: u64,
    /// Entitlements that [`needs`] asked for.
    pub entitlements: &'a BTreeMap<EntitlementName, ResolvedEntitlement>,
}

macro_rules! getters {
    ($($name:ident $named:ident $map:ident $id:ty => $doc:ty, $text:literal;)*) => {
        impl World {$(
            #[doc = concat!("The ", $text, ", or the refusal that there is none.")]
            pub fn $name(&self, id: $id) -> Result<&$doc, Refusal> {
                self.$map.get(&id).ok_or_else(|| Refusal::not_found(format_args!(concat!($text, " {}"), id)))
            }
            #[doc = concat!("The ", $text, " to be changed by `apply`.")]
            pub(crate) fn $named(&mut self, id: $id) -> Option<&mut $doc> {
                self.$map.get_mut(&id)
            }
        )*}
    };
}

getters! {
    request request_mut requests RequestId => Request, "request";
    grant grant_mut grants GrantId => Grant, "grant";
    session session_mut sessions SessionId => Session, "session";
    incident incident_mut incidents IncidentId => Incident, "incident";
    review review_mut reviews ReviewId => Review, "review";
    change change_mut changes ChangeId => ProposedChange, "change";
}

impl World {
    /// What one total of a person's time has come to, see [`Standing::running`].
    pub(crate) fn running(
        &self,
        request: &Request,
        now: crate::time::Time,
        window: crate::time::Span,
    ) -> Option<crate::standing::Running> {
        let standing = self.standings.get(&request.beneficiary)?;
        standing.running(&request.entitlement, request.incident, now, window)
    }

    /// A person's standing; of somebody unknown nothing is remembered.
    pub fn standing(&self, person: &PersonId) -> Standing {
        self.standings.get(person).cloned().unwrap_or_else(|| Standing::new(person.clone()))
    }

    fn knows(&self, document: &DocumentRef) -> bool {
        self.known.contains(document)
    }
}

/// What `decide` will have to see for this command and is not loaded yet. Call, load, and call again until it is empty.
pub fn needs(
    world: &World,
    entitlements: &BTreeMap<EntitlementName, ResolvedEntitlement>,
    command: &Command,
) -> Vec<Need> {
    let mut need = Needs { world, entitlements, missing: Vec::new() };
    match command {
        Command::FileRequest(file) => {
            need.entitlement(&file.entitlement);
            need.standing(&file.beneficiary);
            if let Some(incident) = file.incident {
                need.document(DocumentRef::Incident(incident));
            }
        }
        Command::Decide { request, .. }
        | Command::TakeBack { request }
        | Command::Withdraw { request }
        | Command::AttestSeverity { request }
        | Command::Bypass { request, .. } => need.request(*request),
        Command::Escalate { request, incident, .. } => {
            need.request(*request);
            if let Some(incident) = incident {
                need.document(DocumentRef::Incident(*incident));
            }
        }
        Command::BeginActivation { grant }
        | Command::ReportActivated { grant, .. }
        | Command::ReportActivationFailed { grant, .. }
        | Command::ReportLeaseHeld { grant, .. }
        | Command::ReportLeaseEnded { grant, .. }
        | Command::ReportDeactivated { grant, .. }
        | Command::ReportLooked { grant, .. }
        | Command::Extend { grant, .. }
        | Command::GiveBack { grant }
        | Command::Revoke { grant, .. }
        | Command::WaiveProof { grant, .. }
        | Command::AttestTargetGone { grant, .. }
        | Command::KeepGrant { grant, .. } => need.grant(*grant),
        Command::ReportSessionOpened { grant, session, .. } => {
            need.document(DocumentRef::Session(*session));
            need.grant(*grant);
        }
        Command::ReportChannel { session, .. }
        | Command::ReportChange { session, .. }
        | Command::ReportSessionEnded { session, .. }
        | Command::ReportRecordingFinished { session, .. }
        | Command::ReportRecordingStored { session, .. }
        | Command::ReportRecordingLost { session, .. }
        | Command::WaiveGap { session, .. }
        | Command::TerminateSession { session, .. }
        | Command::ReportStatementHeld { session, .. }
        | Command::ReportStatementSettled { session, .. }
        | Command::ReleaseStatement { session, .. }
        | Command::RecordPlayback { session, .. } => need.session(*session),
        Command::ReportRefused { .. } | Command::ReportUnexplained { .. } | Command::OpenIncident { .. } => {}
        Command::ChangeSeverity { incident, .. }
        | Command::AddNote { incident, .. }
        | Command::AddLink { incident, .. }
        | Command::CloseIncident { incident }
        | Command::Reopen { incident, .. } => need.document(DocumentRef::Incident(*incident)),
        Command::JudgeChange { incident, change, .. } => {
            need.document(DocumentRef::Incident(*incident));
            if let Some(found) = world.incidents.get(incident)
                && let Some(change) = found.changes.get(*change as usize)
            {
                need.session(change.session);
            }
        }
        Command::Mitigate { incident } | Command::CloseUnproven { incident, .. } => {
            need.document(DocumentRef::Incident(*incident));
            if let Some(found) = world.incidents.get(incident) {
                for (grant, settled) in &found.grants {
                    if !settled {
                        need.grant(*grant);
                    }
                }
                for request in &found.pending_requests {
                    need.request(*request);
                }
            }
        }
        Command::ProposeChange(change) => need.document(DocumentRef::Change(change.id)),
        Command::ConfirmChange { change, .. } | Command::RejectChange { change, .. } => {
            need.document(DocumentRef::Change(*change));
        }
        Command::Wake(Due::Change(change)) => need.document(DocumentRef::Change(*change)),
        Command::StartReview { review }
        | Command::JudgeReview { review, .. }
        | Command::DeferReview { review, .. }
        | Command::AddAction { review, .. }
        | Command::CompleteAction { review, .. } => need.review(*review),
        Command::Wake(Due::Request(request)) => need.request(*request),
        Command::Wake(Due::Grant(grant)) => need.grant(*grant),
        Command::Wake(Due::Review(review)) => need.review(*review),
    }
    need.missing
}

struct Needs<'a> {
    world: &'a World,
    entitlements: &'a BTreeMap<EntitlementName, ResolvedEntitlement>,
    missing: Vec<Need>,
}

impl Needs<'_> {
    fn document(&mut self, document: DocumentRef) {
        let need = Need::Document(document);
        if let Need::Document(document) = &need
            && !self.world.knows(document)
            && !self.missing.contains(&need)
        {
            self.missing.push(need);
        }
    }
    fn entitlement(&mut self, name: &EntitlementName) {
        let need = Need::Entitlement(name.clone());
        if !self.entitlements.contains_key(name) && !self.missing.contains(&need) {
            self.missing.push(need);
        }
    }
    fn standing(&mut self, person: &PersonId) {
        self.document(DocumentRef::Standing(person.clone()));
    }
    fn request(&mut self, id: RequestId) {
        self.document(DocumentRef::Request(id));
        if let Some(request) = self.world.requests.get(&id) {
            self.entitlement(&request.entitlement.clone());
            self.standing(&request.beneficiary.clone());
            if let Some(incident) = request.incident {
                self.document(DocumentRef::Incident(incident));
            }
            for grant in [request.extends, request.grant].into_iter().flatten() {
                self.document(DocumentRef::Grant(grant));
            }
        }
    }
    fn grant(&mut self, id: GrantId) {
        self.document(DocumentRef::Grant(id));
        if let Some(grant) = self.world.grants.get(&id) {
            self.request(grant.request);
            // Who approved more time took part as well.
            for request in grant.extended_by.iter().chain(&grant.pending_extension) {
                self.document(DocumentRef::Request(*request));
            }
        }
    }
    fn session(&mut self, id: SessionId) {
        self.document(DocumentRef::Session(id));
        if let Some(session) = self.world.sessions.get(&id) {
            self.grant(session.grant);
        }
    }
    fn review(&mut self, id: ReviewId) {
        self.document(DocumentRef::Review(id));
        if let Some(review) = self.world.reviews.get(&id) {
            self.standing(&review.person.clone());
            if let Some(incident) = review.incident {
                self.document(DocumentRef::Incident(incident));
            }
            if let Some(request) = review.request {
                self.document(DocumentRef::Request(request));
            }
            if let Some(grant) = review.grant {
                self.grant(grant);
            }
        }
    }
}

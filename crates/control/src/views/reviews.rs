//! Reviews: seen by those who judge, by whom they are about, by who has something to do, and by auditors. Beside each
//! question stand facts that are computed, not remembered.

use halligan_core::catalog::OfficeName;
use halligan_core::grant::{Grant, ProofOutcome};
use halligan_core::ids::ReviewId;
use halligan_core::incident::Incident;
use halligan_core::refusal::Refusal;
use halligan_core::request::{Request, Verdict};
use halligan_core::review::{ComputedFacts, Review, ReviewState, barred};
use halligan_core::session::Session;
use halligan_core::world::World;
use halligan_store::{Document, Order};

use super::{View, Viewer};
use crate::documents::parse;
use crate::error::ControlError;

/// Sessions that are looked at for the facts of one review.
const MOST_SESSIONS: usize = 1000;

/// A review with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenReview {
    /// The document.
    pub review: Review,
    /// Facts by question.
    pub facts: ComputedFacts,
    /// Number of its incident.
    pub incident_number: Option<u64>,
    /// It is past its date.
    pub overdue: bool,
    /// The viewer may judge it.
    pub may_judge: bool,
    /// Why not, otherwise.
    pub barred: Option<String>,
}

impl View for SeenReview {
    const KIND: &'static str = "review";

    async fn see(viewer: &Viewer, document: &Document) -> Result<Option<Self>, ControlError> {
        let review: Review = parse(&document.key, &document.body)?;
        let judges = viewer.holds(&[
            OfficeName::SecurityOfficer,
            OfficeName::IncidentLead,
            OfficeName::PlatformOwner,
            OfficeName::CloudAdministrator,
        ]);
        let visible = judges
            || viewer.holds(&[OfficeName::Auditor])
            || review.person == viewer.person
            || review.actions.iter().any(|action| action.owner == viewer.person);
        if !visible {
            return Ok(None);
        }
        let mut world = World::default();
        let mut number = None;
        if let Some(id) = review.incident
            && let Some(incident) = viewer.document::<Incident>("incident", &id.to_string()).await?
        {
            number = Some(incident.number);
            world.incidents.insert(id, incident);
        }
        if let Some(id) = review.grant
            && let Some(grant) = viewer.document::<Grant>("grant", &id.to_string()).await?
        {
            world.grants.insert(id, grant);
        }
        let request = review.request.or_else(|| world.grants.values().next().map(|grant| grant.request));
        if let Some(id) = request
            && let Some(found) = viewer.document::<Request>("request", &id.to_string()).await?
        {
            world.requests.insert(id, found);
        }
        let open = matches!(review.state, ReviewState::Due | ReviewState::InReview);
        let why = if judges {
            barred(&world, &review, &viewer.person).map(str::to_owned)
        } else {
            Some("that takes the office of somebody who reviews".to_owned())
        };
        let facts = viewer.computed(&review, &world).await?;
        Ok(Some(Self {
            facts,
            incident_number: number,
            overdue: open && viewer.now > review.due_at,
            may_judge: open && why.is_none(),
            barred: why,
            review,
        }))
    }
}

impl Viewer {
    /// One review.
    pub async fn review(&self, id: ReviewId) -> Result<SeenReview, ControlError> {
        self.one(&id.to_string()).await?.ok_or_else(|| Refusal::not_found(format_args!("review {id}")).into())
    }

    async fn sessions_of(&self, grant: &Grant) -> Result<Vec<Session>, ControlError> {
        let id = grant.id.to_string();
        let store = self.control.store();
        let page = store.by_index("session", "grant", &id, None, MOST_SESSIONS, Order::Ascending).await?;
        page.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    async fn computed(&self, review: &Review, world: &World) -> Result<ComputedFacts, ControlError> {
        let mut facts = ComputedFacts::new();
        let mut say = |question: &str, fact: String| drop(facts.insert(question.to_owned(), fact));
        let request = world.requests.values().next();
        if let Some(request) = request {
            let how = request.scenario.as_ref().map(|name| format!(", scenario {name}")).unwrap_or_default();
            say("trigger", format!("{:?}{how}: {}", request.mode, request.reason));
            let approvals =
                request.decisions.iter().filter(|found| found.verdict == Verdict::Approve && !found.void);
            let fact = match approvals.map(|found| found.at).max() {
                Some(at) if request.bypass.as_ref().is_none_or(|bypass| !bypass.in_effect) => {
                    format!("the last approval came after {}", at.since(request.filed_at))
                }
                _ if request.automatic => "approved by policy at once; nobody was asked".to_owned(),
                _ if request.bypass.is_some() => "approval was bypassed".to_owned(),
                _ => "nobody approved".to_owned(),
            };
            say("approvals_timely", fact);
            let confirmed = if request.severity_attested { "attested" } else { "claimed" };
            if let Some(severity) = &request.severity {
                say("invoked_correctly", format!("severity {severity}, {confirmed} by whoever asked"));
            }
        }
        if let Some(grant) = world.grants.values().next() {
            let sessions = self.sessions_of(grant).await?;
            let late = sessions
                .iter()
                .filter(|session| {
                    let end = session.ended_at.unwrap_or(self.now);
                    session.outside_grant || grant.deadline.is_some_and(|deadline| end > deadline)
                })
                .count();
            say("exceeded_deadline", format!("{late} of {} sessions", sessions.len()));
            let channels: usize = sessions.iter().map(|session| session.channels.len()).sum();
            say("activity", format!("{} sessions, {channels} channels", sessions.len()));
            let granted = grant.deadline.zip(grant.activated_at).map(|(end, begin)| end.since(begin));
            let used = grant.ended_at.zip(grant.activated_at).map(|(end, begin)| end.since(begin));
            let words = |span: Option<halligan_core::time::Span>| {
                span.map_or_else(|| "not at all".to_owned(), |span| span.to_string())
            };
            say(
                "too_wide",
                format!(
                    "granted for {}, in force for {}, extended {} times",
                    words(granted),
                    words(used),
                    grant.extensions
                ),
            );
            let proof = match &grant.outcome {
                Some(ProofOutcome::Proven { at }) => format!("proven at {at}"),
                Some(ProofOutcome::Waived { at }) => format!("waived by two people at {at}"),
                Some(ProofOutcome::TargetGone { by, .. }) => format!("{by} attests that the target is gone"),
                None => "not settled yet".to_owned(),
            };
            say("revocation", proof);
        }
        if let Some(incident) = review.incident.and_then(|id| world.incidents.get(&id)) {
            say("changes", format!("{} in {}", incident.changes.len(), incident.label()));
        }
        Ok(facts)
    }
}

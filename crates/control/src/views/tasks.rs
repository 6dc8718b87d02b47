//! Everything that waits for one person: decisions, held statements, reviews, changes to judge, actions.

use halligan_core::catalog::{OfficeName, WhoContext};
use halligan_core::ids::{IncidentId, ReviewId};
use halligan_core::incident::{Change, Incident, Part as PartTaken};
use halligan_core::review::{Action, Review};
use halligan_core::session::Session;
use halligan_store::Order;

use super::incidents::no_incident;
use super::{SeenRequest, SeenReview, SeenStatement, Source, Viewer};
use crate::documents::parse;
use crate::error::ControlError;

/// Most of each that is listed.
const MOST: usize = 100;

/// What waits.
#[derive(Clone, Debug)]
pub struct TaskList {
    /// Requests to decide.
    pub decisions: Vec<SeenRequest>,
    /// Statements that wait for an answer.
    pub statements: Vec<SeenStatement>,
    /// Reviews to judge.
    pub reviews: Vec<SeenReview>,
    /// Changes to judge.
    pub changes: Vec<ChangeToJudge>,
    /// Things to do.
    pub actions: Vec<ActionToDo>,
}

/// A change that somebody should judge.
#[derive(Clone, Debug)]
pub struct ChangeToJudge {
    /// In which incident.
    pub incident: IncidentId,
    /// Its number.
    pub number: u64,
    /// Index of the change.
    pub index: u32,
    /// What was changed.
    pub change: Change,
}

/// An action of a review.
#[derive(Clone, Debug)]
pub struct ActionToDo {
    /// Of which review.
    pub review: ReviewId,
    /// Index of the action.
    pub index: u32,
    /// What is to be done.
    pub action: Action,
}

impl Viewer {
    /// What waits for the person.
    pub async fn tasks(&self) -> Result<TaskList, ControlError> {
        let decisions = self
            .part(Source::Index("state", "pending"), None, MOST, |seen: &SeenRequest| seen.may_decide)
            .await?;
        let reviews =
            self.part(Source::Index("state", "open"), None, MOST, |seen: &SeenReview| seen.may_judge).await?;
        let mut statements = self.held_statements().await?;
        statements.retain(|seen| seen.may_release);
        Ok(TaskList {
            decisions: decisions.items,
            statements,
            reviews: reviews.items,
            changes: self.changes().await?,
            actions: self.actions().await?,
        })
    }

    async fn changes(&self) -> Result<Vec<ChangeToJudge>, ControlError> {
        let mut found = Vec::new();
        let store = self.control.store();
        let page = store.by_index("incident", "state", "open", None, 500, Order::Ascending).await?;
        for document in &page {
            let incident: Incident = parse(&document.key, &document.body)?;
            for (index, change) in incident.changes.iter().enumerate() {
                if found.len() >= MOST {
                    return Ok(found);
                }
                if change.judged.is_none() && self.may_judge(&incident, change).await? {
                    found.push(ChangeToJudge {
                        incident: incident.id,
                        number: incident.number,
                        index: u32::try_from(index).unwrap_or(u32::MAX),
                        change: change.clone(),
                    });
                }
            }
        }
        Ok(found)
    }

    async fn may_judge(&self, incident: &Incident, change: &Change) -> Result<bool, ControlError> {
        let had_access =
            incident.parties.get(&self.person).is_some_and(|parts| parts.contains(&PartTaken::Beneficiary));
        if had_access {
            return Ok(false);
        }
        let offices = [OfficeName::PlatformOwner, OfficeName::IncidentLead, OfficeName::SecurityOfficer];
        if self.holds(&offices) {
            return Ok(true);
        }
        self.owns_target_of(change).await
    }

    async fn owns_target_of(&self, change: &Change) -> Result<bool, ControlError> {
        let session: Option<Session> = self.document("session", &change.session.to_string()).await?;
        let Some(session) = session else { return Ok(false) };
        let entitlements = self.entitlement(&session.entitlement).await?;
        Ok(entitlements.values().any(|found| {
            let context =
                WhoContext { beneficiary: &session.person, system: Some(&found.system), now: self.now };
            self.in_force.head.catalog.is_among(&self.person, &found.system.owner, context)
        }))
    }

    /// The incident with a change that the person may judge: they see the incident, or own what was changed.
    pub async fn incident_to_judge(&self, text: &str, change: u32) -> Result<IncidentId, ControlError> {
        if let Ok(seen) = self.incident(text).await {
            return Ok(seen.incident.id);
        }
        let Some(document) = self.incident_document(text).await? else { return Err(no_incident(text)) };
        let incident: Incident = parse(&document.key, &document.body)?;
        match incident.changes.get(change as usize) {
            Some(found) if self.owns_target_of(found).await? => Ok(incident.id),
            _ => Err(no_incident(text)),
        }
    }

    async fn actions(&self) -> Result<Vec<ActionToDo>, ControlError> {
        let store = self.control.store();
        let person = self.person.as_str();
        let page = store.by_index("review", "action", person, None, MOST, Order::Ascending).await?;
        let mut found = Vec::new();
        for document in &page {
            let review: Review = parse(&document.key, &document.body)?;
            for (index, action) in review.actions.iter().enumerate() {
                if action.done_at.is_none() && action.owner == self.person {
                    found.push(ActionToDo {
                        review: review.id,
                        index: u32::try_from(index).unwrap_or(u32::MAX),
                        action: action.clone(),
                    });
                }
            }
        }
        Ok(found)
    }
}

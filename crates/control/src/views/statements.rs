//! Statements that wait for a second person: seen by whoever may answer, by whoever waits, and by oversight.

use halligan_core::grant::Grant;
use halligan_core::ids::SessionId;
use halligan_core::refusal::Refusal;
use halligan_core::request::Request;
use halligan_core::session::{HeldStatement, Session, may_release};
use halligan_core::world::World;
use halligan_store::Order;

use super::Viewer;
use crate::documents::{HELD_INDEX, parse};
use crate::error::ControlError;

/// Most that are listed.
const MOST: usize = 100;

/// A held statement with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenStatement {
    /// Its session.
    pub session: Session,
    /// Its number there.
    pub hold: u32,
    /// The statement.
    pub statement: HeldStatement,
    /// Number of its incident.
    pub incident_number: Option<u64>,
    /// The viewer may let it pass, or not.
    pub may_release: bool,
}

impl Viewer {
    /// Statements that wait and that the person may see, the oldest session first; at most a hundred.
    pub async fn held_statements(&self) -> Result<Vec<SeenStatement>, ControlError> {
        let (index, value) = HELD_INDEX;
        let page =
            self.control.store().by_index("session", index, value, None, 500, Order::Ascending).await?;
        let mut found = Vec::new();
        for document in &page {
            let session: Session = parse(&document.key, &document.body)?;
            found.extend(self.statements_of(session).await?);
            if found.len() >= MOST {
                break;
            }
        }
        found.truncate(MOST);
        Ok(found)
    }

    /// One of them.
    pub async fn held_statement(&self, id: SessionId, hold: u32) -> Result<SeenStatement, ControlError> {
        let session: Option<Session> = self.document("session", &id.to_string()).await?;
        let all = match session {
            Some(session) => self.statements_of(session).await?,
            None => Vec::new(),
        };
        let found = all.into_iter().find(|seen| seen.hold == hold);
        found.ok_or_else(|| Refusal::not_found(format_args!("held statement {hold} of session {id}")).into())
    }

    async fn statements_of(&self, session: Session) -> Result<Vec<SeenStatement>, ControlError> {
        let may_release = self.may_release(&session).await?;
        if session.held.is_empty() || !(may_release || session.person == self.person || self.oversees()) {
            return Ok(Vec::new());
        }
        let incident_number = self.incident_number(session.incident).await?;
        let all = session.held.iter().map(|(hold, statement)| SeenStatement {
            hold: *hold,
            statement: statement.clone(),
            incident_number,
            may_release: may_release && statement.answer.is_none() && self.now < statement.until,
            session: session.clone(),
        });
        Ok(all.collect())
    }

    async fn may_release(&self, session: &Session) -> Result<bool, ControlError> {
        let grant: Option<Grant> = self.document("grant", &session.grant.to_string()).await?;
        let Some(grant) = grant else { return Ok(false) };
        let request: Option<Request> = self.document("request", &grant.request.to_string()).await?;
        let Some(request) = request else { return Ok(false) };
        let entitlements = self.entitlement(&session.entitlement).await?;
        let mut world = World::default();
        world.grants.insert(grant.id, grant);
        world.requests.insert(request.id, request);
        Ok(may_release(&world, &self.facts(&entitlements), session, &self.person, self.now))
    }
}

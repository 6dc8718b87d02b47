//! Held statements: none passes unless somebody else who may approve has allowed it, in time, with a second factor of their
//! own; and none waits in a session that is over.

use super::approvals::{deputies, officer, parties};
use super::books::Books;
use super::{Entry, Violation, holds};
use crate::catalog::{OfficeName, Who, WhoContext};
use crate::command::Actor;
use crate::event::Event;
use crate::ids::{PersonId, SessionId};
use crate::request::{Mode, Request};
use crate::testing::simulator::Gateway;

impl Books {
    /// Whatever is said of a held statement.
    pub fn holds(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::StatementHeld { session, hold, .. } => {
                let fresh = self.held.get(session).is_none_or(|last| *hold > *last);
                holds("holds", fresh, || format!("statement {hold} of session {session} is held twice"))
            }
            Event::StatementReleased { session, hold, answer } => {
                let by = &answer.by;
                let Some(found) = entry.before.sessions.get(session) else { return Ok(()) };
                let Some(grant) = entry.before.grants.get(&found.grant) else { return Ok(()) };
                let Some(request) = entry.before.requests.get(&grant.request) else { return Ok(()) };
                holds("rule 2", entry.person() == Some(by), || format!("{by} is said to have answered"))?;
                let asked = found.person == *by || parties(request).contains(by);
                holds("rule 2", !asked && !deputies(entry, request).contains(by), || {
                    format!("{by} answered for statement {hold} of session {session}, which is theirs")
                })?;
                let waits = found.held.get(hold).is_some_and(|held| entry.at < held.until);
                let in_force = grant.in_force(entry.at);
                holds("rule 5", waits && in_force, || {
                    format!(
                        "statement {hold} of session {session} was answered for when it did not wait any more"
                    )
                })?;
                holds("rule 4", may(entry, request, by), || {
                    format!("{by} could not approve what session {session} uses")
                })?;
                if !answer.allow {
                    return Ok(());
                }
                let Actor::Person { factor: Some(factor), token: false, .. } = entry.actor else {
                    return Err(Violation::new(
                        "rule 13",
                        format!("{by} let a statement pass by token or without factor"),
                    ));
                };
                let settings = &entry.organisation.catalog.settings;
                let old = factor.enrolled_at.plus(settings.approver_minimum_age) <= entry.at;
                let own = factor.for_this_act && entry.at.since(factor.at) <= settings.factor_fresh_for;
                holds("rule 4", old && own, || "a factor that does not count let a statement pass".to_owned())
            }
            Event::StatementSettled { session, hold, allowed, unasked, .. } => {
                let released = self.released.contains(&(*session, *hold));
                holds("holds", !allowed || released, || {
                    format!("statement {hold} of session {session} passed, and nobody had allowed it")
                })?;
                holds("holds", *unasked == (*allowed && !released), || {
                    format!("control does not know whether {hold} of session {session} was allowed")
                })
            }
            Event::SessionEnded { session, .. } => {
                let left = entry.world.sessions.get(session).map_or(0, |found| found.held.len());
                holds("holds", left == 0, || format!("statements wait in session {session}, which is over"))
            }
            _ => Ok(()),
        }
    }

    /// What gateways really let pass.
    pub fn passed(&self, gateways: &[Gateway]) -> Result<(), Violation> {
        let mut passed = gateways.iter().flat_map(|gateway| &gateway.passed);
        let unasked: Option<&(SessionId, u32)> = passed.find(|one| !self.released.contains(one));
        holds("holds", unasked.is_none(), || format!("{unasked:?} passed, and nobody had allowed it"))
    }
}

/// Is this person named by a step of the request, or of its policy where it needed none, or a security officer?
fn may(entry: &Entry<'_>, request: &Request, person: &PersonId) -> bool {
    if officer(entry, person, OfficeName::SecurityOfficer) {
        return true;
    }
    let Some(found) = entry.organisation.entitlements.get(&request.entitlement) else { return false };
    let context =
        WhoContext { beneficiary: &request.beneficiary, system: Some(&found.system), now: entry.at };
    let catalog = &entry.organisation.catalog;
    let policy = match request.mode {
        Mode::Standard => found.standard_policy(),
        Mode::Emergency => found.emergency_policy(),
    };
    let of_policy = policy
        .and_then(|name| catalog.policies.get(name))
        .filter(|_| request.steps.is_empty())
        .into_iter()
        .flat_map(|policy| &policy.rules)
        .flat_map(|rule| &rule.steps)
        .flat_map(|step| step.approvers.iter().chain(&step.fallback));
    let of_request = request.steps.iter().flat_map(|step| step.approvers.iter().chain(&step.step.fallback));
    let who: Vec<Who> = of_policy.chain(of_request).cloned().collect();
    catalog.people_of(&who, context).contains(person)
}

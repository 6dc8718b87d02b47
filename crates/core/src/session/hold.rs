//! Statements that wait for a second person: the gateway says that one waits, somebody who could approve the entitlement
//! lets it pass or not, and the gateway says what became of it. The gateway waits by its own clock and needs nobody to end
//! the wait.

use std::collections::BTreeSet;

use super::{HeldStatement, HoldAnswer, Session};
use crate::catalog::{OfficeName, ResolvedEntitlement, StatementClass, Who, WhoContext};
use crate::command::{Actor, Command};
use crate::decide::{Context, said, text as fits};
use crate::event::Event;
use crate::ids::{PersonId, SessionId};
use crate::incident::Part;
use crate::node_event::HELD_STATEMENT_MOST_BYTES;
use crate::refusal::{Refusal, RefusalCode};
use crate::request::{self, Mode, Request};
use crate::time::Time;
use crate::world::{Facts, World};

/// Statements of one session that wait at one time. A session runs one at a time; more is a gateway gone wrong.
const MOST_HELD: usize = 16;

pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::ReportStatementHeld { session, hold, class, sha256, text, parameters, at, until } => {
            let found = of_its_gateway(world, context, *session)?;
            if *hold <= found.last_hold || found.ended_at.is_some() {
                return Ok(Vec::new());
            }
            let length = text.len() + parameters.as_ref().map_or(0, String::len);
            if length > HELD_STATEMENT_MOST_BYTES || found.held.len() >= MOST_HELD {
                return Err(Refusal::new(
                    RefusalCode::Limit,
                    "the statement is too long to be shown, or too many wait",
                ));
            }
            let statement = held(*class, sha256, text, parameters.as_ref(), *at, *until);
            Ok(vec![Event::StatementHeld { session: *session, hold: *hold, statement: Box::new(statement) }])
        }
        Command::ReportStatementSettled { session, hold, allowed, by, reason } => {
            let found = of_its_gateway(world, context, *session)?;
            let Some(statement) = found.held.get(hold) else { return Ok(Vec::new()) };
            let released = statement.answer.as_ref().is_some_and(|answer| answer.allow);
            Ok(vec![Event::StatementSettled {
                session: *session,
                hold: *hold,
                allowed: *allowed,
                by: by.chars().take(200).collect(),
                reason: reason.chars().take(500).collect(),
                unasked: *allowed && !released,
            }])
        }
        Command::ReleaseStatement { session, hold, allow, reason } => {
            release(world, facts, context, *session, *hold, *allow, reason)
        }
        _ => Ok(Vec::new()),
    }
}

fn held(
    class: StatementClass,
    sha256: &str,
    text: &str,
    parameters: Option<&String>,
    since: Time,
    until: Time,
) -> HeldStatement {
    HeldStatement {
        class,
        sha256: sha256.chars().take(64).collect(),
        text: text.to_owned(),
        parameters: parameters.cloned(),
        since,
        until,
        answer: None,
    }
}

/// Only the gateway that runs a session speaks of its statements.
fn of_its_gateway<'a>(
    world: &'a World,
    context: &Context<'_>,
    id: SessionId,
) -> Result<&'a Session, Refusal> {
    context.only_node()?;
    let session = world.session(id)?;
    match context.actor {
        Actor::Node { name } if *name != session.gateway => Err(Refusal::new(
            RefusalCode::NotAllowed,
            format!("session {id} runs at {}, not at {name}", session.gateway),
        )),
        _ => Ok(session),
    }
}

/// Somebody else lets the statement pass, or not; never by token. To let it pass needs a second factor for this act, to say no
/// none (rule 13).
fn release(
    world: &World,
    facts: &Facts<'_>,
    context: &Context<'_>,
    id: SessionId,
    hold: u32,
    allow: bool,
    reason: &str,
) -> Result<Vec<Event>, Refusal> {
    let session = world.session(id)?;
    let person = context.person()?.clone();
    if !may_release(world, facts, session, &person, context.now) {
        if session.person == person {
            return Err(Refusal::new(
                RefusalCode::SeparationOfDuties,
                "nobody lets their own statement pass; somebody else must do that",
            ));
        }
        return Err(Refusal::not_found(format_args!("session {id}")));
    }
    let Some(statement) = session.held.get(&hold) else {
        return Err(Refusal::new(RefusalCode::WrongState, "no statement waits there under that number"));
    };
    if let Some(answer) = &statement.answer {
        let word = if answer.allow { "allowed" } else { "denied" };
        return Err(Refusal::new(RefusalCode::WrongState, format!("{} has {word} it already", answer.by)));
    }
    let grant = world.grant(session.grant)?;
    if context.now >= statement.until || !grant.in_force(context.now) {
        return Err(Refusal::new(RefusalCode::WrongState, "it does not wait any more"));
    }
    context.no_token("answer for a held statement")?;
    if allow {
        let factor = context.own_factor(facts)?;
        let counts = facts.catalog.holds(&person, OfficeName::SecurityOfficer)
            || of_grant(world, facts, session)
                .is_some_and(|(request, _)| factor_counts(request, factor.kind));
        if !counts {
            return Err(Refusal::new(
                RefusalCode::SecondFactor,
                "the policy does not take this kind of second factor",
            ));
        }
    }
    match allow {
        true => said("reason", reason, 500)?,
        false => fits("reason", reason, 500)?,
    }
    let answer = HoldAnswer { allow, by: person.clone(), reason: reason.to_owned(), at: context.now };
    let mut events = vec![Event::StatementReleased { session: id, hold, answer }];
    if let Some(incident) = session.incident {
        events.push(Event::PartTaken { incident, person, part: Part::Releaser });
    }
    Ok(events)
}

/// A request that no step waited for (it was approved by policy) says nothing of factors.
fn factor_counts(request: &Request, kind: crate::catalog::FactorKind) -> bool {
    request.steps.is_empty() || request.steps.iter().any(|step| request::factor_counts(step, Some(kind)))
}

fn of_grant<'a>(
    world: &'a World,
    facts: &'a Facts<'_>,
    session: &Session,
) -> Option<(&'a Request, &'a ResolvedEntitlement)> {
    let grant = world.grants.get(&session.grant)?;
    let request = world.requests.get(&grant.request)?;
    Some((request, facts.entitlements.get(&request.entitlement)?))
}

/// Whom the policy of the request names to approve: its steps, or where it needed none those that its policy has for any
/// severity.
fn approvers<'a>(
    facts: &'a Facts<'_>,
    request: &'a Request,
    entitlement: &'a ResolvedEntitlement,
) -> Vec<&'a [Who]> {
    if !request.steps.is_empty() {
        return request
            .steps
            .iter()
            .flat_map(|open| [open.approvers.as_slice(), open.step.fallback.as_slice()])
            .collect();
    }
    let policy = match request.mode {
        Mode::Standard => entitlement.standard_policy(),
        Mode::Emergency => entitlement.emergency_policy(),
    };
    let rules = policy.and_then(|name| facts.catalog.policies.get(name)).map(|found| &found.rules);
    rules
        .into_iter()
        .flatten()
        .flat_map(|rule| &rule.steps)
        .flat_map(|step| [step.approvers.as_slice(), step.fallback.as_slice()])
        .collect()
}

/// May this person let statements of the session pass: somebody else than its person, who could approve the entitlement, or
/// a security officer. The requester, deputies and people new to their part never count (rules 2 and 4).
pub fn may_release(
    world: &World,
    facts: &Facts<'_>,
    session: &Session,
    person: &PersonId,
    now: Time,
) -> bool {
    let Some((request, entitlement)) = of_grant(world, facts, session) else { return false };
    if session.person == *person || request::barred(facts, request, person).is_some() {
        return false;
    }
    if facts.catalog.holds(person, OfficeName::SecurityOfficer) {
        return true;
    }
    let context = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    approvers(facts, request, entitlement)
        .into_iter()
        .any(|who| request::named(facts, request, person, who, context))
}

/// Everybody who may let statements of the session pass.
pub fn releasers(world: &World, facts: &Facts<'_>, session: &Session, now: Time) -> BTreeSet<PersonId> {
    let Some((request, entitlement)) = of_grant(world, facts, session) else { return BTreeSet::new() };
    let context = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    let mut people = facts.catalog.holders(OfficeName::SecurityOfficer);
    for who in approvers(facts, request, entitlement) {
        people.extend(facts.catalog.people_of(who, context));
    }
    people.retain(|person| may_release(world, facts, session, person, now));
    people
}

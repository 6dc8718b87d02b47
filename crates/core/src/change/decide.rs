//! Rule 11: what widens who can get in, approve, bypass or review, and every change of a factor, needs a second person
//! as soon as there is one.

use super::{CONFIRM_WITHIN, ChangeState, ChangeSubject, ProposeChange, ProposedChange};
use crate::catalog::OfficeName;
use crate::command::{Command, People};
use crate::decide::{Context, said};
use crate::event::Event;
use crate::ids::{ChangeId, PersonId};
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Time;
use crate::world::{Facts, World};

const CONFIRMERS: [OfficeName; 2] = [OfficeName::CloudAdministrator, OfficeName::SecurityOfficer];

pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::ProposeChange(change) => propose(world, facts, context, change),
        Command::ConfirmChange { change, digest } => confirm(world, facts, context, *change, digest),
        Command::RejectChange { change, reason } => {
            let found = waiting(world, *change, context.now)?;
            let person = context.person()?.clone();
            said("reason", reason, 2000)?;
            if person != found.proposed_by && !confirms(facts, found, &person) {
                return Err(Refusal::not_found(format_args!("change {change}")));
            }
            Ok(vec![Event::ChangeRejected {
                change: *change,
                by: Some(person),
                reason: reason.clone(),
                at: context.now,
            }])
        }
        _ => Ok(Vec::new()),
    }
}

/// Of the people who are able to, those who may confirm a change by this proposer about that person: holders of the offices
/// of cloud administrator and security officer, or anybody else if none of those is able to.
pub fn confirmers(facts: &Facts<'_>, able: &People, proposer: &PersonId, about: Option<&PersonId>) -> People {
    let others: People = able
        .iter()
        .filter(|person| *person != proposer && Some(*person) != about && present(facts, person))
        .cloned()
        .collect();
    let officers: People = others.iter().filter(|person| holds_office(facts, person)).cloned().collect();
    if officers.is_empty() { others } else { officers }
}

fn holds_office(facts: &Facts<'_>, person: &PersonId) -> bool {
    CONFIRMERS.iter().any(|office| facts.catalog.holds(person, *office))
}

fn present(facts: &Facts<'_>, person: &PersonId) -> bool {
    facts.catalog.people.get(person).is_some_and(|found| !found.left)
}

fn propose(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    ask: &ProposeChange,
) -> Result<Vec<Event>, Refusal> {
    let person = context.person()?.clone();
    context.no_token("change Halligan itself")?;
    let own_factor = ask.subject == ChangeSubject::Factor && ask.about.as_ref() == Some(&person);
    let first = facts.catalog.people.is_empty();
    let offices: &[OfficeName] = match ask.subject {
        ChangeSubject::Catalog | ChangeSubject::Node => &[OfficeName::CloudAdministrator],
        ChangeSubject::Factor | ChangeSubject::Person => {
            &[OfficeName::CloudAdministrator, OfficeName::IdentityTeam, OfficeName::SecurityOfficer]
        }
    };
    if !own_factor && !first {
        context.officer(facts, offices, "change this")?;
    }
    // Whoever enrols their own first factor has none to show yet; control has checked how they came in.
    if !own_factor {
        context.fresh_factor(facts)?;
    }
    said("summary", &ask.summary, 4000)?;
    let hex = ask.digest.len() == 64 && ask.digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !hex {
        return Err(Refusal::new(RefusalCode::Incomplete, "the digest is not a SHA-256 in hex"));
    }
    if world.changes.contains_key(&ask.id) {
        return Err(Refusal::new(RefusalCode::WrongState, "this change has been proposed already"));
    }
    let widening = ask.widening || ask.subject == ChangeSubject::Factor;
    let confirmers = confirmers(facts, &ask.able, &person, ask.about.as_ref());
    let alone = widening && confirmers.is_empty();
    let change = ProposedChange {
        id: ask.id,
        subject: ask.subject,
        about: ask.about.clone(),
        digest: ask.digest.clone(),
        summary: ask.summary.clone(),
        widening,
        catalog_version: facts.catalog_version,
        proposed_by: person,
        proposed_at: context.now,
        expires_at: context.now.plus(CONFIRM_WITHIN),
        without_office: !confirmers.iter().any(|person| holds_office(facts, person)),
        confirmers,
        state: ChangeState::Proposed,
        confirmed_by: None,
        alone,
    };
    let at_once = alone || !widening;
    let mut events = vec![Event::ChangeProposed { change: Box::new(change) }];
    if at_once {
        events.push(Event::ChangeApplied { change: ask.id, at: context.now, alone });
    }
    Ok(events)
}

/// Proposed and not expired by the clock.
fn waiting(world: &World, id: ChangeId, now: Time) -> Result<&ProposedChange, Refusal> {
    let found = world.change(id)?;
    let over = |say: &str| Err(Refusal::new(RefusalCode::WrongState, say));
    match found.state {
        ChangeState::Proposed if now >= found.expires_at => over("nobody confirmed the change in time")
            .map_err(|refusal: Refusal| refusal.next("propose it again")),
        ChangeState::Proposed => Ok(found),
        ChangeState::Confirmed | ChangeState::Applied => over("the change is in force already"),
        ChangeState::Rejected => over("the change was rejected"),
    }
}

fn confirms(facts: &Facts<'_>, change: &ProposedChange, person: &PersonId) -> bool {
    *person != change.proposed_by
        && Some(person) != change.about.as_ref()
        && present(facts, person)
        && ((change.without_office && change.confirmers.contains(person)) || holds_office(facts, person))
}

fn confirm(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: ChangeId,
    digest: &str,
) -> Result<Vec<Event>, Refusal> {
    let found = world.change(id)?;
    let person = context.person()?.clone();
    context.no_token("confirm a change")?;
    if person == found.proposed_by || Some(&person) == found.about.as_ref() {
        return Err(Refusal::new(
            RefusalCode::SeparationOfDuties,
            "a second person must confirm this: neither who proposed it nor who it is about",
        ));
    }
    if !confirms(facts, found, &person) {
        return Err(Refusal::not_found(format_args!("change {id}")));
    }
    waiting(world, id, context.now)?;
    context.act_factor(facts)?;
    if digest != found.digest {
        return Err(Refusal::new(RefusalCode::Stale, "this is not the change that you were shown")
            .next("read it again, then confirm"));
    }
    if found.subject == ChangeSubject::Catalog && found.catalog_version != facts.catalog_version {
        return Err(Refusal::new(
            RefusalCode::Stale,
            format!(
                "the catalog has changed since this was proposed (version {}, now {})",
                found.catalog_version, facts.catalog_version
            ),
        )
        .next("propose it again against the catalog in force"));
    }
    Ok(vec![
        Event::ChangeConfirmed { change: id, by: person, at: context.now },
        Event::ChangeApplied { change: id, at: context.now, alone: false },
    ])
}

/// Nobody confirmed it in time.
pub(crate) fn wake(world: &World, context: &mut Context<'_>, id: ChangeId) -> Result<Vec<Event>, Refusal> {
    context.only_clock()?;
    let found = world.change(id)?;
    if found.state != ChangeState::Proposed || context.now < found.expires_at {
        return Ok(Vec::new());
    }
    let reason = "nobody confirmed it in time".to_owned();
    Ok(vec![Event::ChangeRejected { change: id, by: None, reason, at: context.now }])
}

/// When [`wake`] wants to be called next.
pub fn due_at(change: &ProposedChange) -> Option<Time> {
    (change.state == ChangeState::Proposed).then_some(change.expires_at)
}

//! A second person vouches for a severity, so that a policy that wants it attested may approve by itself (rule 3).

use super::approval::barred;
use super::decide::{brought_up, entitlement_of, open, part};
use super::granted::granted;
use super::{Mode, approves_itself, rule_for, sensitivity};
use crate::catalog::{OfficeName, WhoContext};
use crate::decide::Context;
use crate::event::Event;
use crate::ids::RequestId;
use crate::incident::Part;
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::world::{Facts, World};

/// Who may vouch besides those whom the severity or the scenario names.
const OFFICES: [OfficeName; 3] =
    [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner];

/// Handles [`Command::AttestSeverity`](crate::command::Command::AttestSeverity).
pub(crate) fn attest_severity(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: RequestId,
) -> Result<Vec<Event>, Refusal> {
    let stored = world.request(id)?;
    let person = context.person()?.clone();
    let now = context.now;
    context.no_token("attest a severity")?;
    let entitlement = entitlement_of(facts, stored)?;
    let known = stored.severity.as_ref().and_then(|name| facts.catalog.severities.get(name));
    let scenario = stored.scenario.as_ref().and_then(|name| facts.catalog.scenarios.get(name));
    let who = WhoContext { beneficiary: &person, system: Some(&entitlement.system), now };
    let declares = known.is_some_and(|known| {
        known.declared_by.is_empty() || facts.catalog.is_among(&person, &known.declared_by, who)
    });
    // Need to know (rule 13): somebody who could have declared or invoked it, or who oversees it.
    let near = known.is_some_and(|known| !known.declared_by.is_empty())
        || scenario.is_some_and(|scenario| facts.catalog.is_among(&person, &scenario.invoked_by, who))
        || OFFICES.iter().any(|office| facts.catalog.holds(&person, *office));
    if !declares || !near {
        return Err(Refusal::not_found(format_args!("request {id}")));
    }
    if let Some(why) = barred(facts, stored, &person) {
        return Err(Refusal::new(RefusalCode::SeparationOfDuties, why)
            .next("somebody else who may declare this severity must attest it"));
    }
    open(world, stored, now)?;
    if stored.mode != Mode::Emergency || stored.severity_attested {
        return Err(Refusal::new(RefusalCode::WrongState, "there is no severity to be attested"));
    }
    context.own_factor(facts)?;
    let (request, mut events) = brought_up(world, facts, stored, entitlement, now);
    let mut request = request.into_owned();
    events.push(Event::SeverityAttested { request: id, by: person.clone(), at: now });
    events.extend(part(&request, &person, Part::Attestor));
    request.severity_attested = true;
    let (_, rule) = rule_for(facts, entitlement, request.mode, request.severity.as_ref())?;
    let class = sensitivity(facts, entitlement)?;
    if approves_itself(world, facts, &request, rule, class.0, now).yes() {
        request.automatic = true;
        let found = granted(world, facts, context, &request, entitlement)?;
        events.extend(found.events);
        let mut about = About::request(&request);
        about.grant = found.grant;
        events.push(review::opened(context, facts, ReviewKind::RetroactiveApproval, about));
    }
    Ok(events)
}

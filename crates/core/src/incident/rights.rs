//! Who may see an incident, write into it, open one, and change how grave it is.

use super::Incident;
use crate::catalog::{OfficeName, WhoContext};
use crate::decide::Context;
use crate::ids::{IncidentId, Name, PersonId};
use crate::refusal::{Refusal, RefusalCode};
use crate::world::{Facts, World};

/// Who leads an incident.
pub(super) const LEADS: [OfficeName; 2] = [OfficeName::IncidentLead, OfficeName::SecurityOfficer];

fn holds_one(facts: &Facts<'_>, person: &PersonId, offices: &[OfficeName]) -> bool {
    offices.iter().any(|office| facts.catalog.holds(person, *office))
}

/// Members see their incident; so do those with oversight (rule 13).
pub fn may_see(facts: &Facts<'_>, incident: &Incident, person: &PersonId) -> bool {
    may_write(facts, incident, person) || facts.catalog.holds(person, OfficeName::Auditor)
}

/// Members write into their incident; so do those who answer for it. An auditor reads, and so stays outside what is
/// audited.
fn may_write(facts: &Facts<'_>, incident: &Incident, person: &PersonId) -> bool {
    incident.is_party(person)
        || holds_one(facts, person, &LEADS)
        || facts.catalog.holds(person, OfficeName::PlatformOwner)
}

/// The incident, if the actor may know of it.
pub(super) fn seen<'a>(
    world: &'a World,
    facts: &Facts<'_>,
    context: &Context<'_>,
    id: IncidentId,
) -> Result<&'a Incident, Refusal> {
    let incident = world.incident(id)?;
    if may_see(facts, incident, context.person()?) {
        Ok(incident)
    } else {
        Err(Refusal::not_found(format_args!("incident {id}")))
    }
}

/// The incident, if the actor may write into it.
pub(super) fn written<'a>(
    world: &'a World,
    facts: &Facts<'_>,
    context: &Context<'_>,
    id: IncidentId,
) -> Result<&'a Incident, Refusal> {
    let incident = seen(world, facts, context, id)?;
    if may_write(facts, incident, context.person()?) {
        Ok(incident)
    } else {
        Err(Refusal::new(
            RefusalCode::NotAllowed,
            format!("an auditor reads {} and changes nothing", incident.label()),
        )
        .next("tell its lead, or a security officer"))
    }
}

/// May this person open an incident of this severity, or raise one to it? Whom the severity names; where it names nobody,
/// everybody who may have to answer an emergency: who may invoke a scenario, who is on call, who leads incidents.
pub(super) fn may_declare(
    facts: &Facts<'_>,
    context: &Context<'_>,
    person: &PersonId,
    severity: &Name,
) -> Result<(), Refusal> {
    let Some(found) = facts.catalog.severities.get(severity) else {
        return Err(Refusal::new(RefusalCode::DoesNotFit, format!("there is no severity {severity}")));
    };
    let who = WhoContext { beneficiary: person, system: None, now: context.now };
    let allowed = if found.declared_by.is_empty() {
        let catalog = facts.catalog;
        catalog.scenarios.values().any(|scenario| catalog.is_among(person, &scenario.invoked_by, who))
            || catalog.schedules.values().any(|duty| duty.on_call(context.now).as_ref() == Some(person))
            || holds_one(facts, person, &LEADS)
    } else {
        facts.catalog.is_among(person, &found.declared_by, who)
    };
    if allowed {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::NotAllowed, format!("you may not declare {severity}"))
        .next("tell somebody who is on call, an incident lead or a security officer"))
}

/// May this person make this incident that grave? Raising it is declaring it; to say that it is less bad than it was, and
/// so let approvals and alerts become easier, is for those who lead it.
pub(super) fn may_change_severity(
    facts: &Facts<'_>,
    context: &Context<'_>,
    incident: &Incident,
    severity: &Name,
) -> Result<(), Refusal> {
    let rank = |name: &Name| facts.catalog.severities.get(name).map(|found| found.rank);
    let raises = match (rank(severity), rank(&incident.severity)) {
        (Some(wanted), Some(present)) => wanted < present,
        // A severity that the catalog no longer has is left by whoever may declare the new one.
        (_, None) => true,
        (None, Some(_)) => false,
    };
    if raises {
        return may_declare(facts, context, context.person()?, severity);
    }
    context.officer(facts, &LEADS, "lower a severity").map(drop)
}

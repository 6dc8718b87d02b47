//! Does a request fit the scenario that it names, and its link the pattern (rule 1)?

use crate::catalog::{ResolvedEntitlement, WhoContext};
use crate::command::FileRequest;
use crate::decide::text;
use crate::ids::{Name, PersonId};
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Time;
use crate::world::Facts;

/// Rule 1: person, entitlement and severity fit the scenario, and its criteria are confirmed.
pub(crate) fn fits_scenario(
    facts: &Facts<'_>,
    requester: &PersonId,
    file: &FileRequest,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> Result<Name, Refusal> {
    let unfit = |say: String| Refusal::new(RefusalCode::DoesNotFit, say);
    if !entitlement.entitlement.emergency {
        return Err(unfit(format!("{} cannot be had in an emergency", entitlement.name)));
    }
    let severity = file.severity.as_ref().ok_or_else(|| {
        Refusal::new(RefusalCode::Incomplete, "an emergency request needs a severity")
            .next("add --severity sev1")
    })?;
    let scenario_name = file.scenario.as_ref().ok_or_else(|| {
        Refusal::new(RefusalCode::Incomplete, "an emergency request needs a scenario")
            .next("see `halligan catalog scenarios`, then add --scenario NAME")
    })?;
    let scenario = facts
        .catalog
        .scenarios
        .get(scenario_name)
        .ok_or_else(|| unfit(format!("there is no scenario {scenario_name}")))?;
    let known = facts
        .catalog
        .severities
        .get(severity)
        .ok_or_else(|| unfit(format!("there is no severity {severity}")))?;
    let context = WhoContext { beneficiary: requester, system: Some(&entitlement.system), now };
    if !known.declared_by.is_empty() && !facts.catalog.is_among(requester, &known.declared_by, context) {
        return Err(Refusal::new(RefusalCode::NotAllowed, format!("you may not declare {severity}"))
            .next("ask somebody who may, or choose a lower severity"));
    }
    if !scenario.severities.is_empty() && !scenario.severities.contains(severity) {
        return Err(unfit(format!("scenario {scenario_name} is not for {severity}")));
    }
    if !facts.catalog.is_among(requester, &scenario.invoked_by, context) {
        return Err(Refusal::new(
            RefusalCode::NotAllowed,
            format!("you may not invoke scenario {scenario_name}"),
        ));
    }
    if !scenario.scope.iter().any(|scope| scope.covers(&entitlement.system, &entitlement.name.role)) {
        return Err(unfit(format!("{} is not in the scope of scenario {scenario_name}", entitlement.name)));
    }
    if !file.criteria_confirmed && !scenario.criteria.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!(
                "the criteria of scenario {scenario_name} are not confirmed: {}",
                scenario.criteria.join("; ")
            ),
        )
        .next("read them, and add --confirm-criteria if all of them hold"));
    }
    if entitlement.entitlement.ladder > scenario.first_step
        && file.why_not_lower.as_deref().is_none_or(|why| why.trim().is_empty())
    {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("{} is higher on the ladder than this scenario begins with", entitlement.name),
        )
        .next("say why a lower step is not enough: --why-not-lower \"…\""));
    }
    Ok(severity.clone())
}

pub(crate) fn fits_link(entitlement: &ResolvedEntitlement, link: Option<&str>) -> Result<(), Refusal> {
    let Some(pattern) = &entitlement.entitlement.link_pattern else {
        return link.map_or(Ok(()), |link| text("link", link, 500));
    };
    match link {
        Some(link) if matches_pattern(pattern, link) => text("link", link, 500),
        _ => Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("{} needs a link to a ticket of the form {pattern}", entitlement.name),
        )
        .next("add --ticket …")),
    }
}

/// `*` stands for any characters; everything else for itself.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_patterns() {
        assert!(matches_pattern("OPS-*", "OPS-123"));
        assert!(!matches_pattern("OPS-*", "DEV-123"));
        assert!(matches_pattern("https://*/browse/*", "https://t.example/browse/OPS-1"));
        assert!(!matches_pattern("OPS-1", "OPS-12"));
        assert!(matches_pattern("*", ""));
    }
}

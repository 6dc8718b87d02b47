//! Who may approve, and whether the approvals given suffice. Approvals are matched to steps by maximum matching, so the
//! order of arrival never matters (rules 2, 3 and 4).

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, OpenStep, Request, Verdict};
use crate::catalog::{FactorKind, ResolvedEntitlement, Who, WhoContext};
use crate::ids::PersonId;
use crate::time::Time;
use crate::world::Facts;

/// How far the approvals of a request have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every step is met, by enough distinct people.
    pub satisfied: bool,
    /// Whose approval counts for which step, by index.
    pub counted: BTreeMap<PersonId, usize>,
    /// Approvals still missing, by step.
    pub missing: Vec<usize>,
    /// Who may approve each step now.
    pub eligible: Vec<BTreeSet<PersonId>>,
}

/// Why this person never counts as an approver of this request, whatever the step.
pub fn barred(facts: &Facts<'_>, request: &Request, person: &PersonId) -> Option<String> {
    if *person == request.beneficiary || *person == request.requester {
        return Some("nobody approves what they asked for or will use themselves".to_owned());
    }
    let catalog = facts.catalog;
    if catalog.is_deputy(person, &request.beneficiary) || catalog.is_deputy(person, &request.requester) {
        return Some("a deputy of the person who asks does not count as approver".to_owned());
    }
    if request.new_total && request.earlier_approvers.contains(person) {
        return Some(
            "the total time is used up: somebody who has not approved in it must start a new one".to_owned(),
        );
    }
    None
}

/// Everybody who may approve this step now. The fallback is asked only when nobody else is left.
pub(crate) fn eligible(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    step: &OpenStep,
    now: Time,
) -> BTreeSet<PersonId> {
    let context = WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now };
    let of = |who: &[Who]| {
        let mut people = facts.catalog.people_of(who, context);
        people.retain(|person| {
            let since = facts.catalog.member_since(person, who);
            barred(facts, request, person).is_none()
                && since.plus(facts.catalog.settings.approver_minimum_age) <= now
        });
        people
    };
    let people = of(&step.approvers);
    if people.len() >= usize::from(step.step.quorum.max(1)) || step.step.fallback.is_empty() {
        return people;
    }
    let mut wider = of(&step.step.fallback);
    wider.extend(people);
    wider
}

/// Does this kind of second factor count for the step?
pub(crate) fn factor_counts(step: &OpenStep, factor: Option<FactorKind>) -> bool {
    factor.is_some_and(|kind| step.step.factors.is_empty() || step.step.factors.contains(&kind))
}

/// Where the request stands with the approvals that it has.
pub fn standing(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    now: Time,
) -> Standing {
    let eligible: Vec<BTreeSet<PersonId>> =
        request.steps.iter().map(|step| eligible(facts, request, entitlement, step, now)).collect();
    let approvals: BTreeMap<&PersonId, &Decision> = request
        .decisions
        .iter()
        .filter(|decision| decision.verdict == Verdict::Approve && !decision.void)
        .map(|decision| (&decision.person, decision))
        .collect();
    // One slot per approval that a step wants; a person may fill any slot of a step that they are eligible for.
    let slots: Vec<usize> = request
        .steps
        .iter()
        .enumerate()
        .flat_map(|(index, step)| std::iter::repeat_n(index, usize::from(step.step.quorum.max(1))))
        .collect();
    let fits = |person: &PersonId, decision: &Decision, step: usize| {
        eligible.get(step).is_some_and(|people| people.contains(person))
            && request.steps.get(step).is_some_and(|step| factor_counts(step, decision.factor))
    };
    let people: Vec<(&PersonId, &Decision)> = approvals.into_iter().collect();
    let mut holder: Vec<Option<usize>> = vec![None; slots.len()];
    for index in 0..people.len() {
        let mut seen = vec![false; slots.len()];
        augment(index, &people, &slots, &fits, &mut holder, &mut seen);
    }
    let mut missing = vec![0; request.steps.len()];
    let mut counted = BTreeMap::new();
    for (slot, held) in slots.iter().zip(&holder) {
        match held.and_then(|index| people.get(index)) {
            Some((person, _)) => {
                counted.insert((*person).clone(), *slot);
            }
            None => {
                if let Some(count) = missing.get_mut(*slot) {
                    *count += 1;
                }
            }
        }
    }
    let distinct = people
        .iter()
        .filter(|(person, decision)| (0..request.steps.len()).any(|step| fits(person, decision, step)));
    let enough = distinct.count() >= usize::from(request.distinct_approvers);
    let satisfied = enough && !slots.is_empty() && missing.iter().all(|count| *count == 0);
    Standing { satisfied, counted, missing, eligible }
}

/// Kuhn's algorithm: tries to give `person` a slot, moving others to slots that they fit as well.
fn augment(
    person: usize,
    people: &[(&PersonId, &Decision)],
    slots: &[usize],
    fits: &impl Fn(&PersonId, &Decision, usize) -> bool,
    holder: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    let Some((id, decision)) = people.get(person) else { return false };
    for (place, step) in slots.iter().enumerate() {
        if seen.get(place).copied().unwrap_or(true) || !fits(id, decision, *step) {
            continue;
        }
        if let Some(mark) = seen.get_mut(place) {
            *mark = true;
        }
        let current = holder.get(place).copied().flatten();
        let free = match current {
            None => true,
            Some(other) => augment(other, people, slots, fits, holder, seen),
        };
        if free {
            if let Some(held) = holder.get_mut(place) {
                *held = Some(person);
            }
            return true;
        }
    }
    false
}

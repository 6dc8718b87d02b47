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
    let asked = || [&request.beneficiary, &request.requester].into_iter().chain(&request.earlier_requesters);
    if asked().any(|other| other == person) {
        return Some("nobody approves what they asked for or will use themselves".to_owned());
    }
    if asked().any(|other| facts.catalog.is_deputy(person, other)) {
        return Some("a deputy of the person who asks does not count as approver".to_owned());
    }
    if request.new_total && request.earlier_approvers.contains(person) {
        return Some(
            "the total time is used up: somebody who has not approved in it must start a new one".to_owned(),
        );
    }
    None
}

/// Do these words name the person, and have they for long enough (rule 4)?
pub(crate) fn named(
    facts: &Facts<'_>,
    request: &Request,
    person: &PersonId,
    who: &[Who],
    context: WhoContext<'_>,
) -> bool {
    let age = facts.catalog.settings.approver_minimum_age;
    facts.catalog.member_since(person, who, context).is_some_and(|since| since.plus(age) <= context.now)
        && barred(facts, request, person).is_none()
}

/// Who of those that these words name may approve.
fn of(facts: &Facts<'_>, request: &Request, who: &[Who], context: WhoContext<'_>) -> BTreeSet<PersonId> {
    let mut people = facts.catalog.people_of(who, context);
    people.retain(|person| named(facts, request, person, who, context));
    people
}

/// Everybody who may approve this step at that time. The fallback is asked only when too few others are left.
pub(crate) fn eligible(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    step: &OpenStep,
    at: Time,
) -> BTreeSet<PersonId> {
    let context =
        WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now: at };
    let people = of(facts, request, &step.approvers_at(request.timers_from, at), context);
    if people.len() >= usize::from(step.step.quorum.max(1)) || step.step.fallback.is_empty() {
        return people;
    }
    let mut wider = of(facts, request, &step.step.fallback, context);
    wider.extend(people);
    wider
}

/// May this person approve this step at that time? The same question as [`eligible`], asked for one person.
///
/// Asked for an approval that was given, `at` is when it was given: approvers are resolved when they decide. The catalog is
/// always the one in force now, so that a removal bites at once (rule 4), while the end of a turn on call does not.
pub(crate) fn may_approve(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    step: &OpenStep,
    person: &PersonId,
    at: Time,
) -> bool {
    let context =
        WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now: at };
    let who = step.approvers_at(request.timers_from, at);
    if named(facts, request, person, &who, context) {
        return true;
    }
    !step.step.fallback.is_empty()
        && named(facts, request, person, &step.step.fallback, context)
        && of(facts, request, &who, context).len() < usize::from(step.step.quorum.max(1))
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
    let eligible =
        request.steps.iter().map(|step| eligible(facts, request, entitlement, step, now)).collect();
    let met = met(facts, request, entitlement);
    Standing { satisfied: met.satisfied, counted: met.counted, missing: met.missing, eligible }
}

/// What the approvals given are worth.
pub(crate) struct Met {
    /// Every step is met, by enough distinct people.
    pub satisfied: bool,
    /// Whose approval counts for which step, by index.
    pub counted: BTreeMap<PersonId, usize>,
    /// Approvals still missing, by step.
    pub missing: Vec<usize>,
}

/// One approval, and the steps that it could count for.
struct Candidate<'a> {
    person: &'a PersonId,
    fits: Vec<bool>,
}

/// Matches approvals to steps.
pub(crate) fn met(facts: &Facts<'_>, request: &Request, entitlement: &ResolvedEntitlement) -> Met {
    met_with(facts, request, entitlement, None)
}

/// As [`met`], with a decision that is about to be taken in.
pub(crate) fn met_with(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    more: Option<&Decision>,
) -> Met {
    let mut people: Vec<Candidate<'_>> = Vec::new();
    let approvals = request.decisions.iter().chain(more);
    for decision in approvals.filter(|found| found.verdict == Verdict::Approve && !found.void) {
        let fits = request
            .steps
            .iter()
            .map(|step| {
                factor_counts(step, decision.factor)
                    && may_approve(facts, request, entitlement, step, &decision.person, decision.at)
            })
            .collect();
        // People are counted once; of several decisions the last counts.
        people.retain(|known| *known.person != decision.person);
        people.push(Candidate { person: &decision.person, fits });
    }
    // One slot per approval that a step wants; a person may fill any slot of a step that they are eligible for.
    let slots: Vec<usize> = request
        .steps
        .iter()
        .enumerate()
        .flat_map(|(index, step)| std::iter::repeat_n(index, usize::from(step.step.quorum.max(1))))
        .collect();
    let mut holder: Vec<Option<usize>> = vec![None; slots.len()];
    let mut seen = vec![false; slots.len()];
    for index in 0..people.len() {
        seen.fill(false);
        augment(index, &people, &slots, &mut holder, &mut seen);
    }
    let mut missing = vec![0; request.steps.len()];
    let mut counted = BTreeMap::new();
    for (slot, held) in slots.iter().zip(&holder) {
        match held.and_then(|index| people.get(index)) {
            Some(found) => drop(counted.insert(found.person.clone(), *slot)),
            None => {
                if let Some(count) = missing.get_mut(*slot) {
                    *count += 1;
                }
            }
        }
    }
    let distinct = people.iter().filter(|found| found.fits.contains(&true)).count();
    let enough = distinct >= usize::from(request.distinct_approvers);
    let satisfied = enough && !slots.is_empty() && missing.iter().all(|count| *count == 0);
    Met { satisfied, counted, missing }
}

/// Kuhn's algorithm: tries to give `person` a slot, moving others to slots that they fit as well.
fn augment(
    person: usize,
    people: &[Candidate<'_>],
    slots: &[usize],
    holder: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    let Some(candidate) = people.get(person) else { return false };
    for (place, step) in slots.iter().enumerate() {
        let fits = candidate.fits.get(*step).copied().unwrap_or(false);
        if !fits || seen.get(place).copied().unwrap_or(true) {
            continue;
        }
        if let Some(mark) = seen.get_mut(place) {
            *mark = true;
        }
        let free = match holder.get(place).copied().flatten() {
            None => true,
            Some(other) => augment(other, people, slots, holder, seen),
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

/// Are there enough people for this step? As many as [`eligible`] would name, without naming them all.
pub(crate) fn is_staffed(
    facts: &Facts<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
    step: &OpenStep,
    at: Time,
) -> bool {
    let context =
        WhoContext { beneficiary: &request.beneficiary, system: Some(&entitlement.system), now: at };
    let quorum = usize::from(step.step.quorum.max(1));
    let mut found: Vec<PersonId> = Vec::with_capacity(quorum);
    for who in [&*step.approvers_at(request.timers_from, at), &step.step.fallback] {
        facts.catalog.visit(who, context, &mut |person| {
            if found.len() < quorum && !found.contains(person) && named(facts, request, person, who, context)
            {
                found.push(person.clone());
            }
            found.len() < quorum
        });
    }
    found.len() >= quorum
}

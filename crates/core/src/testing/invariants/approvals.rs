//! Rules 2, 3, 4 and 6: who approved, whether that was enough, and what happens without.

use std::collections::BTreeSet;

use super::books::{Books, Given};
use super::{Entry, Violation, holds};
use crate::catalog::{Automatic, OfficeName, SeverityWord, TimerAction, Who, WhoContext};
use crate::command::{Actor, Command, Due};
use crate::effect::{AlertKind, Effect};
use crate::event::Event;
use crate::ids::{PersonId, RequestId};
use crate::request::{OpenStep, Request, Verdict};
use crate::review::{Review, ReviewKind};
use crate::time::{Span, Time};

impl Books {
    /// Rules 2, 3, 4 and 5, wherever somebody decides or something is approved.
    pub fn approvals(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Decided { request, decision } => {
                let Some(found) = entry.before.requests.get(request) else { return Ok(()) };
                let found = &moved(entry, found);
                let lapses = lapses(found);
                holds("rule 5", entry.at < lapses, || {
                    format!("request {request} was decided after it lapsed")
                })?;
                if decision.verdict == Verdict::Deny {
                    return Ok(());
                }
                let asked = parties(found).into_iter().any(|person| person == decision.person);
                let deputy = deputies(entry, found).contains(&decision.person);
                holds("rule 2", !asked && !deputy, || {
                    format!("{} approved request {request}, which is theirs", decision.person)
                })?;
                let twice = self.given(*request).iter().any(|given| given.person == decision.person);
                holds("rule 2", !twice, || {
                    format!("{} counts twice for request {request}", decision.person)
                })?;
                holds("rule 4", decision.version_seen == found.version, || {
                    format!("{} decided about another version of request {request}", decision.person)
                })?;
                let given = Given { person: decision.person.clone(), at: entry.at, factor: decision.factor };
                let named = found.steps.iter().any(|step| self.names(entry, found, step, &given));
                holds("rule 4", named, || format!("no step of request {request} names {}", decision.person))?;
                let Actor::Person { factor: Some(factor), .. } = entry.actor else {
                    return Err(Violation::new(
                        "rule 4",
                        format!("request {request} decided without a factor"),
                    ));
                };
                let settings = &entry.organisation.catalog.settings;
                let old = factor.enrolled_at.plus(settings.approver_minimum_age) <= entry.at;
                let own = factor.for_this_act && entry.at.since(factor.at) <= settings.factor_fresh_for;
                holds("rule 4", old && own, || {
                    format!("a factor that does not count decided request {request}")
                })
            }
            Event::GrantActivating { grant, .. } => {
                let Some(found) = entry.before.grants.get(grant) else { return Ok(()) };
                let Some(request) = entry.before.requests.get(&found.request) else { return Ok(()) };
                let without = found.automatic || found.bypassed;
                holds("rule 4", without || self.suffices(entry, request, self.given(request.id)), || {
                    format!("grant {grant} begins although its approvers may not approve any more")
                })
            }
            Event::RequestApproved { request, automatic, .. } => {
                let Some(found) = entry.world.requests.get(request) else { return Ok(()) };
                let bypass = entry.events.iter().any(|other| matches!(other, Event::BypassTookEffect { .. }));
                if *automatic {
                    self.automatic_approval(entry, found)
                } else if bypass {
                    Ok(())
                } else {
                    let mut given = self.given(*request).to_vec();
                    given.dedup_by(|one, other| one.person == other.person);
                    holds("rule 3", self.suffices(entry, found, &given), || {
                        format!("request {request} was approved by {given:?} only")
                    })
                }
            }
            Event::RequestFiled { request } if !self.approved_at_once(entry, request.id) => {
                let blocked = request.steps.iter().any(|step| step.blocked);
                let says = entry.effects.iter().any(
                    |effect| matches!(effect, Effect::Alert(alert) if alert.kind == AlertKind::ApprovalBlocked),
                );
                holds("rule 3", blocked == says, || format!("request {} is blocked in silence", request.id))
            }
            _ => Ok(()),
        }
    }

    fn approved_at_once(&self, entry: &Entry<'_>, id: RequestId) -> bool {
        entry
            .events
            .iter()
            .any(|event| matches!(event, Event::RequestApproved { request, .. } if *request == id))
    }

    pub(super) fn given(&self, request: RequestId) -> &[Given] {
        self.approvals.get(&request).map(Vec::as_slice).unwrap_or_default()
    }

    /// Do these approvals meet every step, each by somebody else? Tries everything: there are few.
    fn suffices(&self, entry: &Entry<'_>, request: &Request, given: &[Given]) -> bool {
        let slots: Vec<&OpenStep> = request
            .steps
            .iter()
            .flat_map(|step| std::iter::repeat_n(step, usize::from(step.step.quorum.max(1))))
            .collect();
        let fits: Vec<Vec<bool>> = given
            .iter()
            .map(|given| slots.iter().map(|step| self.names(entry, request, step, given)).collect())
            .collect();
        let distinct = fits.iter().filter(|fits| fits.contains(&true)).count();
        !slots.is_empty()
            && distinct >= usize::from(request.distinct_approvers)
            && fill(&fits, slots.len(), 0, &mut Vec::new())
    }

    /// Does this step name that person, at the time of their approval and by the catalog in force now?
    fn names(&self, entry: &Entry<'_>, request: &Request, step: &OpenStep, given: &Given) -> bool {
        let Some(found) = entry.organisation.entitlements.get(&request.entitlement) else { return false };
        let context =
            WhoContext { beneficiary: &request.beneficiary, system: Some(&found.system), now: given.at };
        let catalog = &entry.organisation.catalog;
        let never: BTreeSet<PersonId> =
            parties(request).into_iter().chain(deputies(entry, request)).collect();
        let old = |person: &PersonId, who: &[Who]| {
            let age = catalog.settings.approver_minimum_age;
            let dated = |key: String| catalog.since.get(&key).is_none_or(|since| since.plus(age) <= given.at);
            dated(format!("person:{person}"))
                && who.iter().any(|one| {
                    let way = catalog.people_of(std::slice::from_ref(one), context).contains(person);
                    let aged = match one {
                        Who::Group(group) => dated(format!("group:{group}:{person}")),
                        Who::Office(office) => catalog.offices.get(office).is_some_and(|found| {
                            found.people.contains(person)
                                || found.groups.iter().any(|group| {
                                    catalog
                                        .groups
                                        .get(group)
                                        .is_some_and(|members| members.members.contains(person))
                                        && dated(format!("group:{group}:{person}"))
                                })
                        }),
                        _ => true,
                    };
                    way && aged
                })
        };
        let may = |who: &[Who]| {
            let mut people = catalog.people_of(who, context);
            people.retain(|person| !never.contains(person) && old(person, who));
            let spent = request.new_total;
            people.retain(|person| !(spent && request.earlier_approvers.contains(person)));
            people
        };
        let counts = given
            .factor
            .is_some_and(|kind| step.step.factors.is_empty() || step.step.factors.contains(&kind));
        let mut who = step.step.approvers.clone();
        if let Some(timer) = &step.step.timer
            && given.at >= request.timers_from.plus(timer.after)
        {
            match &timer.then {
                TimerAction::Reassign(to) => who = to.clone(),
                TimerAction::Widen(to) => who.extend(to.iter().cloned()),
                TimerAction::Lapse(_) => {}
            }
        }
        let first = may(&who);
        let asked = first.contains(&given.person)
            || (first.len() < usize::from(step.step.quorum.max(1))
                && may(&step.step.fallback).contains(&given.person));
        counts && asked
    }

    /// Rule 3: within its limits, and reviewed afterwards.
    fn automatic_approval(&self, entry: &Entry<'_>, request: &Request) -> Result<(), Violation> {
        let catalog = &entry.organisation.catalog;
        let rule = catalog
            .policies
            .get(&request.policy)
            .and_then(|policy| policy.rule_at(request.severity.as_ref()));
        let broken = |say: &str| Err(Violation::new("rule 3", format!("request {}: {say}", request.id)));
        let Some(Automatic { severity, longest, per_person_and_day }) =
            rule.and_then(|rule| rule.automatic.as_ref())
        else {
            return broken("approved by a policy that does not approve by itself");
        };
        let class = entry
            .organisation
            .entitlements
            .get(&request.entitlement)
            .and_then(|found| found.entitlement.sensitivity.as_ref())
            .and_then(|name| catalog.sensitivities.get(name));
        if class.is_some_and(|class| !class.automatic_approval) {
            return broken("its class forbids automatic approval");
        }
        if request.duration > *longest {
            return broken("longer than policy approves by itself");
        }
        let today = self
            .automatic
            .iter()
            .filter(|(person, at)| *person == request.beneficiary && entry.at.since(*at) < Span::days(1));
        if today.count() >= *per_person_and_day as usize {
            return broken("more often in a day than policy approves by itself");
        }
        let denied = self.denied.iter().any(|(person, what, at)| {
            *person == request.beneficiary
                && *what == request.entitlement
                && entry.at.since(*at) < catalog.settings.denial_blocks_automatic
        });
        if denied {
            return broken("approved by itself soon after a denial");
        }
        if *severity == SeverityWord::Attested {
            let by_source = matches!(entry.command, Command::FileRequest(file) if file.severity_attested)
                || matches!(entry.command, Command::Extend { .. });
            let by_person = match entry.command {
                Command::AttestSeverity { .. } => entry.person(),
                _ => self.attested.get(&request.id),
            };
            let never = parties(request);
            let somebody_else = by_person
                .is_some_and(|person| !never.contains(person) && !deputies(entry, request).contains(person));
            if !by_source && !somebody_else {
                return broken("its severity is nobody else's word");
            }
        }
        let reviewed = opened(entry).any(|review| {
            review.kind == ReviewKind::RetroactiveApproval && review.request == Some(request.id)
        });
        holds("rule 3", reviewed, || {
            format!("request {} was approved by itself without a review", request.id)
        })
    }

    /// Rule 6.
    pub fn bypasses(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::BypassAsked { request, person, bypass } => {
                let Some(found) = entry.world.requests.get(request) else { return Ok(()) };
                let scenario =
                    found.scenario.as_ref().and_then(|name| entry.organisation.catalog.scenarios.get(name));
                let system =
                    entry.organisation.entitlements.get(&found.entitlement).map(|found| &found.system);
                let context = WhoContext { beneficiary: &found.beneficiary, system, now: entry.at };
                let may = scenario.is_some_and(|scenario| {
                    entry.organisation.catalog.people_of(&scenario.bypassed_by, context).contains(person)
                });
                holds("rule 6", may && *person == found.beneficiary && found.incident.is_some(), || {
                    format!("{person} bypassed request {request} and may not")
                })?;
                let review = opened(entry).find(|review| review.kind == ReviewKind::Bypass);
                let due = review.is_some_and(|review| review.due_at <= entry.at.plus(Span::days(3)));
                holds("rule 6", due, || format!("the bypass of request {request} opens no review in time"))?;
                let told = entry.effects.iter().any(|effect| match effect {
                    Effect::Alert(alert) => {
                        alert.kind == AlertKind::Bypassed
                            && bypass.not_waited_for.iter().all(|person| alert.people.contains(person))
                    }
                    _ => false,
                });
                holds("rule 6", told, || format!("the bypass of request {request} is not told to all"))?;
                let open = self.open_bypass_reviews.get(person).is_some_and(|open| !open.is_empty());
                let at_once =
                    entry.events.iter().any(|other| matches!(other, Event::BypassTookEffect { .. }));
                let approved = !self.given(*request).is_empty();
                holds("rule 6", at_once == (!open || approved), || {
                    format!(
                        "the bypass of request {request} took effect at once: {at_once}, open review: {open}"
                    )
                })
            }
            Event::BypassTookEffect { request } => {
                let Some(found) = entry.world.requests.get(request) else { return Ok(()) };
                let Some((asked, waits)) = self.asked_bypass.get(request) else {
                    return holds("rule 6", false, || {
                        format!("nobody asked for the bypass of request {request}")
                    });
                };
                let wait = entry.organisation.catalog.settings.second_bypass_wait;
                let waited = !waits || entry.at >= asked.plus(wait);
                let approved = !self.given(*request).is_empty();
                holds("rule 6", waited || approved, || {
                    format!("the bypass of request {request} took effect without an approver or its wait")
                })?;
                holds("rule 7", !found.new_total || approved, || {
                    format!("the bypass of request {request} started a new total")
                })?;
                let by_time = matches!(entry.command, Command::Wake(Due::Request(_)));
                holds("rule 6", !by_time || entry.at >= asked.plus(wait), || "too early".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Tries every way of filling the slots with different people.
fn fill(fits: &[Vec<bool>], slots: usize, slot: usize, used: &mut Vec<usize>) -> bool {
    if slot == slots {
        return true;
    }
    for (person, fits_slots) in fits.iter().enumerate() {
        if used.contains(&person) || !fits_slots.get(slot).copied().unwrap_or(false) {
            continue;
        }
        used.push(person);
        if fill(fits, slots, slot + 1, used) {
            return true;
        }
        used.pop();
    }
    false
}

/// The request with the total that the same commit found.
fn moved(entry: &Entry<'_>, request: &Request) -> Request {
    let mut request = request.clone();
    for event in entry.events {
        if let Event::TotalMoved { request: id, new_total, earlier_approvers } = event
            && *id == request.id
        {
            request.new_total = *new_total;
            request.earlier_approvers = earlier_approvers.clone();
        }
    }
    request
}

/// Reviews that a commit opened.
pub(super) fn opened<'a>(entry: &'a Entry<'_>) -> impl Iterator<Item = &'a Review> {
    entry.events.iter().filter_map(|event| match event {
        Event::ReviewOpened { review } => Some(&**review),
        _ => None,
    })
}

/// Who asked, and who will use it.
pub(super) fn parties(request: &Request) -> BTreeSet<PersonId> {
    let mut people = request.earlier_requesters.clone();
    people.insert(request.requester.clone());
    people.insert(request.beneficiary.clone());
    people
}

pub(super) fn deputies(entry: &Entry<'_>, request: &Request) -> BTreeSet<PersonId> {
    parties(request).iter().flat_map(|person| entry.organisation.catalog.deputies_both_ways(person)).collect()
}

fn lapses(request: &Request) -> Time {
    let by_steps = request.steps.iter().filter_map(|step| match &step.step.timer {
        Some(timer) if timer.then == TimerAction::Lapse(true) => Some(request.timers_from.plus(timer.after)),
        _ => None,
    });
    by_steps.chain([request.lapses_at]).min().unwrap_or(request.lapses_at)
}

/// Does this person hold the office now?
pub(super) fn officer(entry: &Entry<'_>, person: &PersonId, office: OfficeName) -> bool {
    let context = WhoContext { beneficiary: person, system: None, now: entry.at };
    entry.organisation.catalog.people_of(&[Who::Office(office)], context).contains(person)
}

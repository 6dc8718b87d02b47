//! Rule 7: time on one entitlement adds up, whatever it is called, until somebody else starts a new total.

use std::collections::{BTreeMap, BTreeSet};

use super::approvals::opened;
use super::books::Books;
use super::{Entry, Violation, holds};
use crate::event::Event;
use crate::ids::{EntitlementName, GrantId, IncidentId, PersonId, RequestId};
use crate::review::ReviewKind;
use crate::time::{Span, Time};

/// Grants that count as one.
#[derive(Clone, Debug)]
pub(super) struct Group {
    person: PersonId,
    entitlement: EntitlementName,
    incidents: BTreeSet<IncidentId>,
    grants: BTreeSet<GrantId>,
    /// Time by grant.
    parts: BTreeMap<GrantId, Span>,
    approvers: BTreeSet<PersonId>,
    extensions: u32,
}

impl Group {
    fn total(&self) -> Span {
        self.parts.values().fold(Span::ZERO, |sum, part| sum.plus(*part))
    }
}

/// More time: for a new grant, or one that goes on.
struct More<'a> {
    grant: GrantId,
    request: RequestId,
    person: &'a PersonId,
    entitlement: &'a EntitlementName,
    incident: Option<IncidentId>,
    span: Span,
    new_total: bool,
    extends: bool,
}

impl Books {
    /// Rule 7, before the event is entered into the other books.
    pub fn totals(&mut self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::GrantScheduled { grant } => self.more(
                entry,
                &More {
                    grant: grant.id,
                    request: grant.request,
                    person: &grant.person,
                    entitlement: &grant.entitlement,
                    incident: grant.incident,
                    span: grant.duration,
                    new_total: grant.new_total,
                    extends: false,
                },
            ),
            Event::GrantExtended { grant, request, by, new_total, .. } => {
                let Some(found) = self.access.get(grant) else { return Ok(()) };
                let (person, entitlement, incident) =
                    (found.person.clone(), found.entitlement.clone(), found.incident);
                self.more(
                    entry,
                    &More {
                        grant: *grant,
                        request: *request,
                        person: &person,
                        entitlement: &entitlement,
                        incident,
                        span: *by,
                        new_total: *new_total,
                        extends: true,
                    },
                )
            }
            Event::GrantActivated { grant, .. } => {
                let Some(found) = self.access.get(grant).filter(|found| found.new_total) else {
                    return Ok(());
                };
                let (request, duration) = (found.request, found.duration);
                let approvers = self.given(request).iter().map(|given| given.person.clone()).collect();
                if let Some(group) = self.groups.iter_mut().find(|group| group.grants.contains(grant)) {
                    group.grants = [*grant].into();
                    group.parts = [(*grant, duration)].into();
                    group.approvers = approvers;
                    group.extensions = 0;
                }
                Ok(())
            }
            Event::GrantEnded { grant, at, .. } => {
                match self.access.get(grant).and_then(|found| found.deadline) {
                    Some(deadline) => self.shorten(*grant, deadline.since(*at)),
                    None => self.forget(*grant),
                }
                Ok(())
            }
            Event::GrantKept { grant, kept } => {
                if let Some(deadline) = self.access.get(grant).and_then(|found| found.deadline) {
                    self.shorten(*grant, deadline.since(kept.until));
                }
                Ok(())
            }
            Event::GrantCancelled { grant, .. } | Event::GrantActivationFailed { grant, .. } => {
                self.forget(*grant);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn shorten(&mut self, grant: GrantId, by: Span) {
        for group in &mut self.groups {
            if let Some(part) = group.parts.get_mut(&grant) {
                *part = part.minus(by);
            }
        }
    }

    fn forget(&mut self, grant: GrantId) {
        for group in &mut self.groups {
            if group.grants.remove(&grant) && group.parts.remove(&grant).is_some() {
                group.extensions = group.extensions.saturating_sub(1);
            }
        }
        self.groups.retain(|group| !group.grants.is_empty());
    }

    /// When a group's last access ends or ended.
    fn until(&self, group: &Group) -> Time {
        let ends = group.grants.iter().filter_map(|grant| self.access.get(grant)).map(|found| {
            let promised = found.activate_by.plus(found.duration);
            [found.deadline, found.ended].into_iter().flatten().min().unwrap_or(promised)
        });
        ends.max().unwrap_or_default()
    }

    fn more(&mut self, entry: &Entry<'_>, more: &More<'_>) -> Result<(), Violation> {
        let window = entry.organisation.catalog.settings.regrant_window;
        let (same, other): (Vec<Group>, Vec<Group>) =
            std::mem::take(&mut self.groups).into_iter().partition(|group| {
                let until = self.until(group);
                group.person == *more.person
                    && group.entitlement == *more.entitlement
                    && (entry.at.since(until) < window
                        || more.incident.is_some_and(|incident| group.incidents.contains(&incident))
                        || group.grants.contains(&more.grant))
            });
        self.groups = other;
        let continued = !same.is_empty();
        let mut whole = Group {
            person: more.person.clone(),
            entitlement: more.entitlement.clone(),
            incidents: more.incident.into_iter().collect(),
            grants: BTreeSet::new(),
            parts: BTreeMap::new(),
            approvers: BTreeSet::new(),
            extensions: 0,
        };
        for group in same {
            whole.incidents.extend(group.incidents);
            whole.grants.extend(group.grants);
            whole.parts.extend(group.parts);
            whole.approvers.extend(group.approvers);
            whole.extensions += group.extensions;
        }
        let approvers: BTreeSet<PersonId> =
            self.given(more.request).iter().map(|given| given.person.clone()).collect();
        if more.new_total {
            let somebody_new = approvers.iter().any(|person| !whole.approvers.contains(person));
            holds("rule 7", somebody_new, || {
                format!("a new total of {} was started by {approvers:?}", more.entitlement)
            })?;
            whole.grants.insert(more.grant);
            if more.extends {
                whole.grants = [more.grant].into();
                whole.parts = [(more.grant, more.span)].into();
                whole.approvers = approvers;
                whole.extensions = 0;
            }
            self.groups.push(whole);
            return Ok(());
        }
        if continued {
            whole.extensions += 1;
        }
        let part = whole.parts.entry(more.grant).or_default();
        *part = part.plus(more.span);
        whole.grants.insert(more.grant);
        whole.approvers.extend(approvers);
        let severity = entry.world.requests.get(&more.request).and_then(|request| request.severity.as_ref());
        let durations = entry
            .organisation
            .entitlements
            .get(more.entitlement)
            .map(|found| found.entitlement.durations_at(severity).clone())
            .unwrap_or_default();
        let total = whole.total();
        holds("rule 7", total <= durations.ceiling, || {
            format!("{} has {} for {total}, above {}", more.person, more.entitlement, durations.ceiling)
        })?;
        holds("rule 7", whole.extensions <= u32::from(durations.extensions), || {
            format!("{} has {} extensions of {}", more.person, whole.extensions, more.entitlement)
        })?;
        if whole.extensions == 2 {
            let reviewed = opened(entry).any(|review| review.kind == ReviewKind::ExtendedTwice);
            holds("rule 7", reviewed, || format!("the second extension of {} is not reviewed", more.grant))?;
        }
        self.groups.push(whole);
        Ok(())
    }
}

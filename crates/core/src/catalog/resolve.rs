//! Questions to the catalog: who is meant, which entitlement a name means, which rule of a policy counts.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{
    Catalog, Durations, Entitlement, OfficeName, Policy, PolicyRule, ResolvedEntitlement, Schedule, Scope,
    System, Who,
};
use crate::ids::{EntitlementName, Name, PersonId};
use crate::time::Time;

/// What `Who` may refer to besides the catalog.
#[derive(Clone, Copy, Debug)]
pub struct WhoContext<'a> {
    /// Whose manager is meant.
    pub beneficiary: &'a PersonId,
    /// Whose owner is meant.
    pub system: Option<&'a System>,
    /// When; for schedules.
    pub now: Time,
}

impl Catalog {
    /// Everybody that these words name, people who have left excluded.
    pub fn people_of(&self, who: &[Who], context: WhoContext<'_>) -> BTreeSet<PersonId> {
        let mut people = BTreeSet::new();
        for one in who {
            self.add_people(one, context, &mut people, 0);
        }
        people.retain(|id| self.people.get(id).is_some_and(|person| !person.left));
        people
    }

    fn add_people(&self, who: &Who, context: WhoContext<'_>, people: &mut BTreeSet<PersonId>, depth: u8) {
        match who {
            Who::Person(id) => {
                people.insert(id.clone());
            }
            Who::Group(name) => {
                if let Some(group) = self.groups.get(name) {
                    people.extend(group.members.iter().cloned());
                }
            }
            Who::Office(office) => people.extend(self.holders(*office)),
            Who::OnCall(name) => people.extend(self.schedules.get(name).and_then(|s| s.on_call(context.now))),
            Who::Manager(true) => {
                people.extend(self.people.get(context.beneficiary).and_then(|person| person.manager.clone()));
            }
            Who::Owner(true) if depth == 0 => {
                for owner in context.system.map(|system| system.owner.as_slice()).unwrap_or_default() {
                    self.add_people(owner, context, people, depth + 1);
                }
            }
            Who::Anyone(true) => people.extend(self.people.keys().cloned()),
            Who::Manager(false) | Who::Owner(_) | Who::Anyone(false) => {}
        }
    }

    /// Shows everybody that these words name, some of them perhaps twice, until `next` wants no more.
    pub(crate) fn visit(
        &self,
        who: &[Who],
        context: WhoContext<'_>,
        next: &mut dyn FnMut(&PersonId) -> bool,
    ) {
        for one in who {
            let more = match one {
                Who::Person(id) => next(id),
                Who::Group(name) => {
                    self.groups.get(name).is_none_or(|group| group.members.iter().all(&mut *next))
                }
                Who::Anyone(true) => self.people.keys().all(&mut *next),
                other => {
                    let mut people = BTreeSet::new();
                    self.add_people(other, context, &mut people, 0);
                    people.iter().all(&mut *next)
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Is this person among them?
    pub fn is_among(&self, person: &PersonId, who: &[Who], context: WhoContext<'_>) -> bool {
        let present = self.people.get(person).is_some_and(|found| !found.left);
        present && who.iter().any(|one| self.way_since(person, one, context, 0, false).is_some())
    }

    /// Does this person hold the office?
    pub fn holds(&self, person: &PersonId, office: OfficeName) -> bool {
        self.people.get(person).is_some_and(|found| !found.left)
            && self.offices.get(&office).is_some_and(|found| {
                found.people.contains(person)
                    || found
                        .groups
                        .iter()
                        .any(|name| self.groups.get(name).is_some_and(|g| g.members.contains(person)))
            })
    }

    /// Everybody who holds the office.
    pub fn holders(&self, office: OfficeName) -> BTreeSet<PersonId> {
        let mut people = BTreeSet::new();
        if let Some(found) = self.offices.get(&office) {
            people.extend(found.people.iter().cloned());
            for name in &found.groups {
                people.extend(
                    self.groups.get(name).into_iter().flat_map(|group| group.members.iter().cloned()),
                );
            }
        }
        people
    }

    /// The deputies of this person and those whose deputy they are.
    pub fn deputies_both_ways(&self, person: &PersonId) -> BTreeSet<PersonId> {
        let own = self.people.get(person).into_iter().flat_map(|found| found.deputies.iter().cloned());
        let of =
            self.people.iter().filter(|(_, other)| other.deputies.contains(person)).map(|(id, _)| id.clone());
        own.chain(of).collect()
    }

    /// Are they each other's deputy, in either direction?
    pub fn is_deputy(&self, one: &PersonId, other: &PersonId) -> bool {
        let names =
            |a: &PersonId, b: &PersonId| self.people.get(a).is_some_and(|found| found.deputies.contains(b));
        names(one, other) || names(other, one)
    }

    /// When the youngest thing that makes this person one of `who` was first seen: their entry, membership, office, turn.
    /// Of several ways the oldest counts. None if nothing makes them one. Something that the catalog does not date counts
    /// as old, as at the very first `apply`.
    pub fn member_since(&self, person: &PersonId, who: &[Who], context: WhoContext<'_>) -> Option<Time> {
        let present = self.people.get(person).is_some_and(|found| !found.left);
        let way = who.iter().filter_map(|one| self.way_since(person, one, context, 0, true)).min();
        way.filter(|_| present).map(|way| way.max(self.seen(|| format!("person:{person}"))))
    }

    fn seen(&self, key: impl FnOnce() -> String) -> Time {
        if self.since.is_empty() {
            return Time::default();
        }
        self.since.get(&key()).copied().unwrap_or_default()
    }

    /// Since when this one way names the person; if the date does not matter, the beginning of time.
    fn way_since(
        &self,
        person: &PersonId,
        who: &Who,
        context: WhoContext<'_>,
        depth: u8,
        dated: bool,
    ) -> Option<Time> {
        let seen = |key: &dyn Fn() -> String| if dated { self.seen(key) } else { Time::default() };
        let member = |name: &Name| self.groups.get(name).is_some_and(|group| group.members.contains(person));
        match who {
            Who::Person(id) => (id == person).then(Time::default),
            Who::Anyone(all) => all.then(Time::default),
            Who::Group(name) => member(name).then(|| seen(&|| format!("group:{name}:{person}"))),
            Who::Office(office) => {
                let found = self.offices.get(office)?;
                let own =
                    found.people.contains(person).then(|| seen(&|| format!("office:{office}:{person}")));
                let by_group = found.groups.iter().filter(|name| member(name)).map(|name| {
                    seen(&|| format!("group:{name}:{person}"))
                        .max(seen(&|| format!("office:{office}:{person}")))
                });
                own.into_iter().chain(by_group).min()
            }
            Who::OnCall(name) => {
                let turn = self.schedules.get(name).and_then(|schedule| schedule.on_call(context.now))?;
                (turn == *person).then(|| seen(&|| format!("schedule:{name}:{person}")))
            }
            Who::Manager(true) => {
                let manager = self.people.get(context.beneficiary)?.manager.as_ref()?;
                (manager == person).then(|| seen(&|| format!("manager:{}:{person}", context.beneficiary)))
            }
            Who::Owner(true) if depth == 0 => {
                let owners = context.system.map(|system| system.owner.as_slice()).unwrap_or_default();
                owners.iter().filter_map(|owner| self.way_since(person, owner, context, 1, dated)).min()
            }
            Who::Manager(false) | Who::Owner(_) => None,
        }
    }

    /// The entitlement that a role means on this system: its own, or that of the first profile (by name) that fits.
    pub fn resolve(&self, system: &System, role: &Name) -> Option<ResolvedEntitlement> {
        let own = system.entitlements.get(role);
        let entitlement = own.or_else(|| {
            self.profiles
                .values()
                .filter(|profile| profile.systems.covers_system(system))
                .find_map(|profile| profile.entitlements.get(role))
        })?;
        Some(ResolvedEntitlement {
            name: EntitlementName { system: system.name.clone(), role: role.clone() },
            system: system.clone(),
            entitlement: entitlement.clone(),
        })
    }

    /// All roles of a system, its own and those of profiles.
    pub fn roles_of(&self, system: &System) -> BTreeSet<Name> {
        let mut roles: BTreeSet<Name> = system.entitlements.keys().cloned().collect();
        for profile in self.profiles.values().filter(|profile| profile.systems.covers_system(system)) {
            roles.extend(profile.entitlements.keys().cloned());
        }
        roles
    }
}

impl ResolvedEntitlement {
    /// The policy of emergency requests.
    pub fn emergency_policy(&self) -> Option<&Name> {
        self.entitlement.emergency_policy.as_ref().or(self.system.emergency_policy.as_ref())
    }
    /// The policy of standard requests.
    pub fn standard_policy(&self) -> Option<&Name> {
        if self.entitlement.emergency_only {
            return None;
        }
        self.entitlement.standard_policy.as_ref().or(self.system.standard_policy.as_ref())
    }
}

impl Entitlement {
    /// The durations that hold at this severity; none = a standard request.
    pub fn durations_at(&self, severity: Option<&Name>) -> &Durations {
        severity.and_then(|name| self.emergency_durations.get(name)).unwrap_or(&self.durations)
    }
}

impl Policy {
    /// The rule that counts at this severity.
    pub fn rule_at(&self, severity: Option<&Name>) -> Option<&PolicyRule> {
        self.rules.iter().find(|rule| {
            rule.severities.is_empty() || severity.is_some_and(|severity| rule.severities.contains(severity))
        })
    }
}

impl Scope {
    /// Does it cover this system, whatever the role?
    pub fn covers_system(&self, system: &System) -> bool {
        (self.systems.is_empty() || self.systems.contains(&system.name))
            && self.labels.iter().all(|(key, wanted)| {
                system.labels.get(key).is_some_and(|value| wanted == "*" || wanted == value)
            })
    }
    /// Does it cover this role of this system?
    pub fn covers(&self, system: &System, role: &Name) -> bool {
        self.covers_system(system) && (self.roles.is_empty() || self.roles.contains(role))
    }
}

impl Schedule {
    /// Who is on call at this time. None when the rotation is empty, has not begun or its zone is unknown.
    pub fn on_call(&self, now: Time) -> Option<PersonId> {
        let zone = TimeZone::get(&self.time_zone).ok()?;
        let local = jiff::Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(zone).datetime();
        let within = |from: &str, until: &str| {
            let (from, until) = (from.parse::<DateTime>().ok()?, until.parse::<DateTime>().ok()?);
            Some(from <= local && local < until)
        };
        if let Some(over) =
            self.overrides.iter().rev().find(|over| within(&over.from, &over.until) == Some(true))
        {
            return Some(over.person.clone());
        }
        let starts: DateTime = self.starts.parse().ok()?;
        // Counting in local civil time keeps the hour of change across daylight saving.
        let elapsed = starts.until((jiff::Unit::Second, local)).ok()?;
        let seconds = elapsed.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).ok()?;
        let turn = self.turn.as_seconds();
        if seconds < 0.0 || turn <= 0 || self.people.is_empty() {
            return None;
        }
        let index = (seconds as i64 / turn) as usize % self.people.len();
        self.people.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_rotation_changes_at_the_local_hour_across_daylight_saving() {
        let schedule = Schedule {
            time_zone: "Europe/Berlin".into(),
            starts: "2026-03-23T09:00".into(),
            turn: Span::days(7),
            people: vec![name("anna"), name("ben")],
            overrides: vec![super::super::ScheduleOverride {
                from: "2026-03-25T00:00".into(),
                until: "2026-03-26T00:00".into(),
                person: name("cleo"),
            }],
        };
        let at = |text: &str| {
            let zoned =
                text.parse::<DateTime>().unwrap().to_zoned(TimeZone::get("Europe/Berlin").unwrap()).unwrap();
            schedule.on_call(Time::from_micros(zoned.timestamp().as_microsecond())).map(|p| p.to_string())
        };
        assert_eq!(at("2026-03-30T08:59").as_deref(), Some("anna"));
        assert_eq!(at("2026-03-30T09:00").as_deref(), Some("ben"));
        assert_eq!(at("2026-03-25T12:00").as_deref(), Some("cleo"));
        assert_eq!(at("2026-03-01T12:00"), None);
    }
}

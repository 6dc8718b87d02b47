//! Rules 1, 5 and 8: access only under a grant in force, never past its deadline, each grant on its own, and after a
//! proven end never again.

use super::books::{Access, Books};
use super::{Entry, Violation, holds};
use crate::command::Command;
use crate::effect::Effect;
use crate::event::Event;
use crate::grant::{GrantEnd, ProofOutcome};
use crate::ids::GrantId;
use crate::request::{Mode, Request};
use crate::testing::simulator::{Connector, Gateway};
use crate::time::{Span, Time};
use crate::world::World;

/// Clocks of control, gateways and connectors differ by at most this.
const SKEW: Span = Span::seconds(3);

impl Books {
    /// Rules 1 and 5.
    pub fn access(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        match event {
            Event::RequestFiled { request } => complete(entry, request),
            Event::Escalated { to, .. } => complete(entry, to),
            Event::GrantActivating { grant, .. } => self.with(*grant, |found| {
                holds("rule 5", entry.at < found.activate_by, || {
                    format!("grant {grant} begun after its approval had run out")
                })
            }),
            Event::GrantActivated { grant, at, deadline } => self.with(*grant, |found| {
                holds("rule 5", entry.at < found.activate_by, || {
                    format!("grant {grant} activated after its approval had run out")
                })?;
                let fits = *deadline > *at && *deadline <= at.plus(found.duration);
                holds("rule 1", fits, || format!("grant {grant} lasts longer than it was asked for"))
            }),
            Event::GrantExtended { grant, deadline, by, .. } => self.with(*grant, |found| {
                let in_time = found.ended.is_none() && found.deadline.is_some_and(|deadline| entry.at < deadline);
                holds("rule 5", in_time, || format!("grant {grant} was extended after its end"))?;
                let fits = found.deadline.is_some_and(|before| *deadline <= before.plus(*by));
                holds("rule 1", fits, || format!("grant {grant} was extended by more than was asked for"))
            }),
            Event::GrantEnded { grant, at, reason, .. } => self.with(*grant, |found| {
                let by_itself = found.deadline.is_some_and(|deadline| entry.at >= deadline);
                let ends = found.deadline.is_none_or(|deadline| *at <= deadline);
                holds("rule 5", ends, || format!("grant {grant} is said to have ended after its deadline"))?;
                let said = matches!(reason, GrantEnd::Expired | GrantEnd::NeverUsed);
                holds("rule 5", by_itself == said, || {
                    format!("grant {grant} ended as {reason:?} at {}", entry.at)
                })
            }),
            Event::SessionOpened { session } if !session.outside_grant => self.with(session.grant, |found| {
                let end = [found.deadline, found.ended].into_iter().flatten().min();
                let inside = found.from.is_some() && end.is_some_and(|end| session.opened_at < end);
                holds("rule 1", inside, || format!("session {} is not within its grant", session.id))
            }),
            Event::SessionOpened { session } => self.with(session.grant, |_| {
                let ends = entry.effects.iter().any(
                    |effect| matches!(effect, Effect::KillSession { session: other, .. } if *other == session.id),
                );
                let in_force = entry.world.grants.get(&session.grant).is_some_and(|grant| grant.in_force(entry.at));
                holds("rule 1", ends || in_force, || format!("session {} outside its grant goes on", session.id))
            }),
            _ => Ok(()),
        }
    }

    fn with(
        &self,
        grant: GrantId,
        check: impl FnOnce(&Access) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        match self.access.get(&grant) {
            Some(found) => check(found),
            None => Err(Violation::new("rule 12", format!("grant {grant} was never scheduled"))),
        }
    }

    /// Rule 8 and fencing: only what was named ends, and numbers never go back.
    pub fn counted(&self, entry: &Entry<'_>, event: &Event) -> Result<(), Violation> {
        let fencing = match event {
            Event::GrantExtended { grant, fencing, .. }
            | Event::GrantEnded { grant, fencing, .. }
            | Event::GrantActivationFailed { grant, fencing, .. } => Some((grant, fencing)),
            _ => None,
        };
        if let Some((grant, fencing)) = fencing {
            self.with(*grant, |found| {
                holds("fencing", *fencing > found.fencing, || {
                    format!("grant {grant} has number {fencing} again")
                })
            })?;
        }
        if let Event::GrantEnded { grant, .. } | Event::GrantCancelled { grant, .. } = event {
            let named = match entry.command {
                Command::GiveBack { grant: named }
                | Command::Revoke { grant: named, .. }
                | Command::BeginActivation { grant: named }
                | Command::Wake(crate::command::Due::Grant(named)) => named == grant,
                Command::Mitigate { incident } => {
                    self.access.get(grant).is_some_and(|found| found.incident == Some(*incident))
                }
                Command::TakeBack { request } => {
                    self.access.get(grant).is_some_and(|found| found.request == *request)
                }
                _ => false,
            };
            holds("rule 8", named, || format!("{:?} ended grant {grant}", entry.command))?;
        }
        Ok(())
    }

    pub(super) fn enter_access(&mut self, event: &Event) {
        if let Event::GrantScheduled { grant } = event {
            let access = Access {
                person: grant.person.clone(),
                entitlement: grant.entitlement.clone(),
                incident: grant.incident,
                request: grant.request,
                activate_by: grant.activate_by,
                duration: grant.duration,
                new_total: grant.new_total,
                from: None,
                deadline: None,
                ended: None,
                over: false,
                fencing: grant.fencing,
                proven: false,
                latest: Time::default(),
            };
            self.access.insert(grant.id, access);
            return;
        }
        let (Event::GrantActivated { grant, .. }
        | Event::GrantExtended { grant, .. }
        | Event::GrantEnded { grant, .. }
        | Event::GrantCancelled { grant, .. }
        | Event::GrantActivationFailed { grant, .. }
        | Event::GrantKept { grant, .. }
        | Event::GrantRevoked { grant, .. }) = event
        else {
            return;
        };
        let Some(found) = self.access.get_mut(grant) else { return };
        match event {
            Event::GrantActivated { at, deadline, .. } => {
                found.from = Some(*at);
                found.deadline = Some(*deadline);
                found.latest = *deadline;
            }
            Event::GrantExtended { deadline, fencing, .. } => {
                found.deadline = Some(*deadline);
                found.latest = found.latest.max(*deadline);
                found.fencing = *fencing;
            }
            Event::GrantKept { kept, .. } => {
                found.deadline = found.deadline.map(|deadline| deadline.min(kept.until));
            }
            Event::GrantEnded { at, fencing, .. } => {
                found.ended = Some(*at);
                found.over = true;
                found.fencing = *fencing;
            }
            Event::GrantCancelled { .. } => found.over = true,
            Event::GrantActivationFailed { fencing, .. } => {
                found.over = true;
                found.fencing = *fencing;
            }
            Event::GrantRevoked { outcome: ProofOutcome::Proven { .. }, .. } => found.proven = true,
            _ => {}
        }
    }

    /// What really goes on at gateways and targets.
    pub fn outside(
        &self,
        world: &World,
        now: Time,
        gateways: &[Gateway],
        connector: &Connector,
    ) -> Result<(), Violation> {
        for gateway in gateways {
            for (session, live) in &gateway.live {
                let Some(found) = self.access.get(&live.grant) else {
                    return Err(Violation::new("rule 1", format!("session {session} has no grant")));
                };
                holds("rule 1", found.from.is_some(), || {
                    format!("session {session} before its grant was active")
                })?;
                holds("rule 1", now <= found.latest.plus(SKEW), || {
                    format!("session {session} goes on after every deadline of grant {}", live.grant)
                })?;
                holds("fencing", !found.proven, || {
                    format!("session {session} goes on after the end of grant {} was proved", live.grant)
                })?;
            }
        }
        for (grant, found) in self.access.iter().filter(|(_, found)| found.proven) {
            holds("fencing", !connector.opens(now, *grant), || {
                format!("the door of grant {grant} ({}) is open after its end was proved", found.entitlement)
            })?;
        }
        let overdue = world
            .grants
            .values()
            .find(|grant| grant.state == crate::grant::GrantState::Active && grant.deadline.is_none());
        holds("rule 1", overdue.is_none(), || "an active grant has no deadline".to_owned())
    }
}

/// Rule 1: an emergency has a reason, a scenario that it fits, and an incident; its criteria were confirmed.
fn complete(entry: &Entry<'_>, request: &Request) -> Result<(), Violation> {
    holds("rule 1", !request.reason.trim().is_empty(), || "a request without a reason".to_owned())?;
    if request.mode == Mode::Standard {
        return Ok(());
    }
    let catalog = &entry.organisation.catalog;
    let scenario = request.scenario.as_ref().and_then(|name| catalog.scenarios.get(name));
    let found = entry.organisation.entitlements.get(&request.entitlement);
    let (Some(scenario), Some(found), Some(severity), true) =
        (scenario, found, &request.severity, request.incident.is_some())
    else {
        return Err(Violation::new(
            "rule 1",
            format!("request {} lacks what an emergency needs", request.id),
        ));
    };
    let fits = scenario.severities.is_empty() || scenario.severities.contains(severity);
    let covered = scenario.scope.iter().any(|scope| {
        (scope.systems.is_empty() || scope.systems.contains(&found.system.name))
            && (scope.roles.is_empty() || scope.roles.contains(&found.name.role))
            && scope.labels.iter().all(|(key, value)| {
                found.system.labels.get(key).is_some_and(|has| value == "*" || has == value)
            })
    });
    let confirmed = match entry.command {
        Command::FileRequest(file) => file.criteria_confirmed || scenario.criteria.is_empty(),
        Command::Escalate { criteria_confirmed, .. } => *criteria_confirmed || scenario.criteria.is_empty(),
        _ => true,
    };
    holds("rule 1", fits && covered && confirmed && found.entitlement.emergency, || {
        format!("request {} does not fit scenario {:?}", request.id, request.scenario)
    })
}

//! What control does about effects, and what nodes do about what reaches them. Everything may be late, lost or doubled.

use super::outside::Mail;
use super::{Errand, Simulation};
use crate::command::{Actor, Command};
use crate::effect::Effect;
use crate::grant::GrantState;
use crate::ids::Name;
use crate::testing::invariants::Violation;
use crate::testing::story::node;
use crate::time::{Span, Time};

/// An errand that is not done yet is tried again after this.
const AGAIN: Span = Span::seconds(30);

impl Simulation {
    /// Puts something on its way: mostly it is there within seconds, sometimes after minutes, sometimes twice or never.
    fn send(&mut self, mail: Mail) {
        if self.random.once_in(12) {
            self.count("a message was lost");
            return;
        }
        if self.random.once_in(12) {
            self.count("a message came twice");
            let due = self.delay();
            self.mail.push((due, mail.clone()));
        }
        let due = self.delay();
        self.mail.push((due, mail));
    }

    fn delay(&mut self) -> Time {
        let seconds = if self.random.once_in(8) { 5400 } else { 3 };
        self.now.plus(Span::micros(self.random.below(seconds * 1_000_000) as i64))
    }

    fn gateway(&self, id: &Name) -> Option<usize> {
        self.gateways.iter().position(|gateway| gateway.name == *id)
    }

    /// Control works at one of its errands.
    pub(super) fn errand(&mut self) -> Result<(), Violation> {
        let ready: Vec<usize> = self
            .errands
            .iter()
            .enumerate()
            .filter(|(_, errand)| errand.not_before <= self.now)
            .map(|(at, _)| at)
            .collect();
        let Some(at) = self.random.pick(&ready).copied() else { return Ok(()) };
        let errand = self.errands.swap_remove(at);
        if self.random.once_in(10) {
            // Done, but the node died before it could say so: somebody else does it again.
            self.errands.push(errand.clone());
        }
        if !self.perform(&errand.effect)? {
            self.errands.push(Errand { not_before: self.now.plus(AGAIN), ..errand });
        }
        Ok(())
    }

    /// True once nothing more is to be done about it.
    fn perform(&mut self, effect: &Effect) -> Result<bool, Violation> {
        match effect {
            Effect::Activate { grant } => {
                self.insist(Actor::Clock, Command::BeginActivation { grant: *grant })?;
                let Some(found) = self.store.world.grants.get(grant) else { return Ok(true) };
                let (state, fencing) = (found.state, found.fencing);
                if state == GrantState::Activating {
                    self.send(Mail::Activate { grant: *grant, fencing });
                }
                Ok(!matches!(state, GrantState::Scheduled | GrantState::Activating))
            }
            Effect::PushLease { grant } => {
                for gateway in 0..self.gateways.len() {
                    let Some(found) = self.store.world.grants.get(grant) else { continue };
                    let Some(deadline) = found.deadline.filter(|_| found.in_force(self.now)) else {
                        continue;
                    };
                    let fencing = found.fencing;
                    let Some(name) = self.gateways.get(gateway).map(|gateway| gateway.name.clone()) else {
                        continue;
                    };
                    let held = Command::ReportLeaseHeld { grant: *grant, fencing, gateway: name.clone() };
                    self.insist(Actor::Node { name }, held)?;
                    let remaining = deadline.since(self.now);
                    self.send(Mail::Put { gateway, grant: *grant, fencing, deadline, remaining });
                }
                Ok(true)
            }
            Effect::RevokeLease { grant, fencing, .. } => {
                let holders: Vec<Name> = self
                    .store
                    .world
                    .grants
                    .get(grant)
                    .map(|found| {
                        found.gateways.iter().filter(|(_, gone)| !**gone).map(|(id, _)| id.clone()).collect()
                    })
                    .unwrap_or_default();
                for holder in &holders {
                    if let Some(gateway) = self.gateway(holder) {
                        self.send(Mail::Revoke { gateway, grant: *grant, fencing: *fencing });
                    }
                }
                Ok(holders.is_empty())
            }
            Effect::Deactivate { grant, fencing } => {
                let Some(found) = self.store.world.grants.get(grant) else { return Ok(true) };
                if found.deactivated || found.fencing != *fencing || found.state.settled() {
                    return Ok(true);
                }
                self.send(Mail::Deactivate { grant: *grant, fencing: *fencing });
                Ok(false)
            }
            Effect::Look { grant, fencing, .. } => {
                self.send(Mail::Look { grant: *grant, fencing: *fencing });
                Ok(true)
            }
            Effect::KillSession { session, gateway, .. } => {
                if let Some(gateway) = self.gateway(gateway) {
                    self.send(Mail::Kill { gateway, session: *session });
                }
                Ok(true)
            }
            Effect::ReleaseStatement { session, gateway, hold, allow, by, .. } => {
                if let Some(gateway) = self.gateway(gateway) {
                    let (session, hold, allow, by) = (*session, *hold, *allow, by.to_string());
                    self.send(Mail::Release { gateway, session, hold, allow, by });
                }
                Ok(true)
            }
            Effect::ApplyChange { .. } => {
                std::sync::Arc::make_mut(&mut self.store.organisation).change(|_| {});
                Ok(true)
            }
            Effect::Alert(_) => Ok(true),
        }
    }

    /// Something reaches whom it was sent to.
    pub(super) fn deliver(&mut self) -> Result<(), Violation> {
        let there: Vec<usize> =
            self.mail.iter().enumerate().filter(|(_, (due, _))| *due <= self.now).map(|(at, _)| at).collect();
        let Some(at) = self.random.pick(&there).copied() else {
            // Nothing is there yet: a moment passes.
            self.now = self.now.plus(Span::seconds(1));
            let now = self.now;
            self.gateways.iter_mut().for_each(|gateway| gateway.pass(now));
            return Ok(());
        };
        let (_, mail) = self.mail.swap_remove(at);
        let now = self.now;
        match mail {
            Mail::Activate { grant, fencing } => {
                if self.random.once_in(12) {
                    let reason = "the target is down".to_owned();
                    self.send(Mail::Report(Command::ReportActivationFailed { grant, fencing, reason }));
                } else if self.connector.activate(grant, fencing) {
                    self.send(Mail::Report(Command::ReportActivated { grant, fencing }));
                } else {
                    self.count("the connector refused an old number");
                }
            }
            Mail::Deactivate { grant, fencing } => match self.connector.deactivate(now, grant, fencing) {
                Some(provable_at) => {
                    self.send(Mail::Report(Command::ReportDeactivated { grant, fencing, provable_at }));
                }
                None => self.count("the connector refused an old number"),
            },
            Mail::Look { grant, fencing } => {
                let sees = self.random.below(10);
                let evidence = self.connector.look(now, grant, sees);
                self.send(Mail::Report(Command::ReportLooked { grant, fencing, evidence }));
            }
            Mail::Put { gateway, grant, fencing, deadline, remaining } => {
                if let Some(gateway) = self.gateways.get_mut(gateway) {
                    gateway.put(now, grant, fencing, deadline, remaining);
                }
            }
            Mail::Revoke { gateway, grant, fencing } => {
                if let Some(gateway) = self.gateways.get_mut(gateway) {
                    gateway.revoke(now, grant, fencing);
                }
            }
            Mail::Kill { gateway, session } => {
                if let Some(gateway) = self.gateways.get_mut(gateway) {
                    gateway.end(now, session, "killed");
                }
            }
            Mail::Release { gateway, session, hold, allow, by } => {
                if let Some(gateway) = self.gateways.get_mut(gateway) {
                    gateway.release(now, session, hold, allow, &by);
                }
            }
            Mail::Report(command) => drop(self.insist(node("connector"), command)?),
        }
        Ok(())
    }

    /// Control hears the next thing from a gateway's ledger, in order; sometimes it hears it twice.
    pub(super) fn report(&mut self) -> Result<(), Violation> {
        let at = self.random.below(self.gateways.len() as u64) as usize;
        let again = self.random.once_in(10);
        let Some(gateway) = self.gateways.get_mut(at) else { return Ok(()) };
        let actor = Actor::Node { name: gateway.name.clone() };
        if let Some(command) = gateway.repeated.clone().filter(|_| again) {
            // What is appended and not set has no identity of its own: the ledger's index keeps it from coming twice.
            if !matches!(command, Command::ReportChannel { .. } | Command::ReportRefused { .. }) {
                self.insist(actor.clone(), command)?;
            }
        }
        let Some(gateway) = self.gateways.get_mut(at) else { return Ok(()) };
        let Some(command) = gateway.reports.pop_front() else { return Ok(()) };
        gateway.repeated = Some(command.clone());
        if let Command::ReportRecordingFinished { session, sha256, .. } = &command {
            let (session, sha256) = (*session, sha256.clone());
            let lost = self.random.once_in(7);
            let Some(gateway) = self.gateways.get_mut(at) else { return Ok(()) };
            gateway.reports.push_back(if lost {
                Command::ReportRecordingLost { session, reason: "the disk broke".to_owned() }
            } else {
                Command::ReportRecordingStored { session, sha256 }
            });
        }
        self.insist(actor, command)?;
        Ok(())
    }

    /// Somebody comes to a gateway, works, or leaves.
    pub(super) fn at_a_gateway(&mut self) -> Result<(), Violation> {
        let at = self.random.below(self.gateways.len() as u64) as usize;
        let what = self.random.below(12);
        let limit = self.random.pick(&[5, 10, 60, 240]).copied().unwrap_or(10);
        let holds = self.random.once_in(2);
        let now = self.now;
        let (session, recording) = (self.id(), self.id());
        let Some(gateway) = self.gateways.get_mut(at) else { return Ok(()) };
        let live: Vec<_> = gateway.live.keys().copied().collect();
        match what {
            0..5 => {
                let held: Vec<_> = gateway.leases.iter().map(|(grant, held)| (*grant, *held)).collect();
                let Some((grant, held)) = self.random.pick(&held).copied() else {
                    if self.random.once_in(4) {
                        gateway.reports.push_back(Command::ReportRefused {
                            person: None,
                            what: "a session".to_owned(),
                            client: "192.0.2.9".to_owned(),
                            reason: "no lease".to_owned(),
                        });
                    }
                    return Ok(());
                };
                if held.until <= now || !self.connector.issue(now, grant) {
                    return Ok(());
                }
                let live = super::outside::Live {
                    grant,
                    until: held.until,
                    last_hold: 0,
                    waiting: std::collections::BTreeMap::new(),
                };
                gateway.live.insert(session, live);
                gateway.reports.push_back(Command::ReportSessionOpened {
                    session,
                    grant,
                    gateway: gateway.name.clone(),
                    recording,
                    client: "192.0.2.7".to_owned(),
                    login: "public key".to_owned(),
                    at: gateway.skew.shows(now),
                });
                if holds {
                    gateway.hold(now, session, Span::minutes(limit));
                }
            }
            5 | 6 => {
                if let Some(session) = self.random.pick(&live).copied() {
                    let (kind, detail) = ("exec".to_owned(), "systemctl restart orders".to_owned());
                    gateway.reports.push_back(Command::ReportChannel { session, kind, detail });
                }
            }
            7 => {
                if let Some(session) = self.random.pick(&live).copied() {
                    let what = format!("/etc/orders.conf, {}", self.random.below(3));
                    gateway.reports.push_back(Command::ReportChange { session, what });
                }
            }
            8 | 9 => {
                if let Some(session) = self.random.pick(&live).copied() {
                    gateway.hold(now, session, Span::minutes(limit));
                }
            }
            _ => {
                if let Some(session) = self.random.pick(&live).copied() {
                    gateway.end(now, session, "left");
                }
            }
        }
        Ok(())
    }
}

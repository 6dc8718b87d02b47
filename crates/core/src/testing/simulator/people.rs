//! What people do in a simulation: sensible things, foolish things and wicked ones, at random.

use super::Simulation;
use crate::catalog::FactorKind;
use crate::change::{ChangeState, ChangeSubject, ProposeChange};
use crate::command::{Actor, Command, FactorUse, FileRequest};
use crate::grant::GrantState;
use crate::ids::{IncidentId, Name, PersonId, RequestId};
use crate::incident::ChangeFate;
use crate::request::{Mode, RequestState, Verdict, approval_standing};
use crate::review::ReviewState;
use crate::session::releasers;
use crate::testing::organisation::{entitlement, name};
use crate::testing::story::{answers, emergency, standard};
use crate::time::Span;

const RESPONDERS: [&str; 4] = ["anna", "ben", "cleo", "oto"];
const APPROVERS: [&str; 9] = ["dan", "hana", "eve", "fred", "gus", "kim", "lea", "max", "oto"];
const OFFICERS: [&str; 6] = ["eve", "fred", "hana", "dan", "gus", "pia"];
const ROLES: [&str; 6] = ["observe", "operate", "root", "data", "patch", "vendor"];
const SYSTEMS: [&str; 2] = ["orders-host", "billing-host"];

impl Simulation {
    fn one_of(&mut self, names: &[&str]) -> PersonId {
        // Now and then it is somebody who has no business there.
        if self.random.once_in(8) {
            let everybody = self.store.organisation.people();
            if let Some(person) = self.random.pick(&everybody) {
                return person.clone();
            }
        }
        name(self.random.pick(names).copied().unwrap_or("nia"))
    }

    fn one(&mut self, from: &[PersonId]) -> PersonId {
        if self.random.once_in(10) || from.is_empty() {
            return self.one_of(&OFFICERS);
        }
        self.random.pick(from).cloned().unwrap_or_else(|| name("nia"))
    }

    fn chosen<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        self.random.pick(from).cloned()
    }

    /// Somebody signed in, mostly with a proper second factor.
    fn signed_in(&mut self, id: PersonId) -> Actor {
        let kind = if self.random.once_in(6) { FactorKind::PasskeySynced } else { FactorKind::Totp };
        let age = if self.random.once_in(12) { Span::hours(1) } else { Span::days(40) };
        let since = if self.random.once_in(20) { Span::minutes(30) } else { Span::seconds(20) };
        let factor = FactorUse {
            kind,
            at: self.now.minus(since),
            enrolled_at: self.now.minus(age),
            for_this_act: !self.random.once_in(20),
        };
        let factor = (!self.random.once_in(25)).then_some(factor);
        Actor::Person { id, factor, token: self.random.once_in(14) }
    }

    fn some_incident(&mut self) -> Option<IncidentId> {
        let all: Vec<IncidentId> = self.store.world.incidents.keys().copied().collect();
        self.chosen(&all)
    }

    fn asks(&mut self) -> (PersonId, FileRequest) {
        let person = self.one_of(&RESPONDERS);
        let role = self.random.pick(&ROLES).copied().unwrap_or("operate");
        let system = if self.random.once_in(3) { SYSTEMS[1] } else { SYSTEMS[0] };
        let what = format!("{system}/{role}");
        let severity = self.random.pick(&["sev1", "sev1", "sev2", "sev2", "sev3"]).copied().unwrap_or("sev2");
        let mut file = if self.random.once_in(3) && role != "root" {
            standard(person.as_str(), &what)
        } else {
            emergency(person.as_str(), &what, severity)
        };
        if role == "data" && file.mode == Mode::Emergency {
            file.scenario = Some(name("data-fix"));
        }
        if self.random.once_in(3) || file.mode == Mode::Emergency && !self.random.once_in(4) {
            file.incident = self.some_incident();
        }
        file.incident_number = self.store.world.incidents.len() as u64 + 1;
        let minutes = self.random.pick(&[10, 30, 60, 60, 90, 120, 180]).copied().unwrap_or(60);
        file.duration = (!self.random.once_in(4)).then(|| Span::minutes(minutes));
        if self.random.once_in(25) {
            file.criteria_confirmed = false;
        }
        if self.random.once_in(30) {
            file.reason.clear();
        }
        if self.random.once_in(30) {
            file.entitlement = entitlement("orders-host/nothing");
        }
        if self.random.once_in(20) {
            file.severity_attested = true;
        }
        let requester = if self.random.once_in(5) { self.one_of(&APPROVERS) } else { person };
        (requester, file)
    }

    /// The next thing that somebody does.
    pub(super) fn act(&mut self) -> Option<(Actor, Command)> {
        let urgent = self.random.once_in(3).then(|| self.about_a_held_statement()).flatten();
        if let Some((id, command)) = urgent {
            return Some((self.signed_in(id), command));
        }
        let (id, command) = match self.random.below(100) {
            0..15 => {
                let (person, file) = self.asks();
                (person, Command::FileRequest(Box::new(file)))
            }
            15..50 => self.about_a_request()?,
            50..71 => self.about_a_grant()?,
            71..83 => self.about_an_incident()?,
            83..96 => self.about_a_review()?,
            _ => self.about_a_change(),
        };
        Some((self.signed_in(id), command))
    }

    fn about_a_request(&mut self) -> Option<(PersonId, Command)> {
        let any = self.random.once_in(8);
        let found: Vec<_> = self
            .store
            .world
            .requests
            .values()
            .filter(|request| any || request.state == RequestState::Pending)
            .map(|request| {
                (request.id, request.version, request.beneficiary.clone(), request.entitlement.clone())
            })
            .collect();
        let (request, version, beneficiary, what) = self.chosen(&found)?;
        let reason = "as agreed".to_owned();
        Some(match self.random.below(20) {
            0..10 => {
                let person = self.one_who_may(request);
                let verdict = if self.random.once_in(9) { Verdict::Deny } else { Verdict::Approve };
                let version = if self.random.once_in(15) { version.saturating_sub(1) } else { version };
                let reason = (!self.random.once_in(6)).then_some(reason);
                (person, Command::Decide { request, verdict, version, reason })
            }
            10 | 11 => {
                // Mostly somebody whose approval is there to be taken back.
                let given: Vec<_> = self
                    .store
                    .world
                    .requests
                    .values()
                    .flat_map(|found| {
                        found.decisions.iter().map(move |decision| (found.id, decision.person.clone()))
                    })
                    .collect();
                let (request, person) = self.chosen(&given)?;
                (person, Command::TakeBack { request })
            }
            12 => (self.one(&[beneficiary]), Command::Withdraw { request }),
            13 | 14 => {
                let severity = if self.random.once_in(2) { "sev1" } else { "sev2" };
                let scenario = if what.role.as_str() == "data" { "data-fix" } else { "outage" };
                let incident = if self.random.once_in(4) { self.some_incident() } else { None };
                let command = Command::Escalate {
                    request,
                    severity: name(severity),
                    scenario: name(scenario),
                    criteria_confirmed: true,
                    incident,
                    number: self.store.world.incidents.len() as u64 + 1,
                    reason,
                };
                (self.one(&[beneficiary]), command)
            }
            15 | 16 => {
                let person =
                    if self.random.once_in(3) { self.one_of(&OFFICERS) } else { self.one_of(&RESPONDERS) };
                (person, Command::AttestSeverity { request })
            }
            _ => {
                let confirmation = what.to_string();
                (self.one(&[beneficiary]), Command::Bypass { request, reason, confirmation })
            }
        })
    }

    /// Mostly somebody who may approve this.
    fn one_who_may(&mut self, request: RequestId) -> PersonId {
        let organisation = self.store.organisation.clone();
        let found = self.store.world.requests.get(&request);
        let entitlement = found.and_then(|found| organisation.entitlements.get(&found.entitlement));
        if let (Some(found), Some(entitlement), false) = (found, entitlement, self.random.once_in(3)) {
            let standing = approval_standing(&organisation.facts(), found, entitlement, self.now);
            let people: Vec<PersonId> = standing.eligible.into_iter().flatten().collect();
            if let Some(person) = self.chosen(&people) {
                return person;
            }
        }
        // Or somebody who must not: who asks, or whoever that is whose deputy approves.
        let asks = self.store.world.requests.get(&request).map(|found| found.beneficiary.clone());
        match asks {
            Some(person) if self.random.once_in(4) => person,
            _ => self.one_of(&APPROVERS),
        }
    }

    fn about_a_grant(&mut self) -> Option<(PersonId, Command)> {
        let any = self.random.once_in(6);
        let found: Vec<_> = self
            .store
            .world
            .grants
            .values()
            .filter(|grant| any || !grant.state.settled())
            .map(|grant| (grant.id, grant.person.clone(), grant.deadline, grant.state))
            .collect();
        let (grant, person, deadline, state) = self.chosen(&found)?;
        let reason = "as agreed".to_owned();
        let ended = matches!(
            state,
            GrantState::Revoking | GrantState::RevocationFailed | GrantState::ActivationFailed
        );
        Some(match self.random.below(20) {
            0..8 if state == GrantState::Active => {
                let minutes = self.random.pick(&[10, 30, 60, 120]).copied().unwrap_or(30);
                (self.one(&[person]), Command::Extend { grant, duration: Span::minutes(minutes), reason })
            }
            8 | 9 => (self.one(&[person]), Command::GiveBack { grant }),
            10 => (self.one_of(&OFFICERS), Command::Revoke { grant, reason }),
            11..13 => {
                let until = deadline.unwrap_or(self.now).minus(Span::minutes(5));
                (self.one_of(&["hana", "dan", "eve"]), Command::KeepGrant { grant, until, reason })
            }
            13..15 if ended => (self.one_of(&OFFICERS), Command::WaiveProof { grant, reason }),
            15 if ended => (self.one_of(&["gus"]), Command::AttestTargetGone { grant, reason }),
            _ => {
                let sessions: Vec<_> = self
                    .store
                    .world
                    .sessions
                    .values()
                    .map(|found| (found.id, found.person.clone()))
                    .collect();
                let (session, person) = self.chosen(&sessions)?;
                match self.random.below(4) {
                    0 => (self.one(&[person]), Command::TerminateSession { session, reason }),
                    1 => (
                        self.one_of(&["eve", "ivo"]),
                        Command::RecordPlayback { session, how: "replay".to_owned() },
                    ),
                    _ => (self.one_of(&OFFICERS), Command::WaiveGap { session, reason }),
                }
            }
        })
    }

    fn about_an_incident(&mut self) -> Option<(PersonId, Command)> {
        let reason = "as agreed".to_owned();
        if self.random.once_in(20) || self.store.world.incidents.is_empty() {
            let number = self.store.world.incidents.len() as u64 + 1;
            let severity: Name = name(self.random.pick(&["sev1", "sev2"]).copied().unwrap_or("sev2"));
            let title = "orders are stuck".to_owned();
            return Some((
                self.one_of(&RESPONDERS),
                Command::OpenIncident { title, severity, scenario: None, link: None, number },
            ));
        }
        let incident = self.some_incident()?;
        let changes = self.store.world.incidents.get(&incident).map_or(0, |found| found.changes.len());
        let lead = self.one_of(&["hana", "dan", "eve", "fred"]);
        Some(match self.random.below(20) {
            0 => (lead, Command::Mitigate { incident }),
            1..8 => (lead, Command::CloseIncident { incident }),
            8..10 => (self.one_of(&OFFICERS), Command::CloseUnproven { incident, reason }),
            10 => (lead, Command::Reopen { incident, reason }),
            11 => {
                let severity = name(self.random.pick(&["sev1", "sev2", "sev3"]).copied().unwrap_or("sev2"));
                (lead, Command::ChangeSeverity { incident, severity, reason })
            }
            12 => (lead, Command::AddNote { incident, text: reason }),
            13 => (lead, Command::AddLink { incident, link: "OPS-7".to_owned() }),
            _ => {
                let change = self.random.below(changes.max(1) as u64) as u32;
                let fate = ChangeFate::Corrected;
                (self.one_of(&OFFICERS), Command::JudgeChange { incident, change, fate, note: String::new() })
            }
        })
    }

    fn about_a_review(&mut self) -> Option<(PersonId, Command)> {
        let any = self.random.once_in(8);
        let found: Vec<_> = self
            .store
            .world
            .reviews
            .values()
            .filter(|review| any || matches!(review.state, ReviewState::Due | ReviewState::InReview))
            .map(|review| (review.id, review.actions.len()))
            .collect();
        let (review, actions) = self.chosen(&found)?;
        let person = self.one_of(&OFFICERS);
        Some(match self.random.below(14) {
            0 => (person, Command::StartReview { review }),
            1 => {
                let days = self.random.below(40) as i64;
                let until = self.now.plus(Span::days(days));
                (
                    self.one_of(&["eve", "fred"]),
                    Command::DeferReview { review, until, reason: "later".to_owned() },
                )
            }
            2 => {
                let due_at = self.now.plus(Span::days(7));
                (
                    person,
                    Command::AddAction { review, what: "an alert".to_owned(), owner: name("ben"), due_at },
                )
            }
            3 | 4 => {
                let held: Vec<_> = self
                    .store
                    .world
                    .reviews
                    .values()
                    .filter(|found| !found.actions.is_empty())
                    .map(|found| (found.id, found.actions.len()))
                    .collect();
                let (review, actions) = self.chosen(&held).unwrap_or((review, actions));
                let action = self.random.below(actions.max(1) as u64) as u32;
                (self.one(&[name("ben")]), Command::CompleteAction { review, action })
            }
            _ => {
                let mut answers = answers();
                if self.random.once_in(3) {
                    answers.empty_activity_explained = None;
                }
                (person, Command::JudgeReview { review, answers })
            }
        })
    }

    /// Mostly somebody who may answer; now and then whoever waits for the answer.
    fn about_a_held_statement(&mut self) -> Option<(PersonId, Command)> {
        let held: Vec<_> = self
            .store
            .world
            .sessions
            .values()
            .flat_map(|session| session.held.keys().map(move |hold| (session.id, *hold)))
            .collect();
        let (session, hold) = self.chosen(&held)?;
        let found = self.store.world.sessions.get(&session)?.clone();
        let organisation = self.store.organisation.clone();
        let may = releasers(&self.store.world, &organisation.facts(), &found, self.now);
        let may: Vec<PersonId> = may.into_iter().collect();
        let person = match self.random.below(8) {
            0 | 1 => found.person,
            2 => self.one_of(&APPROVERS),
            _ => self.one(&may),
        };
        let allow = !self.random.once_in(5);
        let hold = if self.random.once_in(20) { hold + 1 } else { hold };
        Some((person, Command::ReleaseStatement { session, hold, allow, reason: "as agreed".to_owned() }))
    }

    fn about_a_change(&mut self) -> (PersonId, Command) {
        let open: Vec<_> = self
            .store
            .world
            .changes
            .values()
            .filter(|change| change.state == ChangeState::Proposed)
            .map(|change| (change.id, change.digest.clone()))
            .collect();
        if let Some((change, digest)) = self.chosen(&open).filter(|_| !self.random.once_in(3)) {
            let person = self.one_of(&["jon", "pia", "eve"]);
            return if self.random.once_in(5) {
                (person, Command::RejectChange { change, reason: "why?".to_owned() })
            } else {
                (person, Command::ConfirmChange { change, digest })
            };
        }
        let factor = self.random.once_in(3);
        let able = if self.random.once_in(6) {
            [name("jon")].into()
        } else {
            [name("jon"), name("pia"), name("eve"), name("ben")].into()
        };
        let change = ProposeChange {
            id: self.id(),
            subject: if factor { ChangeSubject::Factor } else { ChangeSubject::Catalog },
            about: factor.then(|| name("ben")),
            digest: format!("{:064x}", self.random.number()),
            summary: "more or fewer people".to_owned(),
            widening: self.random.once_in(2),
            able,
        };
        (self.one_of(&["jon", "jon", "pia", "ben"]), Command::ProposeChange(Box::new(change)))
    }
}

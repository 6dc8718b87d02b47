//! Stories told step by step on one node: who does what, and what comes of it.

use std::sync::Arc;

use super::organisation::{MONDAY, Organisation, entitlement, name};
use super::random::Random;
use super::store::Store;
use crate::catalog::{Catalog, CheckKind, FactorKind};
use crate::command::{Actor, Answers, Command, Due, FactorUse, FileRequest};
use crate::effect::{Alert, AlertKind, Effect};
use crate::event::Event;
use crate::grant::Grant;
use crate::ids::{FreshIds, GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use crate::incident::Incident;
use crate::proof::{Check, Evidence, Finding, SaidBy};
use crate::refusal::Refusal;
use crate::request::{Mode, Request, Verdict};
use crate::review::{Classification, Review, ReviewKind};
use crate::session::Session;
use crate::time::{Span, Time};
use crate::world::World;

/// A story so far.
#[derive(Clone, Debug)]
pub struct Story {
    /// Where it is kept.
    pub store: Store,
    /// What time it is.
    pub now: Time,
    /// All that happened.
    pub history: Vec<Event>,
    /// All that was to be done because of it.
    pub effects: Vec<Effect>,
    random: Random,
}

impl Default for Story {
    fn default() -> Self {
        Self::begin()
    }
}

/// Text as a length of time; none if it is none.
pub fn span(text: &str) -> Span {
    text.parse().unwrap_or(Span::ZERO)
}

/// An emergency request with all that it needs, to be changed as a test wants.
pub fn emergency(beneficiary: &str, what: &str, severity: &str) -> FileRequest {
    FileRequest {
        beneficiary: name(beneficiary),
        entitlement: entitlement(what),
        mode: Mode::Emergency,
        severity: Some(name(severity)),
        severity_attested: false,
        scenario: Some(name("outage")),
        criteria_confirmed: true,
        incident: None,
        incident_number: 1,
        reason: "orders are stuck".to_owned(),
        link: Some("OPS-1".to_owned()),
        why_not_lower: Some("reading alone does not unlock it".to_owned()),
        duration: None,
        batch: None,
    }
}

/// A standard request.
pub fn standard(beneficiary: &str, what: &str) -> FileRequest {
    FileRequest {
        mode: Mode::Standard,
        severity: None,
        scenario: None,
        criteria_confirmed: false,
        why_not_lower: None,
        reason: "planned work".to_owned(),
        ..emergency(beneficiary, what, "sev3")
    }
}

/// Answers of a review without findings.
pub fn answers() -> Answers {
    Answers {
        classification: Classification::GenuineEmergency,
        invoked_correctly: true,
        too_wide: false,
        approvals_timely: true,
        prevention: "watch the lock table".to_owned(),
        note: String::new(),
        empty_activity_explained: Some("the other half of the team was quicker".to_owned()),
    }
}

/// What a look finds if every check has the same finding.
pub fn evidence(at: Time, finding: Finding) -> Evidence {
    let check = |kind| Check { kind, finding, said_by: SaidBy::Target, detail: "tried".to_owned() };
    Evidence { at, checks: [CheckKind::Credential, CheckKind::Processes].map(check).into() }
}

/// A person with a second factor that is used for this very act.
pub fn person(id: &str, now: Time) -> Actor {
    let factor = FactorUse {
        kind: FactorKind::Totp,
        at: now,
        enrolled_at: now.minus(Span::days(90)),
        for_this_act: true,
    };
    Actor::Person { id: name(id), factor: Some(factor), token: false }
}

/// A gateway or connector.
pub fn node(id: &str) -> Actor {
    Actor::Node { name: name(id) }
}

impl Story {
    /// A quiet Monday morning.
    pub fn begin() -> Self {
        Self {
            store: Store::new(Organisation::small(), MONDAY),
            now: MONDAY,
            history: Vec::new(),
            effects: Vec::new(),
            random: Random::new(7),
        }
    }

    /// The world as it is.
    pub const fn world(&self) -> &World {
        &self.store.world
    }

    /// Time passes.
    pub fn later(&mut self, text: &str) -> &mut Self {
        self.now = self.now.plus(span(text));
        self
    }

    /// The catalog changes.
    pub fn catalog(&mut self, change: impl FnOnce(&mut Catalog)) {
        Arc::make_mut(&mut self.store.organisation).change(change);
    }

    /// Somebody gives a command.
    pub fn run(&mut self, actor: &Actor, command: Command) -> Result<Vec<Event>, Refusal> {
        let seed = self.random.bytes();
        let decided = self.store.load(&command).decide(self.now, seed, actor, &command)?;
        let done = self.store.commit(decided);
        self.effects.extend(done.effects);
        self.history.extend(done.decided.events.iter().cloned());
        Ok(done.decided.events)
    }

    /// A person gives a command.
    pub fn by(&mut self, id: &str, command: Command) -> Result<Vec<Event>, Refusal> {
        self.run(&person(id, self.now), command)
    }

    /// A person gives a command by an API token.
    pub fn by_token(&mut self, id: &str, command: Command) -> Result<Vec<Event>, Refusal> {
        let actor = Actor::Person { id: name(id), factor: None, token: true };
        self.run(&actor, command)
    }

    /// Time does what is due.
    pub fn wake(&mut self, due: Due) -> Result<Vec<Event>, Refusal> {
        self.run(&Actor::Clock, Command::Wake(due))
    }

    /// A new id, as gateways make them.
    pub fn id<K: crate::ids::Kind>(&mut self) -> crate::ids::Id<K> {
        FreshIds::new(self.random.bytes(), self.now).make()
    }

    /// Files a request.
    pub fn file(&mut self, by: &str, file: FileRequest) -> Result<RequestId, Refusal> {
        let events = self.by(by, Command::FileRequest(Box::new(file)))?;
        let filed = events.iter().find_map(|event| match event {
            Event::RequestFiled { request } => Some(request.id),
            _ => None,
        });
        filed.ok_or_else(|| Refusal::not_found("a filed request"))
    }

    /// Approves a request as it stands.
    pub fn approve(&mut self, by: &str, request: RequestId) -> Result<Vec<Event>, Refusal> {
        let version = self.world().request(request)?.version;
        let reason = Some("it is true".to_owned());
        self.by(by, Command::Decide { request, verdict: Verdict::Approve, version, reason })
    }

    /// Denies a request.
    pub fn deny(&mut self, by: &str, request: RequestId) -> Result<Vec<Event>, Refusal> {
        self.by(by, Command::Decide { request, verdict: Verdict::Deny, version: 0, reason: None })
    }

    /// Begins a grant and has the connector do its part.
    pub fn activate(&mut self, grant: GrantId) -> Result<Vec<Event>, Refusal> {
        self.run(&Actor::Clock, Command::BeginActivation { grant })?;
        let fencing = self.world().grant(grant)?.fencing;
        let events = self.run(&node("connector"), Command::ReportActivated { grant, fencing })?;
        let held = Command::ReportLeaseHeld { grant, fencing, gateway: name("gw-1") };
        self.run(&node("gw-1"), held)?;
        Ok(events)
    }

    /// The grant of a request.
    pub fn grant_of(&self, request: RequestId) -> Option<GrantId> {
        self.world().requests.get(&request)?.grant
    }

    /// Files, approves by dan (or hana, on duty in the morning), and activates.
    pub fn open(&mut self, by: &str, file: FileRequest) -> Result<GrantId, Refusal> {
        let request = self.file(by, file)?;
        if self.grant_of(request).is_none() {
            self.approve("dan", request).or_else(|_| self.approve("hana", request))?;
        }
        let grant = self.grant_of(request).ok_or_else(|| Refusal::not_found("a grant"))?;
        self.activate(grant)?;
        Ok(grant)
    }

    /// A session under a grant; it goes on until [`Story::leave`].
    pub fn enter(&mut self, grant: GrantId) -> Result<SessionId, Refusal> {
        let (session, recording) = (self.id(), self.id());
        let at = self.now;
        self.run(
            &node("gw-1"),
            Command::ReportSessionOpened {
                session,
                grant,
                gateway: name("gw-1"),
                recording,
                client: "192.0.2.7".to_owned(),
                login: "public key".to_owned(),
                at,
            },
        )?;
        Ok(session)
    }

    /// The session ends and its recording reaches the store.
    pub fn leave(&mut self, session: SessionId) -> Result<(), Refusal> {
        let (at, gateway) = (self.now, node("gw-1"));
        self.run(&gateway, Command::ReportSessionEnded { session, reason: "closed".to_owned(), at })?;
        let sha256 = "ab".repeat(32);
        let chain_head = "cd".repeat(32);
        self.run(
            &gateway,
            Command::ReportRecordingFinished {
                session,
                bytes: 10,
                frames: 1,
                sha256: sha256.clone(),
                chain_head,
                complete: true,
            },
        )?;
        self.run(&gateway, Command::ReportRecordingStored { session, sha256 })?;
        Ok(())
    }

    /// The gateway lets go, the connector makes its tombstone, looks and finds the door shut.
    pub fn prove(&mut self, grant: GrantId) -> Result<(), Refusal> {
        let fencing = self.world().grant(grant)?.fencing;
        let gateway = name("gw-1");
        self.run(&node("gw-1"), Command::ReportLeaseEnded { grant, fencing, gateway, sessions_ended: 0 })?;
        let provable_at = self.now.plus(Span::minutes(1));
        self.run(&node("connector"), Command::ReportDeactivated { grant, fencing, provable_at })?;
        self.later("1m");
        let evidence = evidence(self.now, Finding::Proven);
        self.run(&node("connector"), Command::ReportLooked { grant, fencing, evidence })?;
        Ok(())
    }

    /// A grant.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.world().grants.get(&id)
    }
    /// A request.
    pub fn request(&self, id: RequestId) -> Option<&Request> {
        self.world().requests.get(&id)
    }
    /// A session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.world().sessions.get(&id)
    }
    /// The only incident, or the first.
    pub fn incident(&self) -> Option<&Incident> {
        self.world().incidents.values().next()
    }
    /// Its id.
    pub fn incident_id(&self) -> Option<IncidentId> {
        self.incident().map(|found| found.id)
    }
    /// Reviews of a kind.
    pub fn reviews(&self, kind: ReviewKind) -> Vec<&Review> {
        self.world().reviews.values().filter(|review| review.kind == kind).collect()
    }
    /// Judges every open review; says how many.
    pub fn judge_all(&mut self, by: &str) -> Result<usize, Refusal> {
        let open: Vec<ReviewId> = self
            .world()
            .reviews
            .values()
            .filter(|found| found.judgement.is_none())
            .map(|found| found.id)
            .collect();
        for review in &open {
            self.by(by, Command::JudgeReview { review: *review, answers: answers() })?;
        }
        Ok(open.len())
    }
    /// Alerts of a kind.
    pub fn alerts(&self, kind: AlertKind) -> Vec<&Alert> {
        let alerts = self.effects.iter().filter_map(|effect| match effect {
            Effect::Alert(alert) => Some(alert),
            _ => None,
        });
        alerts.filter(|alert| alert.kind == kind).collect()
    }
    /// A person's id.
    pub fn who(&self, id: &str) -> PersonId {
        name(id)
    }
}

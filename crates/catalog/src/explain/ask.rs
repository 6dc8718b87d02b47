//! What happens if somebody asks. The core itself is asked, in a world of its own, so that no other answer can come out.

use std::collections::BTreeMap;
use std::fmt;

use halligan_core::apply::apply;
use halligan_core::catalog::{Catalog, FactorKind, ResolvedEntitlement, TimerAction};
use halligan_core::command::{Actor, Command, DocumentRef, FactorUse, FileRequest, Need};
use halligan_core::decide::{Context, decide};
use halligan_core::event::Event;
use halligan_core::ids::{EntitlementName, FreshIds, Name, PersonId};
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::request::{Mode, Request, approval_standing};
use halligan_core::review::ReviewKind;
use halligan_core::standing::Standing;
use halligan_core::time::{Span, Time};
use halligan_core::world::{Facts, World, needs};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks, for themselves.
    pub person: PersonId,
    /// Standard or emergency.
    pub mode: Mode,
    /// How grave; in an emergency.
    pub severity: Option<Name>,
    /// What kind of emergency.
    pub scenario: Option<Name>,
    /// For how long; the default if not said.
    pub duration: Option<Span>,
    /// Does an alert source vouch for the severity?
    pub severity_attested: bool,
}

/// What would happen. It is assumed that a reason is given, criteria are confirmed and a fresh second factor is at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who asks for what, how.
    pub ask: Ask,
    /// The entitlement.
    pub entitlement: EntitlementName,
    /// When.
    pub at: Time,
    /// What happens.
    pub outcome: Outcome,
    /// The policy that decides.
    pub policy: Option<Name>,
    /// The steps to be met; with automatic approval those that would be asked once its limits are passed.
    pub steps: Vec<StepWay>,
    /// At least so many distinct approvers, by the class of the entitlement.
    pub distinct_approvers: u8,
    /// How long it would last.
    pub duration: Option<Span>,
    /// At most so long at a time, and so long in all.
    pub limits: Option<[Span; 2]>,
    /// What has to be given or done besides.
    pub conditions: Vec<String>,
    /// What follows.
    pub follows: Vec<String>,
    /// What a bypass would do; none where nothing waits.
    pub bypass: Option<BypassWay>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is refused, in the core's own words.
    Refused(Refusal),
    /// Approved at once, by policy.
    AtOnce,
    /// It waits for people.
    Waits,
    /// It waits, and at least one step has nobody who may approve it now.
    Blocked,
}

/// A step and who may approve it at that time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepWay {
    /// Its name.
    pub name: String,
    /// How many are needed.
    pub needs: u8,
    /// Who may.
    pub people: Vec<PersonId>,
    /// Fewer than needed.
    pub blocked: bool,
    /// What its timer does.
    pub timer: Option<String>,
}

/// What a bypass would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BypassWay {
    /// It would be refused.
    Refused(Refusal),
    /// It takes effect after so long: zero = at once.
    After(Span),
}

/// The question could not be put to the core.
#[derive(Debug, thiserror::Error)]
#[error("failed to explain: the core asks for {0}, which an explanation does not have")]
pub struct AskError(String);

/// What happens if this person asks for this at that time? `standing` is what the rules remember of the person; none = nothing.
pub fn explain_ask(
    catalog: &Catalog,
    resolved: &ResolvedEntitlement,
    ask: &Ask,
    at: Time,
    standing: Option<&Standing>,
) -> Result<Explanation, AskError> {
    let mut explanation = Prepared::new(catalog, resolved, ask, at, standing).explain()?;
    if matches!(explanation.outcome, Outcome::Waits | Outcome::Blocked | Outcome::Refused(_))
        && !ask.severity_attested
    {
        let attested = Ask { severity_attested: true, ..ask.clone() };
        let other = Prepared::new(catalog, resolved, &attested, at, standing).explain()?;
        if other.outcome == Outcome::AtOnce {
            explanation.conditions.push(
                "approved at once if somebody else, or an alert source, vouches for the severity".to_owned(),
            );
        }
    }
    Ok(explanation)
}

struct Trial<'a> {
    facts: Facts<'a>,
    entitlements: &'a BTreeMap<EntitlementName, ResolvedEntitlement>,
    resolved: &'a ResolvedEntitlement,
    ask: &'a Ask,
    at: Time,
    world: World,
}

/// The question. It holds the map of one entitlement that the facts of a trial borrow.
struct Prepared<'a> {
    catalog: &'a Catalog,
    entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    resolved: &'a ResolvedEntitlement,
    ask: &'a Ask,
    at: Time,
    standing: Option<&'a Standing>,
}

impl<'a> Prepared<'a> {
    fn new(
        catalog: &'a Catalog,
        resolved: &'a ResolvedEntitlement,
        ask: &'a Ask,
        at: Time,
        standing: Option<&'a Standing>,
    ) -> Self {
        let entitlements = [(resolved.name.clone(), resolved.clone())].into();
        Self { catalog, entitlements, resolved, ask, at, standing }
    }
}

impl Trial<'_> {
    fn run(&mut self, command: &Command) -> Result<Result<Vec<Event>, Refusal>, AskError> {
        // What the core wants to see is not there: nothing has happened in this world yet.
        for _ in 0..8 {
            let wanted = needs(&self.world, self.entitlements, command);
            if wanted.is_empty() {
                break;
            }
            for need in wanted {
                match need {
                    Need::Document(document) => {
                        self.world.known.insert(document);
                    }
                    Need::Entitlement(name) => return Err(AskError(name.to_string())),
                }
            }
        }
        let factor = FactorUse {
            kind: FactorKind::Totp,
            at: self.at,
            enrolled_at: self.at.minus(Span::days(3650)),
            for_this_act: true,
        };
        let actor = Actor::Person { id: self.ask.person.clone(), factor: Some(factor), token: false };
        let mut context = Context { now: self.at, actor: &actor, ids: FreshIds::new([0x5a; 16], self.at) };
        let outcome = decide(&self.world, &self.facts, &mut context, command);
        if let Ok(events) = &outcome {
            for event in events {
                apply(&mut self.world, event, self.at);
            }
        }
        Ok(outcome)
    }

    fn file(&self) -> Command {
        let link = self.resolved.entitlement.link_pattern.as_ref().map(|pattern| pattern.replace('*', "1"));
        Command::FileRequest(Box::new(FileRequest {
            beneficiary: self.ask.person.clone(),
            entitlement: self.resolved.name.clone(),
            mode: self.ask.mode,
            severity: self.ask.severity.clone(),
            severity_attested: self.ask.severity_attested,
            scenario: self.ask.scenario.clone(),
            criteria_confirmed: true,
            incident: None,
            incident_number: 1,
            reason: "to explain what would happen".to_owned(),
            link,
            why_not_lower: Some("to explain what would happen".to_owned()),
            duration: self.ask.duration,
            batch: None,
        }))
    }
}

impl Prepared<'_> {
    fn explain(self) -> Result<Explanation, AskError> {
        let mut world = World::default();
        if let Some(standing) = self.standing {
            world.known.insert(DocumentRef::Standing(standing.person.clone()));
            world.standings.insert(standing.person.clone(), standing.clone());
        }
        let facts = Facts { catalog: self.catalog, catalog_version: 0, entitlements: &self.entitlements };
        let mut trial = Trial {
            facts,
            entitlements: &self.entitlements,
            resolved: self.resolved,
            ask: self.ask,
            at: self.at,
            world,
        };
        let durations = self.resolved.entitlement.durations_at(self.ask.severity.as_ref());
        let mut explanation = Explanation {
            ask: self.ask.clone(),
            entitlement: self.resolved.name.clone(),
            at: self.at,
            outcome: Outcome::Waits,
            policy: None,
            steps: Vec::new(),
            distinct_approvers: 0,
            duration: None,
            limits: Some([durations.longest, durations.ceiling]),
            conditions: Vec::new(),
            follows: Vec::new(),
            bypass: None,
        };
        let file = trial.file();
        let events = match trial.run(&file)? {
            Ok(events) => events,
            Err(refusal) => {
                // Need to know: the core says "not found" to whoever may not ask. The catalog's reader may know better.
                if refusal.code == RefusalCode::NotFound && self.catalog.people.contains_key(&self.ask.person)
                {
                    explanation.conditions.push(format!(
                        "{} is not among those who may ask for {} (requested_by)",
                        self.ask.person, self.resolved.name
                    ));
                }
                explanation.outcome = Outcome::Refused(refusal);
                return Ok(explanation);
            }
        };
        let filed = events.iter().find_map(|event| match event {
            Event::RequestFiled { request } => Some((**request).clone()),
            _ => None,
        });
        let Some(request) = filed else { return Err(AskError("a request".to_owned())) };
        let automatic =
            events.iter().any(|event| matches!(event, Event::RequestApproved { automatic: true, .. }));
        describe(&mut explanation, &trial, &request);
        explanation.outcome = if automatic {
            Outcome::AtOnce
        } else if explanation.steps.iter().any(|step| step.blocked) {
            Outcome::Blocked
        } else {
            Outcome::Waits
        };
        follow(&mut explanation, &self, &events);
        if !automatic && self.ask.mode == Mode::Emergency {
            let command = Command::Bypass {
                request: request.id,
                reason: "to explain what would happen".to_owned(),
                confirmation: self.resolved.name.to_string(),
            };
            explanation.bypass = Some(match trial.run(&command)? {
                Err(refusal) => BypassWay::Refused(refusal),
                Ok(events) => BypassWay::After(
                    events
                        .iter()
                        .find_map(|event| match event {
                            Event::BypassAsked { bypass, .. } => Some(bypass.effective_at.since(self.at)),
                            _ => None,
                        })
                        .unwrap_or(Span::ZERO),
                ),
            });
        }
        Ok(explanation)
    }
}

fn describe(explanation: &mut Explanation, trial: &Trial<'_>, request: &Request) {
    let standing = approval_standing(&trial.facts, request, trial.resolved, trial.at);
    explanation.policy = Some(request.policy.clone());
    explanation.duration = Some(request.duration);
    explanation.distinct_approvers = request.distinct_approvers;
    explanation.steps = request
        .steps
        .iter()
        .zip(&standing.eligible)
        .map(|(open, people)| {
            let needs = open.step.quorum.max(1);
            let timer = open.step.timer.as_ref().map(|timer| match &timer.then {
                TimerAction::Reassign(_) => format!("after {} others are asked instead", timer.after),
                TimerAction::Widen(_) => format!("after {} others are asked as well", timer.after),
                TimerAction::Lapse(true) => format!("after {} the request lapses", timer.after),
                TimerAction::Lapse(false) => "its timer does nothing".to_owned(),
            });
            StepWay {
                name: open.step.name.clone(),
                needs,
                people: people.iter().cloned().collect(),
                blocked: people.len() < usize::from(needs),
                timer,
            }
        })
        .collect();
    let entitlement = &trial.resolved.entitlement;
    let conditions = &mut explanation.conditions;
    conditions.push("a reason, and a fresh second factor".to_owned());
    if let Some(pattern) = &entitlement.link_pattern {
        conditions.push(format!("a link of the form {pattern}"));
    }
    let scenario = request.scenario.as_ref().and_then(|name| trial.facts.catalog.scenarios.get(name));
    if let Some(scenario) = scenario {
        conditions.extend(scenario.criteria.iter().map(|text| format!("confirm: {text}")));
        if entitlement.ladder > scenario.first_step {
            conditions.push("say why a lower step of the ladder is not enough".to_owned());
        }
    }
}

fn follow(explanation: &mut Explanation, asked: &Prepared<'_>, events: &[Event]) {
    let settings = &asked.catalog.settings;
    let follows = &mut explanation.follows;
    for event in events {
        match event {
            Event::IncidentOpened { .. } => follows.push("an incident is opened".to_owned()),
            Event::ReviewOpened { review } => {
                let kind = match review.kind {
                    ReviewKind::RetroactiveApproval => "retroactive approval",
                    ReviewKind::PostUse => "post-use",
                    ReviewKind::Bypass => "bypass",
                    ReviewKind::ExtendedTwice => "extended twice",
                    ReviewKind::Drill => "drill",
                    ReviewKind::AttestationGap => "attestation gap",
                };
                follows.push(format!("a review ({kind}) is due {}", review.due_at));
            }
            _ => {}
        }
    }
    if asked.ask.mode == Mode::Emergency {
        let due = if explanation.outcome == Outcome::AtOnce {
            settings.review_bypass
        } else {
            settings.review_post_use
        };
        follows.push(format!("a review (post-use) is due {due} (business days) after access has ended"));
    }
    if asked.resolved.entitlement.shared_account {
        follows.push("the account is shared: acts are attributed by the gateway only".to_owned());
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} asks for {}", self.ask.person, self.entitlement)?;
        match (&self.ask.severity, &self.ask.scenario) {
            (Some(severity), Some(scenario)) => write!(f, " at {severity} for {scenario}")?,
            (Some(severity), None) => write!(f, " at {severity}")?,
            _ => {}
        }
        writeln!(f, ", {}", self.at)?;
        match &self.outcome {
            Outcome::Refused(refusal) => {
                writeln!(f, "refused: {}", refusal.say)?;
                if let Some(next) = &refusal.next {
                    writeln!(f, "  {next}")?;
                }
            }
            Outcome::AtOnce => writeln!(f, "approved at once by policy {}", Text(&self.policy))?,
            Outcome::Waits => writeln!(f, "waits for people, by policy {}", Text(&self.policy))?,
            Outcome::Blocked => {
                writeln!(
                    f,
                    "BLOCKED, by policy {}: a step has not enough people who may approve it",
                    Text(&self.policy)
                )?;
            }
        }
        for step in &self.steps {
            let names: Vec<&str> = step.people.iter().map(Name::as_str).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            write!(f, "  step {}: {} of {names}", step.name, step.needs)?;
            match &step.timer {
                Some(timer) => writeln!(f, "; {timer}")?,
                None => writeln!(f)?,
            }
        }
        if self.distinct_approvers > 0 {
            writeln!(f, "  at least {} distinct approvers, by its class", self.distinct_approvers)?;
        }
        if let (Some(duration), Some([longest, ceiling])) = (self.duration, self.limits) {
            writeln!(f, "  for {duration}; at most {longest} at a time, {ceiling} in all")?;
        }
        for condition in &self.conditions {
            writeln!(f, "  needs: {condition}")?;
        }
        for follows in &self.follows {
            writeln!(f, "  then: {follows}")?;
        }
        match &self.bypass {
            Some(BypassWay::After(Span::ZERO)) => {
                writeln!(f, "  bypass: takes effect at once, loudly, and is reviewed")
            }
            Some(BypassWay::After(wait)) => writeln!(f, "  bypass: takes effect after a loud wait of {wait}"),
            Some(BypassWay::Refused(refusal)) => writeln!(f, "  bypass: refused: {}", refusal.say),
            None => Ok(()),
        }
    }
}

struct Text<'t>(&'t Option<Name>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("?", Name::as_str))
    }
}

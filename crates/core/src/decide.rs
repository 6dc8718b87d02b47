//! One way in: a command with its actor and time becomes events, or a refusal. Rules live in the aggregates' `decide.rs`.

use crate::catalog::OfficeName;
use crate::command::{Actor, Command, Due, FactorUse};
use crate::event::Event;
use crate::ids::{FreshIds, PersonId};
use crate::refusal::{Refusal, RefusalCode};
use crate::time::Time;
use crate::world::{Facts, World};
use crate::{change, grant, incident, request, review, session};

/// Who acts and when, and where new ids come from.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the decision.
    pub now: Time,
    /// Who acts.
    pub actor: &'a Actor,
    /// New ids.
    pub ids: FreshIds,
}

impl Context<'_> {
    /// The person who acts.
    pub fn person(&self) -> Result<&PersonId, Refusal> {
        match self.actor {
            Actor::Person { id, .. } => Ok(id),
            Actor::Node { .. } | Actor::Clock => {
                Err(Refusal::new(RefusalCode::NotAllowed, "only a person may do that"))
            }
        }
    }

    pub(crate) fn is_token(&self) -> bool {
        matches!(self.actor, Actor::Person { token: true, .. })
    }

    /// Rule 13: API tokens never approve, ask in emergency, review or release.
    pub(crate) fn no_token(&self, what: &str) -> Result<(), Refusal> {
        if self.is_token() {
            return Err(Refusal::new(RefusalCode::NotAllowed, format!("an API token may not {what}"))
                .next("sign in as a person with `halligan login`"));
        }
        Ok(())
    }

    fn factor(&self) -> Option<&FactorUse> {
        match self.actor {
            Actor::Person { factor, .. } => factor.as_ref(),
            Actor::Node { .. } | Actor::Clock => None,
        }
    }

    /// A second factor shown lately, as one's own requests need.
    pub(crate) fn fresh_factor(&self, facts: &Facts<'_>) -> Result<&FactorUse, Refusal> {
        let span = facts.catalog.settings.factor_fresh_for;
        self.factor().filter(|factor| self.now.since(factor.at) <= span).ok_or_else(|| {
            Refusal::new(
                RefusalCode::SecondFactor,
                format!("this needs a second factor used in the last {span}"),
            )
            .next("give the code of your authenticator: --totp 123456")
        })
    }

    /// A second factor shown for this act.
    pub(crate) fn act_factor(&self, facts: &Facts<'_>) -> Result<&FactorUse, Refusal> {
        let factor = self.fresh_factor(facts)?;
        if !factor.for_this_act {
            return Err(Refusal::new(RefusalCode::SecondFactor, "this needs a second factor of its own")
                .next("give the code of your authenticator: --totp 123456"));
        }
        Ok(factor)
    }

    /// A second factor shown for this act, by somebody who has had it for long enough.
    pub(crate) fn own_factor(&self, facts: &Facts<'_>) -> Result<&FactorUse, Refusal> {
        let factor = self.act_factor(facts)?;
        let age = facts.catalog.settings.approver_minimum_age;
        if factor.enrolled_at.plus(age) > self.now {
            return Err(Refusal::new(
                RefusalCode::SecondFactor,
                format!("a second factor counts {age} after it was enrolled"),
            )
            .next("ask a colleague whose factor is older"));
        }
        Ok(factor)
    }

    /// The person, if they hold one of these offices.
    pub(crate) fn officer(
        &self,
        facts: &Facts<'_>,
        offices: &[OfficeName],
        what: &str,
    ) -> Result<&PersonId, Refusal> {
        let person = self.person()?;
        if offices.iter().any(|office| facts.catalog.holds(person, *office)) {
            return Ok(person);
        }
        let names: Vec<String> = offices.iter().map(ToString::to_string).collect();
        Err(Refusal::new(
            RefusalCode::NotAllowed,
            format!("to {what} takes the office of {}", names.join(" or ")),
        ))
    }

    pub(crate) fn only_node(&self) -> Result<(), Refusal> {
        match self.actor {
            Actor::Node { .. } | Actor::Clock => Ok(()),
            Actor::Person { .. } => {
                Err(Refusal::new(RefusalCode::NotAllowed, "only gateways and connectors report that"))
            }
        }
    }

    pub(crate) fn only_clock(&self) -> Result<(), Refusal> {
        match self.actor {
            Actor::Clock => Ok(()),
            Actor::Person { .. } | Actor::Node { .. } => {
                Err(Refusal::new(RefusalCode::NotAllowed, "only control itself does that"))
            }
        }
    }
}

/// Text from outside: not longer than `most` characters, and no control characters but line ends and tabs.
pub(crate) fn text(what: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.chars().count() > most {
        return Err(Refusal::new(RefusalCode::Limit, format!("the {what} is longer than {most} characters"))
            .next("say it shorter"));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            format!("the {what} has control characters in it"),
        ));
    }
    Ok(())
}

/// Text that must be there.
pub(crate) fn said(what: &str, words: &str, most: usize) -> Result<(), Refusal> {
    if words.trim().is_empty() {
        return Err(Refusal::new(RefusalCode::Incomplete, format!("the {what} is missing"))
            .next(format!("give the {what}")));
    }
    text(what, words, most)
}

/// Somebody who has left acts no more. Before the first catalog there is nobody to ask for, and only changes of Halligan
/// itself are possible.
fn still_here(facts: &Facts<'_>, context: &Context<'_>, command: &Command) -> Result<(), Refusal> {
    let Actor::Person { id, .. } = context.actor else { return Ok(()) };
    let here = facts.catalog.people.get(id).is_some_and(|person| !person.left);
    let first = facts.catalog.people.is_empty() && matches!(command, Command::ProposeChange(_));
    if here || first {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::NotAllowed, format!("{id} is not in the catalog, or has left")))
}

/// Decides. The world must hold all that [`needs`](crate::world::needs) asks for. An empty list means that there was
/// nothing left to do: the command had been carried out before.
pub fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    still_here(facts, context, command)?;
    match command {
        Command::FileRequest(file) => request::file(world, facts, context, file),
        Command::Decide { request: id, verdict, version, reason } => {
            request::decide(world, facts, context, *id, *verdict, *version, reason.as_deref())
        }
        Command::TakeBack { request } => request::take_back(world, context, *request),
        Command::Withdraw { request } => request::withdraw(world, context, *request),
        Command::Escalate { request, severity, scenario, criteria_confirmed, incident, number, reason } => {
            let to = request::Graver {
                severity,
                scenario,
                criteria_confirmed: *criteria_confirmed,
                incident: *incident,
                number: *number,
                reason,
            };
            request::escalate(world, facts, context, *request, &to)
        }
        Command::AttestSeverity { request } => request::attest_severity(world, facts, context, *request),
        Command::Bypass { request, reason, confirmation } => {
            request::bypass(world, facts, context, *request, reason, confirmation)
        }
        Command::BeginActivation { grant } => grant::begin_activation(world, facts, context, *grant),
        Command::ReportActivated { grant, fencing } => grant::activated(world, context, *grant, *fencing),
        Command::ReportActivationFailed { grant, fencing, reason } => {
            grant::activation_failed(world, context, *grant, *fencing, reason)
        }
        Command::ReportLeaseHeld { grant, gateway, .. } => grant::lease_held(world, context, *grant, gateway),
        Command::ReportLeaseEnded { grant, gateway, sessions_ended, .. } => {
            grant::lease_ended(world, context, *grant, gateway, *sessions_ended)
        }
        Command::ReportDeactivated { grant, fencing, provable_at } => {
            grant::deactivated(world, context, *grant, *fencing, *provable_at)
        }
        Command::ReportLooked { grant, fencing, evidence } => {
            grant::looked(world, context, *grant, *fencing, evidence)
        }
        Command::Extend { grant, duration, reason } => {
            request::extend(world, facts, context, *grant, *duration, reason)
        }
        Command::GiveBack { grant } => grant::give_back(world, facts, context, *grant),
        Command::Revoke { grant, reason } => grant::revoke(world, facts, context, *grant, reason),
        Command::WaiveProof { grant, reason } => grant::waive(world, facts, context, *grant, reason),
        Command::AttestTargetGone { grant, reason } => {
            grant::target_gone(world, facts, context, *grant, reason)
        }
        Command::KeepGrant { grant, until, reason } => {
            grant::keep(world, facts, context, *grant, *until, reason)
        }
        Command::ReportSessionOpened { .. }
        | Command::ReportChannel { .. }
        | Command::ReportChange { .. }
        | Command::ReportSessionEnded { .. }
        | Command::ReportRecordingFinished { .. }
        | Command::ReportRecordingStored { .. }
        | Command::ReportRecordingLost { .. }
        | Command::WaiveGap { .. }
        | Command::ReportRefused { .. }
        | Command::ReportUnexplained { .. }
        | Command::TerminateSession { .. }
        | Command::RecordPlayback { .. } => session::decide(world, facts, context, command),
        Command::ReportStatementHeld { .. }
        | Command::ReportStatementSettled { .. }
        | Command::ReleaseStatement { .. } => session::decide_hold(world, facts, context, command),
        Command::OpenIncident { .. }
        | Command::ChangeSeverity { .. }
        | Command::AddNote { .. }
        | Command::AddLink { .. }
        | Command::Mitigate { .. }
        | Command::CloseIncident { .. }
        | Command::CloseUnproven { .. }
        | Command::Reopen { .. }
        | Command::JudgeChange { .. } => incident::decide(world, facts, context, command),
        Command::StartReview { .. }
        | Command::JudgeReview { .. }
        | Command::DeferReview { .. }
        | Command::AddAction { .. }
        | Command::CompleteAction { .. } => review::decide(world, facts, context, command),
        Command::ProposeChange(_) | Command::ConfirmChange { .. } | Command::RejectChange { .. } => {
            change::decide(world, facts, context, command)
        }
        Command::Wake(Due::Change(id)) => change::wake(world, context, *id),
        Command::Wake(Due::Request(id)) => request::wake(world, facts, context, *id),
        Command::Wake(Due::Grant(id)) => grant::wake(world, facts, context, *id),
        Command::Wake(Due::Review(id)) => review::wake(world, context, *id),
    }
}

//! Deliberately broken variants. Each changes what goes into a decision, what comes out of it, or how the store and the
//! nodes behave; the product's own code has no such switches. The simulator must catch every one.

use crate::catalog::{Automatic, SeverityWord};
use crate::command::{Actor, Command};
use crate::event::Event;
use crate::review::ReviewKind;
use crate::testing::store::Slice;
use crate::time::{Span, Time};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing.
    None,
    /// Rule 1: a grant gets twelve hours more than was asked for.
    LongerDeadline,
    /// Rule 1: emergency requests need not fit their scenario.
    AnyScenario,
    /// Rule 2: whoever asks may approve.
    SelfApproval,
    /// Rule 2: deputies may approve.
    DeputiesApprove,
    /// Rule 3: policy approves by itself without limits.
    AutomaticWithoutLimits,
    /// Rule 3: automatic approval is not reviewed.
    NoRetroactiveReview,
    /// Rule 4: the catalog that a decision sees is the first one.
    StaleCatalog,
    /// Rule 4: factors of any age count.
    YoungFactors,
    /// Rule 5: decisions are made by a clock that is hours late.
    LateClock,
    /// Rule 6: open bypass reviews are forgotten.
    BypassWithoutWait,
    /// Rule 6: a bypass opens no review.
    NoBypassReview,
    /// Rule 7: what was used before is forgotten.
    ForgetTotals,
    /// Rule 8: whoever ends a grant ends another one with it.
    EndsAnother,
    /// Rule 9: closing does not look at what blocks.
    CloseTooEarly,
    /// Rule 9: mitigating ends nothing.
    MitigateEndsNothing,
    /// Rule 10: the end of a grant opens no review.
    NoPostUseReview,
    /// Rule 10: those who acted may review.
    PartiesReview,
    /// Rule 11: whoever proposes is taken to be alone.
    AlwaysAlone,
    /// Rule 12: an emergency skips the approval's event.
    EmergencyShortCut,
    /// Rule 13: an API token is taken for a person with every factor.
    TokensArePeople,
    /// Rule 13: people who have left still act.
    LeaversAct,
    /// The read set is not checked.
    NoReadSet,
    /// The connector takes any fencing number.
    NoFencing,
    /// Rule 2: who wants to run a held statement may let it pass.
    OwnRelease,
    /// A gateway lets held statements pass when nobody answers.
    PassesUnasked,
}

/// Every broken variant.
pub const BROKEN: [Mutation; 25] = [
    Mutation::LongerDeadline,
    Mutation::AnyScenario,
    Mutation::SelfApproval,
    Mutation::DeputiesApprove,
    Mutation::AutomaticWithoutLimits,
    Mutation::NoRetroactiveReview,
    Mutation::StaleCatalog,
    Mutation::YoungFactors,
    Mutation::LateClock,
    Mutation::BypassWithoutWait,
    Mutation::NoBypassReview,
    Mutation::ForgetTotals,
    Mutation::EndsAnother,
    Mutation::CloseTooEarly,
    Mutation::MitigateEndsNothing,
    Mutation::NoPostUseReview,
    Mutation::PartiesReview,
    Mutation::AlwaysAlone,
    Mutation::EmergencyShortCut,
    Mutation::TokensArePeople,
    Mutation::LeaversAct,
    Mutation::NoReadSet,
    Mutation::NoFencing,
    Mutation::OwnRelease,
    Mutation::PassesUnasked,
];

impl Mutation {
    /// The invariant that catches it.
    pub const fn caught_by(self) -> &'static str {
        match self {
            Self::None => "",
            Self::LongerDeadline | Self::AnyScenario => "rule 1",
            Self::SelfApproval | Self::DeputiesApprove | Self::OwnRelease => "rule 2",
            Self::AutomaticWithoutLimits | Self::NoRetroactiveReview => "rule 3",
            Self::StaleCatalog | Self::YoungFactors => "rule 4",
            Self::LateClock => "rule 5",
            Self::BypassWithoutWait | Self::NoBypassReview => "rule 6",
            Self::ForgetTotals => "rule 7",
            Self::EndsAnother => "rule 8",
            Self::CloseTooEarly | Self::MitigateEndsNothing => "rule 9",
            Self::NoPostUseReview | Self::PartiesReview => "rule 10",
            Self::AlwaysAlone => "rule 11",
            Self::EmergencyShortCut => "rule 12",
            Self::TokensArePeople | Self::LeaversAct => "rule 13",
            Self::NoReadSet => "read set",
            Self::NoFencing => "fencing",
            Self::PassesUnasked => "holds",
        }
    }

    /// Changes what a decision sees. True if it was changed, so that it need not agree with the whole world.
    pub fn before(
        self,
        slice: &mut Slice,
        actor: &mut Actor,
        command: &mut Command,
        now: &mut Time,
        first: &std::sync::Arc<crate::testing::organisation::Organisation>,
    ) {
        match self {
            Self::AnyScenario => {
                let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                for scenario in organisation.catalog.scenarios.values_mut() {
                    scenario.scope = vec![Default::default()];
                    scenario.severities.clear();
                    scenario.invoked_by = vec![crate::catalog::Who::Anyone(true)];
                }
            }
            Self::SelfApproval => {
                if let (Command::Decide { request, .. }, Actor::Person { id, .. }) = (&*command, &*actor)
                    && let Some(found) = slice.world.requests.get_mut(request)
                    && (found.beneficiary == *id || found.requester == *id)
                {
                    found.requester = crate::testing::organisation::name("nia");
                    found.beneficiary = crate::testing::organisation::name("nia");
                    found.earlier_requesters.clear();
                    let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                    for person in organisation.catalog.people.values_mut() {
                        person.deputies.clear();
                    }
                    for group in organisation.catalog.groups.values_mut() {
                        group.members.insert(id.clone());
                    }
                }
            }
            Self::OwnRelease => {
                if let (Command::ReleaseStatement { session, .. }, Actor::Person { id, .. }) =
                    (&*command, &*actor)
                    && let Some(found) = slice.world.sessions.get_mut(session)
                    && found.person == *id
                {
                    let nobody = crate::testing::organisation::name("nia");
                    found.person = nobody.clone();
                    for request in slice.world.requests.values_mut() {
                        request.requester = nobody.clone();
                        request.beneficiary = nobody.clone();
                        request.earlier_requesters.clear();
                    }
                    let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                    for group in organisation.catalog.groups.values_mut() {
                        group.members.insert(id.clone());
                    }
                }
            }
            Self::DeputiesApprove => {
                let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                for person in organisation.catalog.people.values_mut() {
                    person.deputies.clear();
                }
            }
            Self::AutomaticWithoutLimits => {
                let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                organisation.catalog.sensitivities.values_mut().for_each(|class| {
                    class.automatic_approval = true;
                    class.distinct_approvers = 0;
                });
                for policy in organisation.catalog.policies.values_mut() {
                    for rule in &mut policy.rules {
                        let longest = Span::days(9);
                        let severity = SeverityWord::Claimed;
                        rule.automatic = Some(Automatic { severity, longest, per_person_and_day: 99 });
                    }
                }
            }
            Self::StaleCatalog
                if matches!(command, Command::Decide { .. } | Command::BeginActivation { .. }) =>
            {
                let here = slice.organisation.catalog.people.clone();
                slice.organisation = first.clone();
                std::sync::Arc::make_mut(&mut slice.organisation).catalog.people = here;
            }
            Self::YoungFactors => {
                if let Actor::Person { factor: Some(factor), .. } = actor {
                    factor.enrolled_at = now.minus(Span::days(30));
                }
            }
            Self::LateClock => {
                if matches!(command, Command::Decide { .. } | Command::BeginActivation { .. }) {
                    *now = now.minus(Span::hours(5));
                    if let Actor::Person { factor: Some(factor), .. } = actor {
                        factor.at = *now;
                    }
                }
            }
            Self::BypassWithoutWait => {
                slice.world.standings.values_mut().for_each(|standing| standing.bypass_reviews.clear());
            }
            Self::ForgetTotals => {
                slice.world.standings.values_mut().for_each(|standing| standing.uses.clear());
                for request in slice.world.requests.values_mut() {
                    request.earlier_approvers.clear();
                    request.new_total = false;
                }
            }
            Self::CloseTooEarly if matches!(command, Command::CloseIncident { .. }) => {
                for incident in slice.world.incidents.values_mut() {
                    incident.pending_requests.clear();
                    incident.grants.clear();
                    incident.open_sessions.clear();
                    incident.unstored_recordings.clear();
                    incident.reviews.clear();
                    incident.changes.clear();
                }
            }
            Self::PartiesReview if matches!(command, Command::JudgeReview { .. }) => {
                let nobody = crate::testing::organisation::name("nia");
                slice.world.incidents.values_mut().for_each(|incident| incident.parties.clear());
                slice.world.reviews.values_mut().for_each(|review| review.person = nobody.clone());
                slice.world.grants.values_mut().for_each(|grant| grant.person = nobody.clone());
                for request in slice.world.requests.values_mut() {
                    request.requester = nobody.clone();
                    request.beneficiary = nobody.clone();
                    request.earlier_requesters.clear();
                    request.decisions.clear();
                }
            }
            Self::AlwaysAlone => {
                if let Command::ProposeChange(change) = command {
                    change.able.clear();
                }
            }
            Self::TokensArePeople => {
                if let Actor::Person { token, .. } = actor {
                    *token = false;
                }
            }
            Self::LeaversAct => {
                let organisation = std::sync::Arc::make_mut(&mut slice.organisation);
                organisation.catalog.people.values_mut().for_each(|person| person.left = false);
            }
            _ => {}
        }
    }

    /// Changes what comes out of a decision.
    pub fn after(self, events: &mut Vec<Event>, others: &[Event]) {
        match self {
            Self::LongerDeadline => {
                for event in events.iter_mut() {
                    if let Event::GrantActivated { deadline, .. } = event {
                        *deadline = deadline.plus(Span::hours(12));
                    }
                }
            }
            Self::NoRetroactiveReview => drop_reviews(events, ReviewKind::RetroactiveApproval),
            Self::NoBypassReview => drop_reviews(events, ReviewKind::Bypass),
            Self::NoPostUseReview => drop_reviews(events, ReviewKind::PostUse),
            Self::EndsAnother if events.iter().any(|event| matches!(event, Event::GrantEnded { .. })) => {
                events.extend(others.iter().cloned());
            }
            Self::MitigateEndsNothing
                if events.iter().any(|event| matches!(event, Event::IncidentMitigated { .. })) =>
            {
                events.retain(|event| !matches!(event, Event::GrantEnded { .. }));
            }
            Self::EmergencyShortCut => {
                let emergency = events.iter().any(|event| match event {
                    Event::GrantScheduled { grant } => grant.mode == crate::request::Mode::Emergency,
                    _ => false,
                });
                if emergency {
                    events.retain(|event| !matches!(event, Event::RequestApproved { .. }));
                }
            }
            _ => {}
        }
    }
}

fn drop_reviews(events: &mut Vec<Event>, kind: ReviewKind) {
    events.retain(|event| !matches!(event, Event::ReviewOpened { review } if review.kind == kind));
}

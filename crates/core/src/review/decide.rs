//! Rules of reviews: who may judge (nobody who acted), when they are due, putting off once.

use super::{Action, Deferral, Judgement, Review, ReviewKind, ReviewState};
use crate::catalog::OfficeName;
use crate::command::{Answers, Command};
use crate::decide::{Context, said, text};
use crate::event::Event;
use crate::grant::Grant;
use crate::ids::{EntitlementName, GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use crate::refusal::{Refusal, RefusalCode};
use crate::request::Request;
use crate::time::{Span, Time};
use crate::world::{Facts, World};

/// Longest answer, so that a judgement fits into a leaf in any script.
const MOST_WORDS: usize = 2000;

const REVIEWERS: [OfficeName; 4] = [
    OfficeName::SecurityOfficer,
    OfficeName::IncidentLead,
    OfficeName::PlatformOwner,
    OfficeName::CloudAdministrator,
];

/// What a review is about.
pub(crate) struct About {
    pub incident: Option<IncidentId>,
    pub grant: Option<GrantId>,
    pub request: Option<RequestId>,
    pub session: Option<SessionId>,
    pub person: PersonId,
    pub entitlement: EntitlementName,
    pub short: bool,
}

impl About {
    pub(crate) fn request(request: &Request) -> Self {
        Self {
            incident: request.incident,
            grant: request.extends.or(request.grant),
            request: Some(request.id),
            session: None,
            person: request.beneficiary.clone(),
            entitlement: request.entitlement.clone(),
            short: false,
        }
    }
    pub(crate) fn grant(grant: &Grant) -> Self {
        Self {
            incident: grant.incident,
            grant: Some(grant.id),
            request: Some(grant.request),
            session: None,
            person: grant.person.clone(),
            entitlement: grant.entitlement.clone(),
            short: grant.automatic || grant.bypassed,
        }
    }
}

/// Opens a review with the due time of its kind.
pub(crate) fn opened(context: &mut Context<'_>, facts: &Facts<'_>, kind: ReviewKind, about: About) -> Event {
    let settings = &facts.catalog.settings;
    let span = match kind {
        ReviewKind::PostUse if about.short => settings.review_bypass,
        ReviewKind::PostUse | ReviewKind::Drill => settings.review_post_use,
        ReviewKind::Bypass | ReviewKind::RetroactiveApproval | ReviewKind::AttestationGap => {
            settings.review_bypass
        }
        ReviewKind::ExtendedTwice => settings.review_extended_twice,
    };
    let due_at = match kind {
        ReviewKind::ExtendedTwice => context.now.plus(span),
        _ => business(context.now, span),
    };
    Event::ReviewOpened {
        review: Box::new(Review {
            id: context.ids.make(),
            kind,
            incident: about.incident,
            grant: about.grant,
            request: about.request,
            session: about.session,
            person: about.person,
            entitlement: Some(about.entitlement),
            opened_at: context.now,
            due_at,
            overdue_alerted: false,
            state: ReviewState::Due,
            reviewer: None,
            judgement: None,
            deferral: None,
            actions: Vec::new(),
        }),
    }
}

/// `span` later, Saturdays and Sundays (UTC) not counted; spans under a day are taken as they are.
fn business(from: Time, span: Span) -> Time {
    const DAY: i64 = 86_400_000_000;
    let mut left = span.as_micros() / DAY;
    let mut at = from;
    let weekend = |time: Time| {
        // 1970-01-01 was a Thursday: day 0 + 4 makes Sunday 0 and Saturday 6.
        matches!((time.micros().div_euclid(DAY) + 4).rem_euclid(7), 0 | 6)
    };
    while left > 0 {
        at = at.plus(Span::days(1));
        if !weekend(at) {
            left -= 1;
        }
    }
    at.plus(Span::micros(span.as_micros() % DAY))
}

/// Why this person cannot judge this review; by person, not by office (rule 10). Without an incident those count who
/// asked for the access, had it or decided about it.
pub fn barred(world: &World, review: &Review, person: &PersonId) -> Option<&'static str> {
    let incident = review.incident.and_then(|id| world.incidents.get(&id));
    let grant = review.grant.and_then(|id| world.grants.get(&id));
    let request = review.request.and_then(|id| world.requests.get(&id));
    if incident.is_some_and(|incident| incident.is_party(person)) {
        return Some("somebody who acted in the incident does not review it");
    }
    let took_part = *person == review.person
        || grant.is_some_and(|grant| crate::grant::is_party(world, grant, person))
        || request.is_some_and(|request| request.is_party(person));
    took_part.then_some("somebody who took part in this access does not review it")
}

fn reviewer(
    world: &World,
    facts: &Facts<'_>,
    context: &Context<'_>,
    review: &Review,
) -> Result<PersonId, Refusal> {
    let person = context.officer(facts, &REVIEWERS, "review")?.clone();
    context.no_token("review")?;
    if let Some(why) = barred(world, review, &person) {
        return Err(Refusal::new(RefusalCode::SeparationOfDuties, why)
            .next("hand it to somebody who did not take part"));
    }
    Ok(person)
}

pub(crate) fn decide(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::StartReview { review } => {
            let found = world.review(*review)?;
            let person = reviewer(world, facts, context, found)?;
            match found.state {
                ReviewState::Due => Ok(vec![Event::ReviewStarted { review: *review, reviewer: person }]),
                ReviewState::InReview if found.reviewer.as_ref() == Some(&person) => Ok(Vec::new()),
                ReviewState::InReview => Ok(vec![Event::ReviewStarted { review: *review, reviewer: person }]),
                ReviewState::Judged | ReviewState::Closed => Err(judged_already()),
            }
        }
        Command::JudgeReview { review, answers } => judge(world, facts, context, *review, answers),
        Command::DeferReview { review, until, reason } => {
            let found = world.review(*review)?;
            let person = context.officer(facts, &[OfficeName::SecurityOfficer], "put a review off")?.clone();
            context.no_token("put a review off")?;
            said("reason", reason, 2000)?;
            if let Some(why) = barred(world, found, &person) {
                return Err(Refusal::new(RefusalCode::SeparationOfDuties, why));
            }
            if found.deferral.is_some() {
                return Err(Refusal::new(RefusalCode::Limit, "a review can be put off once"));
            }
            if matches!(found.state, ReviewState::Judged | ReviewState::Closed) {
                return Err(judged_already());
            }
            let most = context.now.plus(facts.catalog.settings.review_deferral);
            if *until > most || *until <= context.now {
                return Err(Refusal::new(
                    RefusalCode::Limit,
                    format!("a review can be put off until {most} at the latest"),
                ));
            }
            let deferral = Deferral { by: person, until: *until, reason: reason.clone() };
            Ok(vec![Event::ReviewDeferred { review: *review, deferral }])
        }
        Command::AddAction { review, what, owner, due_at } => {
            let found = world.review(*review)?;
            reviewer(world, facts, context, found)?;
            if found.state == ReviewState::Closed {
                return Err(Refusal::new(RefusalCode::WrongState, "the review is closed"));
            }
            said("action", what, 1000)?;
            if found.actions.len() >= 50 {
                return Err(Refusal::new(RefusalCode::Limit, "a review holds at most 50 actions"));
            }
            if !facts.catalog.people.contains_key(owner) {
                return Err(Refusal::not_found(format_args!("person {owner}")));
            }
            let action = Action { what: what.clone(), owner: owner.clone(), due_at: *due_at, done_at: None };
            Ok(vec![Event::ActionAdded { review: *review, action }])
        }
        Command::CompleteAction { review, action } => {
            let found = world.review(*review)?;
            let person = context.person()?;
            let wanted = found
                .actions
                .get(*action as usize)
                .ok_or_else(|| Refusal::not_found(format_args!("action {action}")))?;
            let officer = REVIEWERS.iter().any(|office| facts.catalog.holds(person, *office));
            if wanted.owner != *person && !officer {
                return Err(Refusal::not_found(format_args!("action {action}")));
            }
            if wanted.done_at.is_some() {
                return Ok(Vec::new());
            }
            let mut events =
                vec![Event::ActionCompleted { review: *review, action: *action, at: context.now }];
            let rest = found
                .actions
                .iter()
                .enumerate()
                .any(|(index, other)| index != *action as usize && other.done_at.is_none());
            if found.state == ReviewState::Judged && !rest {
                events.push(Event::ReviewClosed { review: *review });
            }
            Ok(events)
        }
        _ => Ok(Vec::new()),
    }
}

fn judged_already() -> Refusal {
    Refusal::new(RefusalCode::WrongState, "the review is judged already")
}

fn judge(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    id: ReviewId,
    answers: &Answers,
) -> Result<Vec<Event>, Refusal> {
    let review = world.review(id)?;
    let person = reviewer(world, facts, context, review)?;
    context.fresh_factor(facts)?;
    match review.state {
        ReviewState::Due => {}
        ReviewState::InReview if review.reviewer.as_ref() == Some(&person) => {}
        ReviewState::InReview => {
            return Err(Refusal::new(RefusalCode::WrongState, "somebody else is at this review")
                .next("take it over with `halligan review start`"));
        }
        ReviewState::Judged | ReviewState::Closed => return Err(judged_already()),
    }
    said("answer to \"what would prevent the next one?\"", &answers.prevention, MOST_WORDS)?;
    text("note", &answers.note, MOST_WORDS)?;
    let unused =
        review.grant.and_then(|grant| world.grants.get(&grant)).is_some_and(|grant| grant.last_session == 0);
    if let Some(words) = &answers.empty_activity_explained {
        text("explanation", words, MOST_WORDS)?;
    }
    if unused && answers.empty_activity_explained.as_ref().is_none_or(|words| words.trim().is_empty()) {
        return Err(Refusal::new(
            RefusalCode::Incomplete,
            "nothing was done under this grant, and that needs an explanation",
        )
        .next("add --empty-activity \"…\""));
    }
    let judgement = Judgement {
        by: person,
        at: context.now,
        classification: answers.classification,
        invoked_correctly: answers.invoked_correctly,
        too_wide: answers.too_wide,
        approvals_timely: answers.approvals_timely,
        prevention: answers.prevention.clone(),
        note: answers.note.clone(),
        empty_activity_explained: answers.empty_activity_explained.clone(),
    };
    let mut events = vec![Event::ReviewJudged { review: id, judgement }];
    if review.actions.iter().all(|action| action.done_at.is_some()) {
        events.push(Event::ReviewClosed { review: id });
    }
    Ok(events)
}

/// Being overdue is derived from the clock; the alert is an event.
pub(crate) fn wake(world: &World, context: &mut Context<'_>, id: ReviewId) -> Result<Vec<Event>, Refusal> {
    context.only_clock()?;
    let review = world.review(id)?;
    let overdue = due_at(review).is_some_and(|due| context.now >= due);
    Ok(if overdue { vec![Event::ReviewOverdue { review: id }] } else { Vec::new() })
}

/// When [`wake`] wants to be called next.
pub fn due_at(review: &Review) -> Option<Time> {
    let open = matches!(review.state, ReviewState::Due | ReviewState::InReview);
    (open && !review.overdue_alerted)
        .then(|| review.deferral.as_ref().map_or(review.due_at, |deferral| deferral.until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_business_day_from_friday_is_monday() {
        // 2026-11-20 was a Friday.
        let friday = Time::from_micros(1_795_170_000_000_000);
        assert_eq!(friday.to_string().get(..10), Some("2026-11-20"));
        assert_eq!(business(friday, Span::days(1)).to_string().get(..10), Some("2026-11-23"));
        assert_eq!(business(friday, Span::days(3)).to_string().get(..10), Some("2026-11-25"));
    }
}

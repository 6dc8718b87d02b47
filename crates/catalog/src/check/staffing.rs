//! Are there enough distinct people? The same questions as the core's, asked for everybody who may ask (rules 2, 3, 10, 11).
//!
//! The core matches the approvals that were given; here it is asked whether approvals *could* be given at all, and whether
//! a reviewer and two people for waivers are left besides. Who is on call is not known beforehand: each of the
//! rotation is tried.

use std::collections::{BTreeMap, BTreeSet};

use halligan_core::catalog::{
    Catalog, OfficeName, PolicyRule, Schedule, System, TimerAction, Who, WhoContext,
};
use halligan_core::ids::{Name, PersonId};
use halligan_core::time::Time;

/// Who may judge reviews. As in the core's rules of reviews.
pub(crate) const REVIEWERS: [OfficeName; 4] = [
    OfficeName::SecurityOfficer,
    OfficeName::IncidentLead,
    OfficeName::PlatformOwner,
    OfficeName::CloudAdministrator,
];
/// Who may waive a proof or explain a lost recording. As in the core's rules of grants.
pub(crate) const WAIVERS: [OfficeName; 3] =
    [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::PlatformOwner];
/// How many people are tried one by one where it depends on each person (their manager).
const MOST_TRIED: usize = 5_000;

/// What is asked.
pub(crate) struct Question<'q> {
    /// The rule; none = approved without anybody.
    pub rule: &'q PolicyRule,
    /// Who may ask.
    pub requested_by: &'q [Who],
    /// On what; owners come from it.
    pub system: Option<&'q System>,
    /// Distinct approvers that the class demands.
    pub distinct: u8,
    /// Whether reviews and waivers follow (emergencies).
    pub emergency: bool,
}

/// The answer. People are given up to a handful, the first by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// How many may ask.
    pub requesters: usize,
    /// Steps that nobody can ever approve.
    pub empty_steps: Vec<String>,
    /// For these people it cannot be met.
    pub unmet: Tally,
    /// For these it depends on who is on call.
    pub sometimes: Tally,
    /// For these it can be met only after a timer has struck.
    pub after_timer: Tally,
    /// For these nobody is left for review and waivers.
    pub too_few: Tally,
}

/// How many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub count: usize,
    pub first: Vec<PersonId>,
}

impl Tally {
    fn add(&mut self, count: usize, person: Option<&PersonId>) {
        self.count += count;
        if let Some(person) = person.filter(|_| self.first.len() < 5) {
            self.first.push(person.clone());
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.first.iter().map(Name::as_str).collect();
        f.write_str(&names.join(", "))?;
        match self.count - names.len() {
            0 => Ok(()),
            rest if names.is_empty() => write!(f, "{rest} people"),
            rest => write!(f, " and {rest} more"),
        }
    }
}

/// People, prepared for many questions.
pub(crate) struct People<'a> {
    catalog: &'a Catalog,
    deputies: BTreeMap<&'a PersonId, BTreeSet<&'a PersonId>>,
    most_deputies: usize,
    reviewers: BTreeSet<PersonId>,
    waivers: BTreeSet<PersonId>,
}

type Choice<'a> = BTreeMap<&'a Name, &'a PersonId>;

impl<'a> People<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        let mut deputies: BTreeMap<&PersonId, BTreeSet<&PersonId>> = BTreeMap::new();
        for (id, person) in &catalog.people {
            for deputy in &person.deputies {
                deputies.entry(id).or_default().insert(deputy);
                deputies.entry(deputy).or_default().insert(id);
            }
        }
        let most_deputies = deputies.values().map(BTreeSet::len).max().unwrap_or(0);
        let holders = |offices: &[OfficeName]| -> BTreeSet<PersonId> {
            let mut people: BTreeSet<PersonId> =
                offices.iter().flat_map(|office| catalog.holders(*office)).collect();
            people.retain(|id| catalog.people.get(id).is_some_and(|person| !person.left));
            people
        };
        Self { catalog, deputies, most_deputies, reviewers: holders(&REVIEWERS), waivers: holders(&WAIVERS) }
    }

    /// Everybody whom these words can mean at some time, whoever asks; managers are left out.
    pub(crate) fn possible(&self, who: &[Who], system: Option<&System>) -> BTreeSet<PersonId> {
        let nobody = Name::main();
        let context = WhoContext { beneficiary: &nobody, system, now: Time::default() };
        let mut people = self.catalog.people_of(who, context);
        for schedule in self.schedules(who, system) {
            people.extend(rotation(schedule).cloned());
        }
        people.retain(|id| self.catalog.people.get(id).is_some_and(|person| !person.left));
        people
    }

    fn schedules(&self, who: &[Who], system: Option<&System>) -> Vec<&'a Schedule> {
        self.schedule_names(who, system)
            .into_iter()
            .filter_map(|name| self.catalog.schedules.get(name))
            .collect()
    }

    fn schedule_names(&self, who: &[Who], system: Option<&System>) -> BTreeSet<&'a Name> {
        let owner = system.map(|system| system.owner.as_slice()).unwrap_or_default();
        let mut names = BTreeSet::new();
        for one in who {
            let found: &[Who] = match one {
                Who::Owner(true) => owner,
                other => std::slice::from_ref(other),
            };
            for one in found {
                if let Who::OnCall(name) = one
                    && let Some((name, _)) = self.catalog.schedules.get_key_value(name)
                {
                    names.insert(name);
                }
            }
        }
        names
    }

    /// The people meant when these are on call and that person asks.
    fn meant(
        &self,
        who: &[Who],
        system: Option<&System>,
        choice: &Choice<'_>,
        requester: Option<&PersonId>,
    ) -> BTreeSet<PersonId> {
        let nobody = Name::main();
        let beneficiary = requester.unwrap_or(&nobody);
        // Schedules are answered by the choice, so the time does not matter: at this one nobody is on call.
        let never = Time::from_micros(i64::MIN);
        let mut people = self.catalog.people_of(who, WhoContext { beneficiary, system, now: never });
        for name in self.schedule_names(who, system) {
            people.extend(choice.get(name).map(|person| (*person).clone()));
        }
        people.retain(|id| self.catalog.people.get(id).is_some_and(|person| !person.left));
        people
    }

    /// Answers.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Answer {
        let requesters = self.possible(question.requested_by, question.system);
        let mut answer = Answer { requesters: requesters.len(), ..Answer::default() };
        let all_words: Vec<Who> = question
            .rule
            .steps
            .iter()
            .flat_map(|step| step.approvers.iter().chain(&step.fallback))
            .cloned()
            .collect();
        let asks_manager = all_words.iter().any(|who| matches!(who, Who::Manager(true)));
        for step in &question.rule.steps {
            let words: Vec<Who> = step.approvers.iter().chain(&step.fallback).cloned().collect();
            let later = timer_words(&step.timer);
            let manager = words.iter().any(|who| matches!(who, Who::Manager(true)))
                && requesters.iter().any(|id| self.manager(id).is_some());
            let words: Vec<Who> = words.into_iter().chain(later).collect();
            if !manager && self.possible(&words, question.system).is_empty() {
                answer.empty_steps.push(step.name.clone());
            }
        }
        let choices = self.choices(&all_words, question.system);
        // Where no approver depends on who asks, only those who could approve themselves, and their deputies, differ.
        let tried: Vec<&PersonId> = if asks_manager {
            requesters.iter().take(MOST_TRIED).collect()
        } else {
            let mut concerned: BTreeSet<&PersonId> = BTreeSet::new();
            let approvers = self.possible(&all_words, question.system);
            let staff = question.emergency.then(|| self.reviewers.union(&self.waivers)).into_iter().flatten();
            for person in approvers.iter().chain(staff) {
                concerned.extend(requesters.get(person));
                let deputies = self.deputies.get(person).into_iter().flatten();
                concerned.extend(deputies.filter_map(|deputy| requesters.get(*deputy)));
                if concerned.len() > MOST_TRIED {
                    break;
                }
            }
            concerned.into_iter().take(MOST_TRIED).collect()
        };
        let rest = requesters.len() - tried.len();
        if rest > 0 {
            self.judge(question, &choices, None, rest, &mut answer);
        }
        for person in tried {
            self.judge(question, &choices, Some(person), 1, &mut answer);
        }
        answer
    }

    fn manager(&self, id: &PersonId) -> Option<&PersonId> {
        let manager = self.catalog.people.get(id)?.manager.as_ref()?;
        self.catalog.people.get(manager).filter(|person| !person.left).map(|_| manager)
    }

    /// Ways in which people can be on call: each of a rotation once, the others' first.
    fn choices(&self, words: &[Who], system: Option<&System>) -> Vec<Choice<'a>> {
        let names = self.schedule_names(words, system);
        let present = |id: &&PersonId| self.catalog.people.get(*id).is_some_and(|person| !person.left);
        let mut base = Choice::new();
        for name in &names {
            if let Some(first) =
                self.catalog.schedules.get(*name).and_then(|schedule| rotation(schedule).find(present))
            {
                base.insert(name, first);
            }
        }
        let mut choices = vec![base.clone()];
        for name in names {
            let Some(schedule) = self.catalog.schedules.get(name) else { continue };
            let people: BTreeSet<&PersonId> = rotation(schedule).filter(present).collect();
            for person in people.into_iter().take(50) {
                let mut choice = base.clone();
                choice.insert(name, person);
                if choice != base {
                    choices.push(choice);
                }
            }
        }
        choices
    }

    fn judge(
        &self,
        question: &Question<'_>,
        choices: &[Choice<'a>],
        requester: Option<&PersonId>,
        count: usize,
        answer: &mut Answer,
    ) {
        let met: Vec<bool> =
            choices.iter().map(|choice| self.met(question, choice, requester, false, false)).collect();
        if met.iter().all(|met| !met) {
            // Timers widen; what they make possible is late, not impossible.
            let later = choices.iter().any(|choice| self.met(question, choice, requester, true, false));
            let tally = if later { &mut answer.after_timer } else { &mut answer.unmet };
            tally.add(count, requester);
            return;
        }
        if met.iter().any(|met| !met) {
            answer.sometimes.add(count, requester);
        }
        if question.emergency
            && !choices
                .iter()
                .zip(&met)
                .filter(|(_, met)| **met)
                .all(|(choice, _)| self.met(question, choice, requester, false, true))
        {
            answer.too_few.add(count, requester);
        }
    }

    /// Can every approval (and with `staff`, review and waivers) be given by people of their own?
    fn met(
        &self,
        question: &Question<'_>,
        choice: &Choice<'_>,
        requester: Option<&PersonId>,
        later: bool,
        staff: bool,
    ) -> bool {
        let barred = |id: &PersonId| {
            requester.is_some_and(|requester| {
                requester == id || self.deputies.get(requester).is_some_and(|deputies| deputies.contains(id))
            })
        };
        let eligible = |who: &[Who]| {
            let mut people = self.meant(who, question.system, choice, requester);
            people.retain(|id| !barred(id));
            people
        };
        let mut slots: Vec<BTreeSet<PersonId>> = Vec::new();
        let mut union: BTreeSet<PersonId> = BTreeSet::new();
        for step in &question.rule.steps {
            let quorum = usize::from(step.quorum.max(1));
            let mut people = eligible(&step.approvers);
            if people.len() < quorum && !step.fallback.is_empty() {
                people.extend(eligible(&step.fallback));
            }
            if later {
                people.extend(eligible(&timer_words(&step.timer)));
            }
            union.extend(people.iter().cloned());
            slots.extend(std::iter::repeat_n(people, quorum));
        }
        // The class may demand more approvers than the steps do: anybody who may approve some step.
        let more = usize::from(question.distinct).saturating_sub(slots.len());
        if !slots.is_empty() {
            slots.extend(std::iter::repeat_n(union, more));
        }
        if staff {
            let others = |people: &BTreeSet<PersonId>| -> BTreeSet<PersonId> {
                people.iter().filter(|id| Some(*id) != requester).cloned().collect()
            };
            slots.push(others(&self.reviewers));
            slots.push(others(&self.waivers));
            slots.push(others(&self.waivers));
        }
        // A slot with more candidates than there are slots never stands in the way.
        let wide = slots.len() + self.most_deputies + 1;
        slots.retain(|people| people.len() <= wide);
        matches_all(&slots)
    }
}

fn rotation(schedule: &Schedule) -> impl Iterator<Item = &PersonId> {
    schedule.people.iter().chain(schedule.overrides.iter().map(|over| &over.person))
}

fn timer_words(timer: &Option<halligan_core::catalog::StepTimer>) -> Vec<Who> {
    match timer.as_ref().map(|timer| &timer.then) {
        Some(TimerAction::Reassign(who) | TimerAction::Widen(who)) => who.clone(),
        Some(TimerAction::Lapse(_)) | None => Vec::new(),
    }
}

/// Can every slot have a person of its own? (Kuhn's maximum matching.)
fn matches_all(slots: &[BTreeSet<PersonId>]) -> bool {
    fn place<'a>(
        slot: usize,
        slots: &'a [BTreeSet<PersonId>],
        held: &mut BTreeMap<&'a PersonId, usize>,
        seen: &mut BTreeSet<&'a PersonId>,
    ) -> bool {
        let Some(people) = slots.get(slot) else { return false };
        for person in people {
            if !seen.insert(person) {
                continue;
            }
            let free = match held.get(person).copied() {
                None => true,
                Some(other) => place(other, slots, held, seen),
            };
            if free {
                held.insert(person, slot);
                return true;
            }
        }
        false
    }
    let mut held = BTreeMap::new();
    (0..slots.len()).all(|slot| place(slot, slots, &mut held, &mut BTreeSet::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_fills_one_slot() {
        let set = |names: &str| names.split_whitespace().map(|n| Name::new(n).unwrap()).collect();
        assert!(matches_all(&[set("a b"), set("a")]));
        assert!(matches_all(&[set("a b"), set("b c"), set("a")]));
        assert!(!matches_all(&[set("a"), set("a")]));
        assert!(!matches_all(&[set("a b"), set("a b"), set("b a")]));
        assert!(!matches_all(&[set("")]));
    }
}

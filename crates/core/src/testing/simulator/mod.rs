//! A deterministic simulator: several control nodes on one store, gateways and connectors, people who do sensible and
//! foolish things, clocks that are off, messages that are late, lost or doubled, nodes that crash. A seed gives the same
//! history for ever. After every commit the invariants of `invariants/` are checked.
//!
//! [`run`] plays one seed. Start reading at [`Simulation::step`].

mod errands;
mod mutation;
mod outside;
mod people;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use mutation::{BROKEN, Mutation};
pub use outside::{Connector, Gateway, Skew};

use super::invariants::{Entry, Violation, Watcher};
use super::organisation::{MONDAY, Organisation, name};
use super::random::Random;
use super::store::{Decided, Store, copy};
use crate::apply::apply;
use crate::command::{Actor, Command, DocumentRef, Due};
use crate::decide::{Context, decide};
use crate::effect::Effect;
use crate::event::Event;
use crate::grant::GrantState;
use crate::ids::{FreshIds, Id, Kind};
use crate::time::{Span, Time};
use crate::world::World;

/// How often each thing happened, over many histories.
pub type Coverage = BTreeMap<&'static str, u64>;

/// A decision that a control node has made and not committed.
#[derive(Clone, Debug)]
struct InFlight {
    decided: Decided,
    honest: Actor,
    asked: Command,
    at: Time,
}

/// One control node.
#[derive(Clone, Debug, Default)]
struct ControlNode {
    skew: Skew,
    in_flight: Option<InFlight>,
}

/// Something that is to be done outside, kept until it is done.
#[derive(Clone, Debug)]
struct Errand {
    effect: Effect,
    not_before: Time,
}

/// One history as it goes on.
pub struct Simulation {
    /// The store that all control nodes share.
    pub store: Store,
    /// True time.
    pub now: Time,
    /// Gateways.
    pub gateways: Vec<Gateway>,
    /// The connector.
    pub connector: Connector,
    /// What has happened how often.
    pub coverage: Coverage,
    random: Random,
    mutation: Mutation,
    first: Arc<Organisation>,
    nodes: Vec<ControlNode>,
    errands: Vec<Errand>,
    mail: Vec<(Time, outside::Mail)>,
    watcher: Watcher,
    history: Vec<(Event, Time)>,
}

/// Plays a history of that many steps.
pub fn run(seed: u64, steps: usize, mutation: Mutation) -> Result<Coverage, Violation> {
    let mut simulation = Simulation::new(seed, mutation);
    for step in 0..steps {
        simulation.step().map_err(|violation| Violation { step, ..violation })?;
    }
    simulation.replay().map_err(|violation| Violation { step: steps, ..violation })?;
    Ok(simulation.coverage)
}

impl Simulation {
    /// The beginning of a history.
    pub fn new(seed: u64, mutation: Mutation) -> Self {
        let mut random = Random::new(seed);
        let mut skew = |most: i64| Skew(random.below(2 * most as u64) as i64 - most);
        let nodes = (0..2).map(|_| ControlNode { skew: skew(1_000_000), in_flight: None }).collect();
        let gateways = ["gw-1", "gw-2"]
            .map(|id| Gateway {
                passes_unasked: mutation == Mutation::PassesUnasked,
                ..Gateway::new(id, skew(1_000_000))
            })
            .into();
        let connector = Connector {
            skew: skew(1_000_000),
            ignores_fencing: mutation == Mutation::NoFencing,
            ..Default::default()
        };
        let store = Store::new(Organisation::small(), MONDAY);
        Self {
            first: store.organisation.clone(),
            store,
            now: MONDAY.plus(Span::hours(1)),
            gateways,
            connector,
            coverage: Coverage::new(),
            random,
            mutation,
            nodes,
            errands: Vec::new(),
            mail: Vec::new(),
            watcher: Watcher::default(),
            history: Vec::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }

    fn id<K: Kind>(&mut self) -> Id<K> {
        FreshIds::new(self.random.bytes(), self.now).make()
    }

    /// All that has happened.
    pub fn history(&self) -> impl Iterator<Item = &Event> {
        self.history.iter().map(|(event, _)| event)
    }

    /// One thing happens.
    pub fn step(&mut self) -> Result<(), Violation> {
        match self.random.below(100) {
            0..28 => {
                if let Some((actor, command)) = self.act() {
                    self.command(actor, command)?;
                }
            }
            28..46 => {
                for _ in 0..3 {
                    self.errand()?;
                }
            }
            46..64 => {
                for _ in 0..3 {
                    self.deliver()?;
                }
            }
            64..73 => {
                for _ in 0..3 {
                    self.report()?;
                }
            }
            73..83 => self.at_a_gateway()?,
            83..88 => self.sweep()?,
            88..96 => self.pass(),
            96 | 97 => self.people_come_and_go(),
            98 => self.crash(),
            _ => {
                let node = self.random.below(self.nodes.len() as u64) as usize;
                self.land(node)?;
            }
        }
        self.watcher.outside(&self.store.world, self.now, &self.gateways, &self.connector)
    }

    /// Time goes on: often not at all, mostly a little, sometimes for days.
    fn pass(&mut self) {
        let seconds: &[i64] = if self.random.once_in(14) {
            &[18_000, 86_400, 86_400, 345_600]
        } else {
            &[0, 1, 5, 10, 30, 60, 60, 120, 120, 300, 300, 600, 900, 1200, 1800, 3600]
        };
        let seconds = self.random.pick(seconds);
        let to = self.now.plus(Span::seconds(seconds.copied().unwrap_or(1)));
        for gateway in &mut self.gateways {
            gateway.pass(to);
        }
        self.now = to;
    }

    fn people_come_and_go(&mut self) {
        let group =
            name(self.random.pick(&["leads", "security", "stewards", "sre"]).copied().unwrap_or("leads"));
        let people = self.store.organisation.people();
        let Some(person) = self.random.pick(&people).cloned() else { return };
        // Half the time somebody who has just approved something goes.
        let approved: Vec<_> = self
            .store
            .world
            .grants
            .values()
            .filter(|grant| grant.state == GrantState::Scheduled)
            .filter_map(|grant| self.store.world.requests.get(&grant.request))
            .flat_map(|request| request.decisions.iter().map(|decision| decision.person.clone()))
            .collect();
        if let Some(person) = self.random.pick(&approved).cloned().filter(|_| self.random.once_in(2)) {
            Arc::make_mut(&mut self.store.organisation).change(|catalog| {
                catalog.groups.values_mut().for_each(|group| drop(group.members.take(&person)));
            });
            self.count("an approver was removed");
            return;
        }
        let what = self.random.below(6);
        let now = self.now;
        let organisation = Arc::make_mut(&mut self.store.organisation);
        organisation.change(|catalog| match what {
            0..3 => {
                if let Some(found) = catalog.groups.get_mut(&group)
                    && !found.members.remove(&person)
                {
                    catalog.since.insert(format!("group:{group}:{person}"), now);
                    found.members.insert(person);
                }
            }
            3 => {
                if let Some(found) = catalog.people.get_mut(&person) {
                    found.left = !found.left;
                    catalog.since.insert(format!("person:{person}"), now);
                }
            }
            _ => {
                // Most people come back, or there would soon be nobody left to act.
                for (person, found) in &mut catalog.people {
                    if std::mem::take(&mut found.left) {
                        catalog.since.insert(format!("person:{person}"), now);
                    }
                }
            }
        });
        self.count("catalog changed");
    }

    /// A control node dies with what it had not committed.
    fn crash(&mut self) {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        if let Some(node) = self.nodes.get_mut(node)
            && node.in_flight.take().is_some()
        {
            self.count("crashed before the commit");
        }
    }

    /// Commits what a node has in flight, if the store has not moved.
    fn land(&mut self, node: usize) -> Result<(), Violation> {
        let Some(flight) = self.nodes.get_mut(node).and_then(|node| node.in_flight.take()) else {
            return Ok(());
        };
        self.commit(flight)
    }

    /// Somebody gives a command to some control node, which decides at once and commits now or a little later.
    fn command(&mut self, actor: Actor, command: Command) -> Result<(), Violation> {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        self.land(node)?;
        let Some(flight) = self.decide(node, &actor, &command)? else { return Ok(()) };
        if self.random.once_in(5) {
            if let Some(node) = self.nodes.get_mut(node) {
                node.in_flight = Some(flight);
            }
            return Ok(());
        }
        self.commit(flight)
    }

    /// As [`Self::command`], and tried again until it is done or refused.
    fn insist(&mut self, actor: Actor, command: Command) -> Result<bool, Violation> {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        self.land(node)?;
        match self.decide(node, &actor, &command)? {
            Some(flight) => self.commit(flight).map(|()| true),
            None => Ok(false),
        }
    }

    /// The decision of one node; none if it was refused or there was nothing to do.
    fn decide(
        &mut self,
        node: usize,
        actor: &Actor,
        command: &Command,
    ) -> Result<Option<InFlight>, Violation> {
        let clock = self.nodes.get(node).map(|node| node.skew).unwrap_or_default();
        let at = clock.shows(self.now).max(self.store.last);
        let seed = self.random.bytes();
        let seen = self.store.load(command);
        let mut slice = seen.clone();
        let (mut honest, mut asked, mut decided_at) = (actor.clone(), command.clone(), at);
        self.mutation.before(&mut slice, &mut honest, &mut asked, &mut decided_at, &self.first);
        let result = slice.decide(decided_at, seed, &honest, &asked);
        if self.mutation == Mutation::None {
            let mut context = Context { now: at, actor, ids: FreshIds::new(seed, at) };
            let whole = decide(&self.store.world, &self.store.organisation.facts(), &mut context, command);
            let part = result.as_ref().map(|decided| decided.events.clone()).map_err(Clone::clone);
            if whole != part {
                return Err(Violation::new(
                    "needs",
                    format!("{command:?} sees something that it does not load: {part:?} is not {whole:?}"),
                ));
            }
        }
        match result {
            Ok(mut decided) if !decided.events.is_empty() => {
                // What is broken is the decision, not what the store remembers of what it saw.
                decided.slice = seen;
                let others = self.others(&decided.events);
                self.mutation.after(&mut decided.events, &others);
                Ok(Some(InFlight { decided, honest: actor.clone(), asked: command.clone(), at }))
            }
            Ok(_) => {
                self.count("nothing to do");
                Ok(None)
            }
            Err(refusal) => {
                self.count(match refusal.code {
                    crate::refusal::RefusalCode::NotFound => "refused: not found",
                    crate::refusal::RefusalCode::NotAllowed => "refused: not allowed",
                    crate::refusal::RefusalCode::SeparationOfDuties => "refused: separation of duties",
                    crate::refusal::RefusalCode::SecondFactor => "refused: second factor",
                    crate::refusal::RefusalCode::Incomplete => "refused: incomplete",
                    crate::refusal::RefusalCode::DoesNotFit => "refused: does not fit",
                    crate::refusal::RefusalCode::WrongState => "refused: wrong state",
                    crate::refusal::RefusalCode::Stale => "refused: stale",
                    crate::refusal::RefusalCode::Limit => "refused: limit",
                    crate::refusal::RefusalCode::Blocked => "refused: blocked",
                });
                Ok(None)
            }
        }
    }

    /// For one broken variant: the ends of other grants.
    fn others(&self, events: &[Event]) -> Vec<Event> {
        if self.mutation != Mutation::EndsAnother {
            return Vec::new();
        }
        let ended =
            |id| events.iter().any(|event| matches!(event, Event::GrantEnded { grant, .. } if *grant == id));
        let other =
            self.store.world.grants.values().find(|grant| grant.in_force(self.now) && !ended(grant.id));
        other
            .map(|grant| Event::GrantEnded {
                grant: grant.id,
                at: self.now,
                reason: crate::grant::GrantEnd::Superseded,
                by: None,
                note: None,
                fencing: grant.fencing + 1,
            })
            .into_iter()
            .collect()
    }

    fn commit(&mut self, flight: InFlight) -> Result<(), Violation> {
        let InFlight { decided, honest, asked, at } = flight;
        if self.store.moved(&decided.slice) {
            self.count("lost a race");
            if self.mutation != Mutation::NoReadSet {
                return Ok(());
            }
        }
        // What this node would write: the events applied to what it had seen.
        let mut written = decided.slice.world.clone();
        for event in &decided.events {
            apply(&mut written, event, at);
        }
        let mut before = World::default();
        for document in &decided.slice.world.known {
            copy(&self.store.world, &mut before, document);
        }
        let done = self.store.commit(decided);
        for event in &done.decided.events {
            self.count(event.name());
            self.history.push((event.clone(), at));
        }
        let entry = Entry {
            at,
            actor: &honest,
            command: &asked,
            events: &done.decided.events,
            effects: &done.effects,
            changed: &done.changed,
            before: &before,
            world: &self.store.world,
            organisation: &self.store.organisation,
        };
        self.watcher.observe(&entry)?;
        for document in &done.changed {
            if !same(&written, &self.store.world, document) {
                return Err(Violation::new(
                    "read set",
                    format!("{document:?} as written is not what the events make of it, after {asked:?}"),
                ));
            }
        }
        for effect in done.effects {
            match effect {
                Effect::Alert(_) => self.count("alert"),
                Effect::Look { not_before, .. } => self.errands.push(Errand { not_before, effect }),
                effect => self.errands.push(Errand { not_before: self.now, effect }),
            }
        }
        Ok(())
    }

    /// Time has come for what is due.
    fn sweep(&mut self) -> Result<(), Violation> {
        let late = self.store.organisation.catalog.settings.revocation_late_after;
        let now = self.now;
        let world = &self.store.world;
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let mut due: Vec<Due> = Vec::new();
        due.extend(
            world
                .requests
                .values()
                .filter(|found| is_due(crate::request::due_at(found)))
                .map(|found| Due::Request(found.id)),
        );
        due.extend(
            world
                .grants
                .values()
                .filter(|found| is_due(crate::grant::due_at(found, late)))
                .map(|found| Due::Grant(found.id)),
        );
        due.extend(
            world
                .reviews
                .values()
                .filter(|found| is_due(crate::review::due_at(found)))
                .map(|found| Due::Review(found.id)),
        );
        due.extend(
            world
                .changes
                .values()
                .filter(|found| is_due(crate::change::due_at(found)))
                .map(|found| Due::Change(found.id)),
        );
        for what in due {
            // The sweeper may be slow: lateness does not depend on it.
            if !self.random.once_in(4) {
                self.command(Actor::Clock, Command::Wake(what))?;
            }
        }
        Ok(())
    }

    /// All events from the beginning give the same documents, also after a trip through their encoding.
    fn replay(&mut self) -> Result<(), Violation> {
        let mut again = World::default();
        for (event, at) in &self.history {
            let text = serde_json::to_string(event).unwrap_or_default();
            match serde_json::from_str::<Event>(&text) {
                Ok(decoded) if decoded == *event => apply(&mut again, &decoded, *at),
                _ => return Err(Violation::new("encoding", format!("{text} does not come back as it was"))),
            }
        }
        again.changed.clear();
        again.known = self.store.world.known.clone();
        if again != self.store.world {
            return Err(Violation::new("replay", "replaying the events gives other documents".to_owned()));
        }
        Ok(())
    }
}

fn same(one: &World, other: &World, document: &DocumentRef) -> bool {
    match document {
        DocumentRef::Request(id) => one.requests.get(id) == other.requests.get(id),
        DocumentRef::Grant(id) => one.grants.get(id) == other.grants.get(id),
        DocumentRef::Session(id) => one.sessions.get(id) == other.sessions.get(id),
        DocumentRef::Incident(id) => one.incidents.get(id) == other.incidents.get(id),
        DocumentRef::Review(id) => one.reviews.get(id) == other.reviews.get(id),
        DocumentRef::Standing(id) => one.standings.get(id) == other.standings.get(id),
        DocumentRef::Change(id) => one.changes.get(id) == other.changes.get(id),
    }
}

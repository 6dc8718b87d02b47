//! The thirteen rules as invariants over what is committed and over what really happens outside. They share no code with
//! `decide`: they keep their own books, from the events alone.

mod access;
mod approvals;
mod books;
mod closing;
mod holds;
mod totals;

use std::fmt;

use crate::command::{Actor, Command, DocumentRef};
use crate::effect::Effect;
use crate::event::Event;
use crate::ids::PersonId;
use crate::time::Time;
use crate::world::World;

use super::organisation::Organisation;
use super::simulator::{Connector, Gateway};
use books::Books;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `rule 1` to `rule 13`, `fencing`, `read set`, …
    pub invariant: &'static str,
    /// What is wrong.
    pub say: String,
    /// After how many steps.
    pub step: usize,
}

impl Violation {
    /// A violation, whose step the simulator knows.
    pub const fn new(invariant: &'static str, say: String) -> Self {
        Self { invariant, say, step: 0 }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at step {}: {}", self.invariant, self.step, self.say)
    }
}

/// One commit, with the documents that it saw before and all documents after.
pub struct Entry<'a> {
    /// When it was decided, by an honest clock.
    pub at: Time,
    /// Who gave the command.
    pub actor: &'a Actor,
    /// What was asked.
    pub command: &'a Command,
    /// What happened.
    pub events: &'a [Event],
    /// What is to be done because of it.
    pub effects: &'a [Effect],
    /// What changed.
    pub changed: &'a [DocumentRef],
    /// What it saw.
    pub before: &'a World,
    /// All there is, afterwards.
    pub world: &'a World,
    /// The catalog in force.
    pub organisation: &'a Organisation,
}

impl Entry<'_> {
    /// The person who acts.
    fn person(&self) -> Option<&PersonId> {
        match self.actor {
            Actor::Person { id, .. } => Some(id),
            Actor::Node { .. } | Actor::Clock => None,
        }
    }
}

/// Holds if `true`.
fn holds(invariant: &'static str, holds: bool, say: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, say())) }
}

/// Checks every commit as it comes.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    books: Books,
}

impl Watcher {
    /// A commit was made.
    pub fn observe(&mut self, entry: &Entry<'_>) -> Result<(), Violation> {
        self.books.tokens_and_leavers(entry)?;
        for event in entry.events {
            self.books.access(entry, event)?;
            self.books.approvals(entry, event)?;
            self.books.bypasses(entry, event)?;
            self.books.totals(entry, event)?;
            self.books.counted(entry, event)?;
            self.books.reviews(entry, event)?;
            self.books.closing(entry, event)?;
            self.books.holds(entry, event)?;
            self.books.changes(entry, event)?;
            self.books.enter(entry, event);
        }
        self.books.one_incident(entry)?;
        self.books.states(entry)?;
        self.books.closed(entry)?;
        self.books.seen(entry);
        Ok(())
    }

    /// Something may have happened outside.
    pub fn outside(
        &self,
        world: &World,
        now: Time,
        gateways: &[Gateway],
        connector: &Connector,
    ) -> Result<(), Violation> {
        self.books.outside(world, now, gateways, connector)?;
        self.books.passed(gateways)
    }
}

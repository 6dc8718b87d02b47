//! The numbered chain of each incident, and time: nothing may be missing between two leaves, nothing may go back.

use std::collections::HashMap;

use halligan_core::command::DocumentRef;
use halligan_core::event::Event;
use halligan_core::ids::IncidentId;
use halligan_core::leaf::LeafBody;
use halligan_core::time::{Span, Time};
use halligan_ledger::Hash;

use crate::findings::Faults;
use crate::replay::{Entry, Named};

/// Decisions that are made at the same moment may be recorded in another order, and a node whose clock is off by more
/// than two seconds refuses to decide; so a leaf's time is at most this far below the highest before it.
pub const TIME_TOLERANCE: Span = Span::seconds(2);

/// One incident's chain so far.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Leaves.
    pub count: u64,
    head: Option<Hash>,
    /// The number of the leaf that closed it last, while it is closed.
    pub closed_at: Option<u64>,
}

/// All chains of a ledger.
#[derive(Default)]
pub struct Chains(pub HashMap<IncidentId, Chain>);

impl Chains {
    /// Takes the next leaf of the ledger.
    pub(crate) fn push(&mut self, index: u64, leaf: &Entry, hash: &Hash, faults: &mut Faults) {
        for named in &leaf.named {
            if let Named::Core(DocumentRef::Incident(id), _) = named
                && leaf.chain.as_ref().is_none_or(|link| link.incident != *id)
            {
                faults.say(format!("leaf {index} changes incident {id} and is not in its chain"));
            }
        }
        let Some(link) = &leaf.chain else { return };
        let chain = self.0.entry(link.incident).or_default();
        if link.number != chain.count + 1 {
            faults.say(format!(
                "leaf {index} has number {} in the chain of incident {}, expected {}: leaves are missing or doubled",
                link.number,
                link.incident,
                chain.count + 1
            ));
        }
        let follows = match &chain.head {
            None => link.previous.is_empty(),
            Some(head) => Hash::from_hex(&link.previous).as_ref() == Ok(head),
        };
        if !follows {
            faults.say(format!(
                "leaf {index}, number {} of incident {}, does not follow the leaf before it",
                link.number, link.incident
            ));
        }
        chain.count = link.number;
        chain.head = Some(*hash);
        if let LeafBody::Events { events } = &leaf.body {
            for event in events {
                match event {
                    Event::IncidentClosed { .. } | Event::IncidentClosedUnproven { .. } => {
                        chain.closed_at = Some(link.number);
                    }
                    Event::IncidentReopened { .. } => chain.closed_at = None,
                    _ => {}
                }
            }
        }
    }
}

/// Watches that time does not go back.
#[derive(Default)]
pub struct Monotonic(Option<Time>);

impl Monotonic {
    /// Takes the time of the next leaf.
    pub fn push(&mut self, index: u64, at: Time, faults: &mut Faults) {
        if let Some(highest) = self.0
            && at.plus(TIME_TOLERANCE) < highest
        {
            faults.say(format!("leaf {index} is of {at}, after a leaf of {highest}: time went back"));
        }
        self.0 = self.0.max(Some(at));
    }
}

//! The numbered chain of each incident, and time: nothing may be missing between two leaves, nothing may go back.

use std::collections::HashMap;

use halligan_core::event::Event;
use halligan_core::ids::IncidentId;
use halligan_core::leaf::{Leaf, LeafBody};
use halligan_core::time::{Span, Time};
use halligan_ledger::Hash;

use crate::findings::Faults;

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
    pub fn push(&mut self, index: u64, leaf: &Leaf, hash: &Hash, faults: &mut Faults) {
        for digest in leaf.documents.iter().filter(|digest| digest.kind == "incident") {
            let of = leaf.chain.as_ref().map(|link| link.incident.to_string());
            if of.as_deref() != Some(digest.id.as_str()) {
                faults.say(format!("leaf {index} changes incident {} and is not in its chain", digest.id));
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
        let previous = chain.head.map(|head| head.to_hex()).unwrap_or_default();
        if link.previous != previous {
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

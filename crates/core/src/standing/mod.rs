//! A person's standing: what rules remember about somebody across requests (rules 3, 6 and 7).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{EntitlementName, GrantId, IncidentId, PersonId, ReviewId};
use crate::time::{Span, Time};

/// What rules remember about one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who.
    pub person: PersonId,
    /// When policy approved by itself, the last 24 hours.
    pub automatic: Vec<Time>,
    /// Denials, the last day.
    pub denials: Vec<(EntitlementName, Time)>,
    /// Reviews of bypasses that are not judged.
    pub bypass_reviews: BTreeSet<ReviewId>,
    /// What they used lately, the newest last; at most [`Standing::MOST_USES`].
    pub uses: Vec<Use>,
}

/// One running or recent total of time on one entitlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// On what.
    pub entitlement: EntitlementName,
    /// In which emergencies.
    pub incident: Option<IncidentId>,
    /// The grant that used it last.
    pub grant: GrantId,
    /// Granted time of the running total.
    pub total: Span,
    /// Extensions counted in it.
    pub extensions: u8,
    /// When the last grant ends or ended.
    pub until: Time,
    /// Who approved in this total.
    pub approvers: BTreeSet<PersonId>,
}

impl Standing {
    /// Uses kept per person.
    pub const MOST_USES: usize = 64;

    /// A person of whom nothing is remembered.
    pub const fn new(person: PersonId) -> Self {
        Self {
            person,
            automatic: Vec::new(),
            denials: Vec::new(),
            bypass_reviews: BTreeSet::new(),
            uses: Vec::new(),
        }
    }

    /// The running total that a new grant would continue: same entitlement, and ended less than `window` ago or in the same incident.
    pub fn running_use(
        &self,
        entitlement: &EntitlementName,
        incident: Option<IncidentId>,
        now: Time,
        window: Span,
    ) -> Option<&Use> {
        self.uses.iter().rev().find(|used| {
            used.entitlement == *entitlement
                && (now.since(used.until) < window || (incident.is_some() && used.incident == incident))
        })
    }
}

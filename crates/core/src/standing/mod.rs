//! A person's standing: what rules remember about somebody across requests (rules 3, 6 and 7).

use std::collections::{BTreeMap, BTreeSet};

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
    /// Denials of what they asked for or were to use, lately.
    pub denials: Vec<(EntitlementName, Time)>,
    /// Reviews of bypasses that are not judged.
    pub bypass_reviews: BTreeSet<ReviewId>,
    /// Totals of time on entitlements, at most [`Standing::MOST_USES`].
    pub uses: Vec<Use>,
}

/// One running or recent total of time on one entitlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// On what.
    pub entitlement: EntitlementName,
    /// In which emergencies.
    pub incidents: BTreeSet<IncidentId>,
    /// Grants counted in it, with the time at which access ends or ended (before it begins: at the latest).
    pub grants: BTreeMap<GrantId, Time>,
    /// Granted time of the running total; what was given back early is not counted.
    pub total: Span,
    /// Extensions counted in it, quick re-grants included.
    pub extensions: u8,
    /// Who approved in this total.
    pub approvers: BTreeSet<PersonId>,
}

impl Use {
    /// When its last access ends or ended.
    pub fn until(&self) -> Time {
        self.grants.values().max().copied().unwrap_or_default()
    }
}

/// The total that a new grant or an extension would continue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Time used or granted so far.
    pub total: Span,
    /// Extensions so far.
    pub extensions: u8,
    /// Who approved in it.
    pub approvers: BTreeSet<PersonId>,
    /// Its grants.
    pub grants: BTreeSet<GrantId>,
}

impl Standing {
    /// Uses kept per person.
    pub const MOST_USES: usize = 200;
    /// Denials kept per person.
    pub const MOST_DENIALS: usize = 200;
    /// How long denials are kept; no setting may ask for longer.
    pub const DENIALS_KEPT: Span = Span::days(7);

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

    /// The running total that a new grant would continue: same entitlement, and ended less than `window` ago or in the
    /// same incident. Several that fit are one.
    pub fn running(
        &self,
        entitlement: &EntitlementName,
        incident: Option<IncidentId>,
        now: Time,
        window: Span,
    ) -> Option<Running> {
        let mut found: Option<Running> = None;
        for used in &self.uses {
            let same = used.entitlement == *entitlement
                && (now.since(used.until()) < window
                    || incident.is_some_and(|incident| used.incidents.contains(&incident)));
            if !same {
                continue;
            }
            let running = found.get_or_insert_default();
            running.total = running.total.plus(used.total);
            running.extensions = running.extensions.saturating_add(used.extensions);
            running.approvers.extend(used.approvers.iter().cloned());
            running.grants.extend(used.grants.keys().copied());
        }
        found
    }

    /// Takes out every use that counts one of these grants, merged into one.
    pub(crate) fn take(&mut self, grants: &BTreeSet<GrantId>) -> Option<Use> {
        let (taken, kept): (Vec<Use>, Vec<Use>) = std::mem::take(&mut self.uses)
            .into_iter()
            .partition(|used| used.grants.keys().any(|grant| grants.contains(grant)));
        self.uses = kept;
        taken.into_iter().reduce(|mut whole, other| {
            whole.incidents.extend(other.incidents);
            whole.grants.extend(other.grants);
            whole.total = whole.total.plus(other.total);
            whole.extensions = whole.extensions.saturating_add(other.extensions);
            whole.approvers.extend(other.approvers);
            whole
        })
    }

    /// Puts a use in; the one that ended first makes room.
    pub(crate) fn put(&mut self, used: Use) {
        if self.uses.len() >= Self::MOST_USES
            && let Some(oldest) = (0..self.uses.len()).min_by_key(|at| self.uses.get(*at).map(Use::until))
        {
            self.uses.remove(oldest);
        }
        self.uses.push(used);
    }

    /// The use that counts this grant.
    pub(crate) fn of(&mut self, grant: GrantId) -> Option<&mut Use> {
        self.uses.iter_mut().find(|used| used.grants.contains_key(&grant))
    }

    /// Forgets uses that count no grant any more.
    pub(crate) fn tidy(&mut self) {
        self.uses.retain(|used| !used.grants.is_empty());
    }
}

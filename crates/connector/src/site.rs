//! What every kind keeps to: whose leases are obeyed, that fencing numbers only rise, that a tombstone is for ever, and that
//! what was found is written down before anybody hears of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use halligan_core::catalog::SystemKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Check, Evidence, Finding};
use halligan_session::{Lease, NodeEvent, SignedLease};

use crate::config::SiteConfig;
use crate::error::ConnectorError;
use crate::journal::Journal;
use crate::state::{GrantState, GrantStore, private_folder};

/// Memory and ledger of one connector, shared by its kinds. Everything here blocks for the disk.
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    journal: Arc<Journal>,
    grants: GrantStore,
    locks: Mutex<HashMap<GrantId, Weak<Mutex<()>>>>,
}

impl Site {
    /// Opens the state folder, making what is missing.
    pub fn open(config: SiteConfig) -> Result<Arc<Self>, ConnectorError> {
        private_folder(&config.folder)?;
        let journal = Arc::new(Journal::open(&config)?);
        let grants = GrantStore::open(&config.folder)?;
        Ok(Arc::new(Self { config, journal, grants, locks: Mutex::default() }))
    }

    /// Its settings.
    pub const fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// Its ledger.
    pub const fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What it remembers.
    pub const fn grants(&self) -> &GrantStore {
        &self.grants
    }

    /// One effect on a grant at a time: hold this one's guard.
    pub fn lock(&self, grant: GrantId) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = locks.get(&grant).and_then(Weak::upgrade) {
            return held;
        }
        if locks.len() > 4096 {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let fresh = Arc::new(Mutex::new(()));
        locks.insert(grant, Arc::downgrade(&fresh));
        fresh
    }

    /// Signature first, then everything that does not depend on what happened before. `wrong` says what one kind misses in
    /// a lease of its own.
    pub fn read_lease(
        &self,
        signed: &SignedLease,
        what: &str,
        kind: SystemKind,
        wrong: impl FnOnce(&Lease) -> Option<String>,
    ) -> Result<Lease, ConnectorError> {
        let lease = signed.verify(&self.config.control)?;
        let refusal = if lease.target.site != self.config.site {
            Some(format!(
                "{} is a target of site {}, this connector serves {}",
                lease.target.system, lease.target.site, self.config.site
            ))
        } else if lease.target.kind != kind {
            let word = match kind {
                SystemKind::Ssh => "SSH host",
                SystemKind::Postgres => "PostgreSQL server",
            };
            Some(format!("{} is no {word}", lease.target.system))
        } else if let Some(why) = wrong(&lease) {
            Some(format!("{}: {why}", lease.target.system))
        } else if lease.deadline <= self.journal.now() {
            Some(format!("the grant ended at {}", lease.deadline))
        } else {
            None
        };
        match refusal {
            Some(why) => Err(self.refuse(lease.grant, what, why)),
            None => Ok(lease),
        }
    }

    /// Rule of the tombstone and of the fencing number. Stores number and lease before anything else happens. The caller
    /// holds the grant's lock.
    pub fn admit(
        &self,
        signed: &SignedLease,
        lease: &Lease,
        what: &str,
    ) -> Result<GrantState, ConnectorError> {
        let mut state = self.grants.grant(lease.grant)?;
        if let Some(tombstone) = &state.tombstone {
            let why = format!("it ended here at {}, and nothing is ever issued for it again", tombstone.at);
            return Err(self.refuse(lease.grant, what, why));
        }
        if lease.fencing < state.fencing {
            let why = format!("fencing number {} is overtaken by {}", lease.fencing, state.fencing);
            return Err(self.refuse(lease.grant, what, why));
        }
        if let Some(held) = self.held_lease(&state)?
            && (held.target.principal() != lease.target.principal() || held.target.kind != lease.target.kind)
        {
            let why = format!("it leads to {}, not to {}", held.target.principal(), lease.target.principal());
            return Err(self.refuse(lease.grant, what, why));
        }
        if lease.fencing != state.fencing || state.lease.as_ref() != Some(signed) {
            state.fencing = lease.fencing;
            state.lease = Some(signed.clone());
            self.grants.save_grant(&state)?;
        }
        Ok(state)
    }

    /// What is known of a grant, unless `fencing` is overtaken.
    pub fn at_least(&self, grant: GrantId, fencing: u64, what: &str) -> Result<GrantState, ConnectorError> {
        let state = self.grants.grant(grant)?;
        if fencing < state.fencing {
            let why = format!("fencing number {fencing} is overtaken by {}", state.fencing);
            return Err(self.refuse(grant, what, why));
        }
        Ok(state)
    }

    /// A refusal is a leaf too. That it could not be written changes nothing about the refusal.
    pub fn refuse(&self, grant: GrantId, what: &str, why: String) -> ConnectorError {
        let leaf = NodeEvent::Refused {
            person: None,
            what: format!("{what} {grant}"),
            client: self.config.name.to_string(),
            reason: why.clone(),
        };
        if let Err(error) = self.journal.write(leaf) {
            tracing::error!(%grant, error = error.sentence(), "a refusal could not be written down");
        }
        ConnectorError::refused(format!("failed to {what} grant {grant}: {why}"))
    }

    /// The newest lease of a grant, from our own folder.
    pub fn held_lease(&self, state: &GrantState) -> Result<Option<Lease>, ConnectorError> {
        // Its signature was checked when it came in; control may have changed its key since.
        let read = |signed: &SignedLease| {
            serde_json::from_str(&signed.payload).map_err(|error| {
                ConnectorError::state(format!("read the lease kept for {}", state.grant))(error.into())
            })
        };
        state.lease.as_ref().map(read).transpose()
    }

    /// Before a look: stores the fencing number. Refused before the tombstone is stored.
    pub fn begin_look(&self, grant: GrantId, fencing: u64) -> Result<GrantState, ConnectorError> {
        let lock = self.lock(grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.at_least(grant, fencing, "look at")?;
        if state.tombstone.is_none() {
            return Err(ConnectorError::refused(format!(
                "failed to look at grant {grant}: it has not been deactivated here, so a look would prove nothing"
            )));
        }
        if fencing > state.fencing {
            state.fencing = fencing;
            self.grants.save_grant(&state)?;
        }
        Ok(state)
    }

    /// After a look: writes the evidence down before anybody hears of it. Once proven, a later look gives the same answer.
    pub fn conclude(
        &self,
        grant: GrantId,
        fencing: u64,
        checks: Vec<Check>,
    ) -> Result<Evidence, ConnectorError> {
        let lock = self.lock(grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let evidence = Evidence { at: self.journal.now(), checks };
        self.journal.write(NodeEvent::Looked { grant, fencing, evidence: evidence.clone() })?;
        let proven = !evidence.checks.is_empty()
            && evidence.checks.iter().all(|check| check.finding == Finding::Proven);
        if proven {
            let mut state = self.grants.grant(grant)?;
            state.proven = Some(evidence.clone());
            self.grants.save_grant(&state)?;
        }
        Ok(evidence)
    }
}

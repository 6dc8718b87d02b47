//! The leases in this gateway's hand, found by grant and by person and entitlement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::VerifyingKey;
use halligan_core::ids::{EntitlementName, GrantId, PersonId};
use halligan_core::time::Time;
use halligan_session::lease::{Lease, SignedLease};

use crate::countdown::{Count, Reading, Standing};
use crate::database::DatabaseUser;
use crate::shelf::Tombstone;

/// How long a word of control that a grant stands is good, in microseconds.
const TRUST: u64 = 15_000_000;
/// How long control may take to answer before the earlier end wins.
const PATIENCE: u64 = 5_000_000;

/// One lease in force. Its sessions share it; a newer lease of the grant with the same scope takes its place inside.
pub struct Held {
    /// The grant.
    pub grant: GrantId,
    current: Mutex<Current>,
    /// Boot time at which it ends; what the data path looks at.
    end_boot: AtomicU64,
    /// It has ended, or is ending: nothing new begins.
    shut: AtomicBool,
    /// Until when (boot time) control's word that the grant stands is good.
    trusted_until: AtomicU64,
    /// Since when (boot time) control has been asked, 0 for not.
    asked_since: AtomicU64,
    /// A question to control is on its way.
    asking: AtomicBool,
    /// Sessions that ended because this lease did.
    sessions_ended: AtomicU32,
    /// Control's signature was checked in this run.
    checked: AtomicBool,
    /// Its database user, once a session asked for one.
    pub database_user: tokio::sync::Mutex<Option<DatabaseUser>>,
}

#[derive(Clone)]
struct Current {
    lease: Arc<Lease>,
    signed: Arc<SignedLease>,
    count: Count,
}

/// What the clocks want to be done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// Ask control whether the grant stands.
    AskControl,
    /// End it.
    End,
}

impl Held {
    /// Takes a lease in hand whose signature was checked.
    pub fn new(lease: Arc<Lease>, signed: SignedLease, count: Count) -> Self {
        let held = Self::from_disk(lease, signed, count);
        held.checked.store(true, Ordering::SeqCst);
        held
    }

    /// Takes up a lease from this gateway's own disk. Its signature is checked before it lets anybody in, see
    /// [`Held::is_genuine`]: a hundred thousand signatures take longer than a restart may.
    pub fn from_disk(lease: Arc<Lease>, signed: SignedLease, count: Count) -> Self {
        let end_boot = AtomicU64::new(count.end_boot);
        Self {
            grant: lease.grant,
            current: Mutex::new(Current { lease, signed: Arc::new(signed), count }),
            end_boot,
            shut: AtomicBool::new(false),
            trusted_until: AtomicU64::new(0),
            asked_since: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            sessions_ended: AtomicU32::new(0),
            database_user: tokio::sync::Mutex::default(),
            checked: AtomicBool::new(false),
        }
    }

    /// Whether control signed it, asked of the signature once.
    pub fn is_genuine(&self, control: &VerifyingKey) -> bool {
        if self.checked.load(Ordering::SeqCst) {
            return true;
        }
        let current = self.current();
        let genuine = current.signed.verify(control).is_ok_and(|lease| lease == *current.lease);
        if genuine {
            self.checked.store(true, Ordering::SeqCst);
        }
        genuine
    }

    /// A session ended because this lease did.
    pub fn ended_one(&self) {
        self.sessions_ended.fetch_add(1, Ordering::SeqCst);
    }
    /// How many sessions ended because this lease did.
    pub fn sessions_ended(&self) -> u32 {
        self.sessions_ended.load(Ordering::SeqCst)
    }

    /// True for the one who may ask control now.
    pub fn begin_asking(&self) -> bool {
        !self.asking.swap(true, Ordering::SeqCst)
    }
    /// The answer is there, or will not come.
    pub fn end_asking(&self) {
        self.asking.store(false, Ordering::SeqCst);
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The lease as it reads now.
    pub fn lease(&self) -> Arc<Lease> {
        self.current().lease
    }
    /// As control signed it.
    pub fn signed(&self) -> Arc<SignedLease> {
        self.current().signed
    }
    /// Boot time at which it ends, microseconds.
    pub fn end_boot(&self) -> u64 {
        self.end_boot.load(Ordering::SeqCst)
    }
    /// Whether it is past its end or shut.
    pub fn over(&self, boot: u64) -> bool {
        self.shut.load(Ordering::SeqCst) || boot >= self.end_boot()
    }
    /// Shuts it. True for the first who does.
    pub fn shut(&self) -> bool {
        let first = !self.shut.swap(true, Ordering::SeqCst);
        self.forget_database_user();
        first
    }
    /// Whoever holds the lock is asking for another, and looks afterwards whether anything still stands.
    fn forget_database_user(&self) {
        if let Ok(mut kept) = self.database_user.try_lock() {
            *kept = None;
        }
    }
    /// Whether it was shut.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// A newer lease of the same grant takes its place. True if its scope is the same, so that sessions may go on.
    pub fn renew(&self, lease: Arc<Lease>, signed: SignedLease, count: Count) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let same = same_scope(&current.lease, &lease);
        self.end_boot.store(count.end_boot, Ordering::SeqCst);
        self.asked_since.store(0, Ordering::SeqCst);
        *current = Current { lease, signed: Arc::new(signed), count };
        // It is good until the earlier deadline only.
        self.forget_database_user();
        same
    }

    /// Compares the clocks and moves the end if they differ. `control` says whether control can be asked.
    pub fn weigh(&self, now: Reading, control: bool) -> Wanted {
        let current = self.current();
        match current.count.standing(current.lease.deadline, now) {
            Standing::Over => Wanted::End,
            Standing::Runs => {
                self.end_boot.store(current.count.end_boot, Ordering::SeqCst);
                self.asked_since.store(0, Ordering::SeqCst);
                Wanted::Nothing
            }
            Standing::WallAhead { end_boot } => self.wall_ahead(&current.count, end_boot, now.boot, control),
        }
    }

    fn wall_ahead(&self, count: &Count, earlier: u64, boot: u64, control: bool) -> Wanted {
        let trusted = self.trusted_until.load(Ordering::SeqCst);
        if trusted > boot {
            self.end_boot.store(count.end_boot, Ordering::SeqCst);
            // Ask again before the word runs out.
            return if trusted - boot < TRUST / 2 { Wanted::AskControl } else { Wanted::Nothing };
        }
        if control {
            let asked = self
                .asked_since
                .compare_exchange(0, boot.max(1), Ordering::SeqCst, Ordering::SeqCst)
                .unwrap_or_else(|since| since);
            if asked == 0 || boot.saturating_sub(asked) < PATIENCE {
                return Wanted::AskControl;
            }
        }
        self.end_boot.store(earlier, Ordering::SeqCst);
        if boot >= earlier { Wanted::End } else { Wanted::Nothing }
    }

    /// Control said whether the grant stands.
    pub fn heard(&self, stands: bool, boot: u64) {
        if stands {
            self.trusted_until.store(boot.saturating_add(TRUST), Ordering::SeqCst);
            self.asked_since.store(0, Ordering::SeqCst);
        } else {
            self.trusted_until.store(0, Ordering::SeqCst);
            // As if it had been asked long ago: the earlier end wins.
            self.asked_since.store(1, Ordering::SeqCst);
        }
    }
}

fn same_scope(old: &Lease, new: &Lease) -> bool {
    old.person == new.person
        && old.entitlement == new.entitlement
        && old.target == new.target
        && old.ssh == new.ssh
        && old.postgres == new.postgres
        && old.recording == new.recording
        && old.recipients == new.recipients
}

/// All leases, and what is left of ended ones.
#[derive(Default)]
pub struct Leases {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_grant: HashMap<GrantId, Arc<Held>>,
    by_use: HashMap<(PersonId, EntitlementName), Vec<Arc<Held>>>,
    ended: HashMap<GrantId, Tombstone>,
}

/// How a fencing number compares with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Larger than any before.
    Newer,
    /// The lease that is held already.
    Same,
    /// Not larger.
    Stale { seen: u64 },
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares a lease that arrived with what was seen of its grant. Control signs anew when it does not know whether the
    /// first reached us: what says the same but for the time of the signature is the same lease.
    pub fn fence(&self, lease: &Lease) -> Fence {
        let (grant, fencing) = (lease.grant, lease.fencing);
        let inner = self.lock();
        if let Some(tombstone) = inner.ended.get(&grant)
            && fencing <= tombstone.fencing
        {
            return Fence::Stale { seen: tombstone.fencing };
        }
        match inner.by_grant.get(&grant) {
            Some(held) => {
                let old = held.lease();
                let seen = old.fencing;
                let same =
                    Lease { issued_at: old.issued_at, remaining: old.remaining, ..lease.clone() } == *old;
                if fencing == seen && same && !held.is_shut() {
                    Fence::Same
                } else if fencing > seen {
                    Fence::Newer
                } else {
                    Fence::Stale { seen }
                }
            }
            None => Fence::Newer,
        }
    }

    /// Takes a lease in hand.
    pub fn insert(&self, held: Arc<Held>) {
        let lease = held.lease();
        let mut inner = self.lock();
        inner.take_out(held.grant);
        inner
            .by_use
            .entry((lease.person.clone(), lease.entitlement.clone()))
            .or_default()
            .push(Arc::clone(&held));
        inner.by_grant.insert(held.grant, held);
    }

    /// Forgets a lease that was never control's.
    pub fn forget(&self, grant: GrantId) {
        self.lock().take_out(grant);
    }

    /// By grant.
    pub fn get(&self, grant: GrantId) -> Option<Arc<Held>> {
        self.lock().by_grant.get(&grant).cloned()
    }

    /// Those of a person for an entitlement that are not over, the one that runs longest first.
    pub fn usable(&self, person: &PersonId, entitlement: &EntitlementName, boot: u64) -> Vec<Arc<Held>> {
        let key = (person.clone(), entitlement.clone());
        let mut found: Vec<_> = self
            .lock()
            .by_use
            .get(&key)
            .map(|all| all.iter().filter(|held| !held.over(boot)).cloned().collect())
            .unwrap_or_default();
        found.sort_by_key(|held| std::cmp::Reverse(held.end_boot()));
        found
    }

    /// Every lease in hand.
    pub fn all(&self) -> Vec<Arc<Held>> {
        self.lock().by_grant.values().cloned().collect()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.lock().by_grant.len()
    }

    /// The end is on disk: forgets the lease and keeps the tombstone.
    pub fn buried(&self, grant: GrantId, tombstone: Tombstone) {
        let mut inner = self.lock();
        inner.take_out(grant);
        inner.ended.insert(grant, tombstone);
    }

    /// What is left of an ended grant.
    pub fn tombstone(&self, grant: GrantId) -> Option<Tombstone> {
        self.lock().ended.get(&grant).cloned()
    }

    /// Grant and fencing number of each, for introducing this gateway.
    pub fn numbers(&self, most: usize) -> Vec<(GrantId, u64)> {
        let all = self.all();
        all.iter().take(most).map(|held| (held.grant, held.lease().fencing)).collect()
    }

    /// When control signed the oldest lease in hand.
    pub fn oldest(&self) -> Option<Time> {
        self.all().iter().map(|held| held.lease().issued_at).min()
    }
}

impl Inner {
    fn take_out(&mut self, grant: GrantId) {
        if let Some(held) = self.by_grant.remove(&grant) {
            let lease = held.lease();
            let key = (lease.person.clone(), lease.entitlement.clone());
            if let Some(all) = self.by_use.get_mut(&key) {
                all.retain(|one| !Arc::ptr_eq(one, &held));
                if all.is_empty() {
                    self.by_use.remove(&key);
                }
            }
        }
    }
}

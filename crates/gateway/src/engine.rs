//! The engine: everything that a gateway holds, and its start. The other files of this crate each do one thing with it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::VerifyingKey;
use halligan_core::ids::{FreshIds, Name, PersonId, SessionId};
use halligan_core::time::{Span, Time};
use halligan_ledger::LedgerKey;
use halligan_link::Peer;
use halligan_link::keep::KeptLink;
use halligan_link::messages::ClientListener;
use halligan_session::VerifiedRoster;
use halligan_session::node_event::NodeEvent;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cancels::Cancels;
use crate::clock::Clock;
use crate::connect_passwords::ConnectPasswords;
use crate::held::Leases;
use crate::journal::{Journal, JournalError};
use crate::links::Links;
use crate::live::{Live, with_sources};
use crate::metrics::{Metrics, count};
use crate::one_time::OneTimePasswords;
use crate::shelf::{Shelf, ShelfError, free_bytes};
use crate::spool::{Slip, Spool};
use crate::{handler, report, restart, threads};

/// More than the reserves that the ledger and the shelf give up on a full disk, so that those are never used up by new
/// sessions.
pub const LEAST_DISK_RESERVE: u64 = 8 * 1024 * 1024;

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its own folder; made if it is not there.
    pub folder: PathBuf,
    /// Its name, as rosters have it.
    pub name: Name,
    /// Version of the binary.
    pub version: String,
    /// Control's key, from this node's root file: the only one whose leases and rosters are obeyed.
    pub control_key: VerifyingKey,
    /// Most live sessions.
    pub most_sessions: usize,
    /// Most live sessions of one person.
    pub most_sessions_per_person: usize,
    /// With less disk than this free, in bytes, no session is opened. At least [`LEAST_DISK_RESERVE`] is kept.
    pub disk_reserve_bytes: u64,
}

impl Options {
    /// Usual limits.
    pub fn new(folder: PathBuf, name: Name, control_key: VerifyingKey) -> Self {
        Self {
            folder,
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            control_key,
            most_sessions: 2_000,
            most_sessions_per_person: 50,
            disk_reserve_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// Its ledger.
    #[error("failed to open this gateway's ledger")]
    Journal(#[from] JournalError),
    /// A file on its shelf does not carry control's signature.
    #[error("failed to read {what} of this gateway's folder")]
    Signed {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: halligan_session::BadSigned,
    },
    /// Something of the operating system.
    #[error("failed to {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// How a gateway is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Leases held.
    pub leases: usize,
    /// How long ago control signed the oldest of them.
    pub oldest_lease_age: Option<Span>,
    /// Live sessions.
    pub sessions: usize,
    /// Serial of the roster, 0 for none.
    pub roster: u64,
    /// How long ago control signed it.
    pub roster_age: Option<Span>,
    /// How long ago control was heard.
    pub control_silent: Span,
    /// Leaves in the ledger.
    pub ledger_size: u64,
    /// Leaves that control has acknowledged; 0 until it was linked in this run.
    pub acknowledged: u64,
    /// Recordings that control has not acknowledged.
    pub spooled: u64,
    /// Bytes free on the disk.
    pub disk_free: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Everything that a gateway holds.
pub(crate) struct Engine {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub shelf: Shelf,
    pub spool: Spool,
    pub journal: Journal,
    pub leases: Leases,
    pub live: Mutex<BTreeMap<SessionId, Arc<Live>>>,
    pub seats: Mutex<Seats>,
    pub roster: RwLock<Option<Arc<VerifiedRoster>>>,
    /// Where people's clients come in, by protocol; control is told with each greeting.
    pub listeners: RwLock<BTreeMap<String, ClientListener>>,
    pub links: Links,
    pub one_time: OneTimePasswords,
    pub connect_passwords: ConnectPasswords,
    pub cancels: Cancels,
    /// Makes salts until a roster brings control's key: every name has one at any time.
    pub own_salt_key: [u8; 32],
    /// Checkpoints of control's ledger are judged one after the other.
    pub witnessing: Mutex<()>,
    pub metrics: Metrics,
    pub runtime: tokio::runtime::Handle,
    /// Changes of one grant come one after the other: each grant has its place among these.
    pub lanes: Vec<tokio::sync::Mutex<()>>,
    /// Sessions to be finished. Bounded by the number of sessions: each is sent once.
    pub to_finish: mpsc::Sender<SessionId>,
    pub recordings_moved: Notify,
    pub stopping: AtomicBool,
    pub acknowledged: AtomicU64,
    pub refusals: Mutex<Refusals>,
    pub boot: String,
    /// What an earlier run left open has been closed in the ledger.
    pub recovered: CancellationToken,
}

/// Who sits where: sessions that are open or being opened.
#[derive(Default)]
pub(crate) struct Seats {
    pub all: usize,
    pub by_person: HashMap<PersonId, usize>,
    pub by_grant: HashMap<halligan_core::ids::GrantId, usize>,
}

/// Refused attempts in the current minute: an attacker must not fill the ledger.
#[derive(Default)]
pub(crate) struct Refusals {
    pub minute: u64,
    pub told: u32,
    pub untold: u64,
}

/// A gateway. Clones are handles to the same one.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) engine: Arc<Engine>,
}

impl Gateway {
    /// Starts a gateway on its folder: opens its ledger, takes up its leases, ends what an unclean stop left open, and
    /// starts its threads and tasks. Control need not be there. Blocks for the disk; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When its folder or ledger cannot be read. It does not start half.
    pub fn start(mut options: Options, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        options.disk_reserve_bytes = options.disk_reserve_bytes.max(LEAST_DISK_RESERVE);
        let shelf = Shelf::open(&options.folder)?;
        let journal = Journal::open(
            &shelf.path("ledger"),
            &shelf.path("ledger.key"),
            options.name.clone(),
            Arc::clone(&clock),
        )?;
        let one_time = OneTimePasswords::open(shelf.path("burned"), journal.now()).map_err(|source| {
            StartError::System { what: "read the one-time passwords that were used", source }
        })?;
        if let Err(error) = shelf.take_reserve() {
            tracing::warn!("{}", with_sources(&error));
        }
        let seen = seen_boot(&shelf, &journal, &*clock)?;
        let (to_finish, finishing) = mpsc::channel(options.most_sessions.max(1) * 2);
        let engine = Arc::new(Engine {
            spool: Spool::new(shelf.path("spool")),
            links: Links::new(seen),
            acknowledged: AtomicU64::new(0),
            leases: Leases::default(),
            live: Mutex::default(),
            seats: Mutex::default(),
            roster: RwLock::default(),
            listeners: RwLock::default(),
            witnessing: Mutex::default(),
            metrics: Metrics::default(),
            runtime: tokio::runtime::Handle::current(),
            lanes: (0..64).map(|_| tokio::sync::Mutex::new(())).collect(),
            recordings_moved: Notify::new(),
            stopping: AtomicBool::new(false),
            refusals: Mutex::default(),
            boot: random_word()?,
            connect_passwords: ConnectPasswords::default(),
            cancels: Cancels::default(),
            own_salt_key: random_key()?,
            recovered: CancellationToken::new(),
            options,
            clock,
            shelf,
            journal,
            one_time,
            to_finish,
        });
        let left_open = restart::take_up(&engine)?;
        threads::start(&engine)
            .map_err(|source| StartError::System { what: "start the threads of the gateway", source })?;
        engine.runtime.spawn(finish_all(Arc::downgrade(&engine), finishing));
        engine.runtime.spawn(restart::close(Arc::clone(&engine), left_open));
        report::start(&engine);
        Ok(Self { engine })
    }

    /// The key that signs this gateway's ledger.
    pub fn ledger_key(&self) -> LedgerKey {
        self.engine.journal.key()
    }

    /// Answers what control and connectors ask of this gateway.
    pub fn handler(&self) -> Arc<dyn halligan_link::Handler> {
        Arc::new(handler::GatewayHandler { engine: Arc::clone(&self.engine) })
    }

    /// Control is linked from now on, by a link that this gateway dialled and whose other end proved to be control.
    /// It is greeted, and told what it missed.
    pub fn control_joined(&self, peer: Peer) {
        self.engine.links.saw_control(self.engine.clock.boot());
        self.engine.links.set_control(peer);
    }

    /// Follows a link to control that is dialled again whenever it ends.
    pub fn follow_control(&self, link: Arc<KeptLink>) {
        let engine = Arc::downgrade(&self.engine);
        self.engine.runtime.spawn(async move {
            let mut state = link.watch();
            loop {
                let peer = state.borrow_and_update().peer.clone();
                let Some(engine) = engine.upgrade() else { return };
                if let Some(peer) = peer {
                    Self { engine }.control_joined(peer);
                }
                if state.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// A connector is linked from now on, for the site that the roster gives it.
    pub fn connector_joined(&self, peer: Peer) {
        self.engine.links.add_connector(peer);
    }

    /// People's clients of this protocol come in there. Say so before control is linked: it is told with each greeting.
    pub fn listens(&self, protocol: &str, listener: ClientListener) {
        let mut all = self.engine.listeners.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(protocol.to_owned(), listener);
    }

    /// The roster in force.
    pub fn roster(&self) -> Option<Arc<VerifiedRoster>> {
        self.engine.roster()
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.engine.metrics
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.engine.status()
    }
}

impl Engine {
    pub fn roster(&self) -> Option<Arc<VerifiedRoster>> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where people's clients come in.
    pub fn listeners(&self) -> BTreeMap<String, ClientListener> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Live sessions now.
    pub fn sessions(&self) -> Vec<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
    pub fn session(&self, id: SessionId) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A session was cut: the rest of its end follows in a task of its own. Called from any thread.
    pub fn finish_soon(&self, session: SessionId) {
        if self.to_finish.try_send(session).is_err() {
            // The queue has room for every session twice over; only a gateway that is gone refuses.
            tracing::error!(%session, "failed to queue a session for its end");
        }
    }

    /// The ledger has its end.
    pub fn forget_session(&self, session: SessionId) {
        let gone = self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        if let Some(live) = gone {
            self.leave_seat(live.grant(), &live.lease().person);
            self.metrics.sessions_live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn leave_seat(&self, grant: halligan_core::ids::GrantId, person: &PersonId) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.all = seats.all.saturating_sub(1);
        lower(&mut seats.by_person, person);
        lower(&mut seats.by_grant, &grant);
    }

    /// Keeps what a recording came to, and wakes those who send it.
    pub async fn keep_slip(self: &Arc<Self>, slip: Slip) {
        let engine = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || {
            engine.shelf.put_closing(&engine.spool.slip_path(slip.recording), &slip)
        })
        .await;
        if let Ok(Err(error)) = kept {
            // The ledger has it; the next start writes the slip again.
            tracing::error!("{}", with_sources(&error));
        }
        count(&self.metrics.recordings_waiting);
        self.recordings_moved.notify_one();
    }

    /// Somebody tried what they may not. At most sixty leaves a minute; the rest is counted in the next.
    pub fn tell_refused(self: &Arc<Self>, person: Option<PersonId>, what: &str, client: &str, reason: &str) {
        let minute = self.clock.boot() / 60_000_000;
        let untold = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if refusals.minute != minute {
                refusals.minute = minute;
                refusals.told = 0;
            }
            if refusals.told >= 60 {
                refusals.untold += 1;
                return;
            }
            refusals.told += 1;
            std::mem::take(&mut refusals.untold)
        };
        let more = if untold > 0 {
            format!(" ({untold} more before this were only counted)")
        } else {
            String::new()
        };
        let event = NodeEvent::Refused {
            person,
            what: what.to_owned(),
            client: client.to_owned(),
            reason: format!("{reason}{more}"),
        };
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = engine.journal.append(event).await {
                tracing::warn!("failed to record a refusal: {}", with_sources(&error));
            }
        });
    }

    /// New ids, from the operating system's randomness.
    pub fn fresh_ids(&self) -> Result<FreshIds, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        Ok(FreshIds::new(seed, self.journal.now()))
    }

    pub fn status(&self) -> Status {
        let now = self.journal.now();
        let roster = self.roster();
        let roster = roster.as_ref().map(|roster| roster.roster());
        let boot = self.clock.boot();
        let silent = boot.saturating_sub(self.links.control_seen());
        let control_silent = Span::micros(i64::try_from(silent).unwrap_or(i64::MAX));
        let disk_free = free_bytes(&self.options.folder).unwrap_or(0);
        let ledger = self.journal.stats();
        let mut warnings = Vec::new();
        if roster.is_none() {
            warnings.push("No roster has been received: nobody can sign in.".to_owned());
        }
        if control_silent > Span::seconds(30) {
            warnings.push(format!(
                "Control has not been heard for {}.",
                Span::seconds(control_silent.as_seconds())
            ));
        }
        if disk_free < self.options.disk_reserve_bytes {
            warnings.push(format!("The disk is nearly full ({disk_free} bytes free): no session is opened."));
        }
        if ledger.poisoned {
            warnings.push(
                "A write of the ledger failed: nothing is opened until the gateway is restarted.".to_owned(),
            );
        }
        Status {
            leases: self.leases.count(),
            oldest_lease_age: self.leases.oldest().map(|at| now.since(at)),
            sessions: self.live.lock().unwrap_or_else(PoisonError::into_inner).len(),
            roster: roster.map_or(0, |roster| roster.serial),
            roster_age: roster.map(|roster| now.since(roster.issued_at)),
            control_silent,
            ledger_size: ledger.size,
            acknowledged: self.acknowledged.load(Ordering::SeqCst),
            spooled: self.metrics.recordings_waiting.load(Ordering::Relaxed),
            disk_free,
            warnings,
        }
    }
}

fn lower<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Each cut session is finished in a task of its own: one that hangs holds up no other.
async fn finish_all(engine: std::sync::Weak<Engine>, mut finishing: mpsc::Receiver<SessionId>) {
    while let Some(session) = finishing.recv().await {
        let Some(engine) = engine.upgrade() else { return };
        if let Some(live) = engine.session(session) {
            tokio::spawn(live.finish());
        }
    }
}

/// When control was last heard, as boot time, from the mark of an earlier run.
fn seen_boot(shelf: &Shelf, journal: &Journal, clock: &dyn Clock) -> Result<u64, ShelfError> {
    let now = journal.now();
    let seen = shelf.number("seen")?.map_or(now, Time::from_micros);
    Ok(clock.boot().saturating_sub(now.since(seen).as_micros().unsigned_abs()))
}

fn random_key() -> Result<[u8; 32], StartError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| StartError::System {
        what: "draw random bytes",
        source: std::io::Error::other(error),
    })?;
    Ok(key)
}

fn random_word() -> Result<String, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::System {
        what: "draw a random number",
        source: std::io::Error::other(error),
    })?;
    Ok(hex::encode(bytes))
}

//! Control as a value: what it holds, how it starts and stops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use halligan_core::ids::Name;
use halligan_core::time::{Span, Time};
use halligan_link::PeerInfo;
use halligan_link::messages::Role;
use halligan_recording::age_file::Recipient;
use halligan_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{self, InForce};
use crate::clock::Clock;
use crate::effects::AlertSink;
use crate::error::ControlError;
use crate::keys::Keys;
use crate::mirror::Mirrors;
use crate::nodes::Nodes;
use crate::people::throttle::Throttle;
use crate::recordings::Recordings;
use crate::{effects, sequencer, timers, witness};

/// How control is set up.
pub struct ControlOptions {
    /// This node's name; unique among control nodes.
    pub name: Name,
    /// Its site.
    pub site: Name,
    /// Its own folder: keys, mirrors of nodes' ledgers, recordings, tiles.
    pub folder: PathBuf,
    /// Origin of its ledger, `example.org/halligan/control`.
    pub origin: String,
    /// Auditors' recipients: every recording's key is wrapped to them.
    pub auditors: Vec<Recipient>,
    /// Where other roles reach its link listener; goes into join tokens.
    pub link_addresses: Vec<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Control. Cheap to clone.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub options: ControlOptions,
    pub store: Store,
    pub keys: Keys,
    pub in_force: RwLock<Arc<InForce>>,
    pub nodes: Nodes,
    pub mirrors: Mirrors,
    pub recordings: Recordings,
    pub throttle: Throttle,
    pub alerts: RwLock<Option<Arc<dyn AlertSink>>>,
    pub checkpoint: watch::Sender<Option<String>>,
    last_time: AtomicI64,
    clock_bad: AtomicBool,
    /// Others hold a later history; in words which.
    pub went_back: RwLock<Option<String>>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub counts: RwLock<BTreeMap<&'static str, u64>>,
}

impl Control {
    /// Opens control over a store. Nothing runs yet; see [`Control::start`].
    pub async fn open(options: ControlOptions, store: Store) -> Result<Self, ControlError> {
        let make = |path: &Path| {
            std::fs::create_dir_all(path).map_err(ControlError::local(format!("make {}", path.display())))
        };
        make(&options.folder)?;
        let keys = Keys::load_or_make(&options.folder, &options.origin)?;
        let head = store.head().await?;
        sequencer::check_head(&store, &options.folder, &keys, &head).await?;
        witness::check(&store, &options.folder, &keys).await?;
        let in_force = catalog::load(&store).await?;
        let mirrors = Mirrors::open(&options.folder.join("mirrors"))?;
        let recordings = Recordings::open(&options.folder.join("recordings"))?;
        let control = Self(Arc::new(Inner {
            store,
            keys,
            in_force: RwLock::new(Arc::new(in_force)),
            nodes: Nodes::default(),
            mirrors,
            recordings,
            throttle: Throttle::default(),
            alerts: RwLock::new(None),
            checkpoint: watch::Sender::new(head.signed.map(|signed| signed.note)),
            last_time: AtomicI64::new(head.last_time),
            clock_bad: AtomicBool::new(false),
            went_back: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            counts: RwLock::default(),
            options,
        }));
        control.load_nodes().await?;
        Ok(control)
    }

    /// Starts what runs by itself: timers, effects, sequencer.
    pub fn start(&self) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(timers::run(self.clone(), stop.clone()));
        self.0.tasks.spawn(timers::housekeeping(self.clone(), stop.clone()));
        self.0.tasks.spawn(effects::run(self.clone(), stop.clone()));
        self.0.tasks.spawn(sequencer::run(self.clone(), stop.clone()));
        self.0.tasks.spawn(witness::run(self.clone(), stop));
    }

    /// Stops: no new work, what is under way is finished, the last checkpoint is written.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.store.close().await;
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }
    /// Control's keys.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }
    /// How it is set up.
    pub fn options(&self) -> &ControlOptions {
        &self.0.options
    }
    /// Recordings in the store.
    pub fn recordings(&self) -> &Recordings {
        &self.0.recordings
    }
    /// Who control is on links.
    pub fn info(&self) -> PeerInfo {
        PeerInfo { name: self.0.options.name.clone(), role: Role::Control, site: self.0.options.site.clone() }
    }

    /// Now: the larger of the clock and the last commit, so that time never falls.
    pub fn now(&self) -> Time {
        let clock = self.0.options.clock.now().micros();
        Time::from_micros(clock.max(self.0.last_time.load(Ordering::Acquire)))
    }

    /// A commit happened at this time.
    pub(crate) fn seen(&self, time: Time) {
        self.0.last_time.fetch_max(time.micros(), Ordering::AcqRel);
    }

    pub(crate) fn judge_clock(&self, bad: bool) {
        if self.0.clock_bad.swap(bad, Ordering::AcqRel) != bad {
            if bad {
                tracing::error!(
                    "this node's clock is more than two seconds off the database's: it decides nothing until that is mended"
                );
            } else {
                tracing::info!("this node's clock agrees with the database's again");
            }
        }
    }

    /// Whether this node's clock is too far off the database's to decide.
    pub fn clock_is_bad(&self) -> bool {
        self.0.clock_bad.load(Ordering::Acquire)
    }

    /// How far the clock lags behind the ledger; more than a little means that one of them is wrong.
    pub fn clock_lag(&self) -> Span {
        Time::from_micros(self.0.last_time.load(Ordering::Acquire)).since(self.0.options.clock.now())
    }

    /// The catalog in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.0.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the catalog again if another node has applied one.
    pub async fn refresh_catalog(&self) -> Result<(), ControlError> {
        let fresh = catalog::load(self.store()).await?;
        *self.0.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// The last signed checkpoint of control's ledger.
    pub fn checkpoint(&self) -> watch::Receiver<Option<String>> {
        self.0.checkpoint.subscribe()
    }

    /// Who delivers alerts.
    pub fn set_alert_sink(&self, sink: Arc<dyn AlertSink>) {
        *self.0.alerts.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Who delivers alerts, if anybody.
    pub fn alert_sink(&self) -> Option<Arc<dyn AlertSink>> {
        self.0.alerts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts something for metrics.
    pub fn count(&self, what: &'static str) {
        *self.0.counts.write().unwrap_or_else(PoisonError::into_inner).entry(what).or_insert(0) += 1;
    }
    /// The counts so far.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.counts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! One person's connection: their login, their one session, their ways to the target, and its end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use halligan_session::{ClientConnection, ControlPlane, EndReason, Session};
use russh::{ChannelId, Disconnect, server};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Login;
use crate::channel::ClientChannel;
use crate::flow::Flow;
use crate::refuse::MOST_REFUSALS;
use crate::socket::Cutter;
use crate::upstream::{Lane, Unreachable, Upstream};

/// Channels that one connection may have (OpenSSH's server allows ten).
pub(crate) const MOST_CHANNELS: usize = 32;
/// How long a hard stop may spend on saying why. Dead is dead within a tenth of a second.
const LAST_WORDS: Duration = Duration::from_millis(40);
const READING: Duration = Duration::from_millis(20);
const GOING: Duration = Duration::from_millis(30);
/// How long channels may take to write down their end.
const ENDINGS: Duration = Duration::from_secs(5);

pub(crate) struct Connection {
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) from: ClientConnection,
    pub(crate) flow: Flow,
    /// Nothing passes any more.
    pub(crate) ended: CancellationToken,
    /// The client's leg has stopped.
    gone: CancellationToken,
    pub(crate) tasks: TaskTracker,
    cutter: Cutter,
    login: OnceLock<Login>,
    session: OnceCell<Result<Session, String>>,
    lanes: tokio::sync::Mutex<()>,
    upstreams: Mutex<Vec<Arc<Upstream>>>,
    channels: Mutex<HashMap<ChannelId, Arc<ClientChannel>>>,
    terminals: Mutex<HashSet<ChannelId>>,
    handle: OnceLock<server::Handle>,
    refusals: AtomicUsize,
    verdict: OnceLock<EndReason>,
    stopping: AtomicBool,
}

impl Connection {
    pub(crate) fn new(control: Arc<dyn ControlPlane>, from: ClientConnection, cutter: Cutter) -> Self {
        Self {
            control,
            from,
            flow: Flow::default(),
            ended: CancellationToken::new(),
            gone: CancellationToken::new(),
            tasks: TaskTracker::new(),
            cutter,
            login: OnceLock::new(),
            session: OnceCell::new(),
            lanes: tokio::sync::Mutex::new(()),
            upstreams: Mutex::default(),
            channels: Mutex::default(),
            terminals: Mutex::default(),
            handle: OnceLock::new(),
            refusals: AtomicUsize::new(0),
            verdict: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Somebody has logged in. Only the first counts, and there is only one.
    pub(crate) fn logged_in(&self, login: Login) {
        let _only_one = self.login.set(login);
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.get()
    }

    pub(crate) fn has_handle(&self, handle: server::Handle) {
        let _same = self.handle.set(handle);
    }

    pub(crate) fn handle(&self) -> Option<&server::Handle> {
        self.handle.get()
    }

    /// What ended the session in truth, though the client will leave first. The first word counts.
    pub(crate) fn ends_because(&self, reason: EndReason) {
        let _first = self.verdict.set(reason);
    }

    /// Counts a refusal; true when there have been too many.
    pub(crate) fn refused_too_often(&self) -> bool {
        self.refusals.fetch_add(1, Ordering::Relaxed) >= MOST_REFUSALS
    }

    /// The session of this connection, opened when it is first needed. A refusal stands for the whole connection.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Session, String> {
        self.session.get_or_init(|| self.open_session()).await.clone()
    }

    async fn open_session(self: &Arc<Self>) -> Result<Session, String> {
        let login = self.login.get().ok_or("nobody has logged in")?;
        let entitlement = login
            .entitlement
            .as_ref()
            .ok_or("the login name must be a role and a system, such as `ssh root+orders-host@gateway`")?;
        let opened = self.control.open(&login.person, entitlement, &self.from).await;
        let session = opened.map_err(|refusal| refusal.say)?;
        let (connection, watched) = (Arc::clone(self), session.clone());
        tokio::spawn(async move {
            let reason = watched.closed().await;
            connection.hard_stop(&reason).await;
        });
        Ok(session)
    }

    /// A way to the target with nobody else on it: an idle connection, or a new one. One channel to a connection, so
    /// that a reader who pauses one of them holds up only that one.
    pub(crate) async fn lane(&self, session: &Session) -> Result<Lane, Unreachable> {
        let _one_at_a_time = self.lanes.lock().await;
        if let Some(lane) = self.existing_lane(true) {
            return Ok(lane);
        }
        match Upstream::connect(session).await {
            Ok(upstream) => {
                let upstream = Arc::new(upstream);
                let lane = Lane::on(Arc::clone(&upstream));
                lock(&self.upstreams).push(upstream);
                if self.ended.is_cancelled() {
                    self.cut_upstreams();
                }
                Ok(lane)
            }
            // The connector may be away by now: better a shared connection than none.
            Err(error @ Unreachable::Credential(_)) => self.existing_lane(false).ok_or(error),
            Err(error) => Err(error),
        }
    }

    fn existing_lane(&self, idle: bool) -> Option<Lane> {
        let mut upstreams = lock(&self.upstreams);
        upstreams.retain(|upstream| upstream.is_alive() || upstream.busy.load(Ordering::Acquire) > 0);
        upstreams
            .iter()
            .filter(|upstream| upstream.is_alive())
            .min_by_key(|upstream| upstream.busy.load(Ordering::Acquire))
            .filter(|upstream| !idle || upstream.busy.load(Ordering::Acquire) == 0)
            .map(|upstream| Lane::on(Arc::clone(upstream)))
    }

    /// Takes a new channel in, or not if there are too many.
    pub(crate) fn add_channel(&self, id: ChannelId) -> Option<Arc<ClientChannel>> {
        let mut channels = lock(&self.channels);
        if channels.len() >= MOST_CHANNELS {
            return None;
        }
        let channel = Arc::new(ClientChannel::new(self.flow.add(id)));
        channels.insert(id, Arc::clone(&channel));
        Some(channel)
    }

    pub(crate) fn channel(&self, id: ChannelId) -> Option<Arc<ClientChannel>> {
        lock(&self.channels).get(&id).cloned()
    }

    pub(crate) fn remove_channel(&self, id: ChannelId) {
        if let Some(channel) = lock(&self.channels).remove(&id) {
            channel.close();
        }
        lock(&self.terminals).remove(&id);
        self.flow.remove(id);
    }

    /// This channel has a terminal: it is told why the session ends.
    pub(crate) fn has_terminal(&self, id: ChannelId) {
        lock(&self.terminals).insert(id);
    }

    fn cut_upstreams(&self) {
        for upstream in lock(&self.upstreams).iter() {
            upstream.cut();
        }
    }

    /// Ends everything at once: the target first, then a last sentence to whoever watches a terminal, then the client.
    async fn hard_stop(&self, reason: &EndReason) {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.cut_upstreams();
        self.ended.cancel();
        if let Some(handle) = self.handle.get() {
            let terminals: Vec<ChannelId> = lock(&self.terminals).iter().copied().collect();
            let mut watched = false;
            let last_words = async {
                for id in terminals {
                    let _unsent = handle.extended_data(id, 1, format!("\r\nHalligan: {reason}\r\n")).await;
                    watched = true;
                }
                if watched {
                    // OpenSSH's client forgets what it has not yet printed when it reads the disconnect.
                    tokio::time::sleep(READING).await;
                }
                let _unsent =
                    handle.disconnect(Disconnect::ByApplication, reason.to_string(), "en".to_owned()).await;
            };
            // A client that does not read gets no last words.
            let _late = tokio::time::timeout(LAST_WORDS, last_words).await;
            let _late = tokio::time::timeout(GOING, self.gone.cancelled()).await;
        }
        self.cutter.cut();
        tracing::info!(client = %self.from.client, reason = reason.code(), "session stopped");
    }

    /// The gateway stops: a session ends with that reason, and without one the socket is closed.
    pub(crate) async fn gateway_stops(&self) {
        match self.session.get() {
            Some(Ok(session)) => session.end(EndReason::GatewayStopping).await,
            _ => self.cutter.cut(),
        }
    }

    /// Login took too long.
    pub(crate) fn cut(&self) {
        self.cutter.cut();
    }

    /// The client's leg has ended: channels write down their end, then the session ends.
    pub(crate) async fn finish(&self) {
        self.gone.cancel();
        let by_us = self.stopping.swap(true, Ordering::AcqRel);
        self.cut_upstreams();
        self.ended.cancel();
        self.cutter.cut();
        self.tasks.close();
        if tokio::time::timeout(ENDINGS, self.tasks.wait()).await.is_err() {
            tracing::warn!(client = %self.from.client, "a channel did not end in time");
        }
        lock(&self.upstreams).clear();
        if let (Some(Ok(session)), false) = (self.session.get(), by_us) {
            session.end(self.verdict.get().cloned().unwrap_or(EndReason::ClientLeft)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A link that is dialled again whenever it ends, so that the rest of a node sees one thing: is there a link now, or not?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::LinkError;
use crate::node_key::NodeKey;
use crate::peer::{Handler, Peer, Timing, with_causes};
use crate::tls::{Destination, connect};

/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A link that lived this long sets the pause back to the first.
const STABLE: Duration = Duration::from_secs(10);

/// Whether there is a link.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    /// The link, if there is one.
    pub peer: Option<Peer>,
    /// Why there is none, or why the last one ended.
    pub trouble: Option<String>,
}

/// A link that is kept up. Dropping it ends the link and stops dialling.
#[derive(Debug)]
pub struct KeptLink {
    name: String,
    state: watch::Receiver<LinkState>,
    _stop: Option<DropGuard>,
    /// Held so that `state` never ends for a link inside one process.
    _fixed: Option<watch::Sender<LinkState>>,
}

/// Dials `destination` and dials again, with growing and jittered pauses, whenever the link ends.
pub fn keep_connected(
    destination: Destination,
    key: NodeKey,
    handler: Arc<dyn Handler>,
    timing: Timing,
) -> KeptLink {
    let (state_to, state) = watch::channel(LinkState::default());
    let stop = CancellationToken::new();
    let name = destination.info.to_string();
    tokio::spawn(keep(destination, key, handler, timing, state_to, stop.clone()));
    KeptLink { name, state, _stop: Some(stop.drop_guard()), _fixed: None }
}

async fn keep(
    destination: Destination,
    key: NodeKey,
    handler: Arc<dyn Handler>,
    timing: Timing,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = connect(&destination, &key, Arc::clone(&handler), timing);
        let Some(attempt) = stop.run_until_cancelled(attempt).await else { return };
        let trouble = match attempt {
            Ok(peer) => {
                let since = Instant::now();
                state.send_replace(LinkState { peer: Some(peer.clone()), trouble: None });
                let Some(why) = stop.run_until_cancelled(peer.closed()).await else {
                    peer.close("this node no longer keeps the link");
                    state.send_replace(LinkState::default());
                    return;
                };
                if since.elapsed() >= STABLE {
                    pause = FIRST_PAUSE;
                }
                why
            }
            Err(error) => with_causes(&error),
        };
        tracing::info!(peer = %destination.info, why = trouble, "no link; it will be dialled again");
        state.send_replace(LinkState { peer: None, trouble: Some(trouble) });
        if stop.run_until_cancelled(sleep(jittered(pause))).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between half of the pause and all of it, so that nodes do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0u8; 1];
    // Without randomness everybody waits the whole pause, which is no harm.
    let share = if getrandom::fill(&mut random).is_ok() { u32::from(random[0]) } else { 255 };
    pause / 2 + pause.saturating_mul(share) / 510
}

impl KeptLink {
    /// A link that is not dialled (roles in one process), in the same hand.
    pub fn fixed(peer: Peer) -> Self {
        let name = peer.info().to_string();
        let (held, state) = watch::channel(LinkState { peer: Some(peer), trouble: None });
        Self { name, state, _stop: None, _fixed: Some(held) }
    }

    /// The link, if it is up now.
    pub fn peer(&self) -> Option<Peer> {
        self.state.borrow().peer.clone().filter(|peer| !peer.is_closed())
    }

    /// Why it is not up, or why the last one ended.
    pub fn trouble(&self) -> Option<String> {
        self.state.borrow().trouble.clone()
    }

    /// Every change, for tasks that say hello on each new link.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// The link, waiting for it at most `within`.
    pub async fn wait(&self, within: Duration) -> Result<Peer, LinkError> {
        let mut state = self.state.clone();
        let up = |state: &LinkState| state.peer.as_ref().is_some_and(|peer| !peer.is_closed());
        let found = timeout(within, state.wait_for(up)).await;
        match found {
            Ok(Ok(now)) => now.peer.clone().ok_or_else(|| self.closed()),
            _ => Err(self.closed()),
        }
    }

    fn closed(&self) -> LinkError {
        let why = self.trouble().unwrap_or_else(|| "it has not been reached yet".to_owned());
        LinkError::Closed { peer: self.name.clone(), why }
    }
}

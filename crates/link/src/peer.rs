//! A node at the other end of a link: calls to it, its calls to us, and the end of the link.
//!
//! One task reads and one writes. A call that comes in runs in a task of its own, so a slow one holds up nobody. Our
//! calls are at most [`MOST_CALLS`] at a time; further ones wait within their own time-out. A call that a handler makes
//! while it answers another draws on a place of its own depth: otherwise two nodes whose handlers call each other back
//! could take all places and wait for one another.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::LinkError;
use crate::frame::{self, FRAME_MOST_BYTES, FrameReader, Incoming, Kind};
use crate::messages::{PeerInfo, Request, Response};

pub use halligan_session::control_plane::BoxFuture;

/// Most calls of ours that wait for their answers at one time.
pub const MOST_CALLS: usize = 64;
/// Calls within calls within calls go this deep.
const DEPTHS: usize = 4;
/// Most calls of the peer that run here at one time; those that timed out over there may still run here.
const MOST_RUNNING: usize = DEPTHS * MOST_CALLS;
/// Frames that wait to be written before `call` waits as well.
const QUEUE: usize = 32;
/// Small frames are written together up to this many bytes.
const BATCH: usize = 64 * 1024;

tokio::task_local! {
    /// How deep the handler that runs in this task stands.
    static DEPTH: u8;
}

/// Answers what a peer asks.
pub trait Handler: Send + Sync + 'static {
    /// `peer` is who asks, by its proved key. Errors are answers: [`Response::Error`] with a sentence. The future runs
    /// to its end even if the link closes meanwhile.
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response>;
}

/// When a link counts as dead. The default is what nodes use; tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often to send a sign of life.
    pub alive_every: Duration,
    /// Silence, or inability to send, after which the link is closed.
    pub dead_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { alive_every: Duration::from_secs(5), dead_after: Duration::from_secs(15) }
    }
}

/// A node at the other end. Clones are the same link. Dropping it does not close the link; [`Peer::close`] does.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({}, {})", self.shared.info, if self.is_closed() { "closed" } else { "open" })
    }
}

struct Shared {
    info: PeerInfo,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Response, LinkError>>>>,
    next_call: AtomicU64,
    /// Free places for calls, by depth.
    calls: [Semaphore; DEPTHS],
    outgoing: mpsc::Sender<Bytes>,
    ended: CancellationToken,
    why: OnceLock<String>,
}

impl Peer {
    /// Starts a link over a stream of bytes. The caller vouches that `info` is who is at its other end: use `connect`,
    /// `LinkListener` or `in_process`, which see to that.
    pub fn start<S>(stream: S, info: PeerInfo, handler: Arc<dyn Handler>, timing: Timing) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            info,
            waiting: Mutex::new(HashMap::new()),
            next_call: AtomicU64::new(1),
            calls: std::array::from_fn(|_| Semaphore::new(MOST_CALLS)),
            outgoing,
            ended: CancellationToken::new(),
            why: OnceLock::new(),
        });
        let (read_half, write_half) = tokio::io::split(stream);
        let reader = FrameReader::new(read_half, FRAME_MOST_BYTES, timing.dead_after);
        tokio::spawn(read(Arc::clone(&shared), reader, handler));
        tokio::spawn(write(Arc::clone(&shared), write_half, queue, timing));
        Self { shared }
    }

    /// Who it is.
    pub fn info(&self) -> &PeerInfo {
        &self.shared.info
    }

    /// Asks and waits for the answer, [`Request::time_out`] at most. [`Response::Error`] is an answer too.
    pub async fn call(&self, request: Request) -> Result<Response, LinkError> {
        let within = request.time_out();
        self.call_within(request, within).await
    }

    /// As [`Peer::call`], but an answer [`Response::Error`] becomes [`LinkError::Said`].
    pub async fn ask(&self, request: Request) -> Result<Response, LinkError> {
        match self.call(request).await? {
            Response::Error { say } => Err(LinkError::Said { peer: self.shared.info.to_string(), say }),
            answer => Ok(answer),
        }
    }

    /// Asks and waits at most `within`, the wait for a free place among the calls included.
    pub async fn call_within(&self, request: Request, within: Duration) -> Result<Response, LinkError> {
        let shared = &*self.shared;
        let name = request.name();
        let depth = DEPTH.try_with(|depth| *depth).unwrap_or(0);
        let answered = async {
            let Some(places) = shared.calls.get(usize::from(depth)) else {
                return Err(LinkError::TooDeep { request: name });
            };
            let Ok(_place) = places.acquire().await else { return Err(shared.closed_error()) };
            let call = shared.next_call.fetch_add(1, Ordering::Relaxed);
            let frame = frame::encode_at(Kind::Ask, call, depth, &request)
                .map_err(|bytes| LinkError::TooLarge { what: name, bytes, most: FRAME_MOST_BYTES })?;
            drop(request);
            let (answer_to, answer) = oneshot::channel();
            shared.lock_waiting().insert(call, answer_to);
            let _waiting = Waiting { shared, call };
            if shared.outgoing.send(frame).await.is_err() {
                return Err(shared.closed_error());
            }
            answer.await.unwrap_or_else(|_| Err(shared.closed_error()))
        };
        tokio::select! {
            biased;
            outcome = timeout(within, answered) => outcome.unwrap_or_else(|_| Err(LinkError::TimedOut {
                peer: shared.info.to_string(),
                request: name,
                seconds: within.as_secs(),
            })),
            () = shared.ended.cancelled() => Err(shared.closed_error()),
        }
    }

    /// Ends the link; waiting calls get [`LinkError::Closed`], the other side is told `why` if it can still be told.
    pub fn close(&self, why: &str) {
        self.shared.end(why);
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.shared.ended.is_cancelled()
    }

    /// Waits for the end of the link and says why it ended.
    pub async fn closed(&self) -> String {
        self.shared.ended.cancelled().await;
        self.shared.why()
    }
}

/// Takes a call off the list of waiting ones when its caller goes away.
struct Waiting<'a> {
    shared: &'a Shared,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock_waiting().remove(&self.call);
    }
}

impl Shared {
    fn lock_waiting(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Response, LinkError>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: &str) {
        // The first reason is the true one; what follows is its echo.
        let _ = self.why.set(why.to_owned());
        self.ended.cancel();
    }

    fn why(&self) -> String {
        self.why.get().cloned().unwrap_or_default()
    }

    fn closed_error(&self) -> LinkError {
        LinkError::Closed { peer: self.info.to_string(), why: self.why() }
    }
}

async fn read<R>(shared: Arc<Shared>, mut reader: FrameReader<R>, handler: Arc<dyn Handler>)
where
    R: AsyncRead + Unpin + Send,
{
    let running = Arc::new(Semaphore::new(MOST_RUNNING));
    let why = loop {
        let frame = tokio::select! {
            biased;
            () = shared.ended.cancelled() => return,
            frame = reader.next() => frame,
        };
        match frame {
            Ok(Some(frame)) => match take(&shared, &frame, &handler, &running) {
                Ok(()) => {}
                Err(why) => break why,
            },
            Ok(None) => break "the other side hung up".to_owned(),
            Err(error) => break with_causes(&error),
        }
    };
    shared.end(&why);
}

/// Acts on one frame. `Err` ends the link.
fn take(
    shared: &Arc<Shared>,
    frame: &Bytes,
    handler: &Arc<dyn Handler>,
    running: &Arc<Semaphore>,
) -> Result<(), String> {
    let incoming: Incoming<'_> = serde_json::from_slice(frame)
        .map_err(|error| format!("the peer sent no message of a link: {error}"))?;
    let (call, depth) = (incoming.call, incoming.depth.saturating_add(1));
    match incoming.kind {
        Kind::Alive | Kind::Unknown => {}
        Kind::Bye => {
            let said: String = serde_json::from_str(incoming.body.get()).unwrap_or_default();
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(format!("the other side ended it: {said}"));
        }
        Kind::Answer => {
            let answer = serde_json::from_str::<Response>(incoming.body.get()).map_err(|error| {
                let detail = format!("an answer that this version cannot read ({error})");
                LinkError::Malformed { detail }
            });
            // Nobody waits any more when the call timed out: the answer is dropped.
            if let Some(waiting) = shared.lock_waiting().remove(&call) {
                let _ = waiting.send(answer);
            }
        }
        Kind::Ask => {
            let place = Arc::clone(running).try_acquire_owned();
            let request = match &place {
                Ok(_) => understand(incoming.body),
                Err(_) => Err(format!("this node is busy: {MOST_RUNNING} calls of yours are still running")),
            };
            let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
            tokio::spawn(async move {
                let answer = match request {
                    Ok(request) => DEPTH.scope(depth, run(&*handler, &shared.info, request)).await,
                    Err(say) => Response::Error { say },
                };
                let frame = frame::encode(Kind::Answer, call, &answer).or_else(|bytes| {
                    let say = format!(
                        "the answer `{}` would take {bytes} bytes; a link carries {FRAME_MOST_BYTES}",
                        answer.name()
                    );
                    frame::encode(Kind::Answer, call, &Response::Error { say })
                });
                if let Ok(frame) = frame {
                    tokio::select! {
                        () = shared.ended.cancelled() => {}
                        _ = shared.outgoing.send(frame) => {}
                    }
                }
                drop(place);
            });
        }
    }
    Ok(())
}

/// Reads a request; what this version does not know, or cannot read, becomes the answer.
fn understand(body: &RawValue) -> Result<Request, String> {
    serde_json::from_str::<Request>(body.get()).map_err(|error| {
        let name = request_name(body);
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        if Request::NAMES.contains(&name.as_str()) {
            format!("this node could not read the request `{shown}`: {error}")
        } else {
            format!(
                "this node is older than you (version {}, protocol {}) and does not know the request `{shown}`",
                env!("CARGO_PKG_VERSION"),
                crate::messages::PROTOCOL,
            )
        }
    })
}

/// The name of a request that could not be read: the text itself, or the first key.
fn request_name(body: &RawValue) -> String {
    match serde_json::from_str::<serde_json::Value>(body.get()) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(map)) => {
            map.into_iter().next().map(|(name, _)| name).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Runs a handler; its panic is an answer, not the end of the node.
async fn run(handler: &dyn Handler, info: &PeerInfo, request: Request) -> Response {
    if matches!(request, Request::Ping) {
        return Response::Ok;
    }
    let name = request.name();
    match AssertUnwindSafe(handler.handle(info, request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            tracing::error!(peer = %info, request = name, panic = panic_text(&*panic), "a request failed inside");
            Response::error(format!("this node failed inside while it worked on `{name}`; see its log"))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

async fn write<W>(shared: Arc<Shared>, mut stream: W, mut queue: mpsc::Receiver<Bytes>, timing: Timing)
where
    W: AsyncWrite + Unpin + Send,
{
    let mut alive = interval(timing.alive_every);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = BytesMut::new();
    loop {
        batch.clear();
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => break,
            _ = alive.tick() => {
                if let Ok(frame) = frame::encode(Kind::Alive, 0, &()) {
                    batch.extend_from_slice(&frame);
                }
            }
            frame = queue.recv() => match frame {
                Some(frame) => batch.extend_from_slice(&frame),
                None => break,
            },
        }
        while batch.len() < BATCH {
            let Ok(frame) = queue.try_recv() else { break };
            batch.extend_from_slice(&frame);
        }
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => return, // in the middle of a frame: nothing more can be said
            written = frame::write_all(&mut stream, &batch, timing.dead_after) => if let Err(error) = written {
                shared.end(&with_causes(&error));
                return;
            },
        }
    }
    let why = shared.why();
    let farewell = async {
        if let Ok(frame) = frame::encode(Kind::Bye, 0, &why) {
            let _ = frame::write_all(&mut stream, &frame, timing.dead_after).await;
        }
        let _ = stream.shutdown().await;
    };
    let _ = timeout(Duration::from_millis(500), farewell).await;
}

/// An error with its causes in one line, for the reason of a closed link.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

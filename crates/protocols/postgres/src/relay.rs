//! The bytes: two pumps that do not wait for each other, each with bounded memory, each recording before it passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use halligan_core::catalog::PostgresCapabilities;
use halligan_session::{EndReason, Ended, Session};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Notify;

use crate::audit::{Audit, AuditConfig, AuditError, Kept, Runs};
use crate::codec::{
    ClientScanner, CodecError, FromClientMessage, FromServerMessage, Piece, ServerMessage, ServerScanner,
};
use crate::gait::Gait;
use crate::guard::{self, Refused, Values, Verdict, in_our_words};
use crate::out::Out;
use crate::recorder::Recorder;
use crate::upstream::Cancel;

mod cancelling;

/// Words of ours that wait for a place between two messages; more are dropped.
const MOST_PUT_IN: usize = 16 * 1024;

/// Why a conversation is over.
#[derive(Debug)]
pub(crate) enum Stop {
    ClientLeft,
    TargetLeft,
    Ended(EndReason),
    /// The client said what cannot be let through.
    Client(CodecError),
    /// The server did.
    Target(CodecError),
    Audit(AuditError),
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended.reason)
    }
}

impl From<AuditError> for Stop {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}

/// One client's conversation with the target.
#[derive(Debug)]
pub(crate) struct Conversation {
    session: Session,
    pub(crate) may: PostgresCapabilities,
    pub(crate) recorder: Recorder,
    state: Mutex<State>,
    cancel: Cancel,
    channel: u32,
    longest: usize,
    kept: Kept,
    /// The server has said something.
    moved: Notify,
    /// What was on its way to the server has left, or never will.
    left: Notify,
    /// There is something to put in.
    put: Notify,
    /// The statement that waits for a second person is withdrawn.
    withdrawn: Notify,
    /// All that was passed to the client are whole messages.
    whole: AtomicBool,
}

#[derive(Debug)]
struct State {
    audit: Audit,
    refused: Refused,
    put_in: BytesMut,
    /// Something of the extended protocol was passed since the last Sync.
    batch: bool,
    /// So was an Execute.
    executed: bool,
    /// A statement waits for a second person, or until they can be asked.
    held: bool,
    /// Whoever sent that one has withdrawn it.
    withdrawn: bool,
    /// The last statement of which all that was taken has left for the server, by its number.
    sent: u64,
    /// The question of ours is being answered: its ReadyForQuery is for us.
    probed: bool,
    /// Cancel requests on their way to the server: what came next could be hit by them.
    cancelling: u32,
}

impl State {
    fn is_full(&self) -> bool {
        self.cancelling > 0 || self.audit.is_full()
    }

    /// Nobody is asked about a statement any more.
    fn let_go(&mut self) {
        (self.held, self.withdrawn) = (false, false);
    }
}

/// What a client's bytes led to.
enum Took {
    All,
    /// Too much waits for the server, or a cancel request is on its way there.
    Full,
    /// This one waits for a second person.
    Held(FromClientMessage, Bytes),
    /// What this one means depends on what the server has not answered yet.
    Unsure(FromClientMessage, Bytes),
    /// What the server says next belongs to nothing that is known.
    Adrift(FromClientMessage, Bytes),
    Left,
}

impl Conversation {
    pub(crate) fn new(
        session: Session,
        config: AuditConfig,
        cancel: Cancel,
        longest: usize,
        statuses: &[FromServerMessage],
    ) -> Result<Self, getrandom::Error> {
        let (channel, kept) = (config.channel, config.kept);
        let mut audit = Audit::new(config);
        for status in statuses {
            audit.server(status, 0);
        }
        let state = State {
            audit,
            refused: Refused::new()?,
            put_in: BytesMut::new(),
            batch: false,
            executed: false,
            held: false,
            withdrawn: false,
            sent: 0,
            probed: false,
            cancelling: 0,
        };
        Ok(Self {
            may: session.lease().postgres.clone(),
            recorder: Recorder::new(session.clone(), channel),
            session,
            state: Mutex::new(state),
            cancel,
            channel,
            longest,
            kept,
            moved: Notify::new(),
            left: Notify::new(),
            put: Notify::new(),
            withdrawn: Notify::new(),
            whole: AtomicBool::new(true),
        })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn channel(&self) -> u32 {
        self.channel
    }

    /// Whether words of ours can follow what the client has.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Puts bytes in between two messages to the client.
    pub(crate) fn put_in(&self, bytes: Bytes) {
        let mut state = self.lock();
        if state.put_in.len() < MOST_PUT_IN {
            state.put_in.extend_from_slice(&bytes);
        }
        drop(state);
        self.put.notify_one();
    }

    /// The connection is over: what still waits has no outcome, and what transactions changed is reported.
    pub(crate) async fn finish(&self, reason: &str) {
        let at = self.session.since_start();
        let changes = {
            let mut state = self.lock();
            state.audit.finish(&format!("ended with the session: {reason}"), at);
            self.recorder.write_last(state.audit.records(), at);
            state.audit.changes()
        };
        self.left.notify_waiters();
        self.recorder.changed(changes);
        self.recorder.report_all().await;
    }

    /// From the client to the server.
    pub(crate) async fn upward(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Stop {
        match self.pump_up(from, to).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn pump_up(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<std::convert::Infallible, Stop> {
        let mut scanner = ClientScanner::new(self.longest);
        scanner.authenticated();
        let (mut buffer, mut out) = (BytesMut::new(), Out::default());
        let mut gait = Gait::default();
        loop {
            gait.room(&mut buffer, scanner.wants());
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return Err(Stop::ClientLeft),
                Ok(bytes) => gait.moved(bytes),
            }
            let mut took = self.take_up(&mut scanner, &mut buffer, &mut out)?;
            loop {
                if !matches!(took, Took::All | Took::Left) && self.lock().batch {
                    guard::flush(&mut out.bytes);
                }
                self.go_up(&mut out, to, &gait).await?;
                let next = match took {
                    Took::All => break,
                    Took::Left => return Err(Stop::ClientLeft),
                    Took::Full => {
                        self.until(|state| !state.is_full()).await;
                        None
                    }
                    Took::Unsure(message, raw) => {
                        self.until(|state| state.audit.is_settled()).await;
                        self.take_one(message, raw, &mut out)?
                    }
                    Took::Adrift(message, raw) => {
                        self.lock().refused.probe(&mut out.bytes);
                        self.go_up(&mut out, to, &gait).await?;
                        self.until(|state| !state.audit.is_adrift()).await;
                        self.take_one(message, raw, &mut out)?
                    }
                    Took::Held(message, raw) => {
                        // What is sent before it may fail, and then it is skipped.
                        let enough = |state: &State| state.audit.is_answered() || state.audit.is_skipping();
                        self.until(enough).await;
                        self.held(&message, &raw, &mut buffer, from, &mut out).await?
                    }
                };
                took = match next {
                    Some(took) => took,
                    None => self.take_up(&mut scanner, &mut buffer, &mut out)?,
                };
            }
        }
    }

    async fn go_up(
        &self,
        out: &mut Out,
        to: &mut (impl AsyncWrite + Unpin),
        gait: &Gait,
    ) -> Result<(), Stop> {
        out.pay(&self.session).await?;
        // Somebody may have cancelled what runs there meanwhile; and when that is done, the session may be over.
        self.until(|_| true).await;
        let paid = out.pay(&self.session).await?;
        paid.send(to, gait).await.map_err(|_| Stop::TargetLeft)?;
        let mut state = self.lock();
        state.sent = state.audit.begun();
        drop(state);
        self.left.notify_waiters();
        Ok(())
    }

    /// Waits until the server has said enough.
    async fn until(&self, enough: impl Fn(&State) -> bool) {
        loop {
            let moved = self.moved.notified();
            {
                let state = self.lock();
                if state.cancelling == 0 && enough(&state) {
                    return;
                }
            }
            moved.await;
        }
    }

    /// Reads on until there is nothing more, or something that does not simply pass. What it appends to `out` is on
    /// record when it returns.
    fn take_up(
        &self,
        scanner: &mut ClientScanner,
        buffer: &mut BytesMut,
        out: &mut Out,
    ) -> Result<Took, Stop> {
        let at = self.session.since_start();
        let mut state = self.lock();
        let state = &mut *state;
        let took = loop {
            if state.is_full() {
                break Took::Full;
            }
            let piece = scanner.next(buffer, &mut state.audit.from_client()).map_err(Stop::Client)?;
            match piece {
                None => break Took::All,
                Some(Piece::Pass(bytes)) => out.bytes.extend_from_slice(&bytes),
                Some(Piece::Message { message, raw }) => {
                    if let Some(took) = self.take(state, message, raw, false, at, &mut out.bytes)? {
                        break took;
                    }
                }
            }
        };
        self.write_down(state, at, out)?;
        Ok(took)
    }

    /// A message whose meaning is sure by now. As [`Self::take_up`]; none if there is nothing to wait for.
    fn take_one(&self, message: FromClientMessage, raw: Bytes, out: &mut Out) -> Result<Option<Took>, Stop> {
        let at = self.session.since_start();
        let mut state = self.lock();
        let state = &mut *state;
        let took = self.take(state, message, raw, true, at, &mut out.bytes)?;
        self.write_down(state, at, out)?;
        Ok(took)
    }

    /// Puts on record what `out` now leads to.
    fn write_down(&self, state: &mut State, at: u64, out: &mut Out) -> Result<(), Stop> {
        out.written(self.recorder.write(state.audit.records(), at)?);
        Ok(())
    }

    fn take(
        &self,
        state: &mut State,
        message: FromClientMessage,
        raw: Bytes,
        sure: bool,
        at: u64,
        out: &mut BytesMut,
    ) -> Result<Option<Took>, Stop> {
        use FromClientMessage as M;
        let copies_on = matches!(message, M::Sync | M::CopyDone | M::CopyFail { .. } | M::Terminate);
        if state.audit.is_adrift() && !copies_on {
            return Ok(Some(Took::Adrift(message, raw)));
        }
        let runs = state.audit.runs(&message);
        if !sure && state.audit.is_unsure(&message, runs.as_ref()) {
            return Ok(Some(Took::Unsure(message, raw)));
        }
        let verdict = match &runs {
            Some(runs) if !runs.judged => guard::judge(&self.may, &message, runs),
            _ => Verdict::Pass,
        };
        match (verdict, runs) {
            (Verdict::Ask, Some(_)) => {
                state.held = true;
                return Ok(Some(Took::Held(message, raw)));
            }
            (Verdict::Refuse(reason), Some(runs)) => refuse(state, &message, runs, reason, at, out),
            (_, runs) => {
                pass(state, &message, runs, at)?;
                out.extend_from_slice(&raw);
                if message == M::Terminate {
                    return Ok(Some(Took::Left));
                }
            }
        }
        Ok(None)
    }

    /// The server has answered all before it, or skips it: what it means now is what it will mean.
    async fn held(
        &self,
        message: &FromClientMessage,
        raw: &Bytes,
        behind: &mut BytesMut,
        client: &mut (impl AsyncRead + Unpin),
        out: &mut Out,
    ) -> Result<Option<Took>, Stop> {
        let (runs, values, in_transaction) = {
            let mut state = self.lock();
            let state = &mut *state;
            let mut runs = state.audit.runs(message);
            if state.withdrawn
                && let Some(runs) = runs.take()
            {
                state.let_go();
                let at = self.session.since_start();
                refuse(state, message, runs, guard::withdrawn(), at, &mut out.bytes);
                self.write_down(state, at, out)?;
                return Ok(None);
            }
            let Some(runs) =
                runs.filter(|runs| matches!(guard::judge(&self.may, message, runs), Verdict::Ask))
            else {
                state.let_go();
                let at = self.session.since_start();
                let took = self.take(state, message.clone(), raw.clone(), true, at, &mut out.bytes)?;
                self.write_down(state, at, out)?;
                return Ok(took);
            };
            if state.audit.is_skipping() {
                state.let_go();
                let at = self.session.since_start();
                refuse(state, message, runs, guard::skipped(), at, &mut out.bytes);
                self.write_down(state, at, out)?;
                return Ok(None);
            }
            let values = match message {
                FromClientMessage::Bind(bind) if !bind.parameters.is_empty() => {
                    state.audit.values_to_show(bind, &runs).map_or(Values::NotShown, Values::All)
                }
                _ => Values::None,
            };
            (runs, values, guard::in_transaction(state.audit.transaction(), state.executed))
        };
        let answer = self.second_person(&runs, values, in_transaction, behind, client).await;
        let at = self.session.since_start();
        let mut state = self.lock();
        let state = &mut *state;
        state.let_go();
        match answer? {
            None => {
                pass(state, message, Some(runs), at)?;
                out.bytes.extend_from_slice(raw);
            }
            Some(reason) => refuse(state, message, runs, reason, at, &mut out.bytes),
        }
        self.write_down(state, at, out)?;
        Ok(None)
    }

    /// From the server to the client.
    pub(crate) async fn downward(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        mut buffer: BytesMut,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Stop {
        match self.pump_down(from, &mut buffer, to).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn pump_down(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<std::convert::Infallible, Stop> {
        let mut scanner = ServerScanner::new(self.kept.description_bytes());
        scanner.whole_rows(self.kept.row_bytes());
        scanner.authenticated();
        let mut out = Out::default();
        let mut gait = Gait::default();
        let mut put = std::pin::pin!(self.put.notified());
        loop {
            self.take_down(&mut scanner, buffer, &mut out)?;
            self.moved.notify_one();
            if !out.bytes.is_empty() {
                let paid = out.pay(&self.session).await?;
                self.whole.store(false, Ordering::Release);
                paid.send(to, &gait).await.map_err(|_| Stop::ClientLeft)?;
                self.whole.store(scanner.at_boundary(), Ordering::Release);
            }
            gait.room(buffer, scanner.wants());
            tokio::select! {
                biased;
                read = from.read_buf(buffer) => match read {
                    Ok(0) | Err(_) => return Err(Stop::TargetLeft),
                    Ok(bytes) => gait.moved(bytes),
                },
                () = &mut put => put.set(self.put.notified()),
            }
        }
    }

    /// As [`Self::take_up`].
    fn take_down(
        &self,
        scanner: &mut ServerScanner,
        buffer: &mut BytesMut,
        out: &mut Out,
    ) -> Result<(), Stop> {
        let at = self.session.since_start();
        let mut state = self.lock();
        let state = &mut *state;
        loop {
            if !state.put_in.is_empty() && scanner.at_boundary() {
                out.bytes.extend_from_slice(&state.put_in);
                state.put_in = BytesMut::new();
            }
            let piece = scanner.next(buffer, &mut state.audit.from_server()).map_err(Stop::Target)?;
            match piece {
                None => break,
                Some(Piece::Pass(bytes)) => out.bytes.extend_from_slice(&bytes),
                Some(Piece::Message { message: FromServerMessage::Error(error), .. })
                    if state.refused.is_probed(&error) =>
                {
                    state.probed = true;
                }
                Some(Piece::Message { message: FromServerMessage::ReadyForQuery(_), .. })
                    if std::mem::take(&mut state.probed) =>
                {
                    state.audit.found();
                }
                Some(Piece::Message { message: FromServerMessage::Error(error), raw }) => {
                    match state.refused.answer(&error) {
                        Some(reason) => {
                            out.bytes.extend_from_slice(&in_our_words(&reason));
                            let ours = ServerMessage {
                                severity: "ERROR".to_owned(),
                                code: reason.code.to_owned(),
                                message: reason.say,
                                ..ServerMessage::default()
                            };
                            state.audit.server(&FromServerMessage::Error(ours), at);
                        }
                        None => {
                            out.bytes.extend_from_slice(&raw);
                            state.audit.server(&FromServerMessage::Error(error), at);
                        }
                    }
                }
                Some(Piece::Message { message, raw }) => {
                    state.audit.server(&message, at);
                    out.bytes.extend_from_slice(&raw);
                    let ready = matches!(message, FromServerMessage::ReadyForQuery(_));
                    if ready && state.audit.is_answered() && !state.audit.is_skipping() {
                        state.refused.all_answered();
                    }
                }
            }
        }
        self.write_down(state, at, out)?;
        self.recorder.changed(state.audit.changes());
        Ok(())
    }

    /// Tells the client what the session has to say, until dropped.
    pub(crate) async fn warnings(&self) -> std::convert::Infallible {
        let mut warning = self.session.warning();
        loop {
            let said = warning.borrow_and_update().clone();
            if let Some(text) = said {
                self.tell(&format!("Halligan: {text}"));
            }
            if warning.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pass(state: &mut State, message: &FromClientMessage, runs: Option<Runs>, at: u64) -> Result<(), Stop> {
    use FromClientMessage as M;
    match message {
        M::Sync => (state.batch, state.executed) = (false, false),
        M::Execute { .. } => (state.batch, state.executed) = (true, true),
        M::Parse { .. } | M::Bind(_) | M::Describe(_) | M::Close(_) => state.batch = true,
        _ => {}
    }
    Ok(state.audit.client(message, runs, at)?)
}

fn refuse(
    state: &mut State,
    message: &FromClientMessage,
    runs: Runs,
    reason: guard::Reason,
    at: u64,
    out: &mut BytesMut,
) {
    state.audit.refused(message, runs, &reason.say, at);
    state.refused.replace(message, reason, out);
}

/// How long a conversation that is over may take to say so.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(40);

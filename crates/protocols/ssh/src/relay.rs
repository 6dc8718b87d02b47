//! One channel, from its opening to its end: two pumps that do not wait for each other. What goes on has been recorded.
//!
//! The order of endings is the target's: data, end of file, exit status or signal, close. An end of file closes one
//! direction only. When the target's side is closed the client's is closed after it, and the other way round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use halligan_recording::RecordKind;
use halligan_session::end_reason::printable;
use halligan_session::{EndReason, NodeEvent, Session};
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, client};

use crate::channel::ClientChannel;
use crate::connection::Connection;
use crate::naming::{command_for_ledger, command_transfer, environment_allowed};
use crate::recorder::{Recorder, Stop, What};
use crate::refuse::{prohibited, write_down};
use crate::upstream::Lane;

/// What may come in before it is known what runs in the channel.
const EARLY_BYTES: usize = 256 * 1024;
/// Output that is recorded in one go.
const BATCH_BYTES: usize = 256 * 1024;
/// How long a client has to say what it wanted, so that it can be told why it cannot have it.
const EXPLAIN: Duration = Duration::from_secs(30);
/// Exit status of `ssh` itself when something went wrong.
const WENT_WRONG: u32 = 255;

/// Runs a channel that the client asked for.
pub(crate) async fn run(
    connection: Arc<Connection>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    mine: Arc<ClientChannel>,
) {
    let id = channel.id();
    let ended = connection.ended.clone();
    tokio::select! {
        () = open_and_serve(&connection, channel, reply, &mine) => {}
        // `serve` has its own way out; this one is for all that comes before it.
        () = async { ended.cancelled().await; tokio::time::sleep(EXPLAIN).await } => {}
    }
    connection.remove_channel(id);
}

async fn open_and_serve(
    connection: &Arc<Connection>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    mine: &Arc<ClientChannel>,
) {
    let session = match connection.session().await {
        Ok(session) => session,
        Err(say) => {
            reply.accept().await;
            return explain(connection, channel, mine, &say).await;
        }
    };
    if connection.ended.is_cancelled() {
        return reply.reject(prohibited("the session has ended")).await;
    }
    let lane = tokio::select! {
        lane = connection.lane(&session) => lane,
        () = connection.ended.cancelled() => return reply.reject(prohibited("the session has ended")).await,
    };
    let lane = match lane {
        Ok(lane) => lane,
        Err(error) => {
            let say = error.to_string();
            let reason = EndReason::TargetRefused { why: say.clone() };
            connection.ends_because(reason.clone());
            write_down(connection, "connection to the target", &say).await;
            reply.accept().await;
            explain(connection, channel, mine, &say).await;
            // Ending it closes the connection: the client must have read the sentence.
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::spawn(async move { session.end(reason).await });
            return;
        }
    };
    match lane.open().await {
        Ok(target) => {
            reply.accept().await;
            serve(connection, session, channel, target, mine).await;
        }
        // The target's own reason and code: clients act on "no more sessions".
        Err(reason) => reply.reject(reason).await,
    }
    drop::<Lane>(lane);
}

/// Tells a person on standard error why there is nothing to run, and ends the channel as `ssh` ends on its own errors.
async fn explain(connection: &Connection, channel: Channel<Msg>, mine: &ClientChannel, say: &str) {
    let id = channel.id();
    let (mut read, write) = channel.split();
    let mut terminal = false;
    let asked = async {
        while let Some(message) = read.wait().await {
            let asked = match message {
                ChannelMsg::RequestShell { .. }
                | ChannelMsg::Exec { .. }
                | ChannelMsg::RequestSubsystem { .. } => true,
                ChannelMsg::RequestPty { .. } | ChannelMsg::SetEnv { .. } => {
                    terminal |= matches!(message, ChannelMsg::RequestPty { .. });
                    false
                }
                ChannelMsg::RequestX11 { .. } | ChannelMsg::AgentForward { .. } => {
                    answer(connection, mine, id, false).await;
                    continue;
                }
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                    mine.backlog.took(data.len());
                    continue;
                }
                ChannelMsg::Close => return false,
                _ => continue,
            };
            answer(connection, mine, id, true).await;
            if asked {
                return true;
            }
        }
        false
    };
    let asked = tokio::select! {
        asked = tokio::time::timeout(EXPLAIN, asked) => asked.unwrap_or(false),
        () = connection.ended.cancelled() => false,
    };
    if asked {
        let line_end = if terminal { "\r\n" } else { "\n" };
        let text = format!("Halligan: {}{line_end}", printable(say, 1_000));
        let _gone = write.extended_data_bytes(1, text.into_bytes()).await;
        let _gone = write.exit_status(WENT_WRONG).await;
        let _gone = write.eof().await;
    }
    let _gone = write.close().await;
}

async fn answer(connection: &Connection, mine: &ClientChannel, id: russh::ChannelId, yes: bool) {
    if mine.give(yes)
        && let Some(handle) = connection.handle()
    {
        let _gone = if yes { handle.channel_success(id).await } else { handle.channel_failure(id).await };
    }
}

/// Why a pump stopped.
enum Over {
    /// This side closed its channel.
    Closed,
    /// This side's connection is gone.
    Gone,
    /// The session takes nothing more.
    Stopped(Stop),
}

impl From<Stop> for Over {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<halligan_session::Ended> for Over {
    fn from(ended: halligan_session::Ended) -> Self {
        Self::Stopped(Stop::Ended(ended))
    }
}

/// A write to the other side failed because it is gone; that side's own pump says how the channel ends.
fn gone(_: russh::Error) -> Over {
    Over::Gone
}

struct Relay<'a> {
    connection: &'a Arc<Connection>,
    session: Session,
    mine: &'a ClientChannel,
    id: russh::ChannelId,
    number: u32,
    recorder: Recorder,
    client: ChannelWriteHalf<Msg>,
    target: ChannelWriteHalf<client::Msg>,
    terminal: AtomicBool,
    started: AtomicBool,
    opened: AtomicBool,
    ending: Mutex<(Option<u32>, Option<String>)>,
}

async fn serve(
    connection: &Arc<Connection>,
    session: Session,
    channel: Channel<Msg>,
    target: Channel<client::Msg>,
    mine: &Arc<ClientChannel>,
) {
    let number = session.next_channel();
    let id = channel.id();
    let (mut client_read, client) = channel.split();
    let (mut target_read, target) = target.split();
    let relay = Relay {
        connection,
        recorder: Recorder::new(session.clone(), number),
        session: session.clone(),
        mine,
        id,
        number,
        client,
        target,
        terminal: AtomicBool::new(false),
        started: AtomicBool::new(false),
        opened: AtomicBool::new(false),
        ending: Mutex::default(),
    };
    let over = {
        let down = relay.downward(&mut target_read);
        tokio::pin!(down);
        tokio::select! {
            over = relay.upward(&mut client_read) => match over {
                Ok(never) => match never {},
                // A write to the target failed: what it still has to say comes first, and how it ended with it.
                Err(Over::Gone) => match tokio::time::timeout(EXPLAIN, down).await {
                    Ok(Ok(never)) => match never {},
                    Ok(Err(over)) => Some((over, true)),
                    Err(_late) => Some((Over::Gone, true)),
                },
                Err(over) => Some((over, false)),
            },
            over = &mut down => match over {
                Ok(never) => match never {},
                Err(over) => Some((over, true)),
            },
            () = relay.warn() => None,
            () = connection.ended.cancelled() => None,
        }
    };
    relay.end(over).await;
}

/// No value: a pump only ever stops.
enum Never {}

impl Relay<'_> {
    /// Client to target, requests included.
    async fn upward(&self, read: &mut ChannelReadHalf) -> Result<Never, Over> {
        let mut early: Vec<Bytes> = Vec::new();
        let mut early_bytes = 0;
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } if self.started.load(Ordering::Acquire) => {
                    self.upload(data).await?
                }
                ChannelMsg::Data { data } => {
                    early_bytes += data.len();
                    early.push(data);
                    if early_bytes > EARLY_BYTES {
                        return Err(Over::Closed);
                    }
                }
                // Clients have no standard error.
                ChannelMsg::ExtendedData { data, .. } => self.mine.backlog.took(data.len()),
                ChannelMsg::Eof => self.target.eof().await.map_err(gone)?,
                ChannelMsg::Close => return Err(Over::Closed),
                request => {
                    self.request(request).await?;
                    if self.started.load(Ordering::Acquire) {
                        for data in early.drain(..) {
                            self.upload(data).await?;
                        }
                    }
                }
            }
        }
        Err(Over::Closed)
    }

    async fn upload(&self, data: Bytes) -> Result<(), Over> {
        let bytes = data.len();
        for done in self.recorder.upward(&data)? {
            self.recorder.transfer_ended(done).await?;
        }
        let sent = self.target.data_bytes(data).await;
        self.mine.backlog.took(bytes);
        sent.map_err(gone)
    }

    async fn request(&self, request: ChannelMsg) -> Result<(), Over> {
        match request {
            ChannelMsg::RequestPty {
                term,
                col_width,
                row_height,
                pix_width,
                pix_height,
                terminal_modes,
                ..
            } => {
                let allowed = self.session.lease().ssh.shell || self.session.lease().ssh.exec;
                if !allowed || self.started.load(Ordering::Acquire) || !plain_word(&term) {
                    return self.refuse("a terminal", "not here").await;
                }
                // Modes that the library does not know come as an end mark, which would cut the list short.
                let modes: Vec<(Pty, u32)> =
                    terminal_modes.into_iter().filter(|(mode, _)| *mode != Pty::TTY_OP_END).collect();
                self.terminal.store(true, Ordering::Release);
                self.record_size(col_width, row_height)?;
                self.target
                    .request_pty(true, &term, col_width, row_height, pix_width, pix_height, &modes)
                    .await
                    .map_err(gone)
            }
            ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                let allowed = environment_allowed(&variable_name, &variable_value);
                if allowed {
                    self.target.set_env(false, variable_name, variable_value).await.map_err(gone)?;
                }
                self.answer(allowed).await;
                Ok(())
            }
            ChannelMsg::RequestShell { .. } => {
                if !self.session.lease().ssh.shell {
                    return self.refuse("a shell", "this entitlement has no shell").await;
                }
                let what = What::Shell { terminal: self.terminal.load(Ordering::Acquire) };
                if self.start("shell", None, what).await? {
                    self.greet().await?;
                    self.target.request_shell(true).await.map_err(gone)?;
                }
                Ok(())
            }
            ChannelMsg::Exec { command, .. } => {
                if !self.session.lease().ssh.exec {
                    let what = format!("the command {}", command_for_ledger(&command));
                    return self.refuse(&what, "this entitlement runs no single commands").await;
                }
                let terminal = self.terminal.load(Ordering::Acquire);
                let what = What::Exec { terminal, transfer: command_transfer(&command) };
                if self.start("exec", Some(&command), what).await? {
                    self.greet().await?;
                    self.target.exec(true, command).await.map_err(gone)?;
                }
                Ok(())
            }
            ChannelMsg::RequestSubsystem { name, .. } => {
                if name != "sftp" || !self.session.lease().ssh.sftp {
                    let reason = if name == "sftp" {
                        "this entitlement moves no files"
                    } else {
                        "only sftp is passed on"
                    };
                    return self.refuse(&format!("subsystem {name}"), reason).await;
                }
                if self.start("sftp", None, What::Sftp).await? {
                    self.target.request_subsystem(true, "sftp").await.map_err(gone)?;
                }
                Ok(())
            }
            ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                self.record_size(col_width, row_height)?;
                self.target.window_change(col_width, row_height, pix_width, pix_height).await.map_err(gone)
            }
            ChannelMsg::Signal { signal } => {
                let text = format!("the person sent the signal {}", printable(&format!("{signal:?}"), 40));
                self.session.record_now(RecordKind::Note { text })?;
                self.target.signal(signal).await.map_err(gone)
            }
            ChannelMsg::RequestX11 { .. } => self.refuse("X11 forwarding", "not passed on").await,
            ChannelMsg::AgentForward { .. } => self.refuse("agent forwarding", "not passed on").await,
            // Nothing else wants an answer, and nothing else is passed on.
            _ => Ok(()),
        }
    }

    /// Writes down what is about to run; false if something runs already.
    async fn start(&self, kind: &str, command: Option<&[u8]>, what: What) -> Result<bool, Over> {
        if self.opened.swap(true, Ordering::AcqRel) {
            self.refuse(&format!("a second start ({kind})"), "one channel runs one thing").await?;
            return Ok(false);
        }
        let detail = command.map(command_for_ledger).unwrap_or_default();
        let (number, now) = (self.number, self.session.since_start());
        let mut records = vec![RecordKind::ChannelOpen { channel: number, kind: kind.to_owned() }];
        if let Some(command) = command {
            let text = String::from_utf8_lossy(command).into_owned();
            records.push(RecordKind::Command { channel: number, text });
        }
        let records: Vec<_> =
            records.into_iter().map(|kind| halligan_recording::Record::new(now, kind)).collect();
        self.session.record(&records)?;
        self.session
            .milestone(NodeEvent::ChannelOpened {
                session: self.session.id(),
                channel: number,
                kind: kind.to_owned(),
                detail,
            })
            .await?;
        self.recorder.start(what)?;
        self.started.store(true, Ordering::Release);
        Ok(true)
    }

    /// Says on a terminal whose session this is and that it is recorded.
    async fn greet(&self) -> Result<(), Over> {
        if !self.terminal.load(Ordering::Acquire) {
            return Ok(());
        }
        self.connection.has_terminal(self.id);
        let lease = self.session.lease();
        let incident = lease.incident.as_ref().map(|incident| format!(" for {incident}")).unwrap_or_default();
        let text = format!(
            "Halligan: {} on {}{incident}, until {}. This session is recorded.\r\n",
            printable(&lease.person_name, 100),
            lease.entitlement,
            lease.deadline,
        );
        self.client.extended_data_bytes(1, text.into_bytes()).await.map_err(gone)
    }

    fn record_size(&self, columns: u32, rows: u32) -> Result<(), Over> {
        Ok(self.session.record_now(RecordKind::Resize { channel: self.number, columns, rows })?)
    }

    async fn refuse(&self, what: &str, reason: &str) -> Result<(), Over> {
        let too_often = self.connection.refused_too_often();
        write_down(self.connection, what, reason).await;
        self.answer(false).await;
        if too_often { Err(Over::Closed) } else { Ok(()) }
    }

    async fn answer(&self, yes: bool) {
        answer(self.connection, self.mine, self.id, yes).await;
    }

    /// Target to client.
    async fn downward(&self, read: &mut ChannelReadHalf) -> Result<Never, Over> {
        let mut carried = None;
        loop {
            let message = match carried.take() {
                Some(message) => Some(message),
                None => read.wait().await,
            };
            let Some(message) = message else { return Err(Over::Gone) };
            match message {
                ChannelMsg::Data { data } => {
                    let mut batch = vec![data];
                    carried = more_output(read, &mut batch);
                    self.download(batch).await?;
                }
                ChannelMsg::ExtendedData { data, ext } => {
                    self.recorder.stderr(&data)?;
                    self.connection.flow.sent();
                    self.client.extended_data_bytes(ext, data).await.map_err(gone)?;
                }
                ChannelMsg::Eof => self.client.eof().await.map_err(gone)?,
                ChannelMsg::ExitStatus { exit_status } => {
                    self.ending().0 = Some(exit_status);
                    self.client.exit_status(exit_status).await.map_err(gone)?;
                }
                ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
                    self.ending().1 = Some(printable(&format!("{signal_name:?}"), 40));
                    if let Some(handle) = self.connection.handle() {
                        let told = handle.exit_signal_request(
                            self.id,
                            signal_name,
                            core_dumped,
                            error_message,
                            lang_tag,
                        );
                        told.await.map_err(|()| Over::Gone)?;
                    }
                }
                ChannelMsg::XonXoff { client_can_do } => {
                    if let Some(handle) = self.connection.handle() {
                        handle.xon_xoff_request(self.id, client_can_do).await.map_err(|()| Over::Gone)?;
                    }
                }
                ChannelMsg::Success => self.answer(true).await,
                ChannelMsg::Failure => self.answer(false).await,
                ChannelMsg::Close => return Err(Over::Closed),
                _ => {}
            }
        }
    }

    async fn download(&self, batch: Vec<Bytes>) -> Result<(), Over> {
        for done in self.recorder.downward(&batch)? {
            self.recorder.transfer_ended(done).await?;
        }
        self.connection.flow.sent();
        for data in batch {
            self.client.data_bytes(data).await.map_err(gone)?;
        }
        Ok(())
    }

    /// Lines about the session's end, on terminals only.
    async fn warn(&self) {
        let mut warnings = self.session.warning();
        while warnings.changed().await.is_ok() {
            let text = warnings.borrow_and_update().clone();
            if let Some(text) = text
                && self.terminal.load(Ordering::Acquire)
            {
                let line = format!("\r\nHalligan: {}\r\n", printable(&text, 500));
                let _gone = self.client.extended_data_bytes(1, line.into_bytes()).await;
            }
        }
        // No more warnings; the channel goes on.
        std::future::pending::<()>().await;
    }

    /// Writes down the end and closes both sides. `over` says why a pump stopped, and whether it was the target's.
    async fn end(&self, over: Option<(Over, bool)>) {
        let (status, signal) = self.ending().clone();
        let outcome = match (&over, status, &signal) {
            (Some((Over::Stopped(stop), _)), ..) => stop.to_string(),
            (_, Some(status), _) => format!("exit {status}"),
            (_, None, Some(signal)) => format!("signal {signal}"),
            (Some((_, false)), ..) => "closed by the client".to_owned(),
            (Some((Over::Gone, true)), ..) => "the target's connection ended".to_owned(),
            (Some(_), ..) => "closed by the target".to_owned(),
            (None, ..) => "ended with the session".to_owned(),
        };
        if self.opened.load(Ordering::Acquire) {
            self.write_end(status, signal, outcome).await;
        }
        match over {
            Some((Over::Stopped(Stop::Unreadable(why)), _)) => {
                // What cannot be read cannot be recorded: the whole session ends, and with it both sockets.
                self.session.end(EndReason::RecordingLost { why: why.to_string() }).await;
                self.leave_to_the_hard_stop().await;
            }
            Some((Over::Stopped(Stop::Ended(_)), _)) => self.leave_to_the_hard_stop().await,
            Some((Over::Gone, true)) if !self.connection.ended.is_cancelled() => {
                self.connection.ends_because(EndReason::TargetLeft);
                let text = format!("\r\nHalligan: {}\r\n", EndReason::TargetLeft);
                let _gone = self.client.extended_data_bytes(1, text.into_bytes()).await;
                let _gone = self.client.exit_status(WENT_WRONG).await;
            }
            _ => {}
        }
        if !self.connection.ended.is_cancelled() {
            let _gone = self.target.close().await;
            let _gone = self.client.close().await;
        }
    }

    /// The end of the session closes both sockets, with a last sentence that a closed channel could not show.
    async fn leave_to_the_hard_stop(&self) {
        let _late = tokio::time::timeout(Duration::from_secs(1), self.connection.ended.cancelled()).await;
    }

    async fn write_end(&self, status: Option<u32>, signal: Option<String>, outcome: String) {
        // A session that is over takes no more records; its own end is on record then.
        if let Ok(done) = self.recorder.finish(status, signal) {
            for transfer in done {
                let _ended = self.recorder.transfer_ended(transfer).await;
            }
        }
        let event = NodeEvent::ChannelEnded { session: self.session.id(), channel: self.number, outcome };
        let _ended = self.session.milestone(event).await;
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, (Option<u32>, Option<String>)> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes more output that is already there, so that it is recorded in one go; gives back a message of another kind.
fn more_output(read: &mut ChannelReadHalf, batch: &mut Vec<Bytes>) -> Option<ChannelMsg> {
    let mut bytes: usize = batch.iter().map(Bytes::len).sum();
    while bytes < BATCH_BYTES {
        match read.wait().now_or_never()?? {
            ChannelMsg::Data { data } => {
                bytes += data.len();
                batch.push(data);
            }
            other => return Some(other),
        }
    }
    None
}

/// A terminal's name: a word without anything that a shell or a file system could act on.
fn plain_word(term: &str) -> bool {
    term.len() <= 64 && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

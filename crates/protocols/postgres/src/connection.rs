//! One client, from its first packet to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use halligan_core::catalog::{ResultsKept, SystemKind};
use halligan_recording::RecordKind;
use halligan_session::control_plane::entitlement_of_login;
use halligan_session::end_reason::printable;
use halligan_session::{CancelRequest, ClientConnection, EndReason, NodeEvent, Secret, Session, Waiting};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditConfig, Kept};
use crate::certificate::{ALPN, of_login_authority};
use crate::codec::{
    CodecError, First, Severity, Startup, TransactionStatus, Version, Writer, negotiate, read_first,
};
use crate::listener::Shared;
use crate::login::{Asking, NotIn};
use crate::pumps::run;
use crate::relay::{Conversation, LAST_WORDS, Stop};
use crate::socket::{Leg, Socket};
use crate::startup::{Wanted, wanted};
use crate::upstream::{Unreachable, Upstream};

/// Packets that ask for encryption, on one connection: GSSENC and then TLS.
const MOST_REQUESTS: usize = 3;
/// How long a client may take to read its last words.
const GOING: Duration = Duration::from_millis(30);
/// How long a client that has been told may go on sending before its socket is closed.
const HEARD_OUT: Duration = Duration::from_millis(500);
/// How long the end of a session's records may take.
const ENDINGS: Duration = Duration::from_secs(5);

/// Serves one client. `waiting` is its place among those who are not logged in.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    client: SocketAddr,
    waiting: Waiting,
    stopping: CancellationToken,
) {
    let from = ClientConnection { client, gateway: shared.config.gateway.clone() };
    let asked_out = waiting.asked_out();
    let begin = async {
        let begun = begin(&shared, socket, &from).await;
        drop(waiting);
        begun
    };
    let begun = tokio::select! {
        begun = tokio::time::timeout(shared.config.login_grace, begin) => begun,
        () = asked_out => {
            tracing::warn!(%client, "a client that was not logged in made room for another");
            return;
        }
        () = stopping.cancelled() => return,
    };
    match begun {
        Ok(Some(client)) => client.go_on(&shared, &from, &stopping).await,
        Ok(None) => {}
        Err(_) => tracing::debug!(%client, "a client took too long to log in"),
    }
}

/// Somebody who is logged in.
struct LoggedIn {
    leg: Leg,
    read: BytesMut,
    startup: Startup,
    version: Version,
    login: String,
    person: halligan_session::Person,
}

/// Everything before it is known who it is.
async fn begin(shared: &Shared, socket: Socket, from: &ClientConnection) -> Option<LoggedIn> {
    let client = from.client;
    let mut read = BytesMut::new();
    let (mut leg, startup) = match first_packets(shared, socket, client, &mut read).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return None,
        Err(error) => {
            tracing::debug!(%client, %error, "a client did not begin as clients do");
            return None;
        }
    };
    let secret = matches!(leg, Leg::Tls(_));
    let mut out = BytesMut::new();
    let may_be_plain = shared.config.plain_from_here && client.ip().is_loopback();
    if !(secret || may_be_plain) {
        let text = "this gateway takes connections inside TLS only: connect with sslmode=verify-full";
        Writer(&mut out).error(Severity::Fatal, "28000", text, None);
        let _gone = leg.send(&mut out).await;
        return None;
    }
    let negotiated = negotiate(&startup);
    if let Some(unknown) = &negotiated.tell {
        Writer(&mut out).negotiate_protocol_version(negotiated.version, unknown);
    }
    let binding = shared.certificate.binding.as_deref().filter(|_| secret);
    let certificate = leg.shown_certificate().filter(|shown| of_login_authority(shown));
    let asking = Asking { leg: &mut leg, read: &mut read, binding, certificate, from };
    match asking.person(&*shared.control, &startup, &mut out).await {
        Ok((person, login)) => {
            Some(LoggedIn { leg, read, startup, version: negotiated.version, login, person })
        }
        Err(NotIn) => {
            let _gone = leg.shutdown().await;
            None
        }
    }
}

/// Up to the startup packet; nothing if it was a cancel request.
async fn first_packets(
    shared: &Shared,
    socket: Socket,
    client: SocketAddr,
    read: &mut BytesMut,
) -> std::io::Result<Option<(Leg, Startup)>> {
    let wrong = |error: CodecError| std::io::Error::other(error);
    let mut leg = Leg::Plain(socket);
    for _ in 0..MOST_REQUESTS {
        let first = loop {
            match read_first(read) {
                Ok(Some(first)) => break first,
                Ok(None) => {}
                Err(error) => {
                    if matches!(error, CodecError::Version { .. }) {
                        let mut out = BytesMut::new();
                        Writer(&mut out).error(Severity::Fatal, "0A000", &error.to_string(), None);
                        leg.send(&mut out).await?;
                    }
                    return Err(wrong(error));
                }
            }
            if !leg.more(read).await? {
                return Ok(None);
            }
        };
        leg = match (first, leg) {
            (First::Startup(startup), leg) => return Ok(Some((leg, startup))),
            (First::Cancel { process, key }, _) => {
                let key = Secret::new(key.to_vec());
                shared.cancel(CancelRequest { process, key, client, through: None });
                return Ok(None);
            }
            (First::GssencRequest, Leg::Plain(mut socket)) => {
                socket.write_all(b"N").await?;
                Leg::Plain(socket)
            }
            (First::SslRequest, Leg::Plain(mut socket)) => {
                // What has come in already was not waited for, so it is no part of a handshake.
                if socket.has_ahead() {
                    return Err(wrong(CodecError::Surplus { bytes: 1 }));
                }
                socket.write_all(b"S").await?;
                inside_tls(shared, socket).await?
            }
            (First::Tls, Leg::Plain(mut socket)) => {
                socket.put_back(std::mem::take(read).freeze());
                let leg = inside_tls(shared, socket).await?;
                // Else a page in a browser could be made to speak to us.
                let named =
                    matches!(&leg, Leg::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(ALPN));
                if !named {
                    return Err(std::io::Error::other("TLS without asking must name its protocol (ALPN)"));
                }
                leg
            }
            (_, Leg::Tls(_)) => {
                return Err(std::io::Error::other("encryption was asked for inside of encryption"));
            }
        };
    }
    Err(std::io::Error::other("too many requests for encryption"))
}

async fn inside_tls(shared: &Shared, socket: Socket) -> std::io::Result<Leg> {
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.certificate.tls));
    Ok(Leg::Tls(Box::new(acceptor.accept(socket).await?.into())))
}

/// Why there is no conversation, in words for the client.
struct Refused {
    code: String,
    say: String,
    reason: EndReason,
}

impl LoggedIn {
    async fn go_on(mut self, shared: &Shared, from: &ClientConnection, stopping: &CancellationToken) {
        let opened = match entitlement_of_login(&self.login) {
            Some(entitlement) => {
                shared.control.open(&self.person, &entitlement, from).await.map_err(|refusal| refusal.say)
            }
            None => {
                Err("the login name must be a role and a system, such as `read-only+orders-db`".to_owned())
            }
        };
        let session = match opened {
            Ok(session) => session,
            Err(say) => return self.fatal("28000", &say).await,
        };
        let prepared = tokio::select! {
            prepared = self.prepare(&session, from) => prepared,
            reason = session.closed() => Err(Refused { code: "57P01".to_owned(), say: reason.to_string(), reason }),
            () = stopping.cancelled() => {
                let reason = EndReason::GatewayStopping;
                Err(Refused { code: "57P01".to_owned(), say: reason.to_string(), reason })
            }
        };
        match prepared {
            Ok((wanted, channel, upstream)) => {
                self.converse(shared, session, (&wanted, channel), upstream, stopping).await;
            }
            Err(refused) => {
                let note = RecordKind::Note { text: format!("not opened: {}", refused.say) };
                let _ended = session.record_now(note);
                self.fatal(&refused.code, &refused.say).await;
                session.end(refused.reason).await;
            }
        }
    }

    /// What the client wants, its channel, and the target for it.
    async fn prepare(
        &self,
        session: &Session,
        from: &ClientConnection,
    ) -> Result<(Wanted, u32, Upstream), Refused> {
        let refused = |code: &str, say: String| Refused {
            code: code.to_owned(),
            reason: EndReason::TargetRefused { why: say.clone() },
            say,
        };
        let target = &session.lease().target;
        let postgres = match (&target.postgres, target.kind) {
            (Some(postgres), SystemKind::Postgres) => postgres,
            _ => return Err(refused("0A000", format!("{} is no PostgreSQL server", target.system))),
        };
        let wanted = match wanted(&self.startup, &self.login, &session.lease().postgres, postgres) {
            Ok(wanted) => wanted,
            Err(not) => {
                let event = NodeEvent::Refused {
                    person: Some(self.person.id.clone()),
                    what: "start a PostgreSQL connection".to_owned(),
                    client: from.client.to_string(),
                    reason: printable(&not.to_string(), 300),
                };
                let _ended = session.milestone(event).await;
                return Err(refused(not.code(), not.to_string()));
            }
        };
        // The disk takes the milestone while the server is dialled; the session's own leaf is synced, and nothing of the
        // client's passes before both are done.
        let channel = session.next_channel();
        let (upstream, marked) =
            tokio::join!(Upstream::connect(session, &wanted), opened(session, channel, &wanted));
        if let Err(reason) = marked {
            return Err(Refused { code: "57P01".to_owned(), say: reason.to_string(), reason });
        }
        match upstream {
            Ok(upstream) => Ok((wanted, channel, upstream)),
            Err(error) => {
                let code = match &error {
                    Unreachable::Refused(said) => said.code.clone(),
                    _ => "08001".to_owned(),
                };
                let say = format!("{} cannot be opened: {error}", target.system);
                let outcome = printable(&say, 200);
                let _over = session
                    .milestone(NodeEvent::ChannelEnded { session: session.id(), channel, outcome })
                    .await;
                Err(refused(&code, say))
            }
        }
    }

    async fn converse(
        mut self,
        shared: &Shared,
        session: Session,
        (wanted, channel): (&Wanted, u32),
        upstream: Upstream,
        stopping: &CancellationToken,
    ) {
        let Upstream { leg: server, read, greeting, cancel, statuses } = upstream;
        let lease = session.lease();
        let config = AuditConfig {
            channel,
            role: lease.target.account.clone(),
            database: wanted.database.clone(),
            parameters: lease.postgres.parameters,
            kept: match lease.postgres.results {
                ResultsKept::None => Kept::None,
                ResultsKept::First(rows) => Kept::First(u64::from(rows)),
                ResultsKept::All => Kept::All,
            },
            keep_bytes: lease.recording.keep_content_bytes,
        };
        let longest = shared.config.longest_message;
        let conversation = match Conversation::new(session.clone(), config, cancel, longest, &statuses) {
            Ok(conversation) => Arc::new(conversation),
            Err(_) => return self.fatal("53000", "this gateway has no random numbers").await,
        };
        let Ok((key, given)) = shared.cancels.give(self.version, &conversation) else {
            return self.fatal("53000", "this gateway has no random numbers").await;
        };
        let mut out = greeting;
        Writer(&mut out).backend_key_data(key.process, &key.secret).ready_for_query(TransactionStatus::Idle);
        let ahead = std::mem::take(&mut self.read);
        let (stop, gone) = if self.leg.send(&mut out).await.is_err() {
            (Stop::ClientLeft, None)
        } else {
            let (mut from_client, mut to_client) = tokio::io::split(self.leg);
            let (mut from_server, mut to_server) = tokio::io::split(server);
            // What came behind the last answer is the beginning of what follows.
            let mut all_from_client = tokio::io::AsyncReadExt::chain(&ahead[..], &mut from_client);
            let stop = tokio::select! {
                stop = run(
                    &conversation,
                    (&mut all_from_client, &mut to_client),
                    (&mut from_server, &mut to_server),
                    read,
                ) => stop,
                () = stopping.cancelled() => Stop::Ended(EndReason::GatewayStopping),
            };
            // The target first: nothing may go on there while the client is told.
            let leaves = matches!(stop, Stop::ClientLeft);
            if !leaves && let Some(cancel) = conversation.cancel_running() {
                tokio::spawn(async move { cancel.send().await });
            }
            drop((from_server, to_server));
            last_words(&conversation, &stop, &mut to_client).await;
            (stop, (!leaves).then_some((from_client, to_client)))
        };
        drop(given);
        tokio::join!(end(&conversation, stop), heard_out(gone));
    }

    /// Says why there is nothing to be had.
    async fn fatal(&mut self, code: &str, say: &str) {
        let mut out = BytesMut::new();
        let hint = None;
        Writer(&mut out).error(Severity::Fatal, code, &format!("Halligan: {say}"), hint);
        let told = async {
            let _gone = self.leg.send(&mut out).await;
            let _gone = self.leg.shutdown().await;
        };
        let _late = tokio::time::timeout(Duration::from_secs(1), told).await;
    }
}

async fn opened(session: &Session, channel: u32, wanted: &Wanted) -> Result<(), EndReason> {
    let application = wanted.application.as_deref().unwrap_or("a program without a name");
    let detail = format!("{} by {}", wanted.database, printable(application, 64));
    let event = NodeEvent::ChannelOpened {
        session: session.id(),
        channel,
        kind: "postgres".to_owned(),
        detail: printable(&detail, 200),
    };
    session.milestone(event).await.map_err(|ended| ended.reason)?;
    let settings: Vec<String> =
        wanted.settings.iter().map(|(name, value)| format!("{name} = {}", printable(value, 200))).collect();
    let text = format!("channel {channel}: database {detail}; settings: {}", settings.join(", "));
    session
        .record_now(RecordKind::ChannelOpen { channel, kind: "postgres".to_owned() })
        .map_err(|ended| ended.reason)?;
    session.record_now(RecordKind::Note { text }).map_err(|ended| ended.reason)
}

/// What the client is told of the end, if it can be told.
async fn last_words(conversation: &Conversation, stop: &Stop, to: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    let (code, say) = match stop {
        Stop::ClientLeft => ("", String::new()),
        Stop::TargetLeft => ("08006", EndReason::TargetLeft.to_string()),
        Stop::Ended(reason) => ("57P01", reason.to_string()),
        Stop::Client(error @ CodecError::TooLong { .. }) => ("54000", error.to_string()),
        Stop::Client(error) | Stop::Target(error) => ("08P01", error.to_string()),
        Stop::Audit(error) => ("54000", error.to_string()),
    };
    if !code.is_empty() && conversation.is_whole() {
        let mut out = BytesMut::new();
        Writer(&mut out).error(Severity::Fatal, code, &format!("Halligan: {say}"), None);
        let told = async {
            to.write_all(&out).await?;
            to.flush().await
        };
        // A client that does not read gets none.
        let _late = tokio::time::timeout(LAST_WORDS, told).await;
    }
    let _late = tokio::time::timeout(GOING, to.shutdown()).await;
}

/// A client that still sends (COPY) would lose its last words with the rest of what is on the way, were its socket closed
/// with something unread: that is thrown away, until the client closes or for a short while.
async fn heard_out(client: Option<(ReadHalf<Leg>, WriteHalf<Leg>)>) {
    let Some((mut from, _held_open)) = client else { return };
    let mut thrown_away = BytesMut::with_capacity(16 * 1024);
    let read = async {
        while let Ok(1..) = from.read_buf(&mut thrown_away).await {
            thrown_away.clear();
        }
    };
    let _late = tokio::time::timeout(HEARD_OUT, read).await;
}

/// Writes down the end, and ends the session.
async fn end(conversation: &Conversation, stop: Stop) {
    let (reason, say) = match stop {
        Stop::ClientLeft => (EndReason::ClientLeft, EndReason::ClientLeft.to_string()),
        Stop::TargetLeft => (EndReason::TargetLeft, EndReason::TargetLeft.to_string()),
        Stop::Ended(reason) => (reason.clone(), reason.to_string()),
        Stop::Client(error) => (EndReason::ClientLeft, error.to_string()),
        Stop::Target(error) => (EndReason::TargetLeft, error.to_string()),
        Stop::Audit(error) => (EndReason::ClientLeft, error.to_string()),
    };
    let (session, channel) = (conversation.session(), conversation.channel());
    let ending = async {
        conversation.finish(&say).await;
        let ended = RecordKind::ChannelEnd { channel, exit_status: None, signal: None };
        let _over = session.record_now(ended);
        let event = NodeEvent::ChannelEnded { session: session.id(), channel, outcome: printable(&say, 200) };
        let _over = session.milestone(event).await;
    };
    if tokio::time::timeout(ENDINGS, ending).await.is_err() {
        tracing::warn!(session = %session.id(), "the end of a conversation was not written down in time");
    }
    session.end(reason).await;
}

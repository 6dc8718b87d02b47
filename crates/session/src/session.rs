//! A session: one use of a grant through a gateway, and the permit for it. While a protocol holds one there is a grant,
//! a deadline, a recorder and a kill switch; without one it may not dial.

use std::sync::Arc;

use halligan_core::catalog::StatementClass;
use halligan_core::ids::SessionId;
use halligan_core::time::Span;
use halligan_ledger::AuditReceipt;
use halligan_recording::{Record, RecordKind};
use tokio::sync::watch;

use crate::control_plane::{BoxFuture, Refusal};
use crate::end_reason::EndReason;
use crate::lease::Lease;
use crate::node_event::NodeEvent;
use crate::secret::Secret;

/// A new key and certificate for one login at the target. Both die within a minute.
#[derive(Debug)]
pub struct SshCredential {
    /// Seed of the Ed25519 key.
    pub seed: Secret<[u8; 32]>,
    /// `ssh-ed25519-cert-v01@openssh.com AAAA…`.
    pub certificate: String,
    /// The certificate's serial, already a leaf in the connector's ledger.
    pub serial: u64,
}

/// A database user for this grant at this gateway. No password of it exists: the proof is made from the key.
#[derive(Debug)]
pub struct DatabaseCredential {
    /// The login role.
    pub user: String,
    /// SCRAM's client key; see [`crate::scram::client_proof`].
    pub client_key: Secret<[u8; 32]>,
    /// SCRAM's server key, by which the server is known.
    pub server_key: Secret<[u8; 32]>,
}

/// A client certificate that opens a standing database role, for one login. Its key never left the asker.
#[derive(Clone, Debug)]
pub struct DatabaseCertificate {
    /// The login role, which is its common name.
    pub user: String,
    /// PEM.
    pub certificate: String,
    /// Its serial, already a leaf in the connector's ledger.
    pub serial: u64,
}

/// May this statement pass? A second person is asked, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its class.
    pub class: StatementClass,
    /// Its text, secrets masked.
    pub text: String,
    /// Its bound parameters as JSON.
    pub parameters: Option<String>,
    /// How long to wait.
    pub limit: Span,
}

/// What became of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may pass, this once.
    Allow {
        /// Who says so.
        by: String,
    },
    /// It may not.
    Deny {
        /// A sentence for the person who waits.
        say: String,
    },
}

/// The session is over: nothing more may pass in either direction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
}

/// What was written, and may have to be on the disk before anything goes on for it: see [`Session::on_disk`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "nothing may go on for it before it is where it has to be"]
pub struct Written {
    owes_sync: bool,
}

impl Written {
    /// In the recording's file; `owes_sync`: not yet where it has to be.
    pub const fn new(owes_sync: bool) -> Self {
        Self { owes_sync }
    }

    /// This and what was written after it.
    pub const fn and(self, next: Self) -> Self {
        Self { owes_sync: self.owes_sync || next.owes_sync }
    }
}

/// What the gateway's engine puts behind a [`Session`]. Protocols never see it.
pub trait SessionParts: Send + Sync + 'static {
    /// See [`Session::id`].
    fn id(&self) -> SessionId;
    /// See [`Session::lease`].
    fn lease(&self) -> &Lease;
    /// See [`Session::ssh_credential`].
    fn ssh_credential(&self) -> BoxFuture<'_, Result<SshCredential, Refusal>>;
    /// See [`Session::database_credential`].
    fn database_credential(&self, renew: bool) -> BoxFuture<'_, Result<DatabaseCredential, Refusal>>;
    /// See [`Session::database_certificate`].
    fn database_certificate(
        &self,
        public_key: String,
    ) -> BoxFuture<'_, Result<DatabaseCertificate, Refusal>> {
        drop(public_key);
        Box::pin(async { Err(Refusal::new("No certificates for databases are made here.".to_owned())) })
    }
    /// See [`Session::database_backend`].
    fn database_backend(&self, _number: u32) {}
    /// See [`Session::ask`].
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answer, Ended>>;
    /// See [`Session::record`].
    fn record(&self, records: &[Record]) -> Result<(), Ended>;
    /// See [`Session::write`].
    fn write(&self, records: &[Record]) -> Result<Written, Ended> {
        self.record(records).map(|()| Written::default())
    }
    /// Resolves when everything written so far is on the disk. See [`Session::on_disk`].
    fn on_disk(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { self.check() })
    }
    /// The session may go on, at this moment.
    fn check(&self) -> Result<(), Ended>;
    /// See [`Session::record_last`].
    fn record_last(&self, records: &[Record]);
    /// See [`Session::milestone`].
    fn milestone(&self, event: NodeEvent) -> BoxFuture<'_, Result<(), Ended>>;
    /// See [`Session::next_channel`].
    fn next_channel(&self) -> u32;
    /// See [`Session::since_start`].
    fn since_start(&self) -> u64;
    /// See [`Session::closed`].
    fn closed(&self) -> BoxFuture<'_, EndReason>;
    /// See [`Session::warning`].
    fn warning(&self) -> watch::Receiver<Option<String>>;
    /// See [`Session::end`].
    fn end(&self, reason: EndReason) -> BoxFuture<'_, ()>;
    /// The last [`Session`] handle was dropped: the protocol holds nothing of it any more.
    fn let_go(&self);
}

/// One use of a grant, and the permit for it. Clones are handles to the same session; it counts as left when the last
/// one is dropped, so pumps keep a clone and drop it when they stop.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Box<dyn SessionParts>,
    // Held for as long as the session lives: no permit without the synced leaf that says so.
    _receipt: AuditReceipt,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.parts.let_go();
    }
}

impl Session {
    /// Opens a session. `receipt` says that the gateway's own ledger has synced the leaf of this opening; only a completed
    /// sync makes one, and it is used up here.
    pub fn open(receipt: AuditReceipt, parts: Box<dyn SessionParts>) -> Self {
        Self { inner: Arc::new(Inner { parts, _receipt: receipt }) }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.inner.parts.id()
    }

    /// The lease it lives on.
    pub fn lease(&self) -> &Lease {
        self.inner.parts.lease()
    }

    /// A credential for one login at the target, made for this call by the site's connector. Refused once the session or
    /// its grant has ended.
    pub async fn ssh_credential(&self) -> Result<SshCredential, Refusal> {
        self.inner.parts.ssh_credential().await
    }

    /// The database user of this grant at this gateway, made by the site's connector and kept until the grant ends.
    /// `renew` asks for it anew, after the server refused it. Refused once the session or its grant has ended.
    pub async fn database_credential(&self, renew: bool) -> Result<DatabaseCredential, Refusal> {
        self.inner.parts.database_credential(renew).await
    }

    /// A certificate that opens one of the standing roles of this grant's group (`activation: prepared`), made for this call
    /// by the site's connector. `public_key` is a point of P-256, uncompressed, hex; the caller keeps its private half. Refused
    /// once the session or its grant has ended.
    pub async fn database_certificate(&self, public_key: String) -> Result<DatabaseCertificate, Refusal> {
        self.inner.parts.database_certificate(public_key).await
    }

    /// Tells the engine the number of this session's backend at the server, so that its end finds it under any name.
    pub fn database_backend(&self, number: u32) {
        self.inner.parts.database_backend(number);
    }

    /// Asks a second person whether a statement may pass, and waits: for them, for the limit or for the session's end.
    /// Question and answer are synced in the gateway's ledger before this returns. The caller records the statement itself,
    /// passes nothing of it meanwhile, and reads no further input.
    pub async fn ask(&self, question: Question) -> Result<Answer, Ended> {
        self.inner.parts.ask(question).await
    }

    /// Writes records, in order, before it returns; only then may the bytes go on. It may block for a write to the local
    /// disk (and a sync where durability is strict). After an error nothing may pass: the session is ending itself.
    pub fn record(&self, records: &[Record]) -> Result<(), Ended> {
        self.inner.parts.record(records)
    }

    /// As [`Self::record`], and never waits for a sync: [`Self::on_disk`] does, before anything goes on.
    pub fn write(&self, records: &[Record]) -> Result<Written, Ended> {
        self.inner.parts.write(records)
    }

    /// Waits until what was written may have its effect. Other sessions of this thread go on meanwhile. An error if the
    /// session is over by then, also where nothing was written or no sync is owed: the last gate before bytes go on.
    pub async fn on_disk(&self, written: Written) -> Result<(), Ended> {
        if written.owes_sync { self.inner.parts.on_disk().await } else { self.inner.parts.check() }
    }

    /// Writes how what was under way came to its end, also after the session was cut, for as long as its recording is open.
    /// It gives no leave: nothing may pass for it.
    pub fn record_last(&self, records: &[Record]) {
        self.inner.parts.record_last(records);
    }

    /// Writes a milestone into the gateway's ledger and returns when it is synced; only then may its effect happen.
    pub async fn milestone(&self, event: NodeEvent) -> Result<(), Ended> {
        self.inner.parts.milestone(event).await
    }

    /// The next number for a channel, from 0.
    pub fn next_channel(&self) -> u32 {
        self.inner.parts.next_channel()
    }

    /// Microseconds since the recording's start: what [`Record::at_micros`] counts, on the gateway's clock.
    pub fn since_start(&self) -> u64 {
        self.inner.parts.since_start()
    }

    /// One thing that happened now, as a record. Convenient where only one is written.
    pub fn record_now(&self, kind: RecordKind) -> Result<(), Ended> {
        self.record(&[Record::new(self.since_start(), kind)])
    }

    /// Resolves when the session must end or has ended: deadline, revocation, kill, idle, lost recording, or
    /// [`Session::end`]. Whoever sees it closes its sockets at once.
    pub async fn closed(&self) -> EndReason {
        self.inner.parts.closed().await
    }

    /// Sentences for the terminal, such as that the session ends in five minutes.
    pub fn warning(&self) -> watch::Receiver<Option<String>> {
        self.inner.parts.warning()
    }

    /// Ends it, finishes the recording, and returns when the gateway's ledger says so. The first reason counts; calling it
    /// again is harmless.
    pub async fn end(&self, reason: EndReason) {
        self.inner.parts.end(reason).await;
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

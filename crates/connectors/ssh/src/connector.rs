//! The connector: what may be issued for a grant, and that nothing is issued once it has ended.
//!
//! Each effect is written down before it happens: the fencing number and the tombstone in the grant's file, the
//! certificate with its key in a file of its own, then the leaf, and only then the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use halligan_core::catalog::SystemKind;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::Evidence;
use halligan_core::time::{Span, Time};
use halligan_link::messages::Seed;
use halligan_session::{BoxFuture, Lease, NodeEvent, SignedLease};
use russh::keys::ssh_key::public::KeyData;
use sha2::{Digest as _, Sha256};

use crate::authority::{Authority, Wish, new_keypair, new_serial};
use crate::config::ConnectorConfig;
use crate::error::ConnectorError;
use crate::host_key::HostKeys;
use crate::journal::Journal;
use crate::krl::RevocationList;
use crate::pace::Paces;
use crate::state::{GrantState, GrantStore, IssuedCertificate, Tombstone, private_folder};

/// No certificate opens a door for longer, whatever the catalog says.
const WINDOW_MOST: Span = Span::minutes(10);

/// Makes, ends and proves credentials of one kind of target. Every call may be repeated, can be resumed after a crash,
/// and ends in bounded time.
pub trait Connector: Send + Sync + 'static {
    /// The grant may have credentials from now on.
    fn activate<'a>(&'a self, lease: &'a SignedLease) -> BoxFuture<'a, Result<(), ConnectorError>>;
    /// It may not any more, ever. Returns from when on its end can be proved.
    fn deactivate(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Time, ConnectorError>>;
    /// Looks whether its credentials still open the door.
    fn look(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Evidence, ConnectorError>>;
}

/// A key and certificate for one login.
#[derive(Debug)]
pub struct Issued {
    /// Seed of the key.
    pub seed: Seed,
    /// OpenSSH text.
    pub certificate: String,
    /// Its serial.
    pub serial: u64,
}

/// The connector for SSH targets of one site. Clones are the same connector.
#[derive(Clone, Debug)]
pub struct SshConnector {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ConnectorConfig,
    pub(crate) authority: Authority,
    pub(crate) journal: Arc<Journal>,
    pub(crate) grants: GrantStore,
    pub(crate) krl: RevocationList,
    pub(crate) source_address: String,
    pub(crate) paces: Paces,
    locks: Mutex<HashMap<GrantId, Weak<Mutex<()>>>>,
}

impl SshConnector {
    /// Opens the state folder, making what is missing: the site's CA key, the ledger and its key.
    pub fn open(config: ConnectorConfig) -> Result<Self, ConnectorError> {
        if config.source_addresses.is_empty() {
            return Err(ConnectorError::refused(
                "no source addresses are configured: certificates would open doors from anywhere",
            ));
        }
        private_folder(&config.folder)?;
        let authority = Authority::open(&config.folder)?;
        let journal = Arc::new(Journal::open(&config)?);
        let grants = GrantStore::open(&config.folder)?;
        let krl = RevocationList::open(&config.folder, config.krl.clone(), &authority, journal.now())?;
        let inner = Inner {
            source_address: config.source_addresses.join(","),
            authority,
            journal,
            grants,
            krl,
            config,
            paces: Paces::default(),
            locks: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The line for `TrustedUserCAKeys` of every target of this site.
    pub fn ca_public_line(&self) -> &str {
        self.inner.authority.public_line()
    }

    /// Its ledger.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.inner.journal
    }

    /// Its settings.
    pub fn config(&self) -> &ConnectorConfig {
        &self.inner.config
    }

    /// Makes a key and a certificate for one session of this lease's grant.
    pub async fn issue(&self, lease: &SignedLease, session: SessionId) -> Result<Issued, ConnectorError> {
        let lease = lease.clone();
        self.blocking(move |inner| inner.issue(&lease, session)).await
    }

    /// Runs what waits for the disk away from the tasks that must not wait.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ConnectorError> + Send + 'static,
    ) -> Result<T, ConnectorError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| ConnectorError::Inside)?
    }
}

impl Connector for SshConnector {
    fn activate<'a>(&'a self, lease: &'a SignedLease) -> BoxFuture<'a, Result<(), ConnectorError>> {
        let lease = lease.clone();
        Box::pin(async move { self.blocking(move |inner| inner.activate(&lease)).await })
    }
    fn deactivate(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Time, ConnectorError>> {
        Box::pin(self.blocking(move |inner| inner.deactivate(grant, fencing)))
    }
    fn look(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Evidence, ConnectorError>> {
        Box::pin(crate::look::look(self, grant, fencing))
    }
}

impl Inner {
    /// One effect on a grant at a time.
    pub(crate) fn lock(&self, grant: GrantId) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = locks.get(&grant).and_then(Weak::upgrade) {
            return held;
        }
        if locks.len() > 4096 {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let fresh = Arc::new(Mutex::new(()));
        locks.insert(grant, Arc::downgrade(&fresh));
        fresh
    }

    fn activate(&self, signed: &SignedLease) -> Result<(), ConnectorError> {
        let lease = self.read_lease(signed, "activate")?;
        let lock = self.lock(lease.grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.admit(signed, &lease, "activate")?;
        self.journal.write(NodeEvent::Activated { grant: state.grant, fencing: state.fencing })
    }

    /// Signature first, then everything that does not depend on what happened before.
    fn read_lease(&self, signed: &SignedLease, what: &str) -> Result<Lease, ConnectorError> {
        let lease = signed.verify(&self.config.control)?;
        let refusal = if lease.target.site != self.config.site {
            Some(format!(
                "{} is a target of site {}, this connector serves {}",
                lease.target.system, lease.target.site, self.config.site
            ))
        } else if lease.target.kind != SystemKind::Ssh {
            Some(format!("{} is no SSH host", lease.target.system))
        } else if let Err(why) = HostKeys::parse(&lease.target.host_keys) {
            Some(format!("{}: {why}", lease.target.system))
        } else if lease.deadline <= self.journal.now() {
            Some(format!("the grant ended at {}", lease.deadline))
        } else {
            None
        };
        match refusal {
            Some(why) => Err(self.refuse(lease.grant, what, why)),
            None => Ok(lease),
        }
    }

    /// Rule of the tombstone and of the fencing number. Stores number and lease before anything else happens.
    fn admit(&self, signed: &SignedLease, lease: &Lease, what: &str) -> Result<GrantState, ConnectorError> {
        let mut state = self.grants.grant(lease.grant)?;
        if let Some(tombstone) = &state.tombstone {
            let why = format!("it ended here at {}, and nothing is ever issued for it again", tombstone.at);
            return Err(self.refuse(lease.grant, what, why));
        }
        if lease.fencing < state.fencing {
            let why = format!("fencing number {} is overtaken by {}", lease.fencing, state.fencing);
            return Err(self.refuse(lease.grant, what, why));
        }
        if let Some(held) = self.held_lease(&state)?
            && held.target.principal() != lease.target.principal()
        {
            let why = format!("it leads to {}, not to {}", held.target.principal(), lease.target.principal());
            return Err(self.refuse(lease.grant, what, why));
        }
        if lease.fencing != state.fencing || state.lease.as_ref() != Some(signed) {
            state.fencing = lease.fencing;
            state.lease = Some(signed.clone());
            self.grants.save_grant(&state)?;
        }
        Ok(state)
    }

    /// A refusal is a leaf too. That it could not be written changes nothing about the refusal.
    pub(crate) fn refuse(&self, grant: GrantId, what: &str, why: String) -> ConnectorError {
        let leaf = NodeEvent::Refused {
            person: None,
            what: format!("{what} {grant}"),
            client: self.config.name.to_string(),
            reason: why.clone(),
        };
        if let Err(error) = self.journal.write(leaf) {
            tracing::error!(%grant, error = error.sentence(), "a refusal could not be written down");
        }
        ConnectorError::refused(format!("failed to {what} grant {grant}: {why}"))
    }

    fn issue(&self, signed: &SignedLease, session: SessionId) -> Result<Issued, ConnectorError> {
        let what = "issue a certificate for";
        let lease = self.read_lease(signed, what)?;
        let lock = self.lock(lease.grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.grants.grant(lease.grant)?.lease.is_some();
        let state = self.admit(signed, &lease, what)?;
        if !known {
            // Control was away when it should have told us; its signature on the lease is what counts.
            self.journal.write(NodeEvent::Activated { grant: state.grant, fencing: state.fencing })?;
        }
        let now = self.journal.now();
        let window = lease.proof.login_window.min(WINDOW_MOST);
        let valid_after = whole_second(now.minus(self.config.clock_slack));
        let valid_before = whole_second(now.plus(window).min(lease.deadline));
        if valid_before <= now {
            return Err(self.refuse(lease.grant, what, "less than a second of it is left".to_owned()));
        }
        let (pair, seed) = new_keypair()?;
        let principal = lease.target.principal();
        let serial = new_serial()?;
        let wish = Wish {
            serial,
            key_id: format!("halligan grant={} session={session} person={}", lease.grant, lease.person),
            principal: &principal,
            valid_after,
            valid_before,
            source_address: &self.source_address,
            pty: lease.ssh.shell || lease.ssh.exec,
            force_command: None,
        };
        let certificate = self.authority.sign(&pair, &wish)?;
        let text = certificate.to_openssh().map_err(ConnectorError::key("write a certificate"))?;
        let seed = Seed::new(*seed);
        // The file first: every serial in the ledger then has its key for the proof. One without a leaf never left.
        let issued = IssuedCertificate {
            version: 1,
            serial,
            session,
            certificate: text.clone(),
            seed: Some(seed.clone()),
            principal: principal.clone(),
            source_address: self.source_address.clone(),
            valid_before,
            refused_at: None,
        };
        self.grants.save_certificate(lease.grant, &issued)?;
        self.journal.write(NodeEvent::CertificateIssued {
            grant: lease.grant,
            session,
            serial,
            principal,
            key_sha256: key_sha256(certificate.public_key())?,
            valid_after,
            valid_before,
        })?;
        Ok(Issued { seed, certificate: text, serial })
    }

    fn deactivate(&self, grant: GrantId, fencing: u64) -> Result<Time, ConnectorError> {
        let lock = self.lock(grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.grants.grant(grant)?;
        if fencing < state.fencing {
            let why = format!("fencing number {fencing} is overtaken by {}", state.fencing);
            return Err(self.refuse(grant, "deactivate", why));
        }
        if let Some(tombstone) = state.tombstone.clone()
            && (tombstone.listed || !self.wants_list(&state)?)
            && state.fencing == fencing
        {
            // Told again, perhaps because we died before the leaf: it is written at least once.
            let provable_at = tombstone.provable_at;
            self.journal.write(NodeEvent::Deactivated { grant, fencing, provable_at })?;
            return Ok(provable_at);
        }
        let now = self.journal.now();
        let certificates = self.grants.certificates(grant)?;
        let window_over = certificates
            .iter()
            .map(|one| one.valid_before.plus(self.config.settle))
            .max()
            .unwrap_or(now)
            .max(now);
        let at = state.tombstone.as_ref().map_or(now, |tombstone| tombstone.at);
        state.fencing = fencing;
        state.tombstone = Some(Tombstone { at, provable_at: window_over, listed: false });
        self.grants.save_grant(&state)?;
        let mut provable_at = window_over;
        if self.wants_list(&state)? {
            let serials: Vec<(u64, Time)> =
                certificates.iter().map(|one| (one.serial, one.valid_before)).collect();
            match self.krl.revoke(&self.authority, &serials, now) {
                Ok(()) => {
                    provable_at = now;
                    state.tombstone = Some(Tombstone { at, provable_at, listed: true });
                    self.grants.save_grant(&state)?;
                }
                Err(error) => {
                    tracing::error!(%grant, error = error.sentence(), "the revocation list was not delivered: the login window must pass");
                }
            }
        }
        self.journal.write(NodeEvent::Deactivated { grant, fencing, provable_at })?;
        Ok(provable_at)
    }

    fn wants_list(&self, state: &GrantState) -> Result<bool, ConnectorError> {
        Ok(self.krl.is_delivered()
            && self.held_lease(state)?.is_some_and(|lease| lease.proof.revocation_list))
    }

    /// The newest lease of a grant, from our own folder.
    pub(crate) fn held_lease(&self, state: &GrantState) -> Result<Option<Lease>, ConnectorError> {
        // Its signature was checked when it came in; control may have changed its key since.
        let read = |signed: &SignedLease| {
            serde_json::from_str(&signed.payload).map_err(|error| {
                ConnectorError::state(format!("read the lease kept for {}", state.grant))(error.into())
            })
        };
        state.lease.as_ref().map(read).transpose()
    }
}

/// SHA-256 of a public key as SSH's wire format has it, hex.
pub(crate) fn key_sha256(key: &KeyData) -> Result<String, ConnectorError> {
    let bytes = russh::keys::PublicKey::from(key.clone())
        .to_bytes()
        .map_err(ConnectorError::key("write a public key"))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

const fn whole_second(time: Time) -> Time {
    Time::from_micros(time.micros().div_euclid(1_000_000) * 1_000_000)
}

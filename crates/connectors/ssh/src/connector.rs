//! The connector: what may be issued for a grant, and that nothing is issued once it has ended.
//!
//! Each effect is written down before it happens: the fencing number and the tombstone in the grant's file, the
//! certificate with its key in a file of its own, then the leaf, and only then the answer.

use std::sync::{Arc, PoisonError};

use halligan_connector::{Connector, ConnectorError, GrantState, Journal, Site, Tombstone};
use halligan_core::catalog::SystemKind;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::Evidence;
use halligan_core::time::{Span, Time};
use halligan_link::messages::{PeerInfo, Request, Response, Role, Seed};
use halligan_session::{BoxFuture, Lease, NodeEvent, SignedLease};
use russh::keys::ssh_key::public::KeyData;
use sha2::{Digest as _, Sha256};

use crate::authority::{Authority, Wish, new_keypair, new_serial};
use crate::certificates::{IssuedCertificate, certificates, save_certificate};
use crate::config::ConnectorConfig;
use crate::host_key::HostKeys;
use crate::krl::RevocationList;
use crate::pace::Paces;

/// No certificate opens a door for longer, whatever the catalog says.
const WINDOW_MOST: Span = Span::minutes(10);

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
    pub(crate) site: Arc<Site>,
    pub(crate) krl: RevocationList,
    pub(crate) source_address: String,
    pub(crate) paces: Paces,
}

impl SshConnector {
    /// Opens the state folder, making what is missing: the site's CA key, the ledger and its key.
    pub fn open(config: ConnectorConfig) -> Result<Self, ConnectorError> {
        let site = Site::open(config.site())?;
        Self::join(site, config)
    }

    /// Beside other kinds, on a site that is open. Of `config` only what concerns SSH counts.
    pub fn join(site: Arc<Site>, config: ConnectorConfig) -> Result<Self, ConnectorError> {
        if config.source_addresses.is_empty() {
            return Err(ConnectorError::refused(
                "no source addresses are configured: certificates would open doors from anywhere",
            ));
        }
        let folder = &site.config().folder;
        let authority = Authority::open(folder)?;
        let krl = RevocationList::open(folder, config.krl.clone(), &authority, site.journal().now())?;
        let inner = Inner {
            source_address: config.source_addresses.join(","),
            authority,
            site,
            krl,
            config,
            paces: Paces::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The line for `TrustedUserCAKeys` of every target of this site.
    pub fn ca_public_line(&self) -> &str {
        self.inner.authority.public_line()
    }

    /// Its ledger.
    pub fn journal(&self) -> &Arc<Journal> {
        self.inner.site.journal()
    }

    /// What it shares with other kinds.
    pub fn site(&self) -> &Arc<Site> {
        &self.inner.site
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
    fn kind(&self) -> SystemKind {
        SystemKind::Ssh
    }
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
    fn answer<'a>(
        &'a self,
        peer: &'a PeerInfo,
        request: Request,
    ) -> BoxFuture<'a, Option<Result<Response, ConnectorError>>> {
        Box::pin(async move {
            let (Role::Gateway, Request::IssueCertificate { lease, session }) = (peer.role, request) else {
                return None;
            };
            let issued = self.issue(&lease, session).await;
            Some(issued.map(|issued| Response::Certificate {
                seed: issued.seed,
                openssh: issued.certificate,
                serial: issued.serial,
            }))
        })
    }
}

impl Inner {
    fn activate(&self, signed: &SignedLease) -> Result<(), ConnectorError> {
        let lease = self.read_lease(signed, "activate")?;
        let lock = self.site.lock(lease.grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.site.admit(signed, &lease, "activate")?;
        self.site.journal().write(NodeEvent::Activated { grant: state.grant, fencing: state.fencing })
    }

    fn read_lease(&self, signed: &SignedLease, what: &str) -> Result<Lease, ConnectorError> {
        let pinned = |lease: &Lease| HostKeys::parse(&lease.target.host_keys).err();
        self.site.read_lease(signed, what, SystemKind::Ssh, pinned)
    }

    fn issue(&self, signed: &SignedLease, session: SessionId) -> Result<Issued, ConnectorError> {
        let what = "issue a certificate for";
        let lease = self.read_lease(signed, what)?;
        let lock = self.site.lock(lease.grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.site.grants().grant(lease.grant)?.lease.is_some();
        let state = self.site.admit(signed, &lease, what)?;
        if !known {
            // Control was away when it should have told us; its signature on the lease is what counts.
            self.site.journal().write(NodeEvent::Activated { grant: state.grant, fencing: state.fencing })?;
        }
        let now = self.site.journal().now();
        let window = lease.proof.login_window.min(WINDOW_MOST);
        let valid_after = whole_second(now.minus(self.config.clock_slack));
        let valid_before = whole_second(now.plus(window).min(lease.deadline));
        if valid_before <= now {
            return Err(self.site.refuse(lease.grant, what, "less than a second of it is left".to_owned()));
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
        save_certificate(self.site.grants(), lease.grant, &issued)?;
        self.site.journal().write(NodeEvent::CertificateIssued {
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
        let lock = self.site.lock(grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.site.at_least(grant, fencing, "deactivate")?;
        if let Some(tombstone) = state.tombstone.clone()
            && (tombstone.listed || !self.wants_list(&state)?)
            && state.fencing == fencing
        {
            // Told again, perhaps because we died before the leaf: it is written at least once.
            let provable_at = tombstone.provable_at;
            self.site.journal().write(NodeEvent::Deactivated { grant, fencing, provable_at })?;
            return Ok(provable_at);
        }
        let now = self.site.journal().now();
        let issued = certificates(self.site.grants(), grant)?;
        let window_over =
            issued.iter().map(|one| one.valid_before.plus(self.config.settle)).max().unwrap_or(now).max(now);
        let at = state.tombstone.as_ref().map_or(now, |tombstone| tombstone.at);
        state.fencing = fencing;
        state.tombstone = Some(Tombstone { at, provable_at: window_over, listed: false });
        self.site.grants().save_grant(&state)?;
        let mut provable_at = window_over;
        if self.wants_list(&state)? {
            let serials: Vec<(u64, Time)> = issued.iter().map(|one| (one.serial, one.valid_before)).collect();
            match self.krl.revoke(&self.authority, &serials, now) {
                Ok(()) => {
                    provable_at = now;
                    state.tombstone = Some(Tombstone { at, provable_at, listed: true });
                    self.site.grants().save_grant(&state)?;
                }
                Err(error) => {
                    tracing::error!(%grant, error = error.sentence(), "the revocation list was not delivered: the login window must pass");
                }
            }
        }
        self.site.journal().write(NodeEvent::Deactivated { grant, fencing, provable_at })?;
        Ok(provable_at)
    }

    fn wants_list(&self, state: &GrantState) -> Result<bool, ConnectorError> {
        Ok(self.krl.is_delivered()
            && self.site.held_lease(state)?.is_some_and(|lease| lease.proof.revocation_list))
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

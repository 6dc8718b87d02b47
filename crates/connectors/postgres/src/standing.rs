//! Grants with `activation: prepared`: a standing role is opened by a certificate of minutes, for a key that the gateway made.
//! Nothing is written at the server, so it works where nothing can be: a full one, a standby, one without disk.

use std::sync::PoisonError;
use std::time::Duration;

use halligan_connector::ConnectorError;
use halligan_core::catalog::Activation;
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::time::{Span, Time};
use halligan_session::{Lease, NodeEvent, SignedLease};
use tokio::time::timeout;

use crate::authority::{PublicKey, fingerprint};
use crate::connector::{Inner, PostgresConnector, address};
use crate::ending::{Backends, end_standing};
use crate::server::Address;
use crate::slots::{Holder, Slots, Standing};
use crate::state::{Certificates, UserState, change_users, key_of_server, users};

/// Servers' clocks may be so much behind.
const FRONT: Span = Span::seconds(60);
/// So long after its last certificate a role is given to nobody else.
const REST: Span = Span::seconds(5);
/// Longest that a server is asked which roles it has, before what it said last counts.
const ASK_MOST: Duration = Duration::from_secs(3);

/// A certificate for one login.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The standing role.
    pub user: String,
    /// PEM.
    pub certificate: String,
    /// Its serial.
    pub serial: u64,
    /// Until when it opens.
    pub valid_before: Time,
}

impl PostgresConnector {
    /// A certificate that opens the standing role of this lease's grant, for a key of the gateway's. The grant keeps its
    /// role until its end.
    pub async fn issue_certificate(
        &self,
        signed: &SignedLease,
        session: SessionId,
        gateway: &Name,
        public_key: &str,
    ) -> Result<IssuedCertificate, ConnectorError> {
        const WHAT: &str = "sign a client certificate for";
        let key = PublicKey::read(public_key).map_err(ConnectorError::refused)?;
        let lease = {
            let signed = signed.clone();
            self.blocking(move |inner| inner.read_lease(&signed, WHAT)).await?
        };
        if lease.postgres.activation != Activation::Prepared {
            return Err(ConnectorError::refused(format!("grant {} has a user of its own", lease.grant)));
        }
        let inner = &self.inner;
        let at = address(&lease).map_err(ConnectorError::refused)?;
        let busy = inner.busy(lease.grant);
        let _held = busy.lock().await;
        {
            let (signed, lease, at) = (signed.clone(), lease.clone(), at.clone());
            self.blocking(move |inner| inner.admit(&signed, &lease, &at, WHAT)).await?;
        }
        self.note_before(&lease, &at).await?;
        let login = self.take_standing(&lease, &at).await?;
        self.sign_for(&lease, &at, session, gateway, login, key).await
    }

    async fn sign_for(
        &self,
        lease: &Lease,
        at: &Address,
        session: SessionId,
        gateway: &Name,
        login: String,
        key: PublicKey,
    ) -> Result<IssuedCertificate, ConnectorError> {
        let inner = &self.inner;
        let now = inner.site.journal().now();
        let life = i64::try_from(inner.config.certificate_life.as_micros()).unwrap_or(0);
        let until = now.micros().saturating_add(life).min(lease.deadline.micros());
        // Certificates count in seconds.
        let valid_before = Time::from_micros(until.div_euclid(1_000_000) * 1_000_000);
        let valid_after = Time::from_micros(now.minus(FRONT).micros().div_euclid(1_000_000) * 1_000_000);
        if valid_before <= now {
            return Err(ConnectorError::refused(format!("grant {} is about to end", lease.grant)));
        }
        // Only before its first certificate: what stands there afterwards may be its own doing.
        let before = if self.was_let_in(lease.grant, &login).await? {
            None
        } else {
            let look = "SELECT halligan.look($1, $2)::text";
            let group = lease.target.account.as_str();
            let what = "look before a standing role is used";
            let asked = async { inner.servers.call(at, what, look, &[&login, &group]).await };
            timeout(ASK_MOST, asked).await.ok().and_then(Result::ok)
        };
        let serial = serial()?;
        let user = UserState {
            gateway: gateway.clone(),
            valid_until: lease.deadline,
            before,
            certificates: Some(Certificates { count: 1, last: serial, until: valid_before }),
        };
        let leaf = NodeEvent::CertificateIssued {
            grant: lease.grant,
            session,
            serial,
            principal: login.clone(),
            key_sha256: fingerprint(key.bytes()),
            valid_after,
            valid_before,
        };
        let (grant, at) = (lease.grant, at.clone());
        let one = inner.slots.of(key_of_server(&at));
        let _held = one.lock().await;
        self.blocking(move |inner| {
            inner.note_certificate(grant, &at, &login, user, valid_before)?;
            inner.site.journal().write(leaf)?;
            let authority = inner.config.authority.as_ref().ok_or_else(no_authority)?;
            let certificate = authority.sign(&login, &key, serial, valid_after, valid_before)?;
            if inner.site.grants().grant(grant)?.tombstone.is_some() {
                return Err(ConnectorError::refused(format!("grant {grant} has just ended")));
            }
            Ok(IssuedCertificate { user: login, certificate, serial, valid_before })
        })
        .await
    }

    async fn was_let_in(&self, grant: GrantId, login: &str) -> Result<bool, ConnectorError> {
        let known = self.blocking(move |inner| users(inner.site.grants(), grant)).await?;
        Ok(known.users.contains_key(login))
    }

    /// The role that the grant holds, or a free one, which it holds from now on.
    async fn take_standing(&self, lease: &Lease, at: &Address) -> Result<String, ConnectorError> {
        let inner = &self.inner;
        let one = inner.slots.of(key_of_server(at));
        let _held = one.lock().await;
        let mut slots = self.slots(at).await?;
        if let Some(login) = slots.of(lease.grant) {
            return Ok(login.to_owned());
        }
        let group = lease.target.account.as_str();
        match timeout(ASK_MOST, inner.prepared_roles(at)).await {
            Ok(Ok(roles)) => {
                slots.known = roles;
                // What an ended grant held and nobody came round to give back.
                slots = self.blocking(move |inner| inner.give_back_all(slots)).await?;
            }
            Ok(Err(error)) => {
                tracing::warn!(system = %at.system, error = error.sentence(), "the standing roles are those that were seen last");
            }
            Err(_) => {
                tracing::warn!(system = %at.system, "the server does not answer: the standing roles are those that were seen last");
            }
        }
        let mut chosen = slots.free(group).map(|role| role.login.clone());
        if chosen.is_none()
            && let Some(dirty) = slots.free_but_dirty(group).map(|role| role.login.clone())
        {
            end_standing(&inner.servers, at, &dirty).await?;
            slots.known = inner.prepared_roles(at).await?;
            chosen = slots.free(group).map(|role| role.login.clone());
        }
        let Some(login) = chosen else {
            let of_group = slots.known.iter().filter(|role| role.group.as_deref() == Some(group)).count();
            let held = slots.held.keys().filter(|held| slots.known.iter().any(|role| &role.login == *held));
            return Err(ConnectorError::refused(format!(
                "{} has {of_group} standing roles for {group} and none is free ({} in use or resting); `halligan connector postgres-setup --prepared {group}` prints more",
                at.system,
                held.count()
            )));
        };
        let grant = lease.grant;
        // It is held before anything is signed, for no time yet.
        slots.held.insert(login.clone(), Holder { grant, until: Time::from_micros(0) });
        self.blocking(move |inner| slots.save(&inner.site)).await?;
        Ok(login)
    }

    async fn slots(&self, at: &Address) -> Result<Slots, ConnectorError> {
        let at = at.clone();
        self.blocking(move |inner| Slots::read(&inner.site, &at)).await
    }

    /// One pass over the standing roles of a server: backends that no living grant explains end, and what an ended grant
    /// held is put right and given back.
    pub(crate) async fn sweep_standing(&self, at: &Address) -> Result<(), ConnectorError> {
        let inner = &self.inner;
        let roles = inner.prepared_roles(at).await?;
        let mut first = Ok(());
        for role in roles {
            let done = self.sweep_one(at, &role).await;
            first = first.and(done);
        }
        first
    }

    async fn sweep_one(&self, at: &Address, role: &Standing) -> Result<(), ConnectorError> {
        let inner = &self.inner;
        let one = inner.slots.of(key_of_server(at));
        let _held = one.lock().await;
        // Read after the look at the server: whoever is in there was given the role before.
        let holder = self.slots(at).await?.held.get(&role.login).cloned();
        let grant = holder.as_ref().map(|holder| holder.grant);
        if let Some(grant) = grant
            && self.blocking(move |inner| inner.lives(grant)).await?
        {
            return Ok(());
        }
        if holder.is_none() && role.backends == 0 && role.dirt.is_empty() {
            return Ok(());
        }
        if role.backends > 0 {
            let reason = match grant {
                Some(grant) => format!("{} backends outlived grant {grant}", role.backends),
                None => format!("{} backends, and no grant holds it", role.backends),
            };
            let leaf = NodeEvent::DatabaseUserEnded {
                grant,
                system: at.system.clone(),
                user: role.login.clone(),
                reason,
            };
            self.blocking(move |inner| inner.site.journal().write(leaf)).await?;
        }
        end_standing(&inner.servers, at, &role.login).await?;
        if let Some(holder) = holder {
            self.give_back(at, &role.login, &holder).await?;
        }
        Ok(())
    }

    /// A role whose grant has ended is free again once its last certificate is over. The caller holds the slots.
    async fn give_back(&self, at: &Address, login: &str, holder: &Holder) -> Result<(), ConnectorError> {
        let (at, login, holder) = (at.clone(), login.to_owned(), holder.clone());
        self.blocking(move |inner| {
            let mut slots = Slots::read(&inner.site, &at)?;
            let over = holder.until.plus(REST) <= inner.site.journal().now();
            if over && slots.held.get(&login) == Some(&holder) {
                slots.held.remove(&login);
                slots.save(&inner.site)?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that a server has standing roles, so that a connection to it is kept from now on.
    pub(crate) async fn note_standing(
        &self,
        at: &Address,
        known: Vec<Standing>,
    ) -> Result<(), ConnectorError> {
        let one = self.inner.slots.of(key_of_server(at));
        let _held = one.lock().await;
        let at = at.clone();
        self.blocking(move |inner| {
            let mut slots = Slots::read(&inner.site, &at)?;
            slots.known = known;
            slots.save(&inner.site)?;
            crate::state::note_server(&inner.site, &at)?;
            inner.standing.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
            Ok(())
        })
        .await
    }

    /// Terminates the backends of one session at the standing roles of its grant.
    pub(crate) async fn end_standing_session(
        &self,
        at: &Address,
        grant: GrantId,
        which: &Backends,
    ) -> Result<(), ConnectorError> {
        let login = self.slots(at).await?.of(grant).map(str::to_owned);
        match login {
            Some(login) => crate::ending::terminate(&self.inner.servers, at, &login, which).await,
            None => Ok(()),
        }
    }
}

impl Inner {
    /// The standing roles of a server.
    pub(crate) async fn prepared_roles(&self, at: &Address) -> Result<Vec<Standing>, ConnectorError> {
        let sql = "SELECT halligan.prepared_roles()::text";
        self.servers.call(at, "look at the standing roles", sql, &[]).await
    }

    /// Whether a grant is in force here. Blocks.
    pub(crate) fn lives(&self, grant: GrantId) -> Result<bool, ConnectorError> {
        let state = self.site.grants().grant(grant)?;
        let lease = self.site.held_lease(&state)?;
        let now = self.site.journal().now();
        Ok(state.tombstone.is_none() && lease.is_some_and(|lease| lease.deadline > now))
    }

    /// Frees each role whose grant has ended, whose last certificate is over, and that is as it was made. Blocks.
    fn give_back_all(&self, mut slots: Slots) -> Result<Slots, ConnectorError> {
        let now = self.site.journal().now();
        for (login, holder) in slots.held.clone() {
            let clean = slots
                .known
                .iter()
                .any(|role| role.login == login && role.backends == 0 && role.dirt.is_empty());
            if clean && holder.until.plus(REST) <= now && !self.lives(holder.grant)? {
                slots.held.remove(&login);
            }
        }
        Ok(slots)
    }

    /// What is about to be signed, in the grant's file and in the server's.
    fn note_certificate(
        &self,
        grant: GrantId,
        at: &Address,
        login: &str,
        user: UserState,
        until: Time,
    ) -> Result<(), ConnectorError> {
        let mut slots = Slots::read(&self.site, at)?;
        // Whoever took it meanwhile must not be thought to be this grant.
        let Some(holder) = slots.held.get_mut(login).filter(|holder| holder.grant == grant) else {
            return Err(ConnectorError::refused(format!(
                "the standing role {login} has gone to another grant meanwhile: try again"
            )));
        };
        holder.until = holder.until.max(until);
        change_users(&self.site, grant, |known| {
            let held = known.users.get(login);
            let before = held.and_then(|user| user.before.clone()).or(user.before);
            let mut certificates = user.certificates.unwrap_or_default();
            if let Some(earlier) = held.and_then(|user| user.certificates.as_ref()) {
                certificates.count = certificates.count.saturating_add(earlier.count);
                certificates.until = certificates.until.max(earlier.until);
            }
            let certificates = Some(certificates);
            let gateway = user.gateway;
            let valid_until = user.valid_until;
            known.users.insert(login.to_owned(), UserState { gateway, valid_until, before, certificates });
            Ok(())
        })?;
        slots.save(&self.site)?;
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone());
        Ok(())
    }

    /// From when on the end of a grant can be proved, so far as certificates are concerned. Blocks.
    pub(crate) fn certificates_until(&self, grant: GrantId) -> Result<Option<Time>, ConnectorError> {
        let known = users(self.site.grants(), grant)?;
        let ends = known.users.values().filter_map(|user| user.certificates.as_ref().map(|all| all.until));
        Ok(ends.max())
    }
}

/// 63 bits, never 0: whole and positive in X.509.
pub(crate) fn serial() -> Result<u64, ConnectorError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| ConnectorError::Randomness)?;
    Ok((u64::from_be_bytes(bytes) >> 1).max(1))
}

pub(crate) fn no_authority() -> ConnectorError {
    ConnectorError::refused("this connector has no vault for the authority of standing roles")
}

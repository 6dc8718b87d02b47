//! The connector: for which grants a user may be made, and that none is made once a grant has ended.
//!
//! Each effect is written down before it happens: fencing number, lease and tombstone in the grant's file, what stood at
//! the server before a user was made in a file beside it, then the leaf, then the act.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halligan_connector::{Connector, ConnectorError, GrantState, Site, Tombstone};
use halligan_core::catalog::{Activation, SystemKind};
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::proof::Evidence;
use halligan_core::time::{Span, Time};
use halligan_link::messages::{PeerInfo, Request, Response, Role, Seed};
use halligan_session::{BoxFuture, Lease, NodeEvent, SignedLease};
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::PostgresConfig;
use crate::ending::{Backends, end_role, end_standing, terminate};
use crate::locks::Locks;
use crate::names::{grant_of, is_standing, session_role};
use crate::network::Network;
use crate::server::{Address, Servers};
use crate::slots::{Slots, with_standing_roles};
use crate::standing::no_authority;
use crate::state::{Standing, UserState, change_users, note_server, servers, users};
use crate::verifier::RoleKeys;

/// Longest that an activation waits for what stands at a server.
const BEFORE_MOST: Duration = Duration::from_secs(4);
/// Longest that ending a grant at a server may keep its caller.
const END_MOST: Duration = Duration::from_secs(30);

/// A user for one grant at one gateway.
#[derive(Clone, Debug)]
pub struct IssuedUser {
    /// Name of the role.
    pub user: String,
    /// SCRAM's client key; no password exists.
    pub client_key: Seed,
    /// SCRAM's server key.
    pub server_key: Seed,
}

/// The connector for PostgreSQL servers of one site. Clones are the same connector.
#[derive(Clone, Debug)]
pub struct PostgresConnector {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) site: Arc<Site>,
    pub(crate) config: PostgresConfig,
    pub(crate) gateways: Vec<Network>,
    pub(crate) servers: Servers,
    /// Grants that may have users, and where.
    pub(crate) living: Mutex<HashMap<GrantId, Address>>,
    /// Servers with standing roles: a connection to each is always kept.
    pub(crate) standing: Mutex<HashSet<Address>>,
    /// Who holds which standing role of a server is decided one after the other.
    pub(crate) slots: Locks<String>,
    /// A server's log is read by one at a time.
    pub(crate) reading: Locks<String>,
    keys: Mutex<HashMap<String, HeldKeys>>,
    busy: Locks<GrantId>,
}

/// Keys of a role that was made by this process. They are nowhere else.
#[derive(Debug)]
struct HeldKeys {
    grant: GrantId,
    keys: RoleKeys,
    valid_until: Time,
}

/// What a server says of a role that is swept.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Swept {
    pub(crate) login: String,
    pub(crate) ours: bool,
    pub(crate) overdue: bool,
}

impl PostgresConnector {
    /// Beside other kinds, on a site that is open.
    pub fn join(site: Arc<Site>, config: PostgresConfig) -> Result<Self, ConnectorError> {
        let gateways = config.gateways.iter().map(|text| {
            Network::parse(text)
                .ok_or_else(|| ConnectorError::refused(format!("`{text}` is no network of gateways")))
        });
        let gateways = gateways.collect::<Result<_, _>>()?;
        let servers = Servers::new(config.clone());
        let inner = Inner {
            site,
            config,
            gateways,
            servers,
            living: Mutex::default(),
            standing: Mutex::default(),
            slots: Locks::default(),
            reading: Locks::default(),
            keys: Mutex::default(),
            busy: Locks::default(),
        };
        let this = Self { inner: Arc::new(inner) };
        this.inner.recall()?;
        Ok(this)
    }

    /// What it shares with other kinds.
    pub fn site(&self) -> &Arc<Site> {
        &self.inner.site
    }

    /// The user of this lease's grant at this gateway: the one there is, or a new one. `renew` gives it new keys, because
    /// the server refused those that were given.
    pub async fn issue(
        &self,
        signed: &SignedLease,
        session: SessionId,
        gateway: &Name,
        renew: bool,
    ) -> Result<IssuedUser, ConnectorError> {
        const WHAT: &str = "make a database user for";
        tracing::debug!(%session, %gateway, renew, "a database user is asked for");
        let lease = {
            let signed = signed.clone();
            self.blocking(move |inner| inner.read_lease(&signed, WHAT)).await?
        };
        if lease.postgres.activation == Activation::Prepared {
            return Err(ConnectorError::refused(format!(
                "grant {} is for a standing role, which is opened by certificate; this gateway is older",
                lease.grant
            )));
        }
        let inner = &self.inner;
        let at = address(&lease).map_err(ConnectorError::refused)?;
        let login = session_role(lease.grant, gateway);
        let busy = inner.busy(lease.grant);
        let _held = busy.lock().await;
        {
            let (signed, lease, at) = (signed.clone(), lease.clone(), at.clone());
            self.blocking(move |inner| inner.admit(&signed, &lease, &at, WHAT)).await?;
        }
        let held = if renew { None } else { inner.held_keys(&login) };
        if let Some((keys, until)) = &held
            && *until == lease.deadline
        {
            return Ok(issued(login, keys));
        }
        self.note_before(&lease, &at).await?;
        let group = lease.target.account.as_str();
        let look = "SELECT halligan.look($1, $2)::text";
        let before: Standing =
            inner.servers.call(&at, "look before a user is made", look, &[&login, &group]).await?;
        let user = UserState {
            gateway: gateway.clone(),
            valid_until: lease.deadline,
            before: Some(before),
            certificates: None,
        };
        {
            let (grant, login) = (lease.grant, login.clone());
            self.blocking(move |inner| inner.note_user(grant, &login, user)).await?;
        }
        // Of an extended grant only the end is new: sessions that are just logging in must not be refused.
        let keys = match held {
            Some((keys, _)) => keys,
            None => RoleKeys::make()?,
        };
        let note = format!("Halligan: grant {} at {gateway}, person {}", lease.grant, lease.person);
        let connections = i32::try_from(lease.postgres.connections.clamp(1, 1000)).unwrap_or(1000);
        let begin =
            "SELECT halligan.session_begin($1, $2, $3, to_timestamp($4::int8 / 1000000.0), $5, $6)::text";
        let until = lease.deadline.micros();
        let _: serde_json::Value = inner
            .servers
            .call(
                &at,
                "make a session role",
                begin,
                &[&login, &group, &keys.verifier(), &until, &connections, &note],
            )
            .await?;
        let grant = lease.grant;
        let buried = self.blocking(move |inner| Ok(inner.site.grants().grant(grant)?.tombstone.is_some()));
        if buried.await? {
            // Whoever ended it waits for us and then drops what was just made.
            return Err(ConnectorError::refused(format!(
                "failed to {WHAT} grant {grant}: it has just ended"
            )));
        }
        let held = HeldKeys { grant, keys: keys.clone(), valid_until: lease.deadline };
        inner.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(login.clone(), held);
        Ok(IssuedUser {
            user: login,
            client_key: keys.client_key.clone(),
            server_key: keys.server_key.clone(),
        })
    }

    /// Terminates the backends of one session: those that came with its name, and the one of this number if it is one of its
    /// role's.
    pub async fn end_session(
        &self,
        grant: GrantId,
        session: SessionId,
        gateway: &Name,
        backend: Option<u32>,
    ) -> Result<(), ConnectorError> {
        let lease = self.blocking(move |inner| inner.lease_of(grant)).await?;
        let Some(lease) = lease else { return Ok(()) };
        let at = address(&lease).map_err(ConnectorError::refused)?;
        let which = Backends {
            application: Some(format!("halligan:{session}")),
            number: backend.and_then(|number| i32::try_from(number).ok()),
        };
        if lease.postgres.activation == Activation::Prepared {
            return self.end_standing_session(&at, grant, &which).await;
        }
        terminate(&self.inner.servers, &at, &session_role(grant, gateway), &which).await
    }

    /// Ends all users of a grant at its server. What is not done by then is done later, unasked.
    pub(crate) async fn end_grant(&self, grant: GrantId, lease: &Lease) -> Result<(), ConnectorError> {
        let at = address(lease).map_err(ConnectorError::refused)?;
        let inner = &self.inner;
        let ending = async {
            let busy = inner.busy(grant);
            let _held = busy.lock().await;
            let known = self.blocking(move |inner| users(inner.site.grants(), grant)).await?;
            let mut logins: Vec<String> = known.users.into_keys().collect();
            for login in &logins {
                if is_standing(login) {
                    self.end_held(&at, grant, login).await?;
                } else {
                    end_role(&inner.servers, &at, login).await?;
                }
            }
            if lease.postgres.activation == Activation::Prepared {
                return Ok(());
            }
            // Whatever else has the grant's name, as after a restart that forgot.
            let swept: Vec<Swept> = self.inner.sweep(&at).await?;
            let others = swept.into_iter().filter(|one| one.ours && grant_of(&one.login) == Some(grant));
            for other in others.map(|one| one.login) {
                end_role(&inner.servers, &at, &other).await?;
                logins.push(other);
            }
            Ok::<_, ConnectorError>(())
        };
        match timeout(END_MOST, ending).await {
            Ok(ended) => ended?,
            Err(_) => {
                return Err(ConnectorError::refused(format!(
                    "ending the users of grant {grant} at {} took longer than {} seconds",
                    at.system,
                    END_MOST.as_secs()
                )));
            }
        }
        Ok(())
    }

    /// Runs what waits for the disk away from the tasks that must not wait.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ConnectorError> + Send + 'static,
    ) -> Result<T, ConnectorError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| ConnectorError::Inside)?
    }

    /// A standing role that this grant still holds. One that the next grant holds is none of its business any more.
    async fn end_held(&self, at: &Address, grant: GrantId, login: &str) -> Result<(), ConnectorError> {
        let (of, name) = (at.clone(), login.to_owned());
        let held = self.blocking(move |inner| Ok(Slots::read(&inner.site, &of)?.of(grant) == Some(&name)));
        if held.await? { end_standing(&self.inner.servers, at, login).await } else { Ok(()) }
    }

    async fn activate_lease(&self, signed: SignedLease) -> Result<(), ConnectorError> {
        let (lease, at, known) = self
            .blocking(move |inner| {
                let lease = inner.read_lease(&signed, "activate")?;
                let at = address(&lease).map_err(ConnectorError::refused)?;
                inner.admit(&signed, &lease, &at, "activate")?;
                // Told again, it is written again: at least once each.
                inner
                    .site
                    .journal()
                    .write(NodeEvent::Activated { grant: lease.grant, fencing: lease.fencing })?;
                let known = users(inner.site.grants(), lease.grant)?;
                Ok((lease, at, known))
            })
            .await?;
        // Best effort: asked again when the first session wants in.
        let noting = timeout(BEFORE_MOST, self.note_before(&lease, &at));
        if let Ok(Err(error)) = noting.await {
            tracing::warn!(grant = %lease.grant, error = error.sentence(), "what stood at a server before is not known yet");
        }
        // Extended: who is there may log in for longer. What fails here is caught up with by the watch.
        let until = lease.deadline.micros();
        for (login, user) in known.users {
            if user.valid_until >= lease.deadline || user.certificates.is_some() {
                continue;
            }
            let sql = "SELECT halligan.session_until($1, to_timestamp($2::int8 / 1000000.0))::text";
            let done =
                self.inner.servers.call::<bool>(&at, "extend a session role", sql, &[&login, &until]).await;
            if let Err(error) = done {
                tracing::warn!(grant = %lease.grant, error = error.sentence(), "a session role was not extended yet");
            }
        }
        Ok(())
    }

    async fn deactivate_grant(&self, grant: GrantId, fencing: u64) -> Result<Time, ConnectorError> {
        let (provable_at, lease) = self.blocking(move |inner| inner.bury(grant, fencing)).await?;
        if let Some(lease) = lease
            && let Err(error) = self.end_grant(grant, &lease).await
        {
            tracing::warn!(%grant, error = error.sentence(), "the users of an ended grant are not gone yet");
        }
        Ok(provable_at)
    }
}

impl Connector for PostgresConnector {
    fn kind(&self) -> SystemKind {
        SystemKind::Postgres
    }
    fn activate<'a>(&'a self, lease: &'a SignedLease) -> BoxFuture<'a, Result<(), ConnectorError>> {
        Box::pin(self.activate_lease(lease.clone()))
    }
    fn deactivate(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Time, ConnectorError>> {
        Box::pin(self.deactivate_grant(grant, fencing))
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
            Some(match (peer.role, request) {
                (Role::Gateway, Request::IssueDatabaseUser { lease, session, renew }) => self
                    .issue(&lease, session, &peer.name, renew)
                    .await
                    .map(|issued| Response::DatabaseUser {
                        user: issued.user,
                        client_key: issued.client_key,
                        server_key: issued.server_key,
                    }),
                (Role::Gateway, Request::IssueDatabaseCertificate { lease, session, public_key }) => self
                    .issue_certificate(&lease, session, &peer.name, &public_key)
                    .await
                    .map(|issued| Response::DatabaseCertificate {
                        user: issued.user,
                        certificate: issued.certificate,
                        serial: issued.serial,
                        valid_before: issued.valid_before,
                    }),
                (Role::Gateway, Request::EndDatabaseSession { grant, session, backend }) => {
                    self.end_session(grant, session, &peer.name, backend).await.map(|()| Response::Ok)
                }
                (Role::Control, Request::CheckTarget { system, entitlements })
                    if system.kind == SystemKind::Postgres =>
                {
                    let findings = crate::check::check(self, &system, &entitlements).await;
                    findings.map(|findings| Response::TargetChecked { findings })
                }
                _ => return None,
            })
        })
    }
    fn keep_watch(&self) -> BoxFuture<'_, ()> {
        Box::pin(crate::watch::keep_watch(self))
    }
}

fn issued(user: String, keys: &RoleKeys) -> IssuedUser {
    IssuedUser { user, client_key: keys.client_key.clone(), server_key: keys.server_key.clone() }
}

/// Where a lease leads.
pub(crate) fn address(lease: &Lease) -> Result<Address, String> {
    Address::of(&lease.target.system, &lease.target.address, lease.target.postgres.as_ref())
}

impl Inner {
    /// One effect of ours on a grant at a time, across calls to the server.
    pub(crate) fn busy(&self, grant: GrantId) -> Arc<tokio::sync::Mutex<()>> {
        self.busy.of(grant)
    }

    /// After a restart: which grants may have users. Blocks.
    fn recall(&self) -> Result<(), ConnectorError> {
        let standing = with_standing_roles(self)?;
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).extend(standing);
        for grant in self.site.grants().all()? {
            let state = self.site.grants().grant(grant)?;
            if state.proven.is_some() {
                continue;
            }
            let lease =
                self.site.held_lease(&state)?.filter(|lease| lease.target.kind == SystemKind::Postgres);
            if let Some(at) = lease.and_then(|lease| address(&lease).ok()) {
                self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(grant, at);
            }
        }
        Ok(())
    }

    pub(crate) fn lease_of(&self, grant: GrantId) -> Result<Option<Lease>, ConnectorError> {
        let state = self.site.grants().grant(grant)?;
        let lease = self.site.held_lease(&state)?;
        Ok(lease.filter(|lease| lease.target.kind == SystemKind::Postgres))
    }

    pub(crate) fn read_lease(&self, signed: &SignedLease, what: &str) -> Result<Lease, ConnectorError> {
        let wrong = |lease: &Lease| {
            if lease.postgres.replication {
                return Some("replication connections are not supported yet".to_owned());
            }
            if lease.postgres.activation == Activation::Prepared && self.config.authority.is_none() {
                return Some(no_authority().to_string());
            }
            address(lease).err()
        };
        self.site.read_lease(signed, what, SystemKind::Postgres, wrong)
    }

    pub(crate) fn admit(
        &self,
        signed: &SignedLease,
        lease: &Lease,
        at: &Address,
        what: &str,
    ) -> Result<GrantState, ConnectorError> {
        let lock = self.site.lock(lease.grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.site.grants().grant(lease.grant)?.lease.is_some();
        let state = self.site.admit(signed, lease, what)?;
        note_server(&self.site, at)?;
        if !known && what != "activate" {
            // Control was away when it should have told us; its signature on the lease is what counts.
            self.site.journal().write(NodeEvent::Activated { grant: state.grant, fencing: state.fencing })?;
        }
        self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.grant, at.clone());
        Ok(state)
    }

    /// What stood at the server before the *first* user of this name counts.
    fn note_user(&self, grant: GrantId, login: &str, user: UserState) -> Result<(), ConnectorError> {
        let leaf = NodeEvent::DatabaseUserMade {
            grant,
            gateway: user.gateway.clone(),
            user: login.to_owned(),
            valid_until: user.valid_until,
        };
        change_users(&self.site, grant, |known| {
            let before = known.users.get(login).and_then(|user| user.before.clone()).or(user.before);
            known.users.insert(login.to_owned(), UserState { before, ..user });
            Ok(())
        })?;
        self.site.journal().write(leaf)
    }

    fn bury(&self, grant: GrantId, fencing: u64) -> Result<(Time, Option<Lease>), ConnectorError> {
        let lock = self.site.lock(grant);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.site.at_least(grant, fencing, "deactivate")?;
        let lease = self.site.held_lease(&state)?;
        let tombstone = match state.tombstone.clone() {
            Some(tombstone) => tombstone,
            None => {
                let now = self.site.journal().now();
                // Servers judge certificates by their own clock, to the second.
                let over = self.certificates_until(grant)?.map(|until| until.plus(Span::seconds(2)));
                Tombstone { at: now, provable_at: over.map_or(now, |over| over.max(now)), listed: false }
            }
        };
        let provable_at = tombstone.provable_at;
        if state.tombstone.is_none() || state.fencing != fencing {
            state.fencing = fencing;
            state.tombstone = Some(tombstone);
            self.site.grants().save_grant(&state)?;
        }
        self.forget_keys(grant);
        self.site.journal().write(NodeEvent::Deactivated { grant, fencing, provable_at })?;
        Ok((provable_at, lease))
    }

    fn held_keys(&self, login: &str) -> Option<(RoleKeys, Time)> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(login).map(|held| (held.keys.clone(), held.valid_until))
    }

    pub(crate) fn forget_keys(&self, grant: GrantId) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, held| held.grant != grant);
    }

    /// Every role at a server that has a name of ours.
    pub(crate) async fn sweep(&self, at: &Address) -> Result<Vec<Swept>, ConnectorError> {
        self.servers.call(at, "sweep", "SELECT halligan.sweep()::text", &[]).await
    }

    /// Every server where users may be. Blocks.
    pub(crate) fn known_servers(&self) -> Result<Vec<Address>, ConnectorError> {
        servers(&self.site)
    }
}

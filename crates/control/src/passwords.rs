//! Passwords for gateways, made for one person, one entitlement and a short time: one-time ones for tools that know neither
//! keys nor certificates, connect passwords for databases. Control keeps neither; of the latter it keeps
//! what gateways check them by (see `connect_passwords.rs`).

use halligan_core::catalog::{ResolvedEntitlement, SystemKind};
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{EntitlementName, Name};
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::time::{Span, Time};
use halligan_link::messages::{Request, Response};
use halligan_link::{Peer, Role};
use halligan_session::control_plane::one_time_password_digest;
use halligan_session::scram::{ScramKeys, ScramSalt};
use halligan_session::secret::Secret;
use halligan_store::Order;
use zeroize::Zeroizing;

use crate::connect_passwords::Outstanding;
use crate::control::Control;
use crate::documents::parse;
use crate::error::ControlError;
use crate::people::sign_in::Caller;

/// A one-time password dies after this, used or not.
pub const LIFETIME: Span = Span::minutes(2);
/// A connect password takes no new connection after this.
pub const CONNECT_LIFETIME: Span = Span::minutes(10);

/// A password for one login.
pub struct OneTimePassword {
    /// The login name, `role+system`.
    pub login: String,
    /// 128 random bits, hex.
    pub password: Zeroizing<String>,
    /// When it dies.
    pub expires_at: Time,
}

/// A password for connections to a database, of one grant.
pub struct ConnectPassword {
    /// The login name, `role+system`.
    pub login: String,
    /// 128 random bits, hex.
    pub password: Zeroizing<String>,
    /// It takes no new connection from then on.
    pub expires_at: Time,
    /// Databases that the entitlement opens.
    pub databases: Vec<String>,
    /// Most connections at one time.
    pub connections: u32,
    /// Gateways that take it.
    pub gateways: Vec<Name>,
}

/// What a password is for.
struct Door {
    grant: Grant,
    resolved: ResolvedEntitlement,
    gateways: Vec<Peer>,
}

impl Control {
    /// Makes a password by which the caller can log in once at the gateways of the system's site. Needs a grant in force.
    pub async fn one_time_password(
        &self,
        caller: &Caller,
        entitlement: &EntitlementName,
    ) -> Result<OneTimePassword, ControlError> {
        let door = self.door(caller, entitlement).await?;
        if door.resolved.system.kind != SystemKind::Ssh {
            return Err(Refusal::new(
                RefusalCode::DoesNotFit,
                format!(
                    "{} takes connect passwords, which are good for several connections",
                    entitlement.system
                ),
            )
            .next(format!("`halligan password {entitlement}` makes one"))
            .into());
        }
        let password = random_password()?;
        let expires_at = self.now().plus(LIFETIME).min(door.grant.deadline.unwrap_or_default());
        self.note_password(caller, "one_time_password_made", entitlement, &door.grant).await?;
        let sha256 = one_time_password_digest(&Secret::new(password.to_string()));
        self.tell_gateways(&door, || Request::PutOneTimePassword {
            person: caller.person.clone(),
            entitlement: entitlement.clone(),
            sha256: sha256.clone(),
            expires: expires_at,
        })
        .await?;
        Ok(OneTimePassword { login: login(entitlement), password, expires_at })
    }

    /// Makes a password by which the caller's database tools can connect through the gateways of the system's site, from
    /// one address, for ten minutes. Needs a grant in force. Gateways get SCRAM's keys, never the password.
    pub async fn connect_password(
        &self,
        caller: &Caller,
        entitlement: &EntitlementName,
    ) -> Result<ConnectPassword, ControlError> {
        let door = self.door(caller, entitlement).await?;
        let system = &door.resolved.system;
        let (SystemKind::Postgres, Some(target)) = (system.kind, &system.postgres) else {
            return Err(Refusal::new(
                RefusalCode::DoesNotFit,
                format!("{} is no database; connect passwords are for databases", system.name),
            )
            .into());
        };
        let capabilities = &door.resolved.entitlement.postgres;
        let password = random_password()?;
        let expires_at = self.now().plus(CONNECT_LIFETIME).min(door.grant.deadline.unwrap_or_default());
        self.note_password(caller, "connect_password_made", entitlement, &door.grant).await?;
        let login = login(entitlement);
        let salt = ScramSalt::of_login(&*self.keys().scram_salt, &login);
        let secret = Secret::new(password.to_string());
        // Thousands of rounds of hashing.
        let keys = tokio::task::spawn_blocking(move || ScramKeys::from_password(&secret, &salt))
            .await
            .map_err(ControlError::local("make the keys of a password"))?;
        let (stored_key, server_key) = Outstanding::keys(&keys);
        let one = Outstanding {
            person: caller.person.clone(),
            entitlement: entitlement.clone(),
            grant: door.grant.id,
            site: system.site.clone(),
            stored_key,
            server_key,
            expires: expires_at,
            client: None,
        };
        self.keep_connect_password(&one).await?;
        let gateways = self.tell_gateways(&door, || one.request()).await?;
        Ok(ConnectPassword {
            login,
            password,
            expires_at,
            databases: capabilities.databases_of(target).to_vec(),
            connections: capabilities.connections,
            gateways,
        })
    }

    /// The caller's grant of this entitlement, in force now, and the gateways that lead there.
    async fn door(&self, caller: &Caller, entitlement: &EntitlementName) -> Result<Door, ControlError> {
        if caller.sign_in.scopes.is_some() {
            return Err(Refusal::new(RefusalCode::NotAllowed, "an API token makes no passwords").into());
        }
        let no_grant = || {
            Refusal::new(RefusalCode::NotAllowed, format!("you have no active grant of {entitlement}"))
                .next(format!("ask for it: `halligan request {entitlement}`"))
        };
        let now = self.now();
        let person = caller.person.as_str();
        let page = self.store().by_index("grant", "person", person, None, 200, Order::Descending).await?;
        let grants: Result<Vec<Grant>, _> =
            page.iter().map(|document| parse(&document.key, &document.body)).collect();
        let active = grants?.into_iter().find(|grant| {
            grant.entitlement == *entitlement
                && grant.state == GrantState::Active
                && grant.deadline.is_some_and(|deadline| now < deadline)
        });
        let Some(grant) = active else { return Err(no_grant().into()) };
        let in_force = self.in_force();
        let Some(resolved) = in_force.entitlement(self.store(), entitlement).await? else {
            return Err(no_grant().into());
        };
        let gateways = self.peers(Role::Gateway, &resolved.system.site);
        if gateways.is_empty() {
            return Err(unreachable(&resolved.system.site));
        }
        Ok(Door { grant, resolved, gateways })
    }

    async fn note_password(
        &self,
        caller: &Caller,
        what: &str,
        entitlement: &EntitlementName,
        grant: &Grant,
    ) -> Result<(), ControlError> {
        let body = LeafBody::Identity {
            what: what.to_owned(),
            person: caller.person.to_string(),
            detail: format!("{entitlement}, {}", grant.id),
        };
        self.note(&caller.actor(), body, Vec::new()).await.map(drop)
    }

    /// Tells every gateway; says which took it. One is enough.
    async fn tell_gateways(
        &self,
        door: &Door,
        request: impl Fn() -> Request,
    ) -> Result<Vec<Name>, ControlError> {
        let (mut told, mut said) = (Vec::new(), None);
        for gateway in &door.gateways {
            match gateway.call(request()).await {
                Ok(Response::Ok) => told.push(gateway.info().name.clone()),
                Ok(Response::Error { say }) => said = Some(say),
                other => {
                    tracing::warn!(gateway = %gateway.info().name, answer = ?other.map(|answer| answer.name()), "a gateway did not take a password")
                }
            }
        }
        match (told.is_empty(), said) {
            (false, _) => Ok(told),
            (true, Some(say)) => {
                Err(Refusal::new(RefusalCode::Blocked, format!("no gateway took the password: {say}"))
                    .next("log in with a registered key or a certificate, or try again")
                    .into())
            }
            (true, None) => Err(unreachable(&door.resolved.system.site)),
        }
    }
}

fn login(entitlement: &EntitlementName) -> String {
    format!("{}+{}", entitlement.role, entitlement.system)
}

fn random_password() -> Result<Zeroizing<String>, ControlError> {
    let mut raw = Zeroizing::new([0u8; 16]);
    getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
    Ok(Zeroizing::new(hex::encode(*raw)))
}

fn unreachable(site: &Name) -> ControlError {
    Refusal::new(RefusalCode::Blocked, format!("no gateway of site {site} can be told of a password now"))
        .next("log in with a registered key or a certificate, or try again")
        .into()
}

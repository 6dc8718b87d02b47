//! One-time passwords for gateways, for tools that know neither keys nor certificates.

use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::EntitlementName;
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::time::{Span, Time};
use halligan_link::Role;
use halligan_link::messages::{Request, Response};
use halligan_session::control_plane::one_time_password_digest;
use halligan_session::secret::Secret;
use halligan_store::Order;
use zeroize::Zeroizing;

use crate::control::Control;
use crate::documents::parse;
use crate::error::ControlError;
use crate::people::sign_in::Caller;

/// A password dies after this, used or not.
pub const LIFETIME: Span = Span::minutes(2);

/// A password for one login.
pub struct OneTimePassword {
    /// The login name, `role+system`.
    pub login: String,
    /// 128 random bits, hex.
    pub password: Zeroizing<String>,
    /// When it dies.
    pub expires_at: Time,
}

impl Control {
    /// Makes a password by which the caller can log in once at the gateways of the system's site. Needs a grant in force.
    pub async fn one_time_password(
        &self,
        caller: &Caller,
        entitlement: &EntitlementName,
    ) -> Result<OneTimePassword, ControlError> {
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
        let site = &resolved.system.site;
        let gateways = self.peers(Role::Gateway, site);
        let unreachable = || {
            Refusal::new(
                RefusalCode::Blocked,
                format!("no gateway of site {site} can be told of a password now"),
            )
            .next("log in with a registered key or a certificate, or try again")
        };
        if gateways.is_empty() {
            return Err(unreachable().into());
        }
        let mut raw = Zeroizing::new([0u8; 16]);
        getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
        let password = Zeroizing::new(hex::encode(*raw));
        let expires_at = now.plus(LIFETIME).min(grant.deadline.unwrap_or(now));
        let body = LeafBody::Identity {
            what: "one_time_password_made".into(),
            person: caller.person.to_string(),
            detail: format!("{entitlement}, {}", grant.id),
        };
        self.note(&caller.actor(), body, Vec::new()).await?;
        let sha256 = one_time_password_digest(&Secret::new(password.to_string()));
        let mut told = 0;
        for gateway in gateways {
            let put = Request::PutOneTimePassword {
                person: caller.person.clone(),
                entitlement: entitlement.clone(),
                sha256: sha256.clone(),
                expires: expires_at,
            };
            match gateway.call(put).await {
                Ok(Response::Ok) => told += 1,
                other => {
                    tracing::warn!(gateway = %gateway.info().name, answer = ?other.map(|answer| answer.name()), "a gateway did not take a one-time password")
                }
            }
        }
        if told == 0 {
            return Err(unreachable().into());
        }
        Ok(OneTimePassword {
            login: format!("{}+{}", entitlement.role, entitlement.system),
            password,
            expires_at,
        })
    }
}

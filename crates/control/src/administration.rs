//! What people do to nodes, and login certificates: rights are checked, then the act is done and kept in the ledger.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_core::catalog::OfficeName;
use halligan_core::ids::Name;
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::time::{Span, Time};
use halligan_link::{JoinToken, PeerInfo};

use crate::control::Control;
use crate::error::ControlError;
use crate::people::sign_in::Caller;

/// A login certificate lives at most this long.
pub const CERTIFICATE_LONGEST: Span = Span::hours(8);
/// A join token lives at most this long.
pub const JOIN_LONGEST: Span = Span::hours(24);

impl Control {
    /// Only a person with the office of cloud administrator, by a code for this very act.
    async fn cloud_administrator(&self, caller: &Caller, code: &str) -> Result<(), ControlError> {
        let holds = self.in_force().head.catalog.holds(&caller.person, OfficeName::CloudAdministrator);
        if caller.sign_in.scopes.is_some() || !holds {
            return Err(Refusal::new(
                RefusalCode::NotAllowed,
                "that takes the office of cloud-administrator",
            )
            .into());
        }
        self.step_up(caller, code, true).await.map(drop)
    }

    /// Fewer than two administrators can sign in: second persons cannot be demanded yet.
    pub async fn single_administrator(&self) -> Result<bool, ControlError> {
        Ok(self.administrators().await? < 2)
    }

    async fn asked(
        &self,
        caller: &Caller,
        what: &str,
        node: &Name,
        detail: String,
    ) -> Result<(), ControlError> {
        let body = LeafBody::Node { what: what.to_owned(), node: node.to_string(), detail };
        self.note(&caller.actor(), body, Vec::new()).await.map(drop)
    }

    /// Makes a join token, as [`Control::join_token`], for a person who may.
    pub async fn join_token_for(
        &self,
        caller: &Caller,
        code: &str,
        info: PeerInfo,
        address: Option<String>,
        lifetime: Span,
    ) -> Result<JoinToken, ControlError> {
        if lifetime == Span::ZERO || lifetime > JOIN_LONGEST {
            return Err(Refusal::new(
                RefusalCode::Limit,
                format!("a join token lives for at most {JOIN_LONGEST}"),
            )
            .into());
        }
        self.cloud_administrator(caller, code).await?;
        self.asked(caller, "join_token_asked", &info.name, info.to_string()).await?;
        self.join_token(info, address, lifetime).await
    }

    /// Expels a node, as [`Control::expel`], for a person who may.
    pub async fn expel_for(&self, caller: &Caller, code: &str, name: &Name) -> Result<(), ControlError> {
        self.cloud_administrator(caller, code).await?;
        self.asked(caller, "expulsion_asked", name, String::new()).await?;
        self.expel(name).await
    }

    /// A certificate by which gateways know the caller by the key `public`; says until when it is valid.
    pub async fn login_certificate_for(
        &self,
        caller: &Caller,
        public: &str,
        lifetime: Option<Span>,
    ) -> Result<(String, Time), ControlError> {
        if caller.sign_in.scopes.is_some() {
            return Err(Refusal::new(RefusalCode::NotAllowed, "an API token gets no certificate").into());
        }
        let lifetime = certificate_life(lifetime)?;
        let now = self.now();
        let certificate = match self.keys().login_certificate(&caller.person, public, now, lifetime) {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::debug!(error = %crate::timers::chain(&error), "a public key was not taken");
                return Err(Refusal::new(
                    RefusalCode::DoesNotFit,
                    "this is not a public key that can be signed",
                )
                .next("give the line of an Ed25519 key, made by `ssh-keygen -t ed25519`")
                .into());
            }
        };
        let body = LeafBody::Identity {
            what: "login_certificate_made".into(),
            person: caller.person.to_string(),
            detail: format!("until {}", now.plus(lifetime)),
        };
        self.note(&caller.actor(), body, Vec::new()).await?;
        Ok((certificate, now.plus(lifetime)))
    }

    /// An X.509 certificate (PEM) by which gateways know the caller by the key `public` (PEM) in TLS; says until when it is
    /// valid.
    pub async fn client_certificate_for(
        &self,
        caller: &Caller,
        public: &str,
        lifetime: Option<Span>,
    ) -> Result<(String, Time), ControlError> {
        if caller.sign_in.scopes.is_some() {
            return Err(Refusal::new(RefusalCode::NotAllowed, "an API token gets no certificate").into());
        }
        let lifetime = certificate_life(lifetime)?;
        let now = self.now();
        let public = public_key(public).unwrap_or_default();
        let certificate =
            self.keys().client.sign(&caller.person, &public, now, lifetime).map_err(|error| {
                tracing::debug!(error = %crate::timers::chain(&error), "a public key was not taken");
                Refusal::new(RefusalCode::DoesNotFit, "this is not a public key that can be signed").next(
                    "give a key of NIST P-256 (PEM), made by `openssl ecparam -name prime256v1 -genkey`",
                )
            })?;
        let body = LeafBody::Identity {
            what: "client_certificate_made".into(),
            person: caller.person.to_string(),
            detail: format!("until {}", now.plus(lifetime)),
        };
        self.note(&caller.actor(), body, Vec::new()).await?;
        Ok((certificate, now.plus(lifetime)))
    }
}

fn certificate_life(wanted: Option<Span>) -> Result<Span, Refusal> {
    let lifetime = wanted.unwrap_or(CERTIFICATE_LONGEST);
    if lifetime == Span::ZERO || lifetime > CERTIFICATE_LONGEST {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("a login certificate lives for at most {CERTIFICATE_LONGEST}"),
        ));
    }
    Ok(lifetime)
}

/// What stands between the lines of a public key's PEM.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let (_, inside) = pem.get(..4096.min(pem.len()))?.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (inside, _) = inside.split_once("-----END PUBLIC KEY-----")?;
    STANDARD.decode(inside.split_ascii_whitespace().collect::<String>()).ok()
}

//! Who somebody is: by registered key or by a certificate of `halligan login` (SSH or X.509), all from the roster and without
//! control; or by a one-time or connect password.

use std::sync::Arc;

use halligan_core::ids::PersonId;
use halligan_link::Request;
use halligan_session::ScramSalt;
use halligan_session::control_plane::{ClientConnection, LoginProof, Person, Refusal};
use halligan_session::end_reason::printable;
use sha2::Digest as _;

use crate::connect_passwords::{Found, Tried, Used};
use crate::countdown::Reading;
use crate::engine::Engine;
use crate::metrics::count;
use crate::one_time::LOGIN_REFUSED;
use crate::{certificate, client_certificate};

impl Engine {
    /// Whether it is worth asking the client to sign with this.
    pub fn knows_key(&self, openssh: &str) -> bool {
        let Some(roster) = self.roster() else { return false };
        if certificate::is_certificate(openssh) {
            certificate::check(openssh, &roster.roster().login_ca, self.journal.now())
                .is_ok_and(|found| roster.person_by_id(&found.person, String::new(), None).is_some())
        } else {
            roster.person_by_key(openssh, String::new()).is_some()
        }
    }

    /// See [`halligan_session::ControlPlane::scram_salt`].
    pub fn scram_salt(&self, login: &str) -> ScramSalt {
        let key = self.roster().and_then(|roster| roster.scram_salt_key()).unwrap_or(self.own_salt_key);
        ScramSalt::of_login(&key, login)
    }

    /// See [`halligan_session::ControlPlane::login`].
    pub async fn login(
        self: &Arc<Self>,
        proof: LoginProof,
        from: &ClientConnection,
    ) -> Result<Person, Refusal> {
        let (what, known) = match &proof {
            LoginProof::PublicKey { .. } => ("login by key", None),
            LoginProof::Certificate { .. } => ("login by certificate", None),
            LoginProof::ClientCertificate { login, .. } => {
                ("login by client certificate", Some(printable(login, 140)))
            }
            LoginProof::OneTimePassword { login, .. } => {
                ("login by one-time password", Some(printable(login, 140)))
            }
            LoginProof::Scram { login, .. } => ("login by connect password", Some(printable(login, 140))),
        };
        // It says nothing of anybody but of what was shown.
        let says_why = matches!(proof, LoginProof::ClientCertificate { .. });
        match self.recognise(proof, from).await {
            Ok(person) => {
                count(&self.metrics.logins);
                Ok(person)
            }
            Err((person, reason)) => {
                count(&self.metrics.logins_refused);
                let what = known.map_or_else(|| what.to_owned(), |login| format!("{what} as {login}"));
                self.tell_refused(person, &what, &from.client.to_string(), &reason);
                Err(match says_why {
                    true => Refusal::new(format!("This client certificate lets nobody in: {reason}.")),
                    false => Refusal::new(LOGIN_REFUSED),
                })
            }
        }
    }

    async fn recognise(
        self: &Arc<Self>,
        proof: LoginProof,
        from: &ClientConnection,
    ) -> Result<Person, (Option<PersonId>, String)> {
        let no = |reason: &str| (None, reason.to_owned());
        let roster = self.roster().ok_or_else(|| no("no roster has been received"))?;
        match proof {
            LoginProof::PublicKey { openssh } => {
                let how = format!("key {}", fingerprint(&openssh));
                roster.person_by_key(&openssh, how.clone()).ok_or_else(|| (None, format!("unknown {how}")))
            }
            LoginProof::Certificate { openssh } => {
                let found = certificate::check(&openssh, &roster.roster().login_ca, self.journal.now())
                    .map_err(|error| (None, error.to_string()))?;
                let how = format!("login certificate {}", found.serial);
                roster.person_by_id(&found.person, how, None).ok_or_else(|| {
                    (Some(found.person), "the person of this certificate is not in the roster".to_owned())
                })
            }
            LoginProof::ClientCertificate { certificate, .. } => {
                let authorities = &roster.roster().client_ca;
                let found = client_certificate::check(&certificate, authorities, self.journal.now())
                    .map_err(|error| (None, error.to_string()))?;
                let how = format!("client certificate {}", found.serial);
                roster
                    .person_by_id(&found.person, how, None)
                    .ok_or_else(|| (Some(found.person), "its person may not log in (any more)".to_owned()))
            }
            LoginProof::Scram { login, auth_message, client_proof } => {
                let now = Reading { wall: self.journal.now(), boot: self.clock.boot() };
                let tried = Tried {
                    login: &login,
                    auth_message: &auth_message,
                    client_proof: &client_proof,
                    client: from.client.ip().to_canonical(),
                };
                let found =
                    self.connect_passwords.take(tried, now).map_err(|denied| (None, denied.to_string()))?;
                let Found { person, entitlement, grant, server_signature, first } = found;
                if let Some(used) = first {
                    self.tell_used(used);
                }
                roster.person_by_connect_password(&person, entitlement, grant, server_signature).ok_or_else(
                    || (Some(person), "the person of this password is not in the roster".to_owned()),
                )
            }
            LoginProof::OneTimePassword { login, password } => {
                let engine = Arc::clone(self);
                let now = Reading { wall: self.journal.now(), boot: self.clock.boot() };
                let (person, entitlement) =
                    tokio::task::spawn_blocking(move || engine.one_time.take(&login, &password, now))
                        .await
                        .map_err(|_| no("the gateway is stopping"))?
                        .map_err(|denied| (None, denied.to_string()))?;
                roster.person_by_id(&person, "one-time password".to_owned(), Some(entitlement)).ok_or_else(
                    || (Some(person), "the person of this password is not in the roster".to_owned()),
                )
            }
        }
    }
}

impl Engine {
    /// Tells control from where a connect password was used first, so that it holds at every gateway.
    pub fn tell_used(&self, used: Used) {
        let Some(control) = self.links.control() else { return };
        let Used { entitlement, password, client } = used;
        self.runtime.spawn(async move {
            let told = control.call(Request::ConnectPasswordUsed { entitlement, password, client }).await;
            if let Err(error) = told {
                tracing::debug!(%error, "control was not told of the first use of a connect password");
            }
        });
    }
}

/// As `ssh-keygen -l` shows a key: SHA-256 of its blob, base64 without padding.
fn fingerprint(openssh: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    let blob = openssh
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|body| STANDARD.decode(body).ok())
        .unwrap_or_default();
    format!("SHA256:{}", STANDARD_NO_PAD.encode(sha2::Sha256::digest(blob)))
}

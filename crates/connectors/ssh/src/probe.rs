//! One connection to a target: old certificates are offered and must be refused, then a fresh one must be accepted.
//!
//! No channel is ever opened. As every SSH client does, an offer goes first and the real signature follows when the
//! target asks for it (RFC 4252, section 7); a target that says no to the offer has refused the certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halligan_core::time::Time;
use russh::client::{self, AuthResult, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::{Certificate, PrivateKey};
use russh::{Disconnect, MethodKind, SshId};
use tokio::time::timeout;

use crate::authority::seconds;
use crate::host_key::{HostKeys, fingerprint};

const CONNECT_MOST: Duration = Duration::from_secs(10);
const ANSWER_MOST: Duration = Duration::from_secs(10);

/// Where to knock.
#[derive(Clone, Debug)]
pub struct Door {
    /// `host:port`.
    pub address: String,
    /// The account.
    pub account: String,
    /// What the host may show.
    pub host_keys: HostKeys,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Credential {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: Arc<PrivateKey>,
}

/// What one connection found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Every old certificate was refused and the fresh one accepted. `host_key` is the host's fingerprint.
    Shut {
        /// `SHA256:…`.
        host_key: String,
    },
    /// The old certificate with this serial was accepted, alone or as one of several factors.
    Open {
        /// Which.
        serial: u64,
    },
    /// It cannot be told; in words why.
    Unclear {
        /// The reason.
        why: String,
        /// How many old ones were refused before.
        refused: usize,
        /// Whether the target hung up in the middle.
        hung_up: bool,
    },
}

impl Found {
    fn unclear(why: impl Into<String>) -> Self {
        Self::Unclear { why: why.into(), refused: 0, hung_up: false }
    }
}

struct Pins {
    host_keys: HostKeys,
    host: String,
    now: u64,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Pins {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint(shown));
        Ok(self.host_keys.accept(shown, &self.host, self.now))
    }
}

/// Offers `old` in order, then `fresh`, on one connection. Takes at most ten seconds to connect and ten for each answer.
pub async fn knock(door: &Door, old: &[Credential], fresh: &Credential, now: Time) -> Found {
    let shown = Arc::new(Mutex::new(None));
    let handle = match timeout(CONNECT_MOST, connect(door, now, &shown)).await {
        Ok(Ok(handle)) => handle,
        Ok(Err(russh::Error::UnknownKey)) => {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
            return Found::unclear(format!(
                "{} showed the host key {shown}, which is not pinned for it; nothing was offered to it",
                door.address
            ));
        }
        Ok(Err(error)) => return Found::unclear(format!("{} could not be reached: {error}", door.address)),
        Err(_) => {
            let seconds = CONNECT_MOST.as_secs();
            return Found::unclear(format!("{} did not answer within {seconds} s", door.address));
        }
    };
    let mut handle = handle;
    let found = offer_all(&mut handle, door, old, fresh).await;
    let _ = timeout(Duration::from_secs(1), handle.disconnect(Disconnect::ByApplication, "", "")).await;
    match found {
        Found::Shut { .. } => Found::Shut {
            host_key: shown.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default(),
        },
        other => other,
    }
}

async fn connect(
    door: &Door,
    now: Time,
    shown: &Arc<Mutex<Option<String>>>,
) -> Result<Handle<Pins>, russh::Error> {
    let config = client::Config {
        client_id: SshId::Standard("SSH-2.0-Halligan".into()),
        preferred: door.host_keys.preferred(),
        inactivity_timeout: Some(ANSWER_MOST * 2),
        nodelay: true,
        ..client::Config::default()
    };
    let host = door.address.rsplit_once(':').map_or(door.address.as_str(), |(host, _)| host);
    let pins = Pins {
        host_keys: door.host_keys.clone(),
        host: host.trim_matches(['[', ']']).to_owned(),
        now: seconds(now),
        shown: Arc::clone(shown),
    };
    client::connect(Arc::new(config), door.address.as_str(), pins).await
}

async fn offer_all(handle: &mut Handle<Pins>, door: &Door, old: &[Credential], fresh: &Credential) -> Found {
    for (refused, credential) in old.iter().enumerate() {
        let serial = credential.certificate.serial();
        match offer(handle, door, credential).await {
            Answer::Accepted | Answer::OneFactor => return Found::Open { serial },
            Answer::Refused => {}
            Answer::Lost(why) => {
                let why = format!("after {refused} refused certificates {why}");
                return Found::Unclear { why, refused, hung_up: true };
            }
        }
    }
    let refused = old.len();
    let serial = fresh.certificate.serial();
    let unclear = |why: String, hung_up| Found::Unclear { why, refused, hung_up };
    match offer(handle, door, fresh).await {
        Answer::Accepted => Found::Shut { host_key: String::new() },
        Answer::OneFactor => unclear(
            format!(
                "the fresh probe certificate {serial} alone is not enough there: the target wants further factors"
            ),
            false,
        ),
        Answer::Refused => unclear(
            format!(
                "the fresh probe certificate {serial} was refused as well, so a refusal proves nothing: the target may \
                 not trust this site's CA, not list the principal for {}, lack the revocation list it wants, see us \
                 come from another address, or its clock may be off",
                door.account
            ),
            false,
        ),
        Answer::Lost(why) => unclear(format!("at the fresh probe certificate {serial} {why}"), true),
    }
}

enum Answer {
    Accepted,
    OneFactor,
    Refused,
    Lost(String),
}

async fn offer(handle: &mut Handle<Pins>, door: &Door, credential: &Credential) -> Answer {
    let offered = handle.authenticate_openssh_cert(
        door.account.as_str(),
        Arc::clone(&credential.key),
        credential.certificate.clone(),
    );
    match timeout(ANSWER_MOST, offered).await {
        Ok(Ok(AuthResult::Success)) => Answer::Accepted,
        Ok(Ok(AuthResult::Failure { partial_success: true, .. })) => Answer::OneFactor,
        // A lost connection reads as a failure that leaves no method.
        Ok(Ok(AuthResult::Failure { remaining_methods, .. })) => {
            if remaining_methods.contains(&MethodKind::PublicKey) {
                Answer::Refused
            } else {
                Answer::Lost("the target hung up, or takes no more keys".to_owned())
            }
        }
        Ok(Err(error)) => Answer::Lost(format!("the connection was lost: {error}")),
        Err(_) => Answer::Lost(format!("the target did not answer within {} s", ANSWER_MOST.as_secs())),
    }
}

//! What a protocol may ask: who somebody is, and a session for them. Nothing else of control is known on the data path.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Weak;

use halligan_core::ids::{EntitlementName, GrantId, Name, PersonId};
use sha2::Digest as _;

use crate::cancel::{CancelDesk, CancelRequest};
use crate::roster::RosterPerson;
use crate::scram::ScramSalt;
use crate::secret::Secret;
use crate::session::Session;

/// A boxed future, so that the traits here can be used behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a client comes from and which gateway it reached.
#[derive(Clone, Debug)]
pub struct ClientConnection {
    /// The client's address as the socket says it.
    pub client: SocketAddr,
    /// This gateway's name.
    pub gateway: Name,
}

/// Proof of who somebody is. Built only after the protocol itself verified the signature by the key in question; not
/// `Clone`, and taken by value, so that one proof is one login.
#[derive(Debug)]
pub enum LoginProof {
    /// The client signed with this key.
    PublicKey {
        /// `ssh-ed25519 AAAA…`, no comment.
        openssh: String,
    },
    /// The client signed with the key inside this certificate of `halligan login`. The gateway checks the CA, the
    /// validity, the principal and the key id.
    Certificate {
        /// `ssh-ed25519-cert-v01@openssh.com AAAA…`, no comment.
        openssh: String,
    },
    /// In the TLS handshake the client signed with the key inside this X.509 certificate, which names the authority of
    /// `halligan login` as its issuer. The gateway checks the signature on it, the validity and the person.
    ClientCertificate {
        /// The login name, `role+system`; for the ledger.
        login: String,
        /// DER.
        certificate: Vec<u8>,
    },
    /// A password made for one person, one entitlement and two minutes.
    OneTimePassword {
        /// The login name, `role+system`.
        login: String,
        /// What was typed.
        password: Secret,
    },
    /// The client proved by SCRAM-SHA-256 that it knows a connect password. The protocol verified channel binding and
    /// nonces; the gateway finds whose password it is.
    Scram {
        /// The login name, `role+system`, for which the client was given [`ControlPlane::scram_salt`].
        login: String,
        /// The `AuthMessage` of RFC 5802.
        auth_message: Vec<u8>,
        /// The proof.
        client_proof: [u8; 32],
    },
}

/// Somebody whom a gateway recognised. Made only from a roster that control signed (see [`crate::roster`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their immutable id.
    pub id: PersonId,
    /// Their name for recordings and messages.
    pub name: String,
    /// How they proved who they are, in words for the ledger.
    pub how: String,
    /// After a login by SCRAM: what the client is answered, by which it knows us.
    pub server_signature: Option<[u8; 32]>,
    only: Option<EntitlementName>,
    grant: Option<GrantId>,
}

impl Person {
    pub(crate) fn vouched(found: &RosterPerson, how: String, only: Option<EntitlementName>) -> Self {
        Self {
            id: found.id.clone(),
            name: found.name.clone(),
            how,
            server_signature: None,
            only,
            grant: None,
        }
    }

    pub(crate) fn by_connect_password(
        found: &RosterPerson,
        entitlement: EntitlementName,
        grant: GrantId,
        server_signature: [u8; 32],
    ) -> Self {
        Self {
            server_signature: Some(server_signature),
            grant: Some(grant),
            ..Self::vouched(found, "connect password".to_owned(), Some(entitlement))
        }
    }

    /// Whether this login may be used for `entitlement`: a one-time password is bound to one.
    pub fn may_open(&self, entitlement: &EntitlementName) -> bool {
        self.only.as_ref().is_none_or(|only| only == entitlement)
    }

    /// Whether this login may be used on `grant`: a connect password is bound to one.
    pub fn may_use(&self, grant: GrantId) -> bool {
        self.grant.is_none_or(|only| only == grant)
    }
}

/// No, and why: a sentence for the person, without secrets and without saying what others may do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{say}")]
pub struct Refusal {
    /// The sentence.
    pub say: String,
}

impl Refusal {
    /// A refusal in these words.
    pub fn new(say: impl Into<String>) -> Self {
        Self { say: say.into() }
    }
}

/// All that a protocol may know of the control plane.
pub trait ControlPlane: Send + Sync + 'static {
    /// Whether it is worth asking the client to sign with this public key or certificate (text as in [`LoginProof`]).
    /// Only a hint: yes is no login.
    fn knows_key(&self, openssh: &str) -> bool;

    /// What a client that gives this login name is told before it proves itself. Names that nobody has look the same, in
    /// answer and time.
    fn scram_salt(&self, login: &str) -> ScramSalt;

    /// Who this is. Every failure reads alike (but for client certificates, which say what is wrong with them); failures are
    /// counted, slowed and recorded.
    fn login<'a>(
        &'a self,
        proof: LoginProof,
        from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Person, Refusal>>;

    /// From now on cancel requests that came to other gateways are brought to this desk, for as long as it is there.
    fn takes_cancels(&self, desk: Weak<dyn CancelDesk>) {
        drop(desk);
    }

    /// The request's key was given out by another gateway: it is brought there, if that can be done, without an answer.
    fn pass_cancel(&self, request: CancelRequest) {
        drop(request);
    }

    /// A session for this person on this entitlement, recorded from here on. Nothing has been dialled yet.
    fn open<'a>(
        &'a self,
        person: &'a Person,
        entitlement: &'a EntitlementName,
        from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Session, Refusal>>;
}

/// Reads a login name `role+system` as the entitlement it stands for. The last `+` divides, names hold none.
pub fn entitlement_of_login(login: &str) -> Option<EntitlementName> {
    let (role, system) = login.rsplit_once('+')?;
    Some(EntitlementName { system: Name::new(system).ok()?, role: Name::new(role).ok()? })
}

/// Stands before a one-time password when it is digested.
pub const ONE_TIME_PASSWORD_DOMAIN: &[u8] = b"halligan-one-time-password-v1\0";

/// How control tells a gateway of a one-time password without saying it: SHA-256 over the domain and the password, hex.
/// Only for passwords of 128 bits, or ten characters behind the gateway's limit on tries.
pub fn one_time_password_digest(password: &Secret) -> String {
    let mut hash = sha2::Sha256::new();
    hash.update(ONE_TIME_PASSWORD_DOMAIN);
    hash.update(password.expose().as_bytes());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_name_is_read_one_way_only() {
        assert_eq!(entitlement_of_login("root+orders-host").unwrap().to_string(), "orders-host/root");
        for bad in ["root", "+x", "root+", "a+b+c", "Root+x", "root+x\n", ""] {
            assert!(entitlement_of_login(bad).is_none(), "{bad:?}");
        }
    }
}

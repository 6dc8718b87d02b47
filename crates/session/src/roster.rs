//! The roster: what control tells its nodes about people and nodes, signed, so that a gateway can recognise both while
//! control is away.

use std::collections::HashMap;

use ed25519_dalek::VerifyingKey;
use halligan_core::ids::{EntitlementName, GrantId, Name, PersonId};
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::control_plane::Person;
use crate::signed::BadSigned;

/// Stands before what is signed, so that the signature means nothing elsewhere.
pub const ROSTER_DOMAIN: &[u8] = b"halligan-roster-v1\0";
/// A roster larger than this is refused before it is parsed. (A link's frame is the tighter limit.)
pub const ROSTER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The principal that every certificate of `halligan login` carries. A certificate without it opens no gateway.
pub const LOGIN_PRINCIPAL: &str = "halligan-login";
/// The name (`CN`, and nothing else) of the authority that signs client certificates of `halligan login`. It is the same
/// everywhere, so that clients can be told whose certificate is wanted.
pub const CLIENT_CA_NAME: &str = "Halligan login";

/// Who people and nodes are. Serialised as JSON inside [`SignedRoster`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Format, 1.
    pub version: u32,
    /// Grows with every roster; a node keeps the highest and refuses lower ones.
    pub serial: u64,
    /// When control signed it, by control's clock.
    pub issued_at: Time,
    /// Public keys (`ssh-ed25519 AAAA…`) of the CA that signs the certificates of `halligan login`. Such a certificate
    /// carries the person's id as key id and [`LOGIN_PRINCIPAL`] as a principal.
    pub login_ca: Vec<String>,
    /// Self-signed certificates (DER, base64) of the authority named [`CLIENT_CA_NAME`], which signs the X.509 certificates of
    /// `halligan login`. Such a certificate carries the person's id as its one `CN`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ca: Vec<String>,
    /// Verifier key of control's ledger, whose checkpoints nodes cosign. Empty from a control that has none cosigned.
    #[serde(default)]
    pub ledger_key: String,
    /// People who may sign in.
    pub people: Vec<RosterPerson>,
    /// Nodes that may speak on links.
    pub nodes: Vec<RosterNode>,
    /// Key of the salts of login names, 64 hexadecimal digits (see [`crate::scram::ScramSalt::of_login`]). It never moves,
    /// so that a password works at every gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scram_salt_key: String,
}

/// A person who may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterPerson {
    /// Who.
    pub id: PersonId,
    /// Their name for recordings and messages.
    pub name: String,
    /// Registered SSH public keys, each `type base64` without a comment.
    pub ssh_keys: Vec<String>,
}

/// A node of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterNode {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub role: NodeRole,
    /// Its site.
    pub site: Name,
    /// SHA-256 of its link key (SubjectPublicKeyInfo), hex.
    pub key_sha256: String,
    /// `host:port` where it listens for links, if it does.
    pub address: Option<String>,
}

/// The three roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Decides.
    Control,
    /// Carries sessions.
    Gateway,
    /// Makes, ends and proves credentials.
    Connector,
}

/// A roster with control's signature over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRoster {
    /// JSON of a [`Roster`].
    pub payload: String,
    /// Ed25519 over [`ROSTER_DOMAIN`] and the payload, hex.
    pub signature: String,
}

/// A roster whose signature has been checked, indexed. The only source of [`Person`] values.
#[derive(Debug)]
pub struct VerifiedRoster {
    roster: Roster,
    by_key: HashMap<String, usize>,
    by_id: HashMap<PersonId, usize>,
}

impl VerifiedRoster {
    /// Checks and indexes. A key that two people claim is nobody's, and one person listed twice is refused.
    pub fn check(signed: &SignedRoster, control: &VerifyingKey) -> Result<Self, BadSigned> {
        let roster = signed.verify(control)?;
        let mut by_key: HashMap<String, Option<usize>> = HashMap::new();
        let mut by_id = HashMap::new();
        for (place, person) in roster.people.iter().enumerate() {
            if by_id.insert(person.id.clone(), place).is_some() {
                let why = format!("{} stands in it twice", person.id);
                return Err(BadSigned::Contradiction { what: "roster", why });
            }
            for key in &person.ssh_keys {
                by_key
                    .entry(without_comment(key))
                    .and_modify(|owner| {
                        if *owner != Some(place) {
                            *owner = None;
                        }
                    })
                    .or_insert(Some(place));
            }
        }
        let by_key = by_key.into_iter().filter_map(|(key, owner)| Some((key, owner?))).collect();
        Ok(Self { roster, by_key, by_id })
    }

    /// What it says.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The person who registered this public key (`type base64`; a comment is ignored). `how` is shown in the ledger.
    pub fn person_by_key(&self, openssh: &str, how: String) -> Option<Person> {
        let place = *self.by_key.get(&without_comment(openssh))?;
        self.roster.people.get(place).map(|found| Person::vouched(found, how, None))
    }

    /// The person with this id, for a caller that has verified another proof of who they are. `only` binds the login to
    /// one entitlement.
    pub fn person_by_id(&self, id: &PersonId, how: String, only: Option<EntitlementName>) -> Option<Person> {
        let place = *self.by_id.get(id)?;
        self.roster.people.get(place).map(|found| Person::vouched(found, how, only))
    }

    /// The person with this id, for a gateway that has verified the proof of a connect password made for this entitlement
    /// and grant. `server_signature` is what the client is answered.
    pub fn person_by_connect_password(
        &self,
        id: &PersonId,
        entitlement: EntitlementName,
        grant: GrantId,
        server_signature: [u8; 32],
    ) -> Option<Person> {
        let place = *self.by_id.get(id)?;
        let found = self.roster.people.get(place)?;
        Some(Person::by_connect_password(found, entitlement, grant, server_signature))
    }

    /// The key of the salts, if control has given one.
    pub fn scram_salt_key(&self) -> Option<[u8; 32]> {
        let mut key = [0; 32];
        hex::decode_to_slice(&self.roster.scram_salt_key, &mut key).ok()?;
        Some(key)
    }
}

/// `type base64` of an OpenSSH public key line.
pub fn without_comment(openssh: &str) -> String {
    let mut words = openssh.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(kind), Some(body)) => format!("{kind} {body}"),
        (Some(kind), None) => kind.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn person(id: &str, keys: &[&str]) -> RosterPerson {
        RosterPerson {
            id: Name::new(id).unwrap(),
            name: id.to_uppercase(),
            ssh_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    fn checked(people: Vec<RosterPerson>) -> Result<VerifiedRoster, BadSigned> {
        let key = SigningKey::from_bytes(&[3; 32]);
        let roster = Roster { version: 1, serial: 1, people, ..Roster::default() };
        VerifiedRoster::check(&SignedRoster::sign(&roster, &key).unwrap(), &key.verifying_key())
    }

    #[test]
    fn a_key_belongs_to_one_person_or_to_nobody() {
        let roster = checked(vec![
            person("ana", &["ssh-ed25519 AAAA ana@laptop", "ssh-ed25519 SHARED"]),
            person("bo", &["ssh-ed25519 SHARED bo@desk"]),
        ])
        .unwrap();
        let found = roster.person_by_key("ssh-ed25519 AAAA", "key".to_owned()).unwrap();
        assert_eq!(found.id.as_str(), "ana");
        assert!(roster.person_by_key("ssh-ed25519 SHARED", "key".to_owned()).is_none());
        assert!(roster.person_by_key("ssh-ed25519 OTHER", "key".to_owned()).is_none());
        assert!(roster.person_by_key("", "key".to_owned()).is_none());
    }

    #[test]
    fn one_person_listed_twice_is_refused() {
        assert!(checked(vec![person("ana", &[]), person("ana", &["ssh-ed25519 AAAA"])]).is_err());
    }
}

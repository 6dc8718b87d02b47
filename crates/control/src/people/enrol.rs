//! Enrolment: a one-time link by which a person sets password and authenticator, and registers keys.
//!
//! The very first one is written to the console or a private file and dies in 30 minutes; it is never first-come on the
//! port. Later ones are made by an administrator and, once two administrators exist, confirmed by another one.

use halligan_core::catalog::{Catalog, Office, OfficeName, Person};
use halligan_core::command::Actor;
use halligan_core::ids::PersonId;
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::time::{Span, Time};
use halligan_store::{Commit, CommitError, DocumentKey, DocumentWrite};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::account::{Account, RegisteredKey};
use super::password::PasswordHash;
use super::sign_in::Caller;
use super::totp;
use crate::catalog::{CatalogHead, head_key};
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;

/// The first enrolment dies after this.
pub const FIRST_LIFETIME: Span = Span::minutes(30);
/// Later ones after this.
pub const LIFETIME: Span = Span::hours(24);

/// An enrolment as it is stored: never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Whose.
    pub person: PersonId,
    /// Who made it; none for the first.
    pub made_by: Option<PersonId>,
    /// When it dies.
    pub expires_at: Time,
    /// It has been used up.
    pub used: bool,
    /// Must a second administrator confirm it first?
    pub needs_confirmation: bool,
    /// Who did.
    pub confirmed_by: Option<PersonId>,
}

fn key(digest: &str) -> DocumentKey {
    DocumentKey::new("enrolment", digest)
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest([b"halligan-enrolment-v1\0".as_slice(), secret.as_bytes()].concat()))
}

fn dead() -> ControlError {
    Refusal::new(RefusalCode::NotFound, "this enrolment is not known, used up, or dead")
        .next("ask an administrator for a new one: `halligan people invite`")
        .into()
}

impl Control {
    /// Whether nobody has an account yet.
    pub async fn is_fresh(&self) -> Result<bool, ControlError> {
        Ok(self.store().list("account", None, 1, halligan_store::Order::Ascending).await?.is_empty())
    }

    /// The first start: a catalog with one administrator, and an enrolment for them. `None` if somebody has an account.
    pub async fn first_enrolment(
        &self,
        person: &PersonId,
    ) -> Result<Option<Zeroizing<String>>, ControlError> {
        if !self.is_fresh().await? {
            return Ok(None);
        }
        if self.in_force().document.is_none() {
            let mut catalog = Catalog { organisation: "Halligan".to_owned(), ..Catalog::default() };
            catalog.people.insert(person.clone(), Person { name: person.to_string(), ..Person::default() });
            let office = Office { people: [person.clone()].into(), ..Office::default() };
            catalog.offices.insert(OfficeName::CloudAdministrator, office);
            let head = CatalogHead { version: 1, systems_generation: 0, catalog };
            let body = bytes(&head)?;
            let leaf = LeafBody::CatalogApplied {
                version: 1,
                sha256: hex::encode(Sha256::digest(&body)),
                systems: 0,
                systems_sha256: hex::encode(Sha256::digest([])),
                changes: vec![format!("first start: {person} is the only administrator")],
                rolls_back_to: None,
            };
            self.note(&Actor::Clock, leaf, vec![DocumentWrite::put(head_key(), 0, body)]).await?;
            self.refresh_catalog().await?;
        }
        let (secret, _) = self.make_enrolment(person, None, FIRST_LIFETIME, false).await?;
        Ok(Some(secret))
    }

    async fn make_enrolment(
        &self,
        person: &PersonId,
        made_by: Option<&PersonId>,
        lifetime: Span,
        needs_confirmation: bool,
    ) -> Result<(Zeroizing<String>, String), ControlError> {
        let mut raw = Zeroizing::new([0u8; 16]);
        getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
        let secret = Zeroizing::new(format!("enrol_{}", hex::encode(*raw)));
        let digest = digest(&secret);
        let enrolment = Enrolment {
            person: person.clone(),
            made_by: made_by.cloned(),
            expires_at: self.now().plus(lifetime),
            used: false,
            needs_confirmation,
            confirmed_by: None,
        };
        let mut write = DocumentWrite::put(key(&digest), 0, bytes(&enrolment)?);
        let id: String = digest.chars().take(16).collect();
        write.indexes = vec![("id".to_owned(), id.clone())];
        let body = LeafBody::Identity {
            what: "enrolment_made".into(),
            person: person.to_string(),
            detail: id.clone(),
        };
        let actor =
            made_by.map_or(Actor::Clock, |id| Actor::Person { id: id.clone(), factor: None, token: false });
        self.note(&actor, body, vec![write]).await?;
        Ok((secret, id))
    }

    /// People who hold the office of cloud administrator or security officer and can sign in.
    pub(crate) async fn administrators(&self) -> Result<usize, ControlError> {
        let in_force = self.in_force();
        let mut count = 0;
        for office in [OfficeName::CloudAdministrator, OfficeName::SecurityOfficer] {
            for person in in_force.head.catalog.holders(office) {
                if self
                    .account(&person)
                    .await?
                    .is_some_and(|(account, _)| !account.disabled && account.totp_enrolled_at.is_some())
                {
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    fn administrator(&self, caller: &Caller) -> Result<(), ControlError> {
        let in_force = self.in_force();
        let holds = |office| in_force.head.catalog.holds(&caller.person, office);
        if caller.sign_in.scopes.is_none()
            && (holds(OfficeName::CloudAdministrator) || holds(OfficeName::SecurityOfficer))
        {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::NotAllowed,
            "that takes the office of cloud-administrator or security-officer",
        )
        .into())
    }

    /// A second factor shown in this sign-in within the time that the catalog's settings allow.
    fn shown_lately(&self, caller: &Caller) -> Result<(), ControlError> {
        let span = self.in_force().head.catalog.settings.factor_fresh_for;
        let fresh = caller.sign_in.factor.as_ref().is_some_and(|factor| self.now().since(factor.at) <= span);
        if fresh {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::SecondFactor,
            format!("this needs a second factor used in the last {span}"),
        )
        .next("give the code of your authenticator: --totp 123456")
        .into())
    }

    /// Makes an enrolment for somebody: their first, or a reset. Says its secret and id, and whether a second
    /// administrator must confirm it before it works.
    pub async fn invite(
        &self,
        caller: &Caller,
        person: &PersonId,
        code: Option<&str>,
    ) -> Result<(Zeroizing<String>, String, bool), ControlError> {
        self.administrator(caller)?;
        if self.in_force().head.catalog.people.get(person).is_none_or(|found| found.left) {
            return Err(Refusal::not_found(format_args!("person {person}")).into());
        }
        match code {
            Some(code) => {
                self.step_up(caller, code, true).await?;
            }
            // Inviting a whole team takes one code: what counts is that it was shown lately.
            None => self.shown_lately(caller)?,
        }
        let needs = self.administrators().await? >= 2;
        let (secret, id) = self.make_enrolment(person, Some(&caller.person), LIFETIME, needs).await?;
        Ok((secret, id, needs))
    }

    /// A second administrator confirms an enrolment by its id.
    pub async fn confirm_enrolment(
        &self,
        caller: &Caller,
        id: &str,
        code: &str,
    ) -> Result<PersonId, ControlError> {
        self.administrator(caller)?;
        let page =
            self.store().by_index("enrolment", "id", id, None, 1, halligan_store::Order::Ascending).await?;
        let Some(document) = page.first() else { return Err(dead()) };
        let mut enrolment: Enrolment = parse(&document.key, &document.body)?;
        if enrolment.made_by.as_ref() == Some(&caller.person) || enrolment.person == caller.person {
            return Err(Refusal::new(
                RefusalCode::SeparationOfDuties,
                "somebody else must confirm this enrolment",
            )
            .into());
        }
        self.step_up(caller, code, true).await?;
        enrolment.confirmed_by = Some(caller.person.clone());
        let mut write = DocumentWrite::put(document.key.clone(), document.revision, bytes(&enrolment)?);
        write.indexes = vec![("id".to_owned(), id.to_owned())];
        let body = LeafBody::Identity {
            what: "enrolment_confirmed".into(),
            person: enrolment.person.to_string(),
            detail: id.to_owned(),
        };
        self.note(&caller.actor(), body, vec![write]).await?;
        Ok(enrolment.person)
    }

    async fn enrolment(&self, secret: &str) -> Result<(Enrolment, halligan_store::Document), ControlError> {
        if secret.len() > 64 {
            return Err(dead());
        }
        let Some(document) = self.store().get(&key(&digest(secret))).await? else { return Err(dead()) };
        let enrolment: Enrolment = parse(&document.key, &document.body)?;
        if enrolment.used || self.now() >= enrolment.expires_at {
            return Err(dead());
        }
        if enrolment.needs_confirmation && enrolment.confirmed_by.is_none() {
            return Err(Refusal::new(
                RefusalCode::Blocked,
                "a second administrator has not confirmed this enrolment yet",
            )
            .into());
        }
        Ok((enrolment, document))
    }

    /// First half of an enrolment: an authenticator's address, to be shown once. Nothing counts yet.
    pub async fn begin_enrolment(&self, secret: &str) -> Result<(PersonId, Zeroizing<String>), ControlError> {
        let (enrolment, _) = self.enrolment(secret).await?;
        let mut raw = Zeroizing::new([0u8; 20]);
        getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
        let (mut secrets, document) = self.secrets(&enrolment.person).await?;
        secrets.totp_pending = Some(Zeroizing::new(hex::encode(*raw)));
        let write = self.seal(&enrolment.person, &secrets, document.as_ref())?;
        let commit = Commit { documents: vec![write], commit_time: self.now().micros(), ..Commit::default() };
        self.store().commit(commit).await?;
        let issuer = self.in_force().head.catalog.organisation.clone();
        let issuer = if issuer.is_empty() { "Halligan".to_owned() } else { format!("Halligan {issuer}") };
        let address = totp::provisioning(&*raw, enrolment.person.as_str(), &issuer)?;
        Ok((enrolment.person, address))
    }

    /// Second half: a password and the first code. From here on the person can sign in; the enrolment is used up.
    pub async fn finish_enrolment(
        &self,
        secret: &str,
        password: Zeroizing<String>,
        code: &str,
    ) -> Result<PersonId, ControlError> {
        let (mut enrolment, enrolment_document) = self.enrolment(secret).await?;
        let person = enrolment.person.clone();
        let (mut secrets, document) = self.secrets(&person).await?;
        let Some(pending) = secrets.totp_pending.take() else {
            return Err(Refusal::new(RefusalCode::WrongState, "begin the enrolment first").into());
        };
        let now = self.now();
        let raw = Zeroizing::new(
            hex::decode(pending.as_str()).map_err(ControlError::local("read an authenticator's secret"))?,
        );
        let Some(step) = totp::step_of(&raw, code.trim(), now, 0)? else {
            return Err(Refusal::new(
                RefusalCode::SecondFactor,
                "the code does not fit the authenticator that is being enrolled",
            )
            .next("check the clock of the device, and give the code that it shows now")
            .into());
        };
        secrets.password = Some(PasswordHash::make(password).await?);
        secrets.totp = Some(pending);
        secrets.totp_last_step = step;
        let sealed = self.seal(&person, &secrets, document.as_ref())?;
        let (mut account, revision) = self.account(&person).await?.unwrap_or((
            Account {
                person: person.clone(),
                created_at: now,
                password_set_at: None,
                totp_enrolled_at: None,
                ssh_keys: Vec::new(),
                disabled: false,
            },
            0,
        ));
        account.password_set_at = Some(now);
        account.totp_enrolled_at = Some(now);
        enrolment.used = true;
        let mut spent = DocumentWrite::put(
            enrolment_document.key.clone(),
            enrolment_document.revision,
            bytes(&enrolment)?,
        );
        let id: String = enrolment_document.key.id.chars().take(16).collect();
        spent.indexes = vec![("id".to_owned(), id)];
        let writes =
            vec![sealed, DocumentWrite::put(Account::key(&person), revision, bytes(&account)?), spent];
        let body = LeafBody::Identity {
            what: "factor_enrolled".into(),
            person: person.to_string(),
            detail: "password and authenticator".into(),
        };
        let actor = Actor::Person { id: person.clone(), factor: None, token: false };
        match self.note(&actor, body, writes).await {
            Ok(_) => Ok(person),
            Err(ControlError::Commit(CommitError::Conflict { .. })) => Err(dead()),
            Err(error) => Err(error),
        }
    }

    /// Registers an SSH public key of the caller's own. Needs a code of its own.
    pub async fn add_ssh_key(
        &self,
        caller: &Caller,
        openssh: &str,
        label: &str,
        code: &str,
    ) -> Result<Account, ControlError> {
        let parsed = russh::keys::PublicKey::from_openssh(openssh).map_err(|_| {
            Refusal::new(RefusalCode::DoesNotFit, "this is not an SSH public key")
                .next("give the line of the file that ends in .pub")
        })?;
        let text = parsed.to_openssh().map_err(ControlError::local("read the public key"))?;
        let text: String = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        self.step_up(caller, code, true).await?;
        let now = self.now();
        let (mut account, revision) = self.account(&caller.person).await?.ok_or_else(dead)?;
        if account.ssh_keys.len() >= 20 {
            return Err(Refusal::new(RefusalCode::Limit, "at most 20 keys can be registered").into());
        }
        if account.ssh_keys.iter().any(|key| key.openssh == text) {
            return Ok(account);
        }
        for other in Account::all(self.store()).await? {
            if other.ssh_keys.iter().any(|key| key.openssh == text) {
                return Err(Refusal::new(RefusalCode::Limit, "this key is registered already")
                    .next("make a key of your own with `ssh-keygen -t ed25519`")
                    .into());
            }
        }
        let label = label.chars().filter(|c| !c.is_control()).take(100).collect();
        account.ssh_keys.push(RegisteredKey { openssh: text.clone(), label, added_at: now });
        let body = LeafBody::Identity {
            what: "ssh_key_added".into(),
            person: caller.person.to_string(),
            detail: text,
        };
        self.note(
            &caller.actor(),
            body,
            vec![DocumentWrite::put(Account::key(&caller.person), revision, bytes(&account)?)],
        )
        .await?;
        self.push_roster().await?;
        Ok(account)
    }

    /// Takes one of the caller's keys away. Reducing is easy: no code is needed.
    pub async fn remove_ssh_key(&self, caller: &Caller, openssh: &str) -> Result<Account, ControlError> {
        let wanted: String = openssh.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let (mut account, revision) = self.account(&caller.person).await?.ok_or_else(dead)?;
        let before = account.ssh_keys.len();
        account.ssh_keys.retain(|key| key.openssh != wanted);
        if account.ssh_keys.len() == before {
            return Err(Refusal::not_found("this key").into());
        }
        let body = LeafBody::Identity {
            what: "ssh_key_removed".into(),
            person: caller.person.to_string(),
            detail: wanted,
        };
        self.note(
            &caller.actor(),
            body,
            vec![DocumentWrite::put(Account::key(&caller.person), revision, bytes(&account)?)],
        )
        .await?;
        self.push_roster().await?;
        Ok(account)
    }

    /// Shuts a person out at once: no sign-in, no token, no key. An administrator can do it alone, since it reduces.
    pub async fn disable(&self, caller: &Caller, person: &PersonId) -> Result<(), ControlError> {
        self.administrator(caller)?;
        let (mut account, revision) = self.account(person).await?.ok_or_else(dead)?;
        account.disabled = true;
        let body =
            LeafBody::Identity { what: "disabled".into(), person: person.to_string(), detail: String::new() };
        self.note(
            &caller.actor(),
            body,
            vec![DocumentWrite::put(Account::key(person), revision, bytes(&account)?)],
        )
        .await?;
        self.push_roster().await
    }
}

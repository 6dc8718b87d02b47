//! Signing in: a password and an authenticator's code become a token; a token becomes an actor.

use std::net::IpAddr;

use halligan_core::catalog::FactorKind;
use halligan_core::command::{Actor, FactorUse};
use halligan_core::ids::PersonId;
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_core::time::{Span, Time};
use halligan_store::{CommitError, DocumentKey, DocumentWrite, Order};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::account::Account;
use super::password::{LONGEST, PasswordHash};
use super::totp;
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;

/// A sign-in lasts this long.
pub const LIFETIME: Span = Span::hours(12);
/// The longest life of an API token.
pub const TOKEN_LONGEST: Span = Span::days(365);

/// A sign-in or API token as it is stored: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// First 16 hexadecimal digits of the token's SHA-256: names it in lists.
    pub id: String,
    /// Whose.
    pub person: PersonId,
    /// When it was made.
    pub created_at: Time,
    /// When it dies.
    pub expires_at: Time,
    /// The second factor shown last in it.
    pub factor: Option<FactorUse>,
    /// The owner's word for it, or the client's name.
    pub label: String,
    /// From where.
    pub client: String,
    /// An API token, with what it may do.
    pub scopes: Option<Vec<Scope>>,
    /// Ended before its time.
    pub ended: bool,
}

/// What an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read what its person may see.
    Read,
    /// File standard requests.
    Request,
    /// Read metrics.
    Metrics,
}

/// Somebody whose token was good.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub person: PersonId,
    /// The sign-in.
    pub sign_in: SignIn,
}

impl Caller {
    /// The actor of a command, with the factor shown last in this sign-in.
    pub fn actor(&self) -> Actor {
        self.actor_with(self.sign_in.factor.clone())
    }
    /// The actor of a command, with a factor shown for it.
    pub fn actor_with(&self, factor: Option<FactorUse>) -> Actor {
        Actor::Person { id: self.person.clone(), factor, token: self.sign_in.scopes.is_some() }
    }
}

fn refused(say: &str) -> ControlError {
    Refusal::new(RefusalCode::NotAllowed, say).into()
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest([b"halligan-sign-in-v1\0".as_slice(), token.as_bytes()].concat()))
}

fn key(token_digest: &str) -> DocumentKey {
    DocumentKey::new("sign-in", token_digest)
}

impl Control {
    /// Signs a person in. The same answer and time for an unknown person, a wrong password and a wrong code.
    pub async fn sign_in(
        &self,
        name: &str,
        password: Zeroizing<String>,
        code: Option<&str>,
        from: Option<IpAddr>,
        label: &str,
    ) -> Result<(Zeroizing<String>, SignIn), ControlError> {
        let now = self.now();
        let wait = self.0.throttle.wait(name, from, now);
        if wait > Span::ZERO {
            return Err(Refusal::new(
                RefusalCode::Limit,
                format!("too many failed sign-ins; try again in {} s", wait.as_seconds() + 1),
            )
            .into());
        }
        if password.len() > LONGEST {
            return Err(refused("name, password or code is wrong"));
        }
        let person: Option<PersonId> = name.parse().ok();
        let good = match &person {
            Some(person) => self.check(person, password, code).await?,
            None => {
                PasswordHash::pretend(password).await?;
                None
            }
        };
        let (Some(person), Some(factor)) = (person, good) else {
            self.0.throttle.failed(name, from, now);
            self.count("sign_ins_refused");
            let shown: String = name.chars().take(64).flat_map(char::escape_default).collect();
            let body =
                LeafBody::Identity { what: "sign_in_refused".into(), person: shown, detail: client(from) };
            self.note(&Actor::Clock, body, Vec::new()).await?;
            return Err(refused("name, password or code is wrong"));
        };
        self.0.throttle.worked(name);
        self.count("sign_ins");
        let body =
            LeafBody::Identity { what: "signed_in".into(), person: person.to_string(), detail: client(from) };
        self.make_token(&person, LIFETIME, Some(factor), label, &client(from), None, body).await
    }

    /// The factor shown, if password and code are right. Somebody without an authenticator cannot sign in by password.
    async fn check(
        &self,
        person: &PersonId,
        password: Zeroizing<String>,
        code: Option<&str>,
    ) -> Result<Option<FactorUse>, ControlError> {
        let (secrets, _) = self.secrets(person).await?;
        let known = self.may_sign_in(person).await?;
        let fits = match &secrets.password {
            Some(hash) => hash.fits(password).await?,
            None => {
                PasswordHash::pretend(password).await?;
                false
            }
        };
        if !fits || !known {
            return Ok(None);
        }
        match code {
            Some(code) => self.burn_totp(person, code, false, None).await,
            None => Ok(None),
        }
    }

    /// In the catalog, not gone, not disabled.
    async fn may_sign_in(&self, person: &PersonId) -> Result<bool, ControlError> {
        let present = self.in_force().head.catalog.people.get(person).is_some_and(|found| !found.left);
        let account = self.account(person).await?;
        Ok(present && account.is_some_and(|(account, _)| !account.disabled))
    }

    /// A person's account with its revision.
    pub async fn account(&self, person: &PersonId) -> Result<Option<(Account, u64)>, ControlError> {
        match self.store().get(&Account::key(person)).await? {
            None => Ok(None),
            Some(found) => Ok(Some((parse(&found.key, &found.body)?, found.revision))),
        }
    }

    /// Takes an authenticator's code, once. `None` if it is wrong or was used.
    ///
    /// `call` names the very call (who, where, its words and its idempotency key) that shows the code. What the code was
    /// good for is kept under it in the same commit: if this process dies before the call is carried out, its repetition
    /// is known by it, while the code opens nothing else.
    pub async fn burn_totp(
        &self,
        person: &PersonId,
        code: &str,
        for_this_act: bool,
        call: Option<&str>,
    ) -> Result<Option<FactorUse>, ControlError> {
        for _ in 0..8 {
            if let Some(call) = call
                && let Some(kept) = self.store().answer(call).await?
            {
                return parse(&DocumentKey::new("answer", "shown"), &kept).map(Some);
            }
            let (mut secrets, document) = self.secrets(person).await?;
            let Some(secret) = &secrets.totp else { return Ok(None) };
            let raw = Zeroizing::new(
                hex::decode(secret.as_str())
                    .map_err(ControlError::local("read an authenticator's secret"))?,
            );
            let now = self.now();
            let Some(step) = totp::step_of(&raw, code.trim(), now, secrets.totp_last_step)? else {
                return Ok(None);
            };
            secrets.totp_last_step = step;
            let account = self.account(person).await?;
            let enrolled_at = account.and_then(|(account, _)| account.totp_enrolled_at).unwrap_or(now);
            let factor = FactorUse { kind: FactorKind::Totp, at: now, enrolled_at, for_this_act };
            let idempotency = match call {
                Some(call) => Some((call.to_owned(), bytes(&factor)?)),
                None => None,
            };
            let commit = halligan_store::Commit {
                documents: vec![self.seal(person, &secrets, document.as_ref())?],
                commit_time: now.micros(),
                idempotency,
                ..Default::default()
            };
            match self.store().commit(commit).await {
                Ok(_) => return Ok(Some(factor)),
                Err(CommitError::Conflict { .. } | CommitError::Duplicate { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Busy)
    }

    /// Shows a code within a sign-in: for one act only, or to be fresh for a while.
    pub async fn step_up(
        &self,
        caller: &Caller,
        code: &str,
        for_this_act: bool,
    ) -> Result<FactorUse, ControlError> {
        self.step_up_in(caller, code, for_this_act, None).await
    }

    /// As [`Control::step_up`], for a call that is known when it is repeated; see [`Control::burn_totp`].
    pub async fn step_up_in(
        &self,
        caller: &Caller,
        code: &str,
        for_this_act: bool,
        call: Option<&str>,
    ) -> Result<FactorUse, ControlError> {
        let now = self.now();
        let name = format!("totp {}", caller.person);
        let wait = self.0.throttle.wait(&name, None, now);
        if wait > Span::ZERO {
            return Err(Refusal::new(
                RefusalCode::Limit,
                format!("too many wrong codes; try again in {} s", wait.as_seconds() + 1),
            )
            .into());
        }
        match self.burn_totp(&caller.person, code, for_this_act, call).await? {
            Some(factor) => {
                self.0.throttle.worked(&name);
                if !for_this_act {
                    self.keep_factor(caller, &factor).await?;
                }
                Ok(factor)
            }
            None => {
                self.0.throttle.failed(&name, None, now);
                Err(Refusal::new(RefusalCode::SecondFactor, "the code is wrong or was used already")
                    .next("wait for the next code of your authenticator")
                    .into())
            }
        }
    }

    async fn keep_factor(&self, caller: &Caller, factor: &FactorUse) -> Result<(), ControlError> {
        self.change_sign_in(
            &caller.sign_in.id,
            &caller.person,
            |sign_in| sign_in.factor = Some(factor.clone()),
            None,
        )
        .await
        .map(drop)
    }

    #[expect(clippy::too_many_arguments, reason = "one private place where tokens are made")]
    async fn make_token(
        &self,
        person: &PersonId,
        lifetime: Span,
        factor: Option<FactorUse>,
        label: &str,
        client: &str,
        scopes: Option<Vec<Scope>>,
        body: LeafBody,
    ) -> Result<(Zeroizing<String>, SignIn), ControlError> {
        let mut raw = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *raw).map_err(ControlError::local("draw randomness"))?;
        let token = Zeroizing::new(format!("hgn_{}", hex::encode(*raw)));
        let digest = digest(&token);
        let now = self.now();
        let sign_in = SignIn {
            id: digest.chars().take(16).collect(),
            person: person.clone(),
            created_at: now,
            expires_at: now.plus(lifetime),
            factor,
            label: label.chars().take(100).filter(|c| !c.is_control()).collect(),
            client: client.to_owned(),
            scopes,
            ended: false,
        };
        let mut write = DocumentWrite::put(key(&digest), 0, bytes(&sign_in)?);
        write.indexes =
            vec![("person".to_owned(), person.to_string()), ("id".to_owned(), sign_in.id.clone())];
        self.note(&Actor::Person { id: person.clone(), factor: None, token: false }, body, vec![write])
            .await?;
        Ok((token, sign_in))
    }

    /// Whose token this is, if it is good.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Caller>, ControlError> {
        if token.len() > 128 || !token.starts_with("hgn_") {
            return Ok(None);
        }
        let Some(document) = self.store().get(&key(&digest(token))).await? else { return Ok(None) };
        let sign_in: SignIn = parse(&document.key, &document.body)?;
        let alive =
            !sign_in.ended && self.now() < sign_in.expires_at && self.may_sign_in(&sign_in.person).await?;
        Ok(alive.then(|| Caller { person: sign_in.person.clone(), sign_in }))
    }

    /// A person's sign-ins and tokens that are alive.
    pub async fn sign_ins(&self, person: &PersonId) -> Result<Vec<SignIn>, ControlError> {
        let now = self.now();
        let page =
            self.store().by_index("sign-in", "person", person.as_str(), None, 1000, Order::Ascending).await?;
        let all: Result<Vec<SignIn>, _> = page.iter().map(|found| parse(&found.key, &found.body)).collect();
        Ok(all?.into_iter().filter(|found| !found.ended && now < found.expires_at).collect())
    }

    /// Ends a sign-in or token of this person.
    pub async fn end_sign_in(&self, person: &PersonId, id: &str) -> Result<(), ControlError> {
        let body = LeafBody::Identity {
            what: "sign_in_ended".into(),
            person: person.to_string(),
            detail: id.chars().take(16).collect(),
        };
        let found = self.change_sign_in(id, person, |sign_in| sign_in.ended = true, Some(body)).await?;
        if found { Ok(()) } else { Err(Refusal::not_found(format_args!("sign-in {id}")).into()) }
    }

    async fn change_sign_in(
        &self,
        id: &str,
        person: &PersonId,
        change: impl Fn(&mut SignIn),
        body: Option<LeafBody>,
    ) -> Result<bool, ControlError> {
        if id.is_empty() || id.len() > 64 {
            return Ok(false);
        }
        for _ in 0..8 {
            let page = self.store().by_index("sign-in", "id", id, None, 1, Order::Ascending).await?;
            let Some(document) = page.first() else { return Ok(false) };
            let mut sign_in: SignIn = parse(&document.key, &document.body)?;
            if sign_in.person != *person {
                return Ok(false);
            }
            change(&mut sign_in);
            let mut write = DocumentWrite::put(document.key.clone(), document.revision, bytes(&sign_in)?);
            write.indexes =
                vec![("person".to_owned(), person.to_string()), ("id".to_owned(), sign_in.id.clone())];
            let done = match &body {
                Some(body) => {
                    let actor = Actor::Person { id: person.clone(), factor: None, token: false };
                    self.note(&actor, body.clone(), vec![write]).await.map(drop)
                }
                None => {
                    let commit = halligan_store::Commit {
                        documents: vec![write],
                        commit_time: self.now().micros(),
                        ..Default::default()
                    };
                    self.store().commit(commit).await.map(drop).map_err(ControlError::from)
                }
            };
            match done {
                Ok(()) => return Ok(true),
                Err(ControlError::Commit(CommitError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ControlError::Busy)
    }

    /// Makes an API token for the caller. Needs a fresh second factor; tokens make no tokens.
    pub async fn make_api_token(
        &self,
        caller: &Caller,
        label: &str,
        scopes: Vec<Scope>,
        lifetime: Span,
        code: &str,
    ) -> Result<(Zeroizing<String>, SignIn), ControlError> {
        if caller.sign_in.scopes.is_some() {
            return Err(refused("an API token makes no tokens"));
        }
        if lifetime == Span::ZERO || lifetime > TOKEN_LONGEST {
            return Err(refused("an API token lives for at most 365 days"));
        }
        self.step_up(caller, code, true).await?;
        let body = LeafBody::Identity {
            what: "token_made".into(),
            person: caller.person.to_string(),
            detail: format!("{label}: {scopes:?}").chars().take(200).collect(),
        };
        self.make_token(&caller.person, lifetime, None, label, "api token", Some(scopes), body).await
    }
}

fn client(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "unknown address".to_owned(), |from| from.to_string())
}

//! The public part of an account: what control may show and sign into rosters. Secrets lie in a document of their own.

use halligan_core::ids::PersonId;
use halligan_core::time::Time;
use halligan_store::{DocumentKey, Order, Store};
use serde::{Deserialize, Serialize};

use crate::documents::parse;
use crate::error::ControlError;

/// How one person may sign in, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who.
    pub person: PersonId,
    /// When it was made.
    pub created_at: Time,
    /// When the password was set last.
    pub password_set_at: Option<Time>,
    /// When the authenticator was enrolled.
    pub totp_enrolled_at: Option<Time>,
    /// Registered SSH public keys.
    pub ssh_keys: Vec<RegisteredKey>,
    /// May not sign in any more.
    #[serde(default)]
    pub disabled: bool,
}

/// A registered SSH public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredKey {
    /// `type base64`, without a comment.
    pub openssh: String,
    /// The owner's word for it.
    pub label: String,
    /// When it was added.
    pub added_at: Time,
}

impl Account {
    /// Where it lies.
    pub fn key(person: &PersonId) -> DocumentKey {
        DocumentKey::new("account", person.as_str())
    }

    /// All accounts, in order of the person's id.
    pub async fn all(store: &Store) -> Result<Vec<Self>, ControlError> {
        let mut accounts = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.list("account", after.as_deref(), 500, Order::Ascending).await?;
            let Some(last) = page.last() else { return Ok(accounts) };
            after = Some(last.key.id.clone());
            for document in &page {
                accounts.push(parse(&document.key, &document.body)?);
            }
        }
    }
}

//! The secret part of an account, sealed under control's account key, so that the store holds only ciphertext.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use halligan_core::ids::PersonId;
use halligan_store::{Document, DocumentKey, DocumentWrite};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::password::PasswordHash;
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;

/// What must not be shown.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// The password's digest.
    pub password: Option<PasswordHash>,
    /// The authenticator's secret, hex.
    pub totp: Option<Zeroizing<String>>,
    /// An authenticator that is being enrolled: it counts once a code of it was shown.
    pub totp_pending: Option<Zeroizing<String>>,
    /// The last step whose code was used.
    pub totp_last_step: i64,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(sealed)")
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    nonce: String,
    ciphertext: String,
}

fn key(person: &PersonId) -> DocumentKey {
    DocumentKey::new("secret", person.as_str())
}

impl Control {
    fn account_cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.keys().account))
    }

    /// A person's secrets, with the document that they were read from.
    pub(crate) async fn secrets(
        &self,
        person: &PersonId,
    ) -> Result<(Secrets, Option<Document>), ControlError> {
        let Some(document) = self.store().get(&key(person)).await? else {
            return Ok((Secrets::default(), None));
        };
        let sealed: Sealed = parse(&document.key, &document.body)?;
        let broken = || {
            ControlError::said(format!("open the secrets of {person}"), "they are not sealed under this key")
        };
        let nonce: [u8; 24] =
            hex::decode(sealed.nonce).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(broken)?;
        let ciphertext = hex::decode(sealed.ciphertext).map_err(|_| broken())?;
        let payload = Payload { msg: &ciphertext, aad: person.as_str().as_bytes() };
        let plain = self.account_cipher().decrypt(&XNonce::from(nonce), payload).map_err(|_| broken())?;
        let plain = Zeroizing::new(plain);
        let secrets = serde_json::from_slice(&plain).map_err(|_| broken())?;
        Ok((secrets, Some(document)))
    }

    /// The write that stores a person's secrets over the document that was read.
    pub(crate) fn seal(
        &self,
        person: &PersonId,
        secrets: &Secrets,
        over: Option<&Document>,
    ) -> Result<DocumentWrite, ControlError> {
        let mut nonce = [0u8; 24];
        getrandom::fill(&mut nonce).map_err(ControlError::local("draw randomness"))?;
        let plain = Zeroizing::new(bytes(secrets)?);
        let payload = Payload { msg: &plain, aad: person.as_str().as_bytes() };
        let ciphertext = self
            .account_cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| ControlError::said("seal secrets", "the cipher refused"))?;
        let sealed = Sealed { nonce: hex::encode(nonce), ciphertext: hex::encode(ciphertext) };
        Ok(DocumentWrite::put(key(person), over.map_or(0, |found| found.revision), bytes(&sealed)?))
    }
}

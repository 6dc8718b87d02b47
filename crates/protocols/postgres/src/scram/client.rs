//! The client's end: towards the target, with keys and no password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_session::scram::{client_proof, same_signature, server_signature};

use super::{
    SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, attribute, base64_of, is_nonce, malformed, words,
};

/// What stands in place of a password.
#[derive(Clone, Copy)]
pub struct ClientKeys<'a> {
    pub client_key: &'a [u8; 32],
    pub server_key: &'a [u8; 32],
}

/// The first message, ready to be sent.
#[derive(Debug, Clone)]
pub struct ClientFirst {
    pub mechanism: &'static str,
    /// `gs2-header client-first-message-bare`.
    pub message: Vec<u8>,
    bound: Vec<u8>,
    bare: String,
    nonce: String,
}

/// The proof, ready to be sent, and what the server has to answer.
#[derive(Debug, Clone)]
pub struct ClientSent {
    pub message: Vec<u8>,
    expected: [u8; 32],
}

impl ClientFirst {
    /// Chooses a mechanism of those offered. `binding` is the hash of the server's certificate; without it, or where
    /// `must_bind` is false and the server offers none, the connection is not bound. `nonce` is fresh and random.
    pub fn new(
        offered: &[impl AsRef<[u8]>],
        binding: Option<&[u8]>,
        must_bind: bool,
        nonce: &str,
    ) -> Result<Self, ScramError> {
        let offers = |name: &str| offered.iter().any(|offer| offer.as_ref() == name.as_bytes());
        let (mechanism, header, binding) = match binding {
            Some(binding) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,", binding)
            }
            _ if must_bind => return Err(ScramError::Mechanism { name: SCRAM_SHA_256_PLUS.to_owned() }),
            // "I could have": a server that can too knows then that its offer was cut out.
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "y,,", &[][..]),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "n,,", &[][..]),
            _ => return Err(ScramError::Mechanism { name: SCRAM_SHA_256.to_owned() }),
        };
        // PostgreSQL takes the user from the startup packet, and wants this one empty.
        let bare = format!("n=,r={nonce}");
        Ok(Self {
            mechanism,
            message: format!("{header}{bare}").into_bytes(),
            bound: [header.as_bytes(), binding].concat(),
            bare,
            nonce: nonce.to_owned(),
        })
    }

    /// Answers the server's challenge. Salt and iterations go into the auth message and nowhere else: the keys are
    /// there already, so a server cannot make us compute.
    pub fn prove(self, challenge: &[u8], keys: ClientKeys<'_>) -> Result<ClientSent, ScramError> {
        let server_first = words(challenge)?;
        let (nonce, rest) = attribute(server_first, "r", "a nonce is missing")?;
        let (salt, rest) = attribute(rest, "s", "a salt is missing")?;
        let (iterations, _extensions) = attribute(rest, "i", "iterations are missing")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) || !is_nonce(nonce) {
            return Err(ScramError::Nonce);
        }
        let _salt = base64_of(salt, "a salt is base64")?;
        if !iterations.parse::<u32>().is_ok_and(|iterations| iterations > 0) {
            return Err(malformed("iterations are a number"));
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.bound));
        let auth_message = format!("{},{server_first},{without_proof}", self.bare).into_bytes();
        let proof = STANDARD.encode(client_proof(keys.client_key, &auth_message));
        Ok(ClientSent {
            message: format!("{without_proof},p={proof}").into_bytes(),
            expected: server_signature(keys.server_key, &auth_message),
        })
    }
}

impl ClientSent {
    /// Checks that the server knows the verifier: else it is another one.
    pub fn check(&self, last: &[u8]) -> Result<(), ScramError> {
        let last = words(last)?;
        if let Some(why) = last.strip_prefix("e=") {
            return Err(ScramError::Refused { why: why.chars().take(80).collect() });
        }
        let (signature, _extensions) = attribute(last, "v", "a signature is missing")?;
        let signature = base64_of(signature, "a signature is base64")?;
        if same_signature(&self.expected, &signature) { Ok(()) } else { Err(ScramError::Server) }
    }
}

//! The server's end: towards our own clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_session::scram::ScramSalt;

use super::{
    SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, attribute, base64_of, is_nonce, malformed, words,
};

/// The client's first message, read.
#[derive(Debug, Clone)]
pub struct ServerFirst {
    /// `p=tls-server-end-point,,`, `y,,` or `n,,`, and with `p` the binding itself.
    bound: Vec<u8>,
    bare: String,
    client_nonce: String,
}

/// Challenged; waits for the proof.
#[derive(Debug, Clone)]
pub struct ServerStarted {
    bound: Vec<u8>,
    bare: String,
    nonce: String,
    server_first: String,
}

impl ServerFirst {
    /// Reads SASLInitialResponse (its body: mechanism, length, data). `binding` is the hash of our certificate where
    /// TLS ends here, and SCRAM-SHA-256-PLUS was offered for that.
    pub fn read(body: &[u8], binding: Option<&[u8]>) -> Result<Self, ScramError> {
        let end =
            body.iter().position(|byte| *byte == 0).ok_or_else(|| malformed("a mechanism is missing"))?;
        let (mechanism, rest) = body.split_at(end);
        let mechanism = words(mechanism)?;
        let (length, data) = rest
            .get(1..)
            .and_then(<[u8]>::split_first_chunk::<4>)
            .ok_or_else(|| malformed("data is missing"))?;
        if i64::from(i32::from_be_bytes(*length)) != data.len() as i64 {
            return Err(malformed("the data's length is wrong"));
        }
        let message = words(data)?;
        let plus = match mechanism {
            SCRAM_SHA_256 => false,
            SCRAM_SHA_256_PLUS if binding.is_some() => true,
            other => return Err(ScramError::Mechanism { name: other.chars().take(40).collect() }),
        };
        let (flag, rest) = message.split_once(',').ok_or_else(|| malformed("a header is missing"))?;
        let (authorisation, bare) = rest.split_once(',').ok_or_else(|| malformed("a header is missing"))?;
        if !authorisation.is_empty() {
            return Err(malformed("nobody speaks for another here"));
        }
        let mut bound = format!("{flag},,").into_bytes();
        match (flag, plus) {
            ("p=tls-server-end-point", true) => bound.extend_from_slice(binding.unwrap_or_default()),
            ("n", false) => {}
            ("y", false) if binding.is_some() => return Err(ScramError::Downgrade),
            ("y", false) => {}
            _ => return Err(malformed("mechanism and channel binding do not go together")),
        }
        // The user's name is in the startup packet; the one here is ignored, as PostgreSQL does.
        let (_user, rest) = attribute(bare, "n", "a user is missing")?;
        let (client_nonce, _extensions) = attribute(rest, "r", "a nonce is missing")?;
        if !is_nonce(client_nonce) {
            return Err(malformed("a nonce is made of printable characters"));
        }
        Ok(Self { bound, bare: bare.to_owned(), client_nonce: client_nonce.to_owned() })
    }

    /// The challenge. `server_nonce` is fresh and random.
    pub fn challenge(self, salt: &ScramSalt, server_nonce: &str) -> (Vec<u8>, ServerStarted) {
        let nonce = format!("{}{server_nonce}", self.client_nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(salt.salt), salt.iterations);
        let said = server_first.clone().into_bytes();
        (said, ServerStarted { bound: self.bound, bare: self.bare, nonce, server_first })
    }
}

impl ServerStarted {
    /// Reads SASLResponse. Gives the auth message and the client's proof, to be checked by whoever has the keys.
    pub fn proof(&self, body: &[u8]) -> Result<(Vec<u8>, [u8; 32]), ScramError> {
        let message = words(body)?;
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or_else(|| malformed("a proof is missing"))?;
        let (bound, rest) = attribute(without_proof, "c", "a channel binding is missing")?;
        let (nonce, _extensions) = attribute(rest, "r", "a nonce is missing")?;
        if base64_of(bound, "a channel binding is base64")? != self.bound {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof = base64_of(proof, "a proof is base64")?;
        let proof = proof.try_into().map_err(|_| malformed("a proof has 32 bytes"))?;
        Ok((format!("{},{},{without_proof}", self.bare, self.server_first).into_bytes(), proof))
    }

    /// The last message, after a proof that was good.
    pub fn last(server_signature: &[u8; 32]) -> Vec<u8> {
        format!("v={}", STANDARD.encode(server_signature)).into_bytes()
    }
}

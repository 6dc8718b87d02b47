//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as far as keys and proofs go: who checks a login keeps two keys and no password, and
//! who logs in at a target proves with a key and knows no password either.
//!
//! Messages and channel binding are the protocol crate's; here the `AuthMessage` is bytes. Passwords are ASCII that we
//! made ourselves, so there is nothing for SASLprep to do.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::secret::Secret;

/// Rounds of the password hash, as PostgreSQL has them. The passwords are 128 random bits: more rounds add nothing.
pub const ITERATIONS: u32 = 4096;
/// Stands before the login name when its salt is made.
pub const SALT_DOMAIN: &[u8] = b"halligan-scram-salt-v1\0";

/// What a client is told before it proves itself. The same for a login name whether it exists or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    /// The salt.
    pub salt: [u8; 16],
    /// Rounds.
    pub iterations: u32,
}

impl ScramSalt {
    /// The salt of a login name: the first 16 bytes of HMAC-SHA-256 over [`SALT_DOMAIN`] and the name.
    pub fn of_login(key: &[u8], login: &str) -> Self {
        let mut salt = [0; 16];
        let mac = hmac(key, &[SALT_DOMAIN, login.as_bytes()]);
        for (to, from) in salt.iter_mut().zip(mac.iter()) {
            *to = *from;
        }
        Self { salt, iterations: ITERATIONS }
    }
}

/// What is kept of a password: enough to check a proof and to answer it, not enough to log in.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ScramKeys {
    /// SHA-256 of the client key.
    pub stored_key: [u8; 32],
    /// Signs our answer.
    pub server_key: [u8; 32],
}

impl ScramKeys {
    /// Of a password.
    pub fn from_password(password: &Secret, salt: &ScramSalt) -> Self {
        let salted = salted_password(password, salt);
        let client_key = Zeroizing::new(hmac(salted.as_ref(), &[b"Client Key"]));
        Self { stored_key: sha256(&*client_key), server_key: hmac(salted.as_ref(), &[b"Server Key"]) }
    }

    /// Of a client key that was drawn without any password.
    pub fn from_client_key(client_key: &[u8; 32], server_key: [u8; 32]) -> Self {
        Self { stored_key: sha256(client_key), server_key }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The client key of a password, as [`client_proof`] takes it.
pub fn client_key_of_password(password: &Secret, salt: &ScramSalt) -> Secret<[u8; 32]> {
    Secret::new(hmac(salted_password(password, salt).as_ref(), &[b"Client Key"]))
}

/// Checks a proof, in constant time. Gives the server's signature if it holds.
pub fn verify(keys: &ScramKeys, auth_message: &[u8], client_proof: &[u8; 32]) -> Option<[u8; 32]> {
    let signature = hmac(&keys.stored_key, &[auth_message]);
    let client_key = Zeroizing::new(xor(client_proof, &signature));
    // Made whether the proof holds or not.
    let answer = server_signature(&keys.server_key, auth_message);
    bool::from(sha256(&*client_key).ct_eq(&keys.stored_key)).then_some(answer)
}

/// The client's proof.
pub fn client_proof(client_key: &[u8; 32], auth_message: &[u8]) -> [u8; 32] {
    xor(client_key, &hmac(&sha256(client_key), &[auth_message]))
}

/// What the server answers to a proof that holds. Clients compare it with [`same_signature`].
pub fn server_signature(server_key: &[u8; 32], auth_message: &[u8]) -> [u8; 32] {
    hmac(server_key, &[auth_message])
}

/// Whether a server's signature is the one expected, in constant time.
pub fn same_signature(expected: &[u8; 32], got: &[u8]) -> bool {
    expected.as_slice().ct_eq(got).into()
}

/// PBKDF2-HMAC-SHA-256, one block (RFC 5802 calls it `Hi`).
fn salted_password(password: &Secret, salt: &ScramSalt) -> Zeroizing<[u8; 32]> {
    let password = password.expose().as_bytes();
    let mut block = Zeroizing::new(hmac(password, &[&salt.salt, &1u32.to_be_bytes()]));
    let mut sum = block.clone();
    for _ in 1..salt.iterations {
        *block = hmac(password, &[&*block]);
        *sum = xor(&sum, &block);
    }
    sum
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length; only the type does not know that.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn xor(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut out = *left;
    for (to, with) in out.iter_mut().zip(right) {
        *to ^= with;
    }
    out
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// RFC 7677, section 3.
    const AUTH: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
        c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn salt() -> ScramSalt {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        ScramSalt { salt, iterations: 4096 }
    }
    fn pencil() -> Secret {
        Secret::new("pencil".to_owned())
    }
    fn bytes(text: &str) -> [u8; 32] {
        STANDARD.decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let keys = ScramKeys::from_password(&pencil(), &salt());
        assert_eq!(verify(&keys, AUTH.as_bytes(), &bytes(PROOF)), Some(bytes(SIGNATURE)));
        let client_key = client_key_of_password(&pencil(), &salt());
        assert_eq!(client_proof(client_key.expose(), AUTH.as_bytes()), bytes(PROOF));
        let again = ScramKeys::from_client_key(client_key.expose(), keys.server_key);
        assert_eq!(again.stored_key, keys.stored_key);
        assert!(same_signature(&bytes(SIGNATURE), &server_signature(&keys.server_key, AUTH.as_bytes())));
        assert!(!same_signature(&bytes(SIGNATURE), &[]));
        assert_eq!(format!("{keys:?}"), "(secret)");
    }

    #[test]
    fn another_password_message_or_proof_does_not_hold() {
        let keys = ScramKeys::from_password(&pencil(), &salt());
        let other = ScramKeys::from_password(&Secret::new("pencils".to_owned()), &salt());
        assert!(verify(&other, AUTH.as_bytes(), &bytes(PROOF)).is_none());
        assert!(verify(&keys, AUTH.replace("n=user", "n=uses").as_bytes(), &bytes(PROOF)).is_none());
        let mut bent = bytes(PROOF);
        bent[31] ^= 1;
        assert!(verify(&keys, AUTH.as_bytes(), &bent).is_none());
    }

    #[test]
    fn the_salt_of_a_login_name_is_its_own_and_does_not_move() {
        let key = [7; 32];
        let one = ScramSalt::of_login(&key, "read-only+orders-db");
        assert_eq!(one, ScramSalt::of_login(&key, "read-only+orders-db"));
        assert_ne!(one.salt, ScramSalt::of_login(&key, "read-only+orders-d").salt);
        assert_ne!(one.salt, ScramSalt::of_login(&[8; 32], "read-only+orders-db").salt);
        assert_eq!(one.iterations, ITERATIONS);
    }
}

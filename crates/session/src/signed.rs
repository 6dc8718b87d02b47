//! Text that control signed. The signed bytes travel as they are: they are measured and their signature is checked
//! before anything reads them, and they are never serialised anew.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use halligan_core::ids::BadName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lease::{LEASE_DOMAIN, LEASE_MAX_BYTES, Lease, SignedLease};
use crate::roster::{ROSTER_DOMAIN, ROSTER_MAX_BYTES, Roster, SignedRoster};

/// Why signed text is not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum BadSigned {
    /// Longer than any true one.
    #[error("the {what} is {size} bytes long; no more than {most} are read")]
    TooLarge { what: &'static str, size: usize, most: usize },
    /// The signature does not fit, or is not one.
    #[error("the {what} is not signed by control's key")]
    Signature { what: &'static str },
    /// Signed, but not of the form that this version knows.
    #[error("the {what} cannot be read")]
    Form {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// Of a version this program does not know.
    #[error("the {what} has format {version}; this program knows format 1")]
    Version { what: &'static str, version: u32 },
    /// Signed, but its facts contradict each other.
    #[error("the {what} contradicts itself: {why}")]
    Contradiction { what: &'static str, why: String },
}

impl From<BadName> for BadSigned {
    fn from(bad: BadName) -> Self {
        Self::Contradiction { what: "text", why: bad.to_string() }
    }
}

struct Kind {
    what: &'static str,
    domain: &'static [u8],
    most: usize,
}

const LEASE: Kind = Kind { what: "lease", domain: LEASE_DOMAIN, most: LEASE_MAX_BYTES };
const ROSTER: Kind = Kind { what: "roster", domain: ROSTER_DOMAIN, most: ROSTER_MAX_BYTES };

fn signed_bytes(kind: &Kind, payload: &str) -> Vec<u8> {
    [kind.domain, payload.as_bytes()].concat()
}

fn sign<T: Serialize>(kind: &Kind, value: &T, key: &SigningKey) -> Result<(String, String), BadSigned> {
    let payload =
        serde_json::to_string(value).map_err(|source| BadSigned::Form { what: kind.what, source })?;
    if payload.len() > kind.most {
        return Err(BadSigned::TooLarge { what: kind.what, size: payload.len(), most: kind.most });
    }
    let signature = hex::encode(key.sign(&signed_bytes(kind, &payload)).to_bytes());
    Ok((payload, signature))
}

fn verify<T: DeserializeOwned>(
    kind: &Kind,
    payload: &str,
    signature: &str,
    key: &VerifyingKey,
) -> Result<T, BadSigned> {
    if payload.len() > kind.most {
        return Err(BadSigned::TooLarge { what: kind.what, size: payload.len(), most: kind.most });
    }
    let mut bytes = [0u8; 64];
    hex::decode_to_slice(signature, &mut bytes).map_err(|_| BadSigned::Signature { what: kind.what })?;
    key.verify_strict(&signed_bytes(kind, payload), &Signature::from_bytes(&bytes))
        .map_err(|_| BadSigned::Signature { what: kind.what })?;
    serde_json::from_str(payload).map_err(|source| BadSigned::Form { what: kind.what, source })
}

impl SignedLease {
    /// Signs a lease. Fails when it would be larger than [`LEASE_MAX_BYTES`].
    pub fn sign(lease: &Lease, key: &SigningKey) -> Result<Self, BadSigned> {
        let (payload, signature) = sign(&LEASE, lease, key)?;
        Ok(Self { payload, signature })
    }

    /// Measures, checks the signature, and only then reads. `key` is control's, from the node's own root file.
    pub fn verify(&self, key: &VerifyingKey) -> Result<Lease, BadSigned> {
        let lease: Lease = verify(&LEASE, &self.payload, &self.signature, key)?;
        if lease.version != 1 {
            return Err(BadSigned::Version { what: "lease", version: lease.version });
        }
        let contradiction = |why: &str| BadSigned::Contradiction { what: "lease", why: why.to_owned() };
        if lease.remaining != lease.deadline.since(lease.issued_at) {
            return Err(contradiction(
                "the time remaining is not what lies between its signing and its deadline",
            ));
        }
        if lease.target.system != lease.entitlement.system {
            return Err(contradiction("its target is not the system of its entitlement"));
        }
        Ok(lease)
    }

    /// What it claims, with nothing checked: for putting leases of one's own disk in order at a start. Nobody may be let in
    /// by it before [`SignedLease::verify`] agreed.
    pub fn claims(&self) -> Result<Lease, BadSigned> {
        if self.payload.len() > LEASE.most {
            return Err(BadSigned::TooLarge { what: LEASE.what, size: self.payload.len(), most: LEASE.most });
        }
        serde_json::from_str(&self.payload).map_err(|source| BadSigned::Form { what: LEASE.what, source })
    }

    /// SHA-256 of the payload, hex: how ledgers name this lease.
    pub fn sha256(&self) -> String {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(self.payload.as_bytes()))
    }
}

impl SignedRoster {
    /// Signs a roster. Fails when it would be larger than [`ROSTER_MAX_BYTES`].
    pub fn sign(roster: &Roster, key: &SigningKey) -> Result<Self, BadSigned> {
        let (payload, signature) = sign(&ROSTER, roster, key)?;
        Ok(Self { payload, signature })
    }

    /// Measures, checks the signature, and only then reads.
    pub fn verify(&self, key: &VerifyingKey) -> Result<Roster, BadSigned> {
        let roster: Roster = verify(&ROSTER, &self.payload, &self.signature, key)?;
        if roster.version != 1 {
            return Err(BadSigned::Version { what: "roster", version: roster.version });
        }
        Ok(roster)
    }
}

#[cfg(test)]
mod tests {
    use halligan_core::time::{Span, Time};
    use proptest::prelude::*;

    use super::*;
    use crate::lease::samples;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_lease_holds_only_under_the_key_that_signed_it() {
        let lease = samples::lease(Time::from_micros(5_000_000), Span::minutes(60));
        let signed = SignedLease::sign(&lease, &key(1)).unwrap();
        assert_eq!(signed.verify(&key(1).verifying_key()).unwrap(), lease);
        assert!(matches!(signed.verify(&key(2).verifying_key()), Err(BadSigned::Signature { .. })));
    }

    #[test]
    fn a_signature_means_nothing_in_another_place() {
        let roster = Roster { version: 1, ..Roster::default() };
        let signed = SignedRoster::sign(&roster, &key(1)).unwrap();
        let moved = SignedLease { payload: signed.payload, signature: signed.signature };
        assert!(matches!(moved.verify(&key(1).verifying_key()), Err(BadSigned::Signature { .. })));
    }

    #[test]
    fn size_and_signature_are_checked_before_anything_is_read() {
        let huge = SignedLease { payload: "[".repeat(LEASE_MAX_BYTES + 1), signature: String::new() };
        assert!(matches!(huge.verify(&key(1).verifying_key()), Err(BadSigned::TooLarge { .. })));
        let junk = SignedLease { payload: "[[[".to_owned(), signature: "00".repeat(64) };
        assert!(matches!(junk.verify(&key(1).verifying_key()), Err(BadSigned::Signature { .. })));
    }

    #[test]
    fn a_signed_lease_that_contradicts_itself_is_refused() {
        let mut lease = samples::lease(Time::from_micros(5_000_000), Span::minutes(60));
        lease.remaining = Span::hours(90);
        let signed = SignedLease::sign(&lease, &key(1)).unwrap();
        assert!(matches!(signed.verify(&key(1).verifying_key()), Err(BadSigned::Contradiction { .. })));
    }

    proptest! {
        #[test]
        fn no_changed_bit_survives(place in 0usize..4000, bit in 0u8..7) {
            let lease = samples::lease(Time::from_micros(5_000_000), Span::minutes(60));
            let signed = SignedLease::sign(&lease, &key(1)).unwrap();
            let mut bytes = signed.payload.clone().into_bytes();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(payload) = String::from_utf8(bytes) {
                let changed = SignedLease { payload, signature: signed.signature.clone() };
                prop_assert!(changed.verify(&key(1).verifying_key()).is_err());
            }
        }
    }
}

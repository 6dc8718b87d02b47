//! Time-based one-time passwords (RFC 6238, SHA-1, 30 s, six digits, as every authenticator has them). A code burns on
//! use: the step it belongs to and all before it are refused from then on.

use halligan_core::time::Time;
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use crate::error::ControlError;

/// Seconds per step.
pub const STEP_SECONDS: i64 = 30;

fn build(secret: &[u8], person: &str, issuer: &str) -> Result<Totp, ControlError> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(secret.to_vec())
        .with_account_name(person.to_owned())
        .with_issuer(Some(issuer.replace(':', " ")))
        .build()
        .map_err(|error| ControlError::said("use an authenticator's secret", error.to_string()))
}

/// The step of `code` that fits at `now`, one step of slack to either side, if it is later than `last`.
pub fn step_of(secret: &[u8], code: &str, now: Time, last: i64) -> Result<Option<i64>, ControlError> {
    let totp = build(secret, "person", "Halligan")?;
    let current = now.micros() / 1_000_000 / STEP_SECONDS;
    let mut found = None;
    for step in [current - 1, current, current + 1] {
        let at = u64::try_from(step.saturating_mul(STEP_SECONDS)).unwrap_or(0);
        let wanted = Zeroizing::new(totp.generate(at).to_string());
        let same: bool = wanted.as_bytes().ct_eq(code.as_bytes()).into();
        if same && step > last {
            found = Some(step);
        }
    }
    Ok(found)
}

/// The address (`otpauth://…`) that an authenticator takes in. It holds the secret.
pub fn provisioning(secret: &[u8], person: &str, issuer: &str) -> Result<Zeroizing<String>, ControlError> {
    let address = build(secret, person, issuer)?.to_url();
    address
        .map(Zeroizing::new)
        .map_err(|error| ControlError::said("write an authenticator's address", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_rfc_6238_fits_once() {
        let secret = b"12345678901234567890";
        let now = Time::from_micros(1_111_111_109 * 1_000_000);
        let step = step_of(secret, "081804", now, 0).unwrap().unwrap();
        assert_eq!(step, 1_111_111_109 / 30);
        assert_eq!(step_of(secret, "081804", now, step).unwrap(), None);
        assert_eq!(step_of(secret, "081805", now, 0).unwrap(), None);
        assert_eq!(step_of(secret, "81804", now, 0).unwrap(), None);
    }
}

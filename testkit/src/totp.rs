//! The code that a phone would show (RFC 6238: SHA-1, six digits, 30 seconds).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use totp_rs::{Algorithm, Builder, Secret};

/// Length of one time step, in seconds.
pub const STEP: u64 = 30;

/// The code for a secret in base 32, as enrolment shows it, at a time in seconds since 1970.
pub fn code_at(secret_base32: &str, unix_seconds: u64) -> Result<String> {
    let secret = Secret::try_from_base32(secret_base32.trim())
        .map_err(|e| anyhow!("{e:?}"))
        .context("failed to read the secret: it is not base 32")?;
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(STEP)
        .with_secret(secret)
        .with_account_name("test")
        .build_noncompliant();
    Ok(totp.generate(unix_seconds).to_string())
}

/// The code for a secret in base 32 at this moment.
pub fn code_now(secret_base32: &str) -> Result<String> {
    code_at(secret_base32, now())
}

/// A code that no earlier call could have used: waits for the next step if `last_step` is the present
/// one. Codes burn on use, so whoever signs twice within one step needs this. Returns the code and its step.
pub async fn fresh_code(secret_base32: &str, last_step: Option<u64>) -> Result<(String, u64)> {
    loop {
        let seconds = now();
        let step = seconds / STEP;
        if last_step.is_none_or(|last| step > last) {
            return Ok((code_at(secret_base32, seconds)?, step));
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The secret inside an `otpauth://` address, as a phone reads it from the square on the screen.
pub fn secret_of(otpauth: &str) -> Result<String> {
    let (_, query) = otpauth.split_once('?').context("the otpauth address has no parameters")?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("secret="))
        .map(str::to_owned)
        .context("the otpauth address has no secret")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the secret "12345678901234567890", the last six of its eight digits.
    const RFC_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn agrees_with_the_vectors_of_the_rfc() {
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(RFC_SECRET, time).unwrap(), code, "at {time}");
        }
    }

    #[test]
    fn finds_the_secret_in_an_address() {
        let address = format!("otpauth://totp/Halligan:ada?issuer=Halligan&secret={RFC_SECRET}&digits=6");
        assert_eq!(secret_of(&address).unwrap(), RFC_SECRET);
        assert!(secret_of("otpauth://totp/Halligan:ada").is_err());
        assert!(code_at("not base 32!", 0).is_err());
    }
}

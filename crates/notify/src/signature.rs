//! Signatures of webhooks: Standard Webhooks 1.0, symmetric scheme `v1`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// Longest secret file, bytes.
const LONGEST_FILE: u64 = 16 * 1024;
/// Most secrets in one file.
const MOST_KEYS: usize = 8;

/// The keys of one receiver, at least one. While a secret is changed there are two, and each signs.
pub struct Keys(Vec<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// A file of secrets that cannot be used. Never says what stands in it.
#[derive(Debug, thiserror::Error)]
pub enum BadKeys {
    /// It cannot be read.
    #[error("failed to read the secret file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no list of secrets.
    #[error("the secret file {path}: {say}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        say: String,
    },
}

/// Reads a small file of secrets.
pub async fn read_secret_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(path).await?;
    file.take(LONGEST_FILE).read_to_string(&mut text).await?;
    Ok(text)
}

impl Keys {
    /// Reads the keys of a file: one `whsec_…` a line, `#` begins a comment line.
    pub async fn read(path: &Path) -> Result<Self, BadKeys> {
        let shown = path.display().to_string();
        let text =
            read_secret_file(path).await.map_err(|source| BadKeys::Read { path: shown.clone(), source })?;
        Self::parse(&text).map_err(|say| BadKeys::Content { path: shown, say })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |say: &str| format!("line {}: {say}", number + 1);
            let encoded = line
                .strip_prefix("whsec_")
                .ok_or_else(|| bad("a secret begins with `whsec_`, then base64"))?;
            let key = Zeroizing::new(
                STANDARD.decode(encoded).map_err(|_| bad("what follows `whsec_` is not base64"))?,
            );
            if !(24..=64).contains(&key.len()) {
                return Err(bad(&format!("a secret has 24 to 64 bytes, this one {}", key.len())));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("there is no secret in it".to_owned()),
            1..=MOST_KEYS => Ok(Self(keys)),
            many => Err(format!("{many} secrets are more than {MOST_KEYS}")),
        }
    }

    /// The header `webhook-signature`: a signature by each key, parted by spaces. `at` is seconds since 1970.
    pub fn sign(&self, id: &str, at: i64, body: &[u8]) -> String {
        let signatures = self.0.iter().filter_map(|key| {
            // HMAC takes keys of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{at}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the standard's own libraries are tested with.
    #[test]
    fn signs_as_the_standard_does() {
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let header = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_key_signs_while_a_secret_is_changed() {
        let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let both = Keys::parse(&format!("# new first\n{new}\n\n{old}\n")).unwrap().sign("a", 1, b"b");
        let alone = |key| Keys::parse(key).unwrap().sign("a", 1, b"b");
        assert_eq!(both, format!("{} {}", alone(new), alone(old)));
    }

    #[test]
    fn refuses_what_is_no_secret_without_repeating_it() {
        for bad in ["", "# only a comment", "hunter2hunter2", "whsec_!!!", "whsec_c2hvcnQ="] {
            let say = Keys::parse(bad).unwrap_err();
            assert!(!say.contains("hunter2"), "{say}");
        }
        let many = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"; 9].join("\n");
        assert!(Keys::parse(&many).is_err());
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{keys:?}"), "Keys(1)");
    }
}

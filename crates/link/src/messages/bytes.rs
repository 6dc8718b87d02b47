//! Bytes in messages: such as anybody may count, and such as nobody may see.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes, base64 on the wire. Debug shows only how many.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}
impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Seed of an Ed25519 key, hex on the wire: wiped when dropped, not shown by Debug, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes it in.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The bytes. Never log, format or store what comes out, except sealed in a private file.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}
impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for Seed {}
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0u8; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        let done = serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default());
        text.zeroize();
        done
    }
}
impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut seed = Self([0; 32]);
        // The error names no digit of it.
        hex::decode_to_slice(text.as_bytes(), &mut seed.0)
            .map_err(|_| serde::de::Error::custom("a seed is 64 hexadecimal digits"))?;
        Ok(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_not_shown_and_survives_the_wire() {
        let seed = Seed::new([7; 32]);
        assert_eq!(format!("{seed:?}"), "(secret)");
        let back: Seed = serde_json::from_str(&serde_json::to_string(&seed).unwrap()).unwrap();
        assert_eq!(back, seed);
        assert_ne!(back, Seed::new([8; 32]));
        assert!(serde_json::from_str::<Seed>("\"0707\"").is_err());
    }

    #[test]
    fn a_blob_shows_its_length_and_not_its_bytes() {
        let blob = Blob(b"secret output".to_vec());
        assert_eq!(format!("{blob:?}"), "13 bytes");
        let back: Blob = serde_json::from_str(&serde_json::to_string(&blob).unwrap()).unwrap();
        assert_eq!(back, blob);
    }
}

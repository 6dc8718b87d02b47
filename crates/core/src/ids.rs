//! Typed identifiers: an [`Id`] says in its type what it names and in its text too (`req_…`, `grt_…`).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::time::Time;

/// What an [`Id`] names; the prefix stands before the text form.
pub trait Kind:
    Clone + Copy + fmt::Debug + PartialEq + Eq + PartialOrd + Ord + std::hash::Hash + 'static
{
    /// Three letters, as in `req_01k…`.
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $marker:ident $alias:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $marker {}
        impl Kind for $marker { const PREFIX: &'static str = $prefix; }
        $(#[$doc])*
        pub type $alias = Id<$marker>;
    )*};
}

kinds! {
    /// One ask for one entitlement by one person.
    RequestKind RequestId "req";
    /// Several requests filed together.
    BatchKind BatchId "bat";
    /// An entitlement in force.
    GrantKind GrantId "grt";
    /// One use of a grant.
    SessionKind SessionId "ses";
    /// What happened in a session.
    RecordingKind RecordingId "rec";
    /// One emergency.
    IncidentKind IncidentId "inc";
    /// A look back.
    ReviewKind ReviewId "rev";
    /// A change of catalog or factor that waits for a second person.
    ChangeKind ChangeId "chg";
}

/// 128 bits, ordered by time of making (UUIDv7 layout), written as a prefix and 26 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K: Kind> {
    value: u128,
    kind: PhantomData<K>,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl<K: Kind> Id<K> {
    /// An id from raw bits.
    pub const fn from_bits(value: u128) -> Self {
        Self { value, kind: PhantomData }
    }
    /// The raw bits.
    pub const fn bits(self) -> u128 {
        self.value
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 26];
        let mut rest = self.value;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        write!(f, "{}_{}", K::PREFIX, std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}_… (26 characters)")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// The prefix that was expected.
    pub prefix: &'static str,
}

impl<K: Kind> FromStr for Id<K> {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.chars().take(64).collect(), prefix: K::PREFIX };
        let body = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or_else(bad)?;
        if body.len() != 26 {
            return Err(bad());
        }
        let mut value: u128 = 0;
        for (place, byte) in body.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|&a| a == byte).ok_or_else(bad)? as u128;
            if place == 0 && digit > 7 {
                return Err(bad());
            }
            value = (value << 5) | digit;
        }
        Ok(Self::from_bits(value))
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where new ids come from: a seed that the caller drew, so that `decide` stays a function of its arguments.
#[derive(Clone, Debug)]
pub struct FreshIds {
    seed: [u8; 16],
    count: u32,
    at: Time,
}

impl FreshIds {
    /// `seed` must be 128 random bits, never used before.
    pub const fn new(seed: [u8; 16], at: Time) -> Self {
        Self { seed, count: 0, at }
    }

    /// The next id.
    pub fn make<K: Kind>(&mut self) -> Id<K> {
        self.count += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.count.to_be_bytes());
        hash.update(K::PREFIX);
        let digest = hash.finalize();
        let mut random = [0u8; 16];
        random.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
        let millis = (self.at.micros().max(0) / 1000) as u128 & 0xffff_ffff_ffff;
        let low = u128::from_be_bytes(random) & ((1 << 80) - 1);
        let versioned = (low & !(0xf << 76)) | (0x7 << 76);
        let variant = (versioned & !(0b11 << 62)) | (0b10 << 62);
        Id::from_bits((millis << 80) | variant)
    }
}

/// A name of a system, role, person, group, …: `[a-z0-9._-]`, 1 to 64 characters, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Name(
    // Shared between copies: decisions copy names more than anything else.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$"))] Arc<str>,
);

/// Text that cannot be a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 64 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit")]
pub struct BadName(pub String);

impl Name {
    /// Checks and takes a name.
    pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
        let text = text.into();
        let first = text.bytes().next();
        let fits = text.len() <= 64
            && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(BadName(text.chars().take(80).flat_map(char::escape_default).collect()))
        }
    }
    /// The name `main`: the site of systems that name none.
    pub fn main() -> Self {
        Self("main".into())
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A person's immutable id, as the catalog gives it; never used again for somebody else.
pub type PersonId = Name;

/// One role on one system, written `system/role`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntitlementName {
    /// The system.
    pub system: Name,
    /// The role.
    pub role: Name,
}

impl fmt::Display for EntitlementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.role)
    }
}
impl fmt::Debug for EntitlementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for EntitlementName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (system, role) = text
            .split_once('/')
            .ok_or_else(|| BadName(format!("{} (write system/role)", text.escape_default())))?;
        Ok(Self { system: Name::new(system)?, role: Name::new(role)? })
    }
}
impl Serialize for EntitlementName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for EntitlementName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_refuses_another_kind() {
        let mut fresh = FreshIds::new([7; 16], Time::from_micros(1_700_000_000_000_000));
        let request: RequestId = fresh.make();
        assert_eq!(request.to_string().parse::<RequestId>().unwrap(), request);
        assert!(request.to_string().parse::<GrantId>().is_err());
        assert_ne!(request, fresh.make());
        assert!("req_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<RequestId>().is_err());
    }

    #[test]
    fn names_refuse_what_could_be_mistaken_for_something_else() {
        for bad in ["", "Root", "a b", "../etc", "a\nb", "-x", "é", "a/b"] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!("orders-db/read-only".parse::<EntitlementName>().is_ok());
    }
}

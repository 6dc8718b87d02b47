//! The age v1 file format (C2SP `age.md`) for one small secret and X25519 recipients only.
//!
//! Stock `age` opens what [`wrap`] makes, so an auditor needs nothing of ours to get at a data key.
//! [`unwrap`] reads what stock `age` makes for X25519 recipients; other recipients' stanzas are passed over.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use crate::key::DataKey;

const VERSION_LINE: &str = "age-encryption.org/v1";
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "age-secret-key-";
const FILE_KEY: usize = 16;
const TAG: usize = 16;
/// The last (here: only) chunk of the payload: counter 0, last-chunk byte 1.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Most recipients that one key is wrapped to.
pub const MAX_RECIPIENTS: usize = 64;
/// Most bytes of a wrapped key that are looked at.
pub const MAX_BYTES: usize = 32 * 1024;

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    #[error("{text:?} is not an age recipient: it should begin with age1 and carry a valid checksum")]
    BadRecipient { text: String },
    #[error("this is not an age identity: it should begin with AGE-SECRET-KEY-1 and carry a valid checksum")]
    BadIdentity,
    #[error("a key must be wrapped to at least one recipient")]
    NoRecipients,
    #[error("a key is wrapped to at most {MAX_RECIPIENTS} recipients, not {count}")]
    TooManyRecipients { count: usize },
    #[error("the recipient {recipient} is a weak key that would give the secret away")]
    WeakRecipient { recipient: String },
    #[error("the key file is {bytes} bytes long; at most {MAX_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("the key file is malformed: {what}")]
    Malformed { what: &'static str },
    #[error("the key file was not wrapped to this identity")]
    NotForThisIdentity,
    #[error("the key file's header was altered")]
    HeaderAltered,
    #[error("the key file's content was altered")]
    PayloadAltered,
    #[error("the operating system gave no random bytes for a key")]
    NoRandomness(#[source] getrandom::Error),
    #[error("the cipher refused its input")]
    Cipher,
}

fn malformed(what: &'static str) -> AgeError {
    AgeError::Malformed { what }
}

/// A public key that a data key can be wrapped to. Its text is `age1…` (Bech32).
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl Recipient {
    /// A recipient from the 32 bytes of an X25519 public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(PublicKey::from(bytes))
    }
}

impl FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let bad = || AgeError::BadRecipient { text: text.chars().take(80).collect() };
        let bytes = bech32_bytes(text, RECIPIENT_PREFIX).ok_or_else(bad)?;
        let recipient = Self(PublicKey::from(*bytes));
        // One key, one text: refuses upper case and padding bits that are not zero.
        if recipient.to_string() == text { Ok(recipient) } else { Err(bad()) }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode_lower::<Bech32>(Hrp::parse_unchecked(RECIPIENT_PREFIX), self.0.as_bytes());
        f.write_str(&text.map_err(|_too_long| fmt::Error)?)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// A private key that opens what was wrapped to its recipient. Wiped when dropped, never printed.
pub struct Identity(StaticSecret);

impl Identity {
    /// A new identity from the operating system's randomness.
    pub fn generate() -> Result<Self, AgeError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(AgeError::NoRandomness)?;
        Ok(Self(StaticSecret::from(*bytes)))
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0))
    }

    /// The secret text, `AGE-SECRET-KEY-1…`, as stock `age` reads it.
    pub fn to_secret_text(&self) -> Result<Zeroizing<String>, AgeError> {
        bech32::encode_upper::<Bech32>(Hrp::parse_unchecked(IDENTITY_PREFIX), self.0.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_too_long| AgeError::BadIdentity)
    }
}

impl FromStr for Identity {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let bytes = bech32_bytes(text, IDENTITY_PREFIX).ok_or(AgeError::BadIdentity)?;
        let identity = Self(StaticSecret::from(*bytes));
        if identity.to_secret_text()?.as_str() == text { Ok(identity) } else { Err(AgeError::BadIdentity) }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {}, redacted)", self.recipient())
    }
}

fn bech32_bytes(text: &str, prefix: &str) -> Option<Zeroizing<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if checked.hrp() != Hrp::parse_unchecked(prefix) {
        return None;
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    let mut given = checked.byte_iter();
    for byte in bytes.iter_mut() {
        *byte = given.next()?;
    }
    given.next().is_none().then_some(bytes)
}

/// Wraps `key` to all of `recipients`: each of them can open the result alone.
pub fn wrap(key: &DataKey, recipients: &[Recipient]) -> Result<Vec<u8>, AgeError> {
    if recipients.is_empty() {
        return Err(AgeError::NoRecipients);
    }
    if recipients.len() > MAX_RECIPIENTS {
        return Err(AgeError::TooManyRecipients { count: recipients.len() });
    }
    let mut file_key = Zeroizing::new([0_u8; FILE_KEY]);
    getrandom::fill(file_key.as_mut_slice()).map_err(AgeError::NoRandomness)?;

    let mut header = format!("{VERSION_LINE}\n");
    for recipient in recipients {
        let ephemeral = Identity::generate()?;
        let share = ephemeral.recipient();
        let wrap_key = wrap_key(&ephemeral.0, &recipient.0, &share.0, &recipient.0)?
            .ok_or_else(|| AgeError::WeakRecipient { recipient: recipient.to_string() })?;
        let body = seal(&wrap_key, [0; 12], file_key.as_slice())?;
        header.push_str("-> X25519 ");
        header.push_str(&STANDARD_NO_PAD.encode(share.0.as_bytes()));
        header.push('\n');
        header.push_str(&STANDARD_NO_PAD.encode(&body));
        header.push('\n');
    }
    header.push_str("---");
    let mac = header_mac(file_key.as_slice(), header.as_bytes())?.finalize().into_bytes();
    header.push(' ');
    header.push_str(&STANDARD_NO_PAD.encode(mac));
    header.push('\n');

    let mut file = header.into_bytes();
    let mut nonce = [0_u8; 16];
    getrandom::fill(&mut nonce).map_err(AgeError::NoRandomness)?;
    file.extend_from_slice(&nonce);
    let payload_key = derive(file_key.as_slice(), &nonce, b"payload")?;
    file.extend_from_slice(&seal(&payload_key, ONLY_CHUNK, key.expose())?);
    Ok(file)
}

/// Opens a wrapped key. Errors say whether the file is not for this identity or was altered.
pub fn unwrap(file: &[u8], identity: &Identity) -> Result<DataKey, AgeError> {
    if file.len() > MAX_BYTES {
        return Err(AgeError::TooLarge { bytes: file.len() });
    }
    let parsed = parse(file)?;
    let mut file_key = None;
    for (share, body) in &parsed.x25519 {
        let own = PublicKey::from(&identity.0);
        let share = PublicKey::from(*share);
        let wrap_key = wrap_key(&identity.0, &share, &share, &own)?
            .ok_or(malformed("a recipient's share is a weak key"))?;
        if let Ok(opened) = open(&wrap_key, [0; 12], body) {
            file_key = Some(opened);
            break;
        }
    }
    let file_key = file_key.ok_or(AgeError::NotForThisIdentity)?;
    header_mac(&file_key, parsed.authenticated)?
        .verify_slice(&parsed.mac)
        .map_err(|_mismatch| AgeError::HeaderAltered)?;

    let (nonce, sealed) = parsed.payload.split_at_checked(16).ok_or(AgeError::PayloadAltered)?;
    let payload_key = derive(&file_key, nonce, b"payload")?;
    let content = open(&payload_key, ONLY_CHUNK, sealed).map_err(|_forged| AgeError::PayloadAltered)?;
    let mut bytes: [u8; 32] =
        content.as_slice().try_into().map_err(|_size| malformed("its content is not a 32-byte key"))?;
    let key = DataKey::from_bytes(bytes);
    bytes.zeroize();
    Ok(key)
}

/// The key that wraps the file key for one recipient; `None` if a public key is of low order.
fn wrap_key(
    secret: &StaticSecret,
    public: &PublicKey,
    share: &PublicKey,
    recipient: &PublicKey,
) -> Result<Option<Zeroizing<[u8; 32]>>, AgeError> {
    let shared = secret.diffie_hellman(public);
    if !shared.was_contributory() {
        return Ok(None);
    }
    let mut salt = [0_u8; 64];
    let (first, second) = salt.split_at_mut(32);
    first.copy_from_slice(share.as_bytes());
    second.copy_from_slice(recipient.as_bytes());
    derive(shared.as_bytes(), &salt, X25519_LABEL).map(Some)
}

fn derive(secret: &[u8], salt: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    let mut key = Zeroizing::new([0_u8; 32]);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(label, key.as_mut_slice())
        .map_err(|_length| AgeError::Cipher)?;
    Ok(key)
}

fn header_mac(file_key: &[u8], header: &[u8]) -> Result<Hmac<Sha256>, AgeError> {
    let key = derive(file_key, &[], b"header")?;
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.as_slice())
        .map_err(|_length| AgeError::Cipher)?;
    mac.update(header);
    Ok(mac)
}

fn seal(key: &[u8; 32], nonce: [u8; 12], plain: &[u8]) -> Result<Vec<u8>, AgeError> {
    let mut sealed = plain.to_vec();
    let tag = ChaCha20Poly1305::new(&(*key).into())
        .encrypt_inout_detached(&Nonce::from(nonce), &[], sealed.as_mut_slice().into())
        .map_err(|_length| AgeError::Cipher)?;
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let at = sealed.len().checked_sub(TAG).ok_or(AgeError::PayloadAltered)?;
    let (body, tag) = sealed.split_at_checked(at).ok_or(AgeError::PayloadAltered)?;
    let tag = Tag::try_from(tag).map_err(|_length| AgeError::PayloadAltered)?;
    let mut plain = Zeroizing::new(body.to_vec());
    ChaCha20Poly1305::new(&(*key).into())
        .decrypt_inout_detached(&Nonce::from(nonce), &[], plain.as_mut_slice().into(), &tag)
        .map_err(|_forged| AgeError::PayloadAltered)?;
    Ok(plain)
}

struct Parsed<'a> {
    /// Ephemeral share and sealed file key of each X25519 stanza.
    x25519: Vec<([u8; 32], Vec<u8>)>,
    /// What the MAC covers: from the first byte to the three hyphens.
    authenticated: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

fn parse(file: &[u8]) -> Result<Parsed<'_>, AgeError> {
    let mut rest = file;
    if next_line(&mut rest)? != VERSION_LINE {
        return Err(malformed("it does not begin with age-encryption.org/v1"));
    }
    let mut x25519 = Vec::new();
    loop {
        let at = file.len() - rest.len();
        let line = next_line(&mut rest)?;
        if let Some(mac) = line.strip_prefix("--- ") {
            let authenticated = file.get(..at + 3).ok_or(malformed("it ends in its header"))?;
            let mac = base64_of(mac)?;
            return Ok(Parsed { x25519, authenticated, mac, payload: rest });
        }
        let arguments =
            line.strip_prefix("-> ").ok_or(malformed("a header line is neither stanza nor MAC"))?;
        let body = stanza_body(&mut rest)?;
        let mut words = arguments.split(' ');
        if words.next() != Some("X25519") {
            continue;
        }
        let share = words.next().ok_or(malformed("an X25519 stanza has no share"))?;
        let share: [u8; 32] = base64_of(share)?
            .try_into()
            .map_err(|_length| malformed("an X25519 share is not 32 bytes long"))?;
        if words.next().is_some() || body.len() != FILE_KEY + TAG {
            return Err(malformed("an X25519 stanza is not of the right size"));
        }
        if x25519.len() == MAX_RECIPIENTS {
            return Err(malformed("it has too many recipients"));
        }
        x25519.push((share, body));
    }
}

/// Base64 lines of 64 columns up to and including the first shorter one.
fn stanza_body(rest: &mut &[u8]) -> Result<Vec<u8>, AgeError> {
    let mut text = String::new();
    loop {
        let line = next_line(rest)?;
        text.push_str(line);
        match line.len() {
            64 => {}
            0..64 => return base64_of(&text),
            _ => return Err(malformed("a line of a stanza is longer than 64 columns")),
        }
    }
}

fn base64_of(text: &str) -> Result<Vec<u8>, AgeError> {
    STANDARD_NO_PAD.decode(text).map_err(|_bad| malformed("it has base64 that is not canonical"))
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Result<&'a str, AgeError> {
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(malformed("it ends in its header"))?;
    let (line, after) = rest.split_at_checked(end).ok_or(malformed("it ends in its header"))?;
    *rest = after.get(1..).unwrap_or_default();
    std::str::from_utf8(line).map_err(|_bytes| malformed("its header is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Identity, Recipient) {
        let identity = Identity::generate().unwrap();
        let recipient = identity.recipient();
        (identity, recipient)
    }

    #[test]
    fn text_forms_agree_with_the_age_crate() {
        let (ours, recipient) = pair();
        let theirs: age::x25519::Identity = ours.to_secret_text().unwrap().parse().unwrap();
        assert_eq!(theirs.to_public().to_string(), recipient.to_string());

        let theirs = age::x25519::Identity::generate();
        let text = theirs.to_public().to_string();
        assert_eq!(text.parse::<Recipient>().unwrap().to_string(), text);
        let secret = age::secrecy::ExposeSecret::expose_secret(&theirs.to_string()).to_owned();
        assert_eq!(secret.parse::<Identity>().unwrap().recipient().to_string(), text);
    }

    #[test]
    fn the_age_crate_opens_what_we_wrap() {
        for count in [1, 2, 5] {
            let theirs: Vec<_> = (0..count).map(|_| age::x25519::Identity::generate()).collect();
            let recipients: Vec<Recipient> =
                theirs.iter().map(|one| one.to_public().to_string().parse().unwrap()).collect();
            let key = DataKey::generate().unwrap();
            let file = wrap(&key, &recipients).unwrap();
            for identity in &theirs {
                assert_eq!(age::decrypt(identity, &file).unwrap(), key.expose());
            }
        }
    }

    #[test]
    fn we_open_what_the_age_crate_wraps() {
        // The crate adds a random "grease" stanza now and then: repeat so that it is met.
        for _ in 0..30 {
            let (identity, recipient) = pair();
            let theirs: age::x25519::Recipient = recipient.to_string().parse().unwrap();
            let file = age::encrypt(&theirs, &[7; 32]).unwrap();
            assert_eq!(unwrap(&file, &identity).unwrap().expose(), &[7; 32]);
        }
        let (identity, recipient) = pair();
        let theirs: age::x25519::Recipient = recipient.to_string().parse().unwrap();
        let file = age::encrypt(&theirs, &[7; 31]).unwrap();
        assert!(matches!(unwrap(&file, &identity), Err(AgeError::Malformed { .. })));
    }

    #[test]
    fn a_stranger_cannot_open_and_every_flipped_bit_shows() {
        let (identity, recipient) = pair();
        let (stranger, _) = pair();
        let file = wrap(&DataKey::generate().unwrap(), &[recipient]).unwrap();
        assert!(matches!(unwrap(&file, &stranger), Err(AgeError::NotForThisIdentity)));
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut altered = file.clone();
                altered[at] ^= 1 << bit;
                assert!(unwrap(&altered, &identity).is_err(), "bit {bit} of byte {at} was not noticed");
            }
            assert!(unwrap(&file[..at], &identity).is_err());
        }
        let mut longer = file;
        longer.push(0);
        assert!(unwrap(&longer, &identity).is_err());
    }

    #[test]
    fn weak_and_misspelt_keys_are_refused_and_secrets_stay_out_of_debug_text() {
        let weak = Recipient::from_bytes([0; 32]);
        let key = DataKey::generate().unwrap();
        assert!(matches!(wrap(&key, &[weak]), Err(AgeError::WeakRecipient { .. })));
        assert!(matches!(wrap(&key, &[]), Err(AgeError::NoRecipients)));

        let (identity, recipient) = pair();
        assert!(matches!(
            wrap(&key, &vec![recipient.clone(); 65]),
            Err(AgeError::TooManyRecipients { count: 65 })
        ));
        assert!(recipient.to_string().to_uppercase().parse::<Recipient>().is_err());
        assert!(recipient.to_string().replace("age1", "age1q").parse::<Recipient>().is_err());
        let secret = identity.to_secret_text().unwrap();
        assert!(secret.to_lowercase().parse::<Identity>().is_err());
        assert!(secret.parse::<Recipient>().is_err());
        let shown = format!("{identity:?} {key:?}");
        assert!(!shown.contains(&secret[16..30]) && !shown.contains(&hex::encode(&key.expose()[..4])));
    }
}

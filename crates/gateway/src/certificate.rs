//! Certificates of `halligan login`: an OpenSSH user certificate that carries the person's id as its key id, signed by the
//! roster's login CA (PROTOCOL.certkeys of OpenSSH).
//!
//! One level only: the CA is a raw Ed25519 key, never itself a certificate. The client's proof that it holds the key
//! inside was checked by the protocol; here the rest is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use halligan_core::ids::{Name, PersonId};
use halligan_core::time::Time;
use halligan_session::roster::{LOGIN_PRINCIPAL, without_comment};

/// A certificate longer than this is not looked at.
pub const MAX_BYTES: usize = 16 * 1024;
/// Slack at the front of its validity, for clocks, in seconds. There is none at the end.
const EARLY_SECONDS: u64 = 60;
const USER_CERTIFICATE: u32 = 1;

/// Why a certificate opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("it is not a well-formed OpenSSH certificate ({0})")]
    Form(&'static str),
    #[error("its kind of key, {0}, is not accepted")]
    Kind(String),
    #[error("it is not a certificate for people")]
    NotForPeople,
    #[error("it was not signed by the login CA")]
    UnknownCa,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is not valid now")]
    NotNow,
    #[error("it lacks the principal {LOGIN_PRINCIPAL}")]
    Principal,
    #[error("it carries the critical option {0}, which this gateway does not know")]
    CriticalOption(String),
    #[error("its key id is not a person's id")]
    KeyId,
}

/// What a good certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginCertificate {
    /// Who.
    pub person: PersonId,
    /// Its serial.
    pub serial: u64,
}

/// Whether the text is a certificate at all, by its type.
pub fn is_certificate(openssh: &str) -> bool {
    openssh.split_ascii_whitespace().next().is_some_and(|kind| kind.ends_with("-cert-v01@openssh.com"))
}

/// Checks a certificate against the login CAs and the time.
pub fn check(openssh: &str, login_ca: &[String], now: Time) -> Result<LoginCertificate, BadCertificate> {
    let parsed = Parsed::read(openssh)?;
    let ca = parsed.trusted_ca(login_ca)?;
    ca.verify_strict(&parsed.signed, &Signature::from_bytes(&parsed.signature))
        .map_err(|_| BadCertificate::Signature)?;
    // Only from here on is what it says of any interest.
    if parsed.kind != USER_CERTIFICATE {
        return Err(BadCertificate::NotForPeople);
    }
    let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    if seconds.saturating_add(EARLY_SECONDS) < parsed.valid_after || seconds >= parsed.valid_before {
        return Err(BadCertificate::NotNow);
    }
    if let Some(option) = parsed.critical_option {
        return Err(BadCertificate::CriticalOption(option));
    }
    if !parsed.principals.iter().any(|principal| principal == LOGIN_PRINCIPAL) {
        return Err(BadCertificate::Principal);
    }
    let person = Name::new(parsed.key_id).map_err(|_| BadCertificate::KeyId)?;
    Ok(LoginCertificate { person, serial: parsed.serial })
}

struct Parsed {
    signed: Vec<u8>,
    signature: [u8; 64],
    ca_blob: Vec<u8>,
    serial: u64,
    kind: u32,
    key_id: String,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    critical_option: Option<String>,
}

impl Parsed {
    fn read(openssh: &str) -> Result<Self, BadCertificate> {
        let form = BadCertificate::Form;
        if openssh.len() > MAX_BYTES {
            return Err(BadCertificate::TooLong);
        }
        let mut words = openssh.split_ascii_whitespace();
        let kind_text = words.next().ok_or(form("it is empty"))?;
        let body = words.next().ok_or(form("it has no body"))?;
        let blob = STANDARD.decode(body).map_err(|_| form("it is not base64"))?;
        let mut fields = Fields(&blob);
        if fields.string()? != kind_text.as_bytes() {
            return Err(form("its two types differ"));
        }
        let key_fields = match kind_text {
            "ssh-ed25519-cert-v01@openssh.com" => 1,
            "sk-ssh-ed25519-cert-v01@openssh.com" => 2,
            "ecdsa-sha2-nistp256-cert-v01@openssh.com" => 2,
            "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com" => 3,
            other => return Err(BadCertificate::Kind(other.chars().take(60).collect())),
        };
        let _nonce = fields.string()?;
        for _ in 0..key_fields {
            fields.string()?;
        }
        let serial = fields.u64()?;
        let kind = fields.u32()?;
        let key_id = text(fields.string()?)?;
        let mut list = Fields(fields.string()?);
        let mut principals = Vec::new();
        while !list.0.is_empty() {
            principals.push(text(list.string()?)?);
        }
        let valid_after = fields.u64()?;
        let valid_before = fields.u64()?;
        let mut critical = Fields(fields.string()?);
        let critical_option = if critical.0.is_empty() { None } else { Some(text(critical.string()?)?) };
        let _extensions = fields.string()?;
        let _reserved = fields.string()?;
        let ca_blob = fields.string()?.to_vec();
        let length = blob.len() - fields.0.len();
        let signed = blob.get(..length).ok_or(form("it is cut short"))?.to_vec();
        let mut outer = Fields(fields.string()?);
        if !fields.0.is_empty() {
            return Err(form("something follows its signature"));
        }
        if outer.string()? != b"ssh-ed25519" {
            return Err(BadCertificate::UnknownCa);
        }
        let signature = outer.string()?.try_into().map_err(|_| form("its signature has the wrong length"))?;
        if !outer.0.is_empty() {
            return Err(form("something follows its signature"));
        }
        Ok(Self {
            signed,
            signature,
            ca_blob,
            serial,
            kind,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical_option,
        })
    }

    /// The key of the CA that this certificate names, if it is one of ours.
    fn trusted_ca(&self, login_ca: &[String]) -> Result<VerifyingKey, BadCertificate> {
        let named = format!("ssh-ed25519 {}", STANDARD.encode(&self.ca_blob));
        if !login_ca.iter().any(|ca| without_comment(ca) == named) {
            return Err(BadCertificate::UnknownCa);
        }
        let mut fields = Fields(&self.ca_blob);
        if fields.string()? != b"ssh-ed25519" {
            return Err(BadCertificate::UnknownCa);
        }
        let key: [u8; 32] = fields.string()?.try_into().map_err(|_| BadCertificate::UnknownCa)?;
        if !fields.0.is_empty() {
            return Err(BadCertificate::UnknownCa);
        }
        VerifyingKey::from_bytes(&key).map_err(|_| BadCertificate::UnknownCa)
    }
}

fn text(bytes: &[u8]) -> Result<String, BadCertificate> {
    String::from_utf8(bytes.to_vec()).map_err(|_| BadCertificate::Form("a text in it is not UTF-8"))
}

/// SSH's encoding of strings and numbers (RFC 4251 section 5), taken off the front. Nothing is allocated by a length that
/// is merely claimed.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadCertificate> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadCertificate::Form("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }
    fn u32(&mut self) -> Result<u32, BadCertificate> {
        let bytes = self.take(4)?.try_into().map_err(|_| BadCertificate::Form("it is cut short"))?;
        Ok(u32::from_be_bytes(bytes))
    }
    fn u64(&mut self) -> Result<u64, BadCertificate> {
        let bytes = self.take(8)?.try_into().map_err(|_| BadCertificate::Form("it is cut short"))?;
        Ok(u64::from_be_bytes(bytes))
    }
    fn string(&mut self) -> Result<&'a [u8], BadCertificate> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Real certificates, made by the stock `ssh-keygen`.
    struct Forge {
        folder: tempfile::TempDir,
    }

    impl Forge {
        fn new() -> Self {
            let forge = Self { folder: tempfile::tempdir().unwrap() };
            for name in ["ca", "other", "user"] {
                forge.keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name]);
            }
            forge
        }
        fn keygen(&self, arguments: &[&str]) {
            let done =
                Command::new("ssh-keygen").args(arguments).current_dir(self.folder.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.folder.path().join(name)).unwrap().trim().to_owned()
        }
        fn certificate(&self, ca: &str, more: &[&str]) -> String {
            let mut arguments = vec!["-q", "-s", ca];
            arguments.extend_from_slice(more);
            arguments.push("user.pub");
            self.keygen(&arguments);
            self.read("user-cert.pub")
        }
    }

    fn now() -> Time {
        crate::clock::Clock::wall(&crate::clock::SystemClock)
    }

    #[test]
    fn a_certificate_of_the_login_ca_says_who_it_is_and_nothing_else_does() {
        let forge = Forge::new();
        let ca = vec![forge.read("ca.pub")];
        let good =
            forge.certificate("ca", &["-I", "ana", "-n", "halligan-login", "-V", "-1m:+10m", "-z", "77"]);
        let found = check(&good, &ca, now()).unwrap();
        assert_eq!((found.person.as_str(), found.serial), ("ana", 77));
        assert!(is_certificate(&good) && !is_certificate(&ca[0]));

        assert_eq!(check(&good, &[forge.read("other.pub")], now()), Err(BadCertificate::UnknownCa));
        assert_eq!(check(&good, &[], now()), Err(BadCertificate::UnknownCa));
        let later = now().plus(halligan_core::time::Span::minutes(11));
        assert_eq!(check(&good, &ca, later), Err(BadCertificate::NotNow));
        let early = now().minus(halligan_core::time::Span::minutes(5));
        assert_eq!(check(&good, &ca, early), Err(BadCertificate::NotNow));

        let no_principal = forge.certificate("ca", &["-I", "ana", "-n", "root", "-V", "-1m:+10m"]);
        assert_eq!(check(&no_principal, &ca, now()), Err(BadCertificate::Principal));
        let everybody = forge.certificate("ca", &["-I", "ana", "-V", "-1m:+10m"]);
        assert_eq!(
            check(&everybody, &ca, now()),
            Err(BadCertificate::Principal),
            "no principals is not all of them"
        );
        let host = forge.certificate("ca", &["-h", "-I", "ana", "-n", "halligan-login", "-V", "-1m:+10m"]);
        assert_eq!(check(&host, &ca, now()), Err(BadCertificate::NotForPeople));
        let odd_id = forge.certificate("ca", &["-I", "Ana Li", "-n", "halligan-login", "-V", "-1m:+10m"]);
        assert_eq!(check(&odd_id, &ca, now()), Err(BadCertificate::KeyId));
        let forced = forge.certificate(
            "ca",
            &["-I", "ana", "-n", "halligan-login", "-V", "-1m:+10m", "-O", "force-command=true"],
        );
        assert!(matches!(check(&forced, &ca, now()), Err(BadCertificate::CriticalOption(_))));
    }

    #[test]
    fn no_changed_byte_survives() {
        let forge = Forge::new();
        let ca = vec![forge.read("ca.pub")];
        let good = forge.certificate("ca", &["-I", "ana", "-n", "halligan-login", "-V", "-1m:+10m"]);
        let mut words = good.split(' ');
        let (kind, body) = (words.next().unwrap(), words.next().unwrap());
        let blob = STANDARD.decode(body).unwrap();
        for place in 0..blob.len() {
            let mut changed = blob.clone();
            changed[place] ^= 1;
            let text = format!("{kind} {}", STANDARD.encode(&changed));
            assert!(check(&text, &ca, now()).is_err(), "byte {place}");
        }
        for length in 0..blob.len() {
            let text = format!("{kind} {}", STANDARD.encode(&blob[..length]));
            assert!(check(&text, &ca, now()).is_err(), "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_in_peace(text in ".{0,200}", blob in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check(&text, &[], now()).is_err());
            let body = STANDARD.encode(&blob);
            let framed = format!("ssh-ed25519-cert-v01@openssh.com {body}");
            prop_assert!(check(&framed, &[], now()).is_err());
        }
    }
}

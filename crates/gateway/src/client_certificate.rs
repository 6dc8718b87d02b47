//! Client certificates of `halligan login`: X.509, signed by the roster's client authority, with the person's id as their one
//! `CN` (RFC 5280). One level only: nothing stands between authority and person.
//!
//! That the client holds the key inside was checked by the protocol in the TLS handshake; here the rest is.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_core::ids::{Name, PersonId};
use halligan_core::time::Time;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate longer than this is not looked at.
const MAX_BYTES: usize = 16 * 1024;

/// Why a certificate opens nothing. Told to whoever showed it: it says nothing of anybody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadClientCertificate {
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("it is not a well-formed certificate")]
    Form,
    #[error("it was not signed by the login authority of this installation")]
    UnknownCa,
    #[error("it ended at {0}; `halligan login` gets a fresh one")]
    Ended(Time),
    #[error("it is not valid yet; look at the clocks")]
    NotYet,
    #[error("it is not made for logging in ({0})")]
    Purpose(String),
    #[error("it does not name a person")]
    Person,
}

/// What a good certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Who.
    pub person: PersonId,
    /// Its serial, hexadecimal.
    pub serial: String,
}

/// Checks a certificate against the client authorities (DER, base64) and the time.
pub fn check(
    certificate: &[u8],
    client_ca: &[String],
    now: Time,
) -> Result<ClientCertificate, BadClientCertificate> {
    use BadClientCertificate as Bad;
    if certificate.len() > MAX_BYTES {
        return Err(Bad::TooLong);
    }
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| Bad::Form)?;
    if !rest.is_empty() {
        return Err(Bad::Form);
    }
    let mut roots = RootCertStore::empty();
    for authority in client_ca.iter().filter_map(|text| STANDARD.decode(text).ok()) {
        if let Err(error) = roots.add(CertificateDer::from(authority)) {
            tracing::warn!(%error, "a client authority of the roster cannot be used");
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Without any authority there is no verifier, and nobody is let in.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| Bad::UnknownCa)?;
    let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let checked = verifier.verify_client_cert(&CertificateDer::from(certificate), &[], at);
    checked.map_err(|error| match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Bad::Ended(Time::from_micros(parsed.validity().not_after.timestamp().saturating_mul(1_000_000))),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Bad::NotYet,
        rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => Bad::Purpose("its purposes are others".to_owned()),
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => Bad::Form,
        _ => Bad::UnknownCa,
    })?;
    // Only from here on is what it says of any interest.
    if parsed.is_ca() {
        return Err(Bad::Purpose("it is an authority's".to_owned()));
    }
    let mut names = parsed.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else { return Err(Bad::Person) };
    let person = name.as_str().ok().and_then(|text| Name::new(text).ok()).ok_or(Bad::Person)?;
    Ok(ClientCertificate { person, serial: parsed.serial.to_str_radix(16) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use halligan_core::time::Span;
    use proptest::prelude::*;

    use super::*;

    /// Real certificates, made by the stock `openssl`.
    struct Forge {
        folder: tempfile::TempDir,
    }

    impl Forge {
        fn new() -> Self {
            let forge = Self { folder: tempfile::tempdir().unwrap() };
            for name in ["ca", "other"] {
                forge.openssl(
                    &format!(
                        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                     -keyout {name}.key -out {name}.pem"
                    ),
                    &["-subj", "/CN=Halligan login"],
                );
                forge.openssl(&format!("x509 -in {name}.pem -outform DER -out {name}.der"), &[]);
            }
            forge
        }
        fn openssl(&self, words: &str, more: &[&str]) {
            let done = Command::new("openssl")
                .args(words.split_whitespace())
                .args(more)
                .current_dir(self.folder.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
        }
        fn authority(&self, name: &str) -> Vec<String> {
            vec![STANDARD.encode(std::fs::read(self.folder.path().join(format!("{name}.der"))).unwrap())]
        }
        /// For `days`, which may be over.
        fn certificate(&self, ca: &str, subject: &str, extension: &str) -> Vec<u8> {
            self.openssl(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout user.key -out user.csr",
                &["-subj", subject],
            );
            std::fs::write(self.folder.path().join("extensions"), extension).unwrap();
            self.openssl(
                &format!(
                    "x509 -req -in user.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 1 \
                     -extfile extensions -outform DER -out user.der"
                ),
                &[],
            );
            std::fs::read(self.folder.path().join("user.der")).unwrap()
        }
    }

    fn now() -> Time {
        crate::clock::Clock::wall(&crate::clock::SystemClock)
    }

    const CLIENT: &str = "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n";

    #[test]
    fn a_certificate_of_the_authority_says_who_it_is_and_nothing_else_does() {
        use BadClientCertificate as Bad;
        let forge = Forge::new();
        let ca = forge.authority("ca");
        let good = forge.certificate("ca", "/CN=ana", CLIENT);
        assert_eq!(check(&good, &ca, now()).unwrap().person.as_str(), "ana");
        // Another authority of the same name, and none at all.
        assert_eq!(check(&good, &forge.authority("other"), now()), Err(Bad::UnknownCa));
        assert_eq!(check(&good, &[], now()), Err(Bad::UnknownCa));
        assert_eq!(check(&good, &["rubbish".to_owned()], now()), Err(Bad::UnknownCa));
        // Both, as while one is replaced by the other.
        let both = [forge.authority("other"), ca.clone()].concat();
        assert!(check(&good, &both, now()).is_ok());
        let later = now().plus(Span::hours(25));
        assert!(matches!(check(&good, &ca, later), Err(Bad::Ended(at)) if at < later));
        assert_eq!(check(&good, &ca, now().minus(Span::hours(1))), Err(Bad::NotYet));
        for (subject, extension, bad) in [
            ("/CN=ana/CN=bo", CLIENT, Bad::Person),
            ("/CN=Ana Li", CLIENT, Bad::Person),
            ("/O=ana", CLIENT, Bad::Person),
            ("/CN=ana", "extendedKeyUsage=serverAuth\n", Bad::Purpose("its purposes are others".into())),
        ] {
            let one = forge.certificate("ca", subject, extension);
            assert_eq!(check(&one, &ca, now()), Err(bad), "{subject}");
        }
        // What an authority made for itself is no person's.
        let own = STANDARD.decode(&ca[0]).unwrap();
        assert!(check(&own, &ca, now()).is_err());
    }

    #[test]
    fn no_changed_byte_survives() {
        let forge = Forge::new();
        let ca = forge.authority("ca");
        let good = forge.certificate("ca", "/CN=ana", CLIENT);
        for place in 0..good.len() {
            let mut changed = good.clone();
            changed[place] ^= 1;
            assert!(check(&changed, &ca, now()).is_err(), "byte {place}");
            assert!(check(&good[..place], &ca, now()).is_err(), "cut at {place}");
        }
        assert!(check(&[good, vec![0]].concat(), &ca, now()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check(&bytes, &[], now()).is_err());
        }
    }
}

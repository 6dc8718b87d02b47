//! The certificate of the API: an own one from files, or a self-made one that clients pin by its print.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A self-made certificate is good for this many days; clients pin it, so that its dates matter little.
const DAYS: i64 = 3650;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("failed to use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no certificate or key.
    #[error("{} holds no usable {what} (PEM)", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// It could not be made.
    #[error("failed to make a certificate")]
    Make(#[source] rcgen::Error),
    /// Certificate and key do not fit each other, or the machine cannot use them.
    #[error("failed to use the certificate with its key")]
    Fit(#[source] rustls::Error),
}

/// A certificate with its key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.print())
    }
}

impl Certificate {
    /// From PEM files.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong = |path: &Path, what| CertificateError::Content { path: path.to_owned(), what };
        let text = read(chain)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|_| wrong(chain, "certificate"))?;
        if certificates.is_empty() {
            return Err(wrong(chain, "certificate"));
        }
        let secret = Zeroizing::new(read(key)?);
        let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| wrong(key, "private key"))?;
        Ok(Self { chain: certificates, key: secret })
    }

    /// The self-made one of this folder; made for these names at the first start.
    pub fn load_or_make(folder: &Path, names: &[String]) -> Result<Self, CertificateError> {
        let chain = folder.join("api_certificate.pem");
        let key = folder.join("api_key.pem");
        if !chain.exists() || !key.exists() {
            make(folder, &chain, &key, names)?;
        }
        Self::load(&chain, &key)
    }

    /// SHA-256 (hex) of the certificate (DER): what clients pin.
    pub fn print(&self) -> String {
        self.chain.first().map(|first| hex::encode(Sha256::digest(first))).unwrap_or_default()
    }

    pub(crate) fn server_config(self) -> Result<ServerConfig, CertificateError> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Fit)?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .map_err(CertificateError::Fit)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

fn make(folder: &Path, chain: &Path, key: &Path, names: &[String]) -> Result<(), CertificateError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::File { path, source }
    };
    fs::create_dir_all(folder).map_err(file(folder))?;
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.extend(names.iter().filter(|name| !name.is_empty()).cloned());
    all.sort();
    all.dedup();
    let mut parameters = rcgen::CertificateParams::new(all).map_err(CertificateError::Make)?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "Halligan, self-made");
    parameters.distinguished_name = name;
    // rcgen's defaults run from 1975 to 4096; some clients refuse such a certificate.
    let today = time_now_days();
    let date = |days: i64| {
        let (year, month, day) = civil(days);
        rcgen::date_time_ymd(year, month, day)
    };
    parameters.not_before = date(today - 1);
    parameters.not_after = date(today + DAYS);
    let pair = rcgen::KeyPair::generate().map_err(CertificateError::Make)?;
    let certificate = parameters.self_signed(&pair).map_err(CertificateError::Make)?;
    let secret = Zeroizing::new(pair.serialize_pem());
    // The key first: a certificate without its key would never be replaced.
    private(key, secret.as_bytes()).map_err(file(key))?;
    private(chain, certificate.pem().as_bytes()).map_err(file(chain))
}

/// Writes a file that only its owner reads; whole or not at all.
fn private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn time_now_days() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs() / 86_400).unwrap_or(0))
}

/// Year, month and day of a count of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i32, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap_or(2000), u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn a_made_certificate_is_kept_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let made = Certificate::load_or_make(folder.path(), &["halligan.example.org".to_owned()]).unwrap();
        let again = Certificate::load_or_make(folder.path(), &[]).unwrap();
        assert_eq!(made.print(), again.print());
        assert_eq!(made.print().len(), 64);
        let mode = fs::metadata(folder.path().join("api_key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(again.server_config().is_ok());
    }
}

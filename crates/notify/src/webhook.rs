//! Posts webhooks: signed, over https, to where they may go, without redirects, within ten seconds.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::{Host, Url};

use crate::address::{Guarded, allowed, loopback};
use crate::error::NotifyError;
use crate::signature::Keys;
use crate::text::one_line;

/// For everything from the name's resolution to the end of the answer.
const TIME_OUT: Duration = Duration::from_secs(10);
const CONNECT_TIME_OUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read so that the connection can be used again; the rest is cut off.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Characters of a refusal that are shown.
const SHOWN: usize = 200;

pub struct Webhooks {
    https: Client,
    http: Client,
}

/// What the receiver said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Taken,
    /// 410: it does not want any more.
    Gone,
}

/// A webhook that was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL cannot be used.
    #[error("the URL of the route cannot be used: {say}")]
    Url {
        /// Why.
        say: String,
    },
    /// No answer.
    #[error("failed to reach {host}")]
    Transport {
        /// Whom.
        host: String,
        /// Why; without the URL, whose path may be a secret.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("{host} answered {status}: {said}")]
    Refused {
        /// Who.
        host: String,
        /// How.
        status: StatusCode,
        /// The beginning of the answer.
        said: String,
    },
}

impl Webhooks {
    /// Sets up TLS. `roots` is a PEM file of the only authorities; without it the public ones.
    pub fn new(roots: Option<&Path>) -> Result<Self, NotifyError> {
        let client = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Client { source };
        let mut store = RootCertStore::empty();
        match roots {
            Some(path) => {
                for certificate in read_roots(path)? {
                    store.add(certificate).map_err(|source| NotifyError::Roots {
                        path: path.to_owned(),
                        source: source.into(),
                    })?;
                }
            }
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| client(source.into()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        let build = |may: fn(IpAddr) -> bool| {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(Guarded(may)))
                .redirect(Policy::none())
                // A proxy would resolve names itself, beyond our check.
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIME_OUT)
                .timeout(TIME_OUT)
                .build()
                .map_err(|source| client(source.into()))
        };
        Ok(Self { https: build(allowed)?, http: build(loopback)? })
    }

    /// Posts once. `id` is the same for repetitions; `at` is now, seconds since 1970.
    pub async fn post(
        &self,
        url: &str,
        keys: &Keys,
        id: &str,
        at: i64,
        body: Vec<u8>,
    ) -> Result<Answer, WebhookError> {
        let url = target(url).map_err(|say| WebhookError::Url { say })?;
        let host = shown(&url);
        let client = if url.scheme() == "https" { &self.https } else { &self.http };
        let response = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("halligan/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", keys.sign(id, at, &body))
            .body(body)
            .send()
            .await
            .map_err(|source| WebhookError::Transport { host: host.clone(), source: source.without_url() })?;
        let status = response.status();
        let said = read_some(response).await;
        match status {
            StatusCode::GONE => Ok(Answer::Gone),
            status if status.is_success() => Ok(Answer::Taken),
            status if status.is_redirection() => {
                Err(WebhookError::Refused { host, status, said: "redirects are not followed".to_owned() })
            }
            status => {
                let said = one_line(&String::from_utf8_lossy(&said), SHOWN);
                Err(WebhookError::Refused { host, status, said })
            }
        }
    }
}

/// The beginning of the answer; what is wrong with the rest does not change what the status said.
async fn read_some(mut response: Response) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < LONGEST_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    said
}

/// Checks the URL. Names are checked when they are resolved, addresses here, since nobody resolves those.
pub fn target(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries a user name or password".to_owned());
    }
    let address = match url.host() {
        Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
        Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        Some(Host::Domain(_)) => None,
        None => return Err("it names no host".to_owned()),
    };
    match url.scheme() {
        "https" if address.is_none_or(allowed) => Ok(url),
        "https" => Err("webhooks must not go to link-local and metadata addresses".to_owned()),
        // A name is resolved by a client that takes loopback addresses only.
        "http" if address.is_none_or(loopback) => Ok(url),
        "http" => Err("alerts leave this machine by https only".to_owned()),
        _ => Err("it is neither https nor http".to_owned()),
    }
}

/// The host and port of a URL: a path may be a secret.
pub fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    one_line(&format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()), 120)
}

/// The certificates of a PEM file; at least one.
pub fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, NotifyError> {
    let bad = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Roots {
        path: path.to_owned(),
        source,
    };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| bad(error.into()))?.collect();
    let found = found.map_err(|error| bad(error.into()))?;
    if found.is_empty() {
        return Err(bad(io::Error::other("there is no certificate in it").into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_lead_astray_are_refused() {
        for good in [
            "https://hooks.example/x",
            "https://10.0.0.8/",
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://localhost/a",
        ] {
            assert!(target(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.8/",
            "https://169.254.169.254/latest/meta-data",
            "https://0xa9fea9fe/",
            "https://2852039166/",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://u:p@hooks.example/",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "hooks.example",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_path_is_not_shown() {
        let url = target("https://hooks.example:8443/services/T00/SECRET?x=y").unwrap();
        assert_eq!(shown(&url), "https://hooks.example:8443");
    }
}

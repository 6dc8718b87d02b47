//! One server and one token: how a call goes out and what its answer becomes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::trust::Trust;
use crate::types::{CHECKPOINT_HEADER, IDEMPOTENCY_HEADER, Problem};

/// Answers larger than this are refused, recordings apart.
const ANSWER_MOST_BYTES: usize = 16 * 1024 * 1024;
/// Tries when the server cannot be reached: nothing was sent then, so nothing can be done twice.
const TRIES: u32 = 3;

/// JSON, one value a line.
const LINES: &str = "application/x-ndjson";

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://halligan.example.org` or `http://localhost:8080`; a path before `/api/v1` is kept.
    pub address: String,
    /// Which certificate is believed.
    pub trust: Trust,
    /// A call takes at most this long; waiting for a decision may take its own time on top.
    pub time_out: Duration,
}

impl Options {
    /// With the system's authorities and 30 seconds for a call.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), trust: Trust::System, time_out: Duration::from_secs(30) }
    }
}

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    time_out: Duration,
    token: Option<Arc<Zeroizing<String>>>,
    checkpoint: Arc<Mutex<Option<String>>>,
    date: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(options: &Options) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { address: options.address.chars().take(200).collect() };
        let mut base = Url::parse(&options.address).map_err(|_| wrong())?;
        let here = match base.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let allowed = base.scheme() == "https" || (base.scheme() == "http" && here);
        if !allowed || !base.username().is_empty() || base.password().is_some() {
            return Err(wrong());
        }
        let path = format!("{}/api/v1/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        base.set_query(None);
        base.set_fragment(None);
        let http = reqwest::ClientBuilder::new()
            .tls_backend_preconfigured(options.trust.config()?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .no_proxy()
            .user_agent(concat!("halligan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Trust { why: error.to_string() })?;
        Ok(Self {
            http,
            base,
            time_out: options.time_out,
            token: None,
            checkpoint: Arc::default(),
            date: Arc::default(),
        })
    }

    /// The same client with this token (`hgn_…`).
    #[must_use]
    pub fn with_token(mut self, token: Zeroizing<String>) -> Self {
        self.token = Some(Arc::new(token));
        self
    }

    /// The last checkpoint of control's ledger that an answer carried: a signed note.
    pub fn last_checkpoint(&self) -> Option<String> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server's clock in its last answer, as HTTP writes it (RFC 9110, section 6.6.1), to the second.
    pub fn last_date(&self) -> Option<String> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `GET` of a path below `/api/v1`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, None, Duration::ZERO).await?;
        self.parse(response).await
    }

    /// As [`Client::get`], for an answer that may take `longer` than usual.
    pub async fn get_slowly<T: DeserializeOwned>(
        &self,
        path: &str,
        longer: Duration,
    ) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, None, longer).await?;
        self.parse(response).await
    }

    /// `POST` to a path below `/api/v1`, with an idempotency key of its own.
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = self.body(body)?;
        let response = self.send(Method::POST, path, Some(body), Duration::ZERO).await?;
        self.parse(response).await
    }

    /// As [`Client::post`], for an answer that may take some minutes.
    pub async fn post_slowly<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = self.body(body)?;
        let response = self.send(Method::POST, path, Some(body), Duration::from_secs(600)).await?;
        self.parse(response).await
    }

    /// `POST` of JSON, one value a line.
    pub async fn post_lines<T: DeserializeOwned>(&self, path: &str, lines: String) -> Result<T, ClientError> {
        let body = Some(lines.into_bytes());
        let response = self.send_as(Method::POST, path, body, LINES, Duration::from_secs(60)).await?;
        self.parse(response).await
    }

    /// As [`Client::post`], where the answer has no body.
    pub async fn post_only<B: Serialize + ?Sized>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        let body = self.body(body)?;
        self.send(Method::POST, path, Some(body), Duration::ZERO).await.map(drop)
    }

    /// `DELETE`, where the answer has no body.
    pub async fn delete<B: Serialize + ?Sized>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        let body = self.body(body)?;
        self.send(Method::DELETE, path, Some(body), Duration::ZERO).await.map(drop)
    }

    /// `GET` of text.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.send(Method::GET, path, None, Duration::ZERO).await?;
        let bytes = self.limited(response).await?;
        String::from_utf8(bytes).map_err(|_| self.strange("it is not text"))
    }

    /// `GET` of bytes, piece by piece into `sink`; says how many there were. Has no limit of time or size.
    pub async fn download<W: std::io::Write>(&self, path: &str, sink: &mut W) -> Result<u64, ClientError> {
        let mut response = self.send(Method::GET, path, None, Duration::from_secs(24 * 3600)).await?;
        let mut count = 0;
        while let Some(piece) = response.chunk().await.map_err(|source| self.unreachable(source))? {
            sink.write_all(&piece)
                .map_err(|error| self.strange(&format!("it cannot be written: {error}")))?;
            count += piece.len() as u64;
        }
        Ok(count)
    }

    fn body<B: Serialize + ?Sized>(&self, body: &B) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| self.strange(&error.to_string()))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.server(), source: source.without_url() }
    }
    fn strange(&self, why: &str) -> ClientError {
        ClientError::Answer { server: self.server(), why: why.to_owned() }
    }
    fn server(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        longer: Duration,
    ) -> Result<Response, ClientError> {
        self.send_as(method, path, body, "application/json", longer).await
    }

    async fn send_as(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        content_type: &'static str,
        longer: Duration,
    ) -> Result<Response, ClientError> {
        let url = self
            .base
            .join(path.trim_start_matches('/'))
            .map_err(|_| ClientError::Address { address: path.chars().take(200).collect() })?;
        let key = idempotency_key().map_err(|why| self.strange(&why))?;
        let mut tries = 0;
        let response = loop {
            tries += 1;
            let mut request =
                self.http.request(method.clone(), url.clone()).timeout(self.time_out.saturating_add(longer));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.as_str());
            }
            if let Some(body) = &body {
                request = request
                    .header("content-type", content_type)
                    .header(IDEMPOTENCY_HEADER, &key)
                    .body(body.clone());
            }
            match request.send().await {
                Ok(response) => break response,
                Err(error) if error.is_connect() && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(200 * u64::from(tries))).await;
                }
                Err(error) => return Err(self.unreachable(error)),
            }
        };
        if let Some(note) = response
            .headers()
            .get(CHECKPOINT_HEADER)
            .and_then(|value| STANDARD.decode(value.as_bytes()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
        {
            *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
        }
        let date = response.headers().get("date").and_then(|value| value.to_str().ok()).map(str::to_owned);
        *self.date.lock().unwrap_or_else(PoisonError::into_inner) = date;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.limited(response).await?;
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.strange(&format!("status {status}"))),
        }
    }

    async fn limited(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|source| self.unreachable(source))? {
            if bytes.len() + piece.len() > ANSWER_MOST_BYTES {
                return Err(self.strange("it is too large"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn parse<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        if response.status() == StatusCode::NO_CONTENT {
            return serde_json::from_str("null").map_err(|error| self.strange(&error.to_string()));
        }
        let bytes = Zeroizing::new(self.limited(response).await?);
        serde_json::from_slice(&bytes).map_err(|error| self.strange(&error.to_string()))
    }
}

fn idempotency_key() -> Result<String, String> {
    let mut raw = [0u8; 16];
    getrandom::fill(&mut raw).map_err(|error| error.to_string())?;
    Ok(hex::encode(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in [
            "https://halligan.example.org",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "https://10.0.0.1/x",
        ] {
            assert!(Client::new(&Options::new(good)).is_ok(), "{good}");
        }
        for bad in [
            "http://halligan.example.org",
            "http://localhost.example.org",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://me:secret@halligan.example.org",
            "halligan.example.org",
        ] {
            assert!(matches!(Client::new(&Options::new(bad)), Err(ClientError::Address { .. })), "{bad}");
        }
        let client = Client::new(&Options::new("https://example.org/ops/?q=1")).unwrap();
        assert_eq!(client.base.as_str(), "https://example.org/ops/api/v1/");
    }
}

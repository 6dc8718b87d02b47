//! What comes in: bodies with their idempotency key, ids in paths, questions in queries.

use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::Bytes;
use halligan_client::types::{IDEMPOTENCY_HEADER, RequestsOf, Which};
use halligan_core::ids::PersonId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::problem::ApiError;

/// A JSON body. An empty one is read as `{}`.
pub struct Wished<T> {
    /// What it says.
    pub value: T,
    /// Digest of path, key and body, if the caller gave an idempotency key.
    repetition: Option<String>,
}

/// For calls that take no words.
#[derive(Deserialize)]
pub struct Nothing {}

impl<T> Wished<T> {
    /// The key of this person's call, for its `part` where one call makes several commands. The same key with another
    /// body is another call.
    pub fn idempotency(&self, person: &PersonId, part: usize) -> Option<String> {
        let repetition = self.repetition.as_ref()?;
        Some(hex::encode(Sha256::digest(format!("halligan-api-v1\0{person}\0{part}\0{repetition}"))))
    }
}

impl<T> Wished<T> {
    /// Names this very call of this person, so that the code shown in it is good for its repetition and nothing else.
    pub fn call(&self, person: &PersonId) -> Option<String> {
        let repetition = self.repetition.as_ref()?;
        Some(hex::encode(Sha256::digest(format!("halligan-api-code-v1\0{person}\0{repetition}"))))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Wished<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let path = request.uri().path().to_owned();
        let key = request.headers().get(IDEMPOTENCY_HEADER).cloned();
        let is_json =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
            });
        let bytes = Bytes::from_request(request, state).await.map_err(|refused| {
            ApiError::new(refused.status(), "too_large", "Not taken", "the body is too large, or was cut off")
        })?;
        if !bytes.is_empty() && !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "malformed",
                "Not understood",
                "a body is JSON, and says so: Content-Type: application/json",
            ));
        }
        // Bodies hold passwords and codes: what was read is wiped.
        let text = Zeroizing::new(if bytes.is_empty() { b"{}".to_vec() } else { bytes.to_vec() });
        let value = serde_json::from_slice(&text)
            .map_err(|error| ApiError::malformed(format!("the body is not what this call takes: {error}")))?;
        let repetition = match key {
            None => None,
            Some(key) => {
                let key = key.to_str().ok().filter(|key| (1..=64).contains(&key.len())).ok_or_else(|| {
                    ApiError::malformed("an idempotency key has 1 to 64 printable characters")
                })?;
                let mut hash = Sha256::new();
                hash.update(format!("{path}\0{key}\0"));
                hash.update(&*text);
                Some(hex::encode(hash.finalize()))
            }
        };
        Ok(Self { value, repetition })
    }
}

/// An id in a path. Text that is no id names nothing, and is answered like that.
pub fn id<T: FromStr>(what: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
        ApiError::not_found(format_args!("{what} {shown}"))
    })
}

/// A question in the address.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|refused| ApiError::malformed(format!("the question is not understood: {refused}")))?;
        Ok(Self(value))
    }
}

/// Which requests, and where in the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RequestsQuery {
    /// `mine` if not said.
    #[serde(default)]
    #[param(inline)]
    pub which: RequestsOf,
    /// `next` of the page before.
    pub after: Option<String>,
    /// 1 to 200; 50 if not said.
    pub limit: Option<u32>,
}

/// Which of a list, and where in it.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WhichQuery {
    /// `mine` if not said.
    #[serde(default)]
    #[param(inline)]
    pub which: Which,
    /// `next` of the page before.
    pub after: Option<String>,
    /// 1 to 200; 50 if not said.
    pub limit: Option<u32>,
}

/// Where in a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    pub after: Option<String>,
    /// 1 to 200; 50 if not said.
    pub limit: Option<u32>,
}

/// How many at most.
pub fn limited(limit: Option<u32>) -> usize {
    limit.unwrap_or(50).clamp(1, 200) as usize
}

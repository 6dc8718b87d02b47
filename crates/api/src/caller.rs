//! Who calls: a bearer token becomes a caller. What an API token may reach is said by the extractor that a route names.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use halligan_control::people::sign_in::{Caller, Scope};

use crate::problem::ApiError;
use crate::routes::Api;

/// A person who has signed in; API tokens are refused.
pub struct Person(pub Caller);
/// A person, or an API token that may read.
pub struct Reader(pub Caller);
/// A person, or an API token that may file standard requests.
pub struct Asker(pub Caller);

/// Whoever the token belongs to, if there is a good one.
pub async fn bearer(api: &Api, parts: &Parts) -> Result<Option<Caller>, ApiError> {
    let Some(value) = parts.headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Ok(None);
    };
    Ok(api.control.authenticate(token.trim()).await?)
}

async fn caller(api: &Api, parts: &Parts, scope: Option<Scope>) -> Result<Caller, ApiError> {
    let caller = bearer(api, parts).await?.ok_or_else(ApiError::signed_out)?;
    match (&caller.sign_in.scopes, scope) {
        (None, _) => Ok(caller),
        (Some(scopes), Some(scope)) if scopes.contains(&scope) => Ok(caller),
        (Some(_), _) => Err(ApiError::not_allowed("this API token may not do that")
            .next("sign in as a person with `halligan login`")),
    }
}

impl FromRequestParts<Api> for Person {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        caller(api, parts, None).await.map(Self)
    }
}
impl FromRequestParts<Api> for Reader {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        caller(api, parts, Some(Scope::Read)).await.map(Self)
    }
}
impl FromRequestParts<Api> for Asker {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        caller(api, parts, Some(Scope::Request)).await.map(Self)
    }
}

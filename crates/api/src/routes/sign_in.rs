//! Signing in, showing a second factor, tokens.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use halligan_client::types::{ApiTokenWish, SignInView, SignInWish, SignedIn, SteppedUp, Totp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::Wished;
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(sign_in))
        .routes(routes!(sign_ins))
        .routes(routes!(end_sign_in))
        .routes(routes!(step_up))
        .routes(routes!(make_api_token))
}

/// Sign in by password and authenticator.
#[utoipa::path(post, path = "/sign-in", tag = "people", request_body = SignInWish, responses((status = 200, body = SignedIn)))]
async fn sign_in(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    wish: Wished<SignInWish>,
) -> Result<Json<SignedIn>, ApiError> {
    let SignInWish { name, password, totp, label } = wish.value;
    let done = api.control.sign_in(&name, password, totp.as_deref(), Some(from.ip()), &label).await;
    let (token, sign_in) = done.map_err(|error| {
        let error = ApiError::from(error);
        // The same words for every reason, and 401: nobody is signed in.
        if error.code() == "not_allowed" { error.with_status(StatusCode::UNAUTHORIZED) } else { error }
    })?;
    Ok(Json(SignedIn { token, sign_in: views::sign_in(sign_in, None) }))
}

/// The caller's sign-ins and API tokens.
#[utoipa::path(get, path = "/sign-ins", tag = "people", responses((status = 200, body = Vec<SignInView>)))]
async fn sign_ins(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<Vec<SignInView>>, ApiError> {
    let all = api.control.sign_ins(&caller.person).await?;
    Ok(Json(all.into_iter().map(|found| views::sign_in(found, Some(&caller))).collect()))
}

/// End a sign-in or API token of the caller; `current` is the one that asks.
#[utoipa::path(delete, path = "/sign-ins/{id}", tag = "people", responses((status = 204)))]
async fn end_sign_in(
    State(api): State<Api>,
    Person(caller): Person,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = if id == "current" { caller.sign_in.id.clone() } else { id };
    api.control.end_sign_in(&caller.person, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show a second factor, to be fresh for a while.
#[utoipa::path(post, path = "/step-up", tag = "people", request_body = Totp, responses((status = 200, body = SteppedUp)))]
async fn step_up(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<Totp>,
) -> Result<Json<SteppedUp>, ApiError> {
    // Good for the repetition of this call in this sign-in, and in no other.
    let call = wish.call(&caller.person).map(|call| format!("{call}-{}", caller.sign_in.id));
    let factor = api.control.step_up_in(&caller, wish.value.totp.trim(), false, call.as_deref()).await?;
    let fresh_for = api.control.in_force().head.catalog.settings.factor_fresh_for;
    Ok(Json(SteppedUp { at: factor.at, fresh_until: factor.at.plus(fresh_for) }))
}

/// Make an API token.
#[utoipa::path(post, path = "/api-tokens", tag = "people", request_body = ApiTokenWish, responses((status = 200, body = SignedIn)))]
async fn make_api_token(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<ApiTokenWish>,
) -> Result<Json<SignedIn>, ApiError> {
    let wish = wish.value;
    let scopes = wish.scopes.into_iter().map(views::asked_scope).collect();
    let (token, sign_in) =
        api.control.make_api_token(&caller, &wish.label, scopes, wish.lifetime, wish.totp.trim()).await?;
    Ok(Json(SignedIn { token, sign_in: views::sign_in(sign_in, None) }))
}

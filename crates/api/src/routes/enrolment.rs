//! Enrolment of people: invited, confirmed, begun, finished; and shutting somebody out.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use halligan_client::types::{
    EnrolmentBegin, EnrolmentBegun, EnrolmentFinish, Invited, MaybeTotp, Totp, WhoseIt,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Wished, id};
use crate::caller::Person;
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(finish))
        .routes(routes!(invite))
        .routes(routes!(confirm))
        .routes(routes!(disable))
}

/// First half of an enrolment: an authenticator's address, shown once.
#[utoipa::path(post, path = "/enrolment/begin", tag = "people", request_body = EnrolmentBegin, responses((status = 200, body = EnrolmentBegun)))]
async fn begin(
    State(api): State<Api>,
    wish: Wished<EnrolmentBegin>,
) -> Result<Json<EnrolmentBegun>, ApiError> {
    let (person, otpauth) = api.control.begin_enrolment(&wish.value.secret).await?;
    Ok(Json(EnrolmentBegun { person, otpauth }))
}

/// Second half: a password and the first code. The enrolment is used up.
#[utoipa::path(post, path = "/enrolment/finish", tag = "people", request_body = EnrolmentFinish, responses((status = 200, body = WhoseIt)))]
async fn finish(State(api): State<Api>, wish: Wished<EnrolmentFinish>) -> Result<Json<WhoseIt>, ApiError> {
    let EnrolmentFinish { secret, password, totp } = wish.value;
    let person = api.control.finish_enrolment(&secret, password, &totp).await?;
    Ok(Json(WhoseIt { person }))
}

/// Make an enrolment for somebody: their first, or a reset.
#[utoipa::path(post, path = "/people/{id}/invite", tag = "people", request_body = MaybeTotp, responses((status = 200, body = Invited)))]
async fn invite(
    State(api): State<Api>,
    Person(caller): Person,
    Path(person): Path<String>,
    wish: Wished<MaybeTotp>,
) -> Result<Json<Invited>, ApiError> {
    let person = id("person", &person)?;
    let (secret, id, needs_confirmation) =
        api.control.invite(&caller, &person, wish.value.totp.as_deref()).await?;
    Ok(Json(Invited { secret, id, needs_confirmation }))
}

/// Confirm an enrolment that another administrator made.
#[utoipa::path(post, path = "/enrolments/{id}/confirm", tag = "people", request_body = Totp, responses((status = 200, body = WhoseIt)))]
async fn confirm(
    State(api): State<Api>,
    Person(caller): Person,
    Path(id): Path<String>,
    wish: Wished<Totp>,
) -> Result<Json<WhoseIt>, ApiError> {
    let person = api.control.confirm_enrolment(&caller, &id, wish.value.totp.trim()).await?;
    Ok(Json(WhoseIt { person }))
}

/// Shut a person out at once: no sign-in, no token, no key.
#[utoipa::path(post, path = "/people/{id}/disable", tag = "people", responses((status = 204)))]
async fn disable(
    State(api): State<Api>,
    Person(caller): Person,
    Path(person): Path<String>,
) -> Result<StatusCode, ApiError> {
    api.control.disable(&caller, &id("person", &person)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

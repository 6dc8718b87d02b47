//! Sessions: listed, killed, and their missing recordings explained.

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{Page, ReasonWish, SessionView, Which};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::Source;
use halligan_core::command::Command;
use halligan_core::ids::SessionId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, WhichQuery, Wished, id, limited};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(terminate))
        .routes(routes!(waive_gap))
}

/// Sessions, newest first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(WhichQuery), responses((status = 200, body = Page<SessionView>)))]
async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<WhichQuery>,
) -> Result<Json<Page<SessionView>>, ApiError> {
    let source = match query.which {
        Which::Mine => Source::Index("person", caller.person.as_str()),
        Which::Open => Source::Index("state", "live"),
        Which::All => Source::All,
    };
    let part =
        api.viewer(&caller).part(source, query.after.as_deref(), limited(query.limit), |_| true).await?;
    Ok(Json(views::page(part, views::session)))
}

/// One session.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", responses((status = 200, body = SessionView)))]
async fn one(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(session): Path<String>,
) -> Result<Json<SessionView>, ApiError> {
    Ok(Json(views::session(api.viewer(&caller).session(id("session", &session)?).await?)))
}

async fn with_reason(
    api: Api,
    caller: Caller,
    session: &str,
    wish: Wished<ReasonWish>,
    command: impl FnOnce(SessionId, String) -> Command,
) -> Result<Done<SessionView>, ApiError> {
    let session = id("session", session)?;
    api.viewer(&caller).session(session).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let done = api.run(actor, command(session, wish.value.reason), idempotency).await;
    let leaf = done.map_err(|error| error.shown(session))?.leaf;
    Ok(Done { body: views::session(api.viewer(&caller).session(session).await?), leaf })
}

/// Kill a session.
#[utoipa::path(post, path = "/sessions/{id}/terminate", tag = "sessions", request_body = ReasonWish, responses((status = 200, body = SessionView)))]
async fn terminate(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<SessionView>, ApiError> {
    with_reason(api, caller, &session, wish, |session, reason| Command::TerminateSession { session, reason })
        .await
}

/// Say, as one of two, that the absence of a recording is explained.
#[utoipa::path(post, path = "/sessions/{id}/waive-gap", tag = "sessions", request_body = ReasonWish, responses((status = 200, body = SessionView)))]
async fn waive_gap(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<SessionView>, ApiError> {
    with_reason(api, caller, &session, wish, |session, reason| Command::WaiveGap { session, reason }).await
}

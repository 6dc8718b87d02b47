//! Statements that wait for a second person: seen, allowed, denied.

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{ReasonWish, StatementView};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::SeenStatement;
use halligan_core::command::Command;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Wished, id};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(allow)).routes(routes!(deny))
}

pub(super) fn view(seen: SeenStatement) -> StatementView {
    StatementView {
        session: seen.session.id,
        hold: seen.hold,
        person: seen.session.person,
        entitlement: seen.session.entitlement,
        incident_number: seen.incident_number,
        statement: seen.statement,
        may_release: seen.may_release,
    }
}

/// Statements that wait, as far as the caller may see them; at most 100.
#[utoipa::path(get, path = "/statements", tag = "sessions", responses((status = 200, body = Vec<StatementView>)))]
async fn list(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<Vec<StatementView>>, ApiError> {
    Ok(Json(api.viewer(&caller).held_statements().await?.into_iter().map(view).collect()))
}

async fn answer(
    api: Api,
    caller: Caller,
    session: &str,
    hold: u32,
    allow: bool,
    wish: Wished<ReasonWish>,
) -> Result<Done<StatementView>, ApiError> {
    let session = id("session", session)?;
    let mut seen = api.viewer(&caller).held_statement(session, hold).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let reason = wish.value.reason;
    let command = Command::ReleaseStatement { session, hold, allow, reason };
    let done = api.run(actor, command, idempotency).await;
    let leaf = done.map_err(|error| error.shown(session))?.leaf;
    // The gateway may have carried it out by now: then what was seen is what there is.
    if let Ok(now) = api.viewer(&caller).held_statement(session, hold).await {
        seen = now;
    }
    seen.may_release = false;
    Ok(Done { body: view(seen), leaf })
}

/// Let one statement pass, this once.
#[utoipa::path(post, path = "/sessions/{id}/statements/{hold}/allow", tag = "sessions", request_body = ReasonWish, responses((status = 200, body = StatementView)))]
async fn allow(
    State(api): State<Api>,
    Person(caller): Person,
    Path((session, hold)): Path<(String, u32)>,
    wish: Wished<ReasonWish>,
) -> Result<Done<StatementView>, ApiError> {
    answer(api, caller, &session, hold, true, wish).await
}

/// Do not let it pass.
#[utoipa::path(post, path = "/sessions/{id}/statements/{hold}/deny", tag = "sessions", request_body = ReasonWish, responses((status = 200, body = StatementView)))]
async fn deny(
    State(api): State<Api>,
    Person(caller): Person,
    Path((session, hold)): Path<(String, u32)>,
    wish: Wished<ReasonWish>,
) -> Result<Done<StatementView>, ApiError> {
    answer(api, caller, &session, hold, false, wish).await
}

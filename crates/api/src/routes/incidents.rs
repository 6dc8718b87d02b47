//! Incidents: opened, told about, mitigated, closed. Named by `INC-7` or by id.

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{
    ChangeWish, IncidentView, IncidentWish, LinkWish, NoteWish, Page, ReasonWish, SeverityWish, Which,
};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::Source;
use halligan_core::command::{Actor, Command};
use halligan_core::event::Event;
use halligan_core::ids::IncidentId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, Nothing, WhichQuery, Wished, limited};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, open))
        .routes(routes!(one))
        .routes(routes!(mitigate))
        .routes(routes!(close))
        .routes(routes!(close_unproven))
        .routes(routes!(reopen))
        .routes(routes!(note))
        .routes(routes!(link))
        .routes(routes!(severity))
        .routes(routes!(judge_change))
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(WhichQuery), responses((status = 200, body = Page<IncidentView>)))]
async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<WhichQuery>,
) -> Result<Json<Page<IncidentView>>, ApiError> {
    let source = match query.which {
        Which::Mine => Source::Index("person", caller.person.as_str()),
        Which::Open => Source::Index("state", "open"),
        Which::All => Source::All,
    };
    let part =
        api.viewer(&caller).part(source, query.after.as_deref(), limited(query.limit), |_| true).await?;
    Ok(Json(views::page(part, views::incident)))
}

/// One incident.
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents", responses((status = 200, body = IncidentView)))]
async fn one(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(incident): Path<String>,
) -> Result<Json<IncidentView>, ApiError> {
    Ok(Json(views::incident(api.viewer(&caller).incident(&incident).await?)))
}

/// Open an incident.
#[utoipa::path(post, path = "/incidents", tag = "incidents", request_body = IncidentWish, responses((status = 200, body = IncidentView)))]
async fn open(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<IncidentWish>,
) -> Result<Done<IncidentView>, ApiError> {
    let idempotency = wish.idempotency(&caller.person, 0);
    let IncidentWish { title, severity, scenario, link } = wish.value;
    let number = api.control.next_incident_number().await?;
    let command = Command::OpenIncident { title, severity, scenario, link, number };
    let outcome = api.run(caller.actor(), command, idempotency).await?;
    let opened = outcome.events.iter().find_map(|event| match event {
        Event::IncidentOpened { incident } => Some(incident.id.to_string()),
        _ => None,
    });
    let opened = opened.unwrap_or_default();
    Ok(Done { body: views::incident(api.viewer(&caller).incident(&opened).await?), leaf: outcome.leaf })
}

/// Runs a command on an incident that the caller may see, and shows it as it is then.
async fn act(
    api: Api,
    caller: Caller,
    incident: &str,
    actor: Actor,
    idempotency: Option<String>,
    command: impl FnOnce(IncidentId) -> Command,
) -> Result<Done<IncidentView>, ApiError> {
    let id = api.viewer(&caller).incident(incident).await?.incident.id;
    let done = api.run(actor, command(id), idempotency).await;
    let leaf = done.map_err(|error| error.shown(id))?.leaf;
    Ok(Done { body: views::incident(api.viewer(&caller).incident(incident).await?), leaf })
}

/// The harm is over: all its grants end.
#[utoipa::path(post, path = "/incidents/{id}/mitigate", tag = "incidents", responses((status = 200, body = IncidentView)))]
async fn mitigate(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<IncidentView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    act(api, caller, &incident, actor, key, |incident| Command::Mitigate { incident }).await
}

/// Close it; what blocks is in the refusal.
#[utoipa::path(post, path = "/incidents/{id}/close", tag = "incidents", responses((status = 200, body = IncidentView)))]
async fn close(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<IncidentView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    act(api, caller, &incident, actor, key, |incident| Command::CloseIncident { incident }).await
}

/// End it, as one of two, without proof.
#[utoipa::path(post, path = "/incidents/{id}/close-unproven", tag = "incidents", request_body = ReasonWish, responses((status = 200, body = IncidentView)))]
async fn close_unproven(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<IncidentView>, ApiError> {
    api.viewer(&caller).incident(&incident).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let key = wish.idempotency(&caller.person, 0);
    let reason = wish.value.reason;
    act(api, caller, &incident, actor, key, |incident| Command::CloseUnproven { incident, reason }).await
}

/// Open it again.
#[utoipa::path(post, path = "/incidents/{id}/reopen", tag = "incidents", request_body = ReasonWish, responses((status = 200, body = IncidentView)))]
async fn reopen(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<IncidentView>, ApiError> {
    api.viewer(&caller).incident(&incident).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let key = wish.idempotency(&caller.person, 0);
    let reason = wish.value.reason;
    act(api, caller, &incident, actor, key, |incident| Command::Reopen { incident, reason }).await
}

/// Say something in it.
#[utoipa::path(post, path = "/incidents/{id}/notes", tag = "incidents", request_body = NoteWish, responses((status = 200, body = IncidentView)))]
async fn note(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<NoteWish>,
) -> Result<Done<IncidentView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    let text = wish.value.text;
    act(api, caller, &incident, actor, key, |incident| Command::AddNote { incident, text }).await
}

/// Link the outside ticket.
#[utoipa::path(post, path = "/incidents/{id}/links", tag = "incidents", request_body = LinkWish, responses((status = 200, body = IncidentView)))]
async fn link(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<LinkWish>,
) -> Result<Done<IncidentView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    let link = wish.value.link;
    act(api, caller, &incident, actor, key, |incident| Command::AddLink { incident, link }).await
}

/// Change its severity.
#[utoipa::path(post, path = "/incidents/{id}/severity", tag = "incidents", request_body = SeverityWish, responses((status = 200, body = IncidentView)))]
async fn severity(
    State(api): State<Api>,
    Person(caller): Person,
    Path(incident): Path<String>,
    wish: Wished<SeverityWish>,
) -> Result<Done<IncidentView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    let SeverityWish { severity, reason } = wish.value;
    act(api, caller, &incident, actor, key, |incident| Command::ChangeSeverity { incident, severity, reason })
        .await
}

/// Say what became of a change, by its index. An owner of what was changed may do that without seeing the incident.
#[utoipa::path(post, path = "/incidents/{id}/changes/{index}", tag = "incidents", request_body = ChangeWish, responses((status = 204)))]
async fn judge_change(
    State(api): State<Api>,
    Person(caller): Person,
    Path((incident, index)): Path<(String, u32)>,
    wish: Wished<ChangeWish>,
) -> Result<axum::http::StatusCode, ApiError> {
    let incident = api.viewer(&caller).incident_to_judge(&incident, index).await?;
    let key = wish.idempotency(&caller.person, 0);
    let ChangeWish { fate, note } = wish.value;
    api.run(caller.actor(), Command::JudgeChange { incident, change: index, fate, note }, key).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

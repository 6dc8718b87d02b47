//! Grants: seen, extended, given back, ended, and how the question of their proof is settled.

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{
    ExtendWish, GrantView, KeepWish, Page, ReasonWish, RequestView, RevokeMany, RevokedItem, Which,
};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::{SeenGrant, Source, Viewer};
use halligan_core::command::{Actor, Command};
use halligan_core::event::Event;
use halligan_core::grant::GrantState;
use halligan_core::ids::GrantId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, Nothing, WhichQuery, Wished, id, limited};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

/// Grants ended by one call; call again for the rest.
const MOST_AT_ONCE: usize = 500;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(extend))
        .routes(routes!(give_back))
        .routes(routes!(revoke))
        .routes(routes!(waive_proof))
        .routes(routes!(target_gone))
        .routes(routes!(keep))
        .routes(routes!(revoke_many))
}

/// Grants, newest first.
#[utoipa::path(get, path = "/grants", tag = "grants", params(WhichQuery), responses((status = 200, body = Page<GrantView>)))]
async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<WhichQuery>,
) -> Result<Json<Page<GrantView>>, ApiError> {
    let source = match query.which {
        Which::Mine => Source::Index("person", caller.person.as_str()),
        Which::Open => Source::Index("state", "unsettled"),
        Which::All => Source::All,
    };
    let part =
        api.viewer(&caller).part(source, query.after.as_deref(), limited(query.limit), |_| true).await?;
    Ok(Json(views::page(part, views::grant)))
}

/// One grant.
#[utoipa::path(get, path = "/grants/{id}", tag = "grants", responses((status = 200, body = GrantView)))]
async fn one(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(grant): Path<String>,
) -> Result<Json<GrantView>, ApiError> {
    Ok(Json(views::grant(api.viewer(&caller).grant(id("grant", &grant)?).await?)))
}

/// Ask for more time: a request of its own under the same ceiling (rule 7).
#[utoipa::path(post, path = "/grants/{id}/extend", tag = "grants", request_body = ExtendWish, responses((status = 200, body = RequestView)))]
async fn extend(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<ExtendWish>,
) -> Result<Done<RequestView>, ApiError> {
    let grant = id("grant", &grant)?;
    api.viewer(&caller).grant(grant).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let ExtendWish { duration, reason, .. } = wish.value;
    let done = api.run(actor, Command::Extend { grant, duration, reason }, idempotency).await;
    let outcome = done.map_err(|error| error.shown(grant))?;
    let filed = outcome.events.iter().find_map(|event| match event {
        Event::RequestFiled { request } => Some(request.id),
        _ => None,
    });
    let Some(request) = filed else {
        return Err(ApiError::conflict("wrong_state", "nothing was left to extend"));
    };
    Ok(Done { body: views::request(api.viewer(&caller).request(request).await?), leaf: outcome.leaf })
}

impl Api {
    async fn act_on_grant(
        &self,
        caller: &Caller,
        grant: GrantId,
        actor: Actor,
        command: Command,
        idempotency: Option<String>,
    ) -> Result<Done<GrantView>, ApiError> {
        let done = self.run(actor, command, idempotency).await;
        let leaf = done.map_err(|error| error.shown(grant))?.leaf;
        Ok(Done { body: views::grant(self.viewer(caller).grant(grant).await?), leaf })
    }
}

async fn with_reason(
    api: Api,
    caller: Caller,
    grant: &str,
    wish: Wished<ReasonWish>,
    command: impl FnOnce(GrantId, String) -> Command,
) -> Result<Done<GrantView>, ApiError> {
    let grant = id("grant", grant)?;
    api.viewer(&caller).grant(grant).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    api.act_on_grant(&caller, grant, actor, command(grant, wish.value.reason), idempotency).await
}

/// Be done.
#[utoipa::path(post, path = "/grants/{id}/give-back", tag = "grants", responses((status = 200, body = GrantView)))]
async fn give_back(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<GrantView>, ApiError> {
    let grant = id("grant", &grant)?;
    api.viewer(&caller).grant(grant).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    api.act_on_grant(&caller, grant, caller.actor(), Command::GiveBack { grant }, idempotency).await
}

/// End somebody's access.
#[utoipa::path(post, path = "/grants/{id}/revoke", tag = "grants", request_body = ReasonWish, responses((status = 200, body = GrantView)))]
async fn revoke(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<GrantView>, ApiError> {
    with_reason(api, caller, &grant, wish, |grant, reason| Command::Revoke { grant, reason }).await
}

/// Say, as one of two, that the proof is not needed.
#[utoipa::path(post, path = "/grants/{id}/waive-proof", tag = "grants", request_body = ReasonWish, responses((status = 200, body = GrantView)))]
async fn waive_proof(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<GrantView>, ApiError> {
    with_reason(api, caller, &grant, wish, |grant, reason| Command::WaiveProof { grant, reason }).await
}

/// Attest, as the system's owner, that the target is gone.
#[utoipa::path(post, path = "/grants/{id}/target-gone", tag = "grants", request_body = ReasonWish, responses((status = 200, body = GrantView)))]
async fn target_gone(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<ReasonWish>,
) -> Result<Done<GrantView>, ApiError> {
    with_reason(api, caller, &grant, wish, |grant, reason| Command::AttestTargetGone { grant, reason }).await
}

/// Keep a grant beyond the mitigation of its incident.
#[utoipa::path(post, path = "/grants/{id}/keep", tag = "grants", request_body = KeepWish, responses((status = 200, body = GrantView)))]
async fn keep(
    State(api): State<Api>,
    Person(caller): Person,
    Path(grant): Path<String>,
    wish: Wished<KeepWish>,
) -> Result<Done<GrantView>, ApiError> {
    let grant = id("grant", &grant)?;
    api.viewer(&caller).grant(grant).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let KeepWish { until, reason, .. } = wish.value;
    api.act_on_grant(&caller, grant, actor, Command::KeepGrant { grant, until, reason }, idempotency).await
}

/// End every grant in force of a person, a system or an incident that the caller may see: one decision for each.
#[utoipa::path(post, path = "/revoke", tag = "grants", request_body = RevokeMany, responses((status = 200, body = Vec<RevokedItem>)))]
async fn revoke_many(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<RevokeMany>,
) -> Result<Done<Vec<RevokedItem>>, ApiError> {
    let viewer = api.viewer(&caller);
    let grants = match (&wish.value.person, &wish.value.system, &wish.value.incident) {
        (Some(person), None, None) => in_force(&viewer, Source::Index("person", person.as_str())).await?,
        (None, Some(system), None) => in_force(&viewer, Source::Index("system", system.as_str())).await?,
        (None, None, Some(incident)) => {
            let incident = viewer.incident(incident).await?.incident.id.to_string();
            in_force(&viewer, Source::Index("incident", &incident)).await?
        }
        _ => return Err(ApiError::malformed("name one of person, system and incident")),
    };
    let mut items = Vec::new();
    let mut leaf = None;
    for grant in grants {
        // The part is the grant's own id: a repetition may find fewer grants, in other places.
        let idempotency = wish.idempotency(&caller.person, 0).map(|key| format!("{key}-{grant}"));
        let command = Command::Revoke { grant, reason: wish.value.reason.clone() };
        let done = api.act_on_grant(&caller, grant, caller.actor(), command, idempotency).await;
        items.push(match done {
            Ok(done) => {
                leaf = leaf.or(done.leaf);
                RevokedItem { grant, state: Some(done.body.grant.state), refused: None }
            }
            Err(error) => RevokedItem { grant, state: None, refused: Some(error.problem()) },
        });
    }
    Ok(Done { body: items, leaf })
}

async fn in_force(viewer: &Viewer, source: Source<'_>) -> Result<Vec<GrantId>, ApiError> {
    let ends = |seen: &SeenGrant| {
        matches!(seen.grant.state, GrantState::Scheduled | GrantState::Activating | GrantState::Active)
    };
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let part = viewer.part(source, after.as_deref(), MOST_AT_ONCE, ends).await?;
        found.extend(part.items.iter().map(|seen| seen.grant.id));
        after = part.next;
        if after.is_none() || found.len() >= MOST_AT_ONCE {
            return Ok(found);
        }
    }
}

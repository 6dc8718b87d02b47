//! Changing the catalog: systems in pieces, then a proposal; a second person where it widens (rule 11); going back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use halligan_control::apply_catalog::{Applied, Proposal};
use halligan_control::people::sign_in::Caller;
use halligan_core::catalog::{Catalog, OfficeName, System};
use halligan_core::command::{Command, FactorUse};
use halligan_core::ids::ChangeId;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Asked, Wished, id};
use crate::caller::Person;
use crate::problem::ApiError;

/// A catalog without its systems, or a piece of them, is at most this large.
const LARGE_BODY: usize = 12 * 1024 * 1024;
/// Systems in one piece.
const MOST_SYSTEMS: usize = 10_000;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(put_systems))
        .routes(routes!(apply))
        .routes(routes!(roll_back))
        .routes(routes!(proposal))
        .routes(routes!(confirm))
        .routes(routes!(reject))
        .layer(DefaultBodyLimit::max(LARGE_BODY))
}

/// Which generation a piece belongs to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct GenerationQuery {
    /// The generation of the pieces before; none begins a new one.
    generation: Option<u64>,
}

/// Where systems went.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SystemsPut {
    /// The generation, for the next piece and for `apply`.
    generation: u64,
    /// Systems in this piece.
    systems: usize,
}

/// A catalog to be put into force.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ApplyWish {
    /// Everything but the systems, as in the catalog's JSON Schema.
    #[schema(value_type = Object)]
    catalog: Catalog,
    /// The generation of its systems; none keeps those in force.
    generation: Option<u64>,
    /// A code of the authenticator, for this act.
    totp: String,
}

/// A version to go back to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RollBackWish {
    /// The version.
    version: u64,
    /// A code of the authenticator, for this act.
    totp: String,
}

/// A second person's word.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmWish {
    /// A code of the authenticator, for this act.
    totp: String,
}

/// Why not.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RejectWish {
    /// In words.
    reason: String,
}

impl Api {
    fn changes_catalogs(&self, caller: &Caller) -> Result<(), ApiError> {
        let viewer = self.viewer(caller);
        if viewer.holds(&[OfficeName::CloudAdministrator, OfficeName::SecurityOfficer]) {
            return Ok(());
        }
        Err(ApiError::not_allowed("to change the catalog takes the office of cloud-administrator"))
    }

    async fn factor(&self, caller: &Caller, totp: &str) -> Result<FactorUse, ApiError> {
        Ok(self.control.step_up(caller, totp, true).await?)
    }
}

/// A piece of a new catalog's systems, one JSON object a line. Nothing is in force yet.
#[utoipa::path(post, path = "/catalog/systems", tag = "catalog", params(GenerationQuery),
    request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, body = SystemsPut)))]
async fn put_systems(
    State(api): State<Api>,
    Person(caller): Person,
    Asked(query): Asked<GenerationQuery>,
    body: Bytes,
) -> Result<Json<SystemsPut>, ApiError> {
    api.changes_catalogs(&caller)?;
    let mut systems: Vec<System> = Vec::new();
    for (number, line) in
        body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty())
    {
        if systems.len() >= MOST_SYSTEMS {
            return Err(ApiError::malformed(format!("a piece has at most {MOST_SYSTEMS} systems")));
        }
        let system = serde_json::from_slice(line)
            .map_err(|error| ApiError::malformed(format!("line {} is not a system: {error}", number + 1)))?;
        systems.push(system);
    }
    let generation = match query.generation {
        Some(generation) => generation,
        None => api.control.new_generation().await?,
    };
    let count = systems.len();
    if count > 0 {
        api.control.put_systems(generation, systems).await?;
    }
    Ok(Json(SystemsPut { generation, systems: count }))
}

/// Puts a catalog into force, or proposes it to a second person where it widens who may do what.
#[utoipa::path(post, path = "/catalog/apply", tag = "catalog", request_body = ApplyWish, responses((status = 200, body = Object)))]
async fn apply(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<ApplyWish>,
) -> Result<Json<Applied>, ApiError> {
    api.changes_catalogs(&caller)?;
    let ApplyWish { catalog, generation, totp } = wish.value;
    let factor = api.factor(&caller, &totp).await?;
    Ok(Json(api.control.apply_catalog(&caller, factor, catalog, generation).await?))
}

/// Goes back to an earlier version, by the same rules as forward.
#[utoipa::path(post, path = "/catalog/rollback", tag = "catalog", request_body = RollBackWish, responses((status = 200, body = Object)))]
async fn roll_back(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<RollBackWish>,
) -> Result<Json<Applied>, ApiError> {
    api.changes_catalogs(&caller)?;
    let factor = api.factor(&caller, &wish.value.totp).await?;
    Ok(Json(api.control.roll_back_catalog(&caller, factor, wish.value.version).await?))
}

/// What a second person is asked to confirm.
#[utoipa::path(get, path = "/catalog/proposals/{id}", tag = "catalog", responses((status = 200, body = Object)))]
async fn proposal(
    State(api): State<Api>,
    Person(caller): Person,
    Path(change): Path<String>,
) -> Result<Json<Proposal>, ApiError> {
    api.changes_catalogs(&caller)?;
    Ok(Json(api.control.proposal(id("change", &change)?).await?))
}

/// A second person puts a proposal into force.
#[utoipa::path(post, path = "/catalog/proposals/{id}/confirm", tag = "catalog", request_body = ConfirmWish, responses((status = 200, body = Object)))]
async fn confirm(
    State(api): State<Api>,
    Person(caller): Person,
    Path(change): Path<String>,
    wish: Wished<ConfirmWish>,
) -> Result<Json<Applied>, ApiError> {
    api.changes_catalogs(&caller)?;
    let change: ChangeId = id("change", &change)?;
    let factor = api.factor(&caller, &wish.value.totp).await?;
    Ok(Json(api.control.confirm_catalog(&caller, factor, change).await?))
}

/// Takes a proposal back, or says no to it.
#[utoipa::path(post, path = "/catalog/proposals/{id}/reject", tag = "catalog", request_body = RejectWish, responses((status = 204)))]
async fn reject(
    State(api): State<Api>,
    Person(caller): Person,
    Path(change): Path<String>,
    wish: Wished<RejectWish>,
) -> Result<axum::http::StatusCode, ApiError> {
    let command = Command::RejectChange { change: id("change", &change)?, reason: wish.value.reason };
    api.run(caller.actor(), command, None).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

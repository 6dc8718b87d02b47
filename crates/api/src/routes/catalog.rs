//! The catalog: what the caller may ask for, and for those who look after it the whole text.

use axum::Json;
use axum::extract::State;
use halligan_client::types::{Askable, CatalogView, Page, ScenarioView, SystemView};
use halligan_core::catalog::OfficeName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Asked, PageQuery, limited};
use crate::caller::Reader;
use crate::problem::ApiError;
use crate::views;

/// Those who read the whole catalog.
const KEEPERS: [OfficeName; 4] = [
    OfficeName::CloudAdministrator,
    OfficeName::SecurityOfficer,
    OfficeName::PlatformOwner,
    OfficeName::Auditor,
];

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(entitlements))
        .routes(routes!(scenarios))
        .routes(routes!(whole))
        .routes(routes!(systems))
}

fn keeper(api: &Api, caller: &halligan_control::people::sign_in::Caller) -> Result<(), ApiError> {
    if api.viewer(caller).holds(&KEEPERS) {
        return Ok(());
    }
    Err(ApiError::not_allowed("to read the whole catalog takes the office of somebody who looks after it")
        .next("`halligan catalog entitlements` lists what you may ask for"))
}

/// Entitlements that the caller may ask for, by name of the system.
#[utoipa::path(get, path = "/catalog/entitlements", tag = "catalog", params(PageQuery), responses((status = 200, body = Page<Askable>)))]
async fn entitlements(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Page<Askable>>, ApiError> {
    let part = api.viewer(&caller).offered(query.after.as_deref(), limited(query.limit)).await?;
    Ok(Json(views::page(part, views::askable)))
}

/// Scenarios, and what the caller may do under each.
#[utoipa::path(get, path = "/catalog/scenarios", tag = "catalog", responses((status = 200, body = Vec<ScenarioView>)))]
async fn scenarios(
    State(api): State<Api>,
    Reader(caller): Reader,
) -> Result<Json<Vec<ScenarioView>>, ApiError> {
    Ok(Json(api.viewer(&caller).scenarios().into_iter().map(views::scenario).collect()))
}

/// The catalog in force, without its systems; for those who look after it.
#[utoipa::path(get, path = "/catalog", tag = "catalog", responses((status = 200, body = CatalogView)))]
async fn whole(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<CatalogView>, ApiError> {
    keeper(&api, &caller)?;
    let in_force = api.control.in_force();
    Ok(Json(CatalogView {
        version: in_force.head.version,
        sha256: in_force.digest.clone(),
        catalog: in_force.head.catalog.clone(),
    }))
}

/// Its systems, by name; for those who look after it.
#[utoipa::path(get, path = "/catalog/systems", tag = "catalog", params(PageQuery), responses((status = 200, body = Page<SystemView>)))]
async fn systems(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Page<SystemView>>, ApiError> {
    keeper(&api, &caller)?;
    let part = api.viewer(&caller).systems(query.after.as_deref(), limited(query.limit)).await?;
    Ok(Json(views::page(part, |system| SystemView { system })))
}

//! The catalog: what the caller may ask for, and for those who look after it the whole text.

use axum::Json;
use axum::extract::State;
use halligan_client::types::{
    Askable, CatalogView, LiveCheck, LiveCheckWish, LiveChecked, LiveFinding, Page, ScenarioView, SystemView,
};
use halligan_control::Control;
use halligan_control::live_check::CheckedSystem;
use halligan_core::catalog::OfficeName;
use halligan_core::refusal::Refusal;
use halligan_link::messages::FindingLevel;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Asked, PageQuery, Wished, limited};
use crate::caller::{Person, Reader};
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
        .routes(routes!(check_live))
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

/// Systems that one call looks at; call again for the rest.
const LOOKS: usize = 5;

/// Look at systems themselves, through their connectors, against the catalog in force; for those who look after it.
#[utoipa::path(post, path = "/catalog/check-live", tag = "catalog", request_body = LiveCheckWish, responses((status = 200, body = LiveCheck)))]
async fn check_live(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<LiveCheckWish>,
) -> Result<Json<LiveCheck>, ApiError> {
    keeper(&api, &caller)?;
    let LiveCheckWish { system, after } = wish.value;
    if let Some(name) = system {
        let found = api.control.in_force().system(api.control.store(), &name).await;
        let found = found?.map(|(system, _)| system).filter(Control::can_be_looked_at);
        let Some(found) = found else {
            return Err(Refusal::not_found(format_args!("system {name} that can be looked at")).into());
        };
        let checked = api.control.check_live(found).await?;
        return Ok(Json(LiveCheck { systems: vec![live(checked)], next: None }));
    }
    let viewer = api.viewer(&caller);
    let mut after = after.map(|name| name.to_string());
    let mut found = Vec::new();
    loop {
        let part = viewer.systems(after.as_deref(), 200).await?;
        for system in part.items {
            let name = system.name.clone();
            if Control::can_be_looked_at(&system) {
                found.push(live(api.control.check_live(system).await?));
            }
            if found.len() >= LOOKS {
                return Ok(Json(LiveCheck { systems: found, next: Some(name) }));
            }
        }
        after = part.next;
        if after.is_none() {
            return Ok(Json(LiveCheck { systems: found, next: None }));
        }
    }
}

fn live(checked: CheckedSystem) -> LiveChecked {
    let findings = checked.findings.into_iter().map(|finding| LiveFinding {
        role: finding.role,
        level: match finding.level {
            FindingLevel::Error => "error",
            FindingLevel::Warning => "warning",
            FindingLevel::Info => "info",
        }
        .to_owned(),
        say: finding.say,
    });
    LiveChecked { system: checked.system, findings: findings.collect() }
}

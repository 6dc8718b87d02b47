//! For load balancers and supervisors: nothing in the answers is secret.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use halligan_client::types::Ready;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// The process answers.
#[utoipa::path(get, path = "/live", tag = "health", responses((status = 204)))]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// It takes work: the store answers and a catalog is in force.
#[utoipa::path(get, path = "/ready", tag = "health", responses((status = 200, body = Ready)))]
async fn ready(State(api): State<Api>) -> Result<Json<Ready>, ApiError> {
    api.control.may_decide()?;
    let head = api.control.store().head().await.map_err(halligan_control::ControlError::from)?;
    Ok(Json(Ready {
        ready: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        catalog: api.control.in_force().head.version,
        ledger_size: head.size,
    }))
}

//! Everything that waits for the caller.

use axum::Json;
use axum::extract::State;
use halligan_client::types::{ActionTask, ChangeTask, Tasks};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::caller::Reader;
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(tasks))
}

/// Decisions, held statements, reviews, changes to judge, actions; at most 100 of each.
#[utoipa::path(get, path = "/tasks", tag = "tasks", responses((status = 200, body = Tasks)))]
async fn tasks(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<Tasks>, ApiError> {
    let found = api.viewer(&caller).tasks().await?;
    let changes = found.changes.into_iter().map(|found| ChangeTask {
        incident: found.incident,
        number: found.number,
        index: found.index,
        change: found.change,
    });
    let actions = found.actions.into_iter().map(|found| ActionTask {
        review: found.review,
        index: found.index,
        action: found.action,
    });
    Ok(Json(Tasks {
        decisions: found.decisions.into_iter().map(views::request).collect(),
        statements: found.statements.into_iter().map(super::statements::view).collect(),
        reviews: found.reviews.into_iter().map(views::review).collect(),
        changes: changes.collect(),
        actions: actions.collect(),
    }))
}

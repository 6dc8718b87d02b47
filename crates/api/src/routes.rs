//! All calls by group, and the layers around them.

mod catalog;
mod changes;
mod enrolment;
mod evidence;
mod grants;
mod health;
mod incidents;
mod ledger;
mod me;
mod metrics;
mod nodes;
mod replay;
mod requests;
mod reviews;
mod sessions;
mod sign_in;
mod statements;
mod status;
mod tasks;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use halligan_control::Control;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::answer::with_checkpoint;
use crate::limits::{admit, no_such_call, not_like_this, room};
use crate::problem::ApiError;
use crate::watches::Watches;

/// Where all calls lie.
pub const BASE: &str = "/api/v1";
/// A body is at most this large, unless the call says otherwise.
const BODY: usize = 256 * 1024;
/// No call at all takes a larger body.
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// A body that stands still this long is given up.
const BODY_WITHIN: Duration = Duration::from_secs(20);
/// An answer begins within this time; waiting calls give up by themselves before.
const ANSWER_WITHIN: Duration = Duration::from_secs(75);

/// What every call has.
#[derive(Clone)]
pub struct Api {
    /// Control.
    pub control: Control,
    pub(crate) watches: Arc<Watches>,
    pub(crate) metrics: Arc<metrics::Cache>,
}

impl Api {
    /// The API of this control.
    pub fn new(control: Control) -> Self {
        Self { control, watches: Arc::default(), metrics: Arc::default() }
    }
}

/// All calls, with their descriptions.
pub(crate) fn collect() -> OpenApiRouter<Api> {
    let all = OpenApiRouter::new()
        .merge(sign_in::routes())
        .merge(enrolment::routes())
        .merge(me::routes())
        .merge(requests::routes())
        .merge(grants::routes())
        .merge(sessions::routes())
        .merge(statements::routes())
        .merge(replay::routes())
        .merge(watch::routes())
        .merge(incidents::routes())
        .merge(reviews::routes())
        .merge(tasks::routes())
        .merge(catalog::routes())
        .merge(changes::routes())
        .merge(evidence::routes())
        .merge(nodes::routes())
        .merge(ledger::routes())
        .merge(metrics::routes())
        .merge(status::routes())
        .merge(health::routes());
    OpenApiRouter::new().nest(BASE, all)
}

/// The API of a control, ready to be served; other pages may be merged into it.
pub fn router(control: Control) -> Router {
    let api = Api::new(control);
    let (router, _) = collect().split_for_parts();
    router
        .method_not_allowed_fallback(not_like_this)
        .fallback(no_such_call)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(api.clone(), with_checkpoint))
        .with_state(api)
        .layer(map_response(plainly))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN))
        .layer(RequestBodyTimeoutLayer::new(BODY_WITHIN))
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .layer(from_fn_with_state(room(), admit))
}

/// Refusals that come from the layers become problems like all others.
async fn plainly(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    if (status.is_client_error() || status.is_server_error()) && !kind.starts_with("application/problem+json")
    {
        let say = "the call was not understood, or came too slowly";
        return ApiError::new(status, "malformed", "Not taken", say).into_response();
    }
    response
}

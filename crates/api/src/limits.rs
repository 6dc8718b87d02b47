//! How much anybody may ask for at one time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::problem::ApiError;

/// Calls under way at one time; waiting ones count.
const MOST_CALLS: usize = 2048;

/// The room for calls.
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_CALLS))
}

/// Refuses at once what there is no room for, instead of letting everybody wait.
pub async fn admit(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match room.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", "too many calls are under way")
                .next("try again in a moment")
                .into_response()
        }
    }
}

/// No such call.
pub async fn no_such_call() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "Not found", "there is no such call")
        .next("docs/openapi.json lists them")
}

/// The call exists, but not like this.
pub async fn not_like_this() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Not like this", "this call takes another method")
}

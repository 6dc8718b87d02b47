//! What goes out: JSON, and the last checkpoint on everything that decides.

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_client::types::{CHECKPOINT_HEADER, LEAF_HEADER};

use crate::routes::Api;

/// Index of the leaf that a call has made, on its way into a header.
#[derive(Clone, Copy, Debug)]
pub struct MadeLeaf(pub u64);

/// Whoever keeps an answer can prove later that the ledger still holds what it said then.
pub async fn with_checkpoint(State(api): State<Api>, request: Request, next: Next) -> Response {
    let decides = request.method() != Method::GET;
    let mut response = next.run(request).await;
    let leaf = response.extensions().get::<MadeLeaf>().copied();
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if decides {
        let note = api.control.checkpoint().borrow().clone();
        if let Some(value) = note.and_then(|note| HeaderValue::try_from(STANDARD.encode(note)).ok()) {
            headers.insert(HeaderName::from_static(CHECKPOINT_HEADER), value);
        }
        if let Some(MadeLeaf(leaf)) = leaf {
            headers.insert(HeaderName::from_static(LEAF_HEADER), HeaderValue::from(leaf));
        }
    }
    response
}

//! Reviews: taken up, judged, put off, and what is to be done.

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{ActionWish, DeferWish, JudgeWish, Page, ReviewView, Which};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::Source;
use halligan_core::command::{Actor, Answers, Command};
use halligan_core::ids::ReviewId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, Nothing, WhichQuery, Wished, id, limited};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(start))
        .routes(routes!(judge))
        .routes(routes!(defer))
        .routes(routes!(add_action))
        .routes(routes!(complete_action))
}

/// Reviews, newest first. `mine` are those about the caller's own acts.
#[utoipa::path(get, path = "/reviews", tag = "reviews", params(WhichQuery), responses((status = 200, body = Page<ReviewView>)))]
async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<WhichQuery>,
) -> Result<Json<Page<ReviewView>>, ApiError> {
    let source = match query.which {
        Which::Mine => Source::Index("person", caller.person.as_str()),
        Which::Open => Source::Index("state", "open"),
        Which::All => Source::All,
    };
    let part =
        api.viewer(&caller).part(source, query.after.as_deref(), limited(query.limit), |_| true).await?;
    Ok(Json(views::page(part, views::review)))
}

/// One review, with the computed facts beside its questions.
#[utoipa::path(get, path = "/reviews/{id}", tag = "reviews", responses((status = 200, body = ReviewView)))]
async fn one(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(review): Path<String>,
) -> Result<Json<ReviewView>, ApiError> {
    Ok(Json(views::review(api.viewer(&caller).review(id("review", &review)?).await?)))
}

async fn act(
    api: Api,
    caller: Caller,
    review: &str,
    actor: Actor,
    idempotency: Option<String>,
    command: impl FnOnce(ReviewId) -> Command,
) -> Result<Done<ReviewView>, ApiError> {
    let review = id("review", review)?;
    api.viewer(&caller).review(review).await?;
    let done = api.run(actor, command(review), idempotency).await;
    let leaf = done.map_err(|error| error.shown(review))?.leaf;
    Ok(Done { body: views::review(api.viewer(&caller).review(review).await?), leaf })
}

/// Take it up.
#[utoipa::path(post, path = "/reviews/{id}/start", tag = "reviews", responses((status = 200, body = ReviewView)))]
async fn start(
    State(api): State<Api>,
    Person(caller): Person,
    Path(review): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<ReviewView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    act(api, caller, &review, actor, key, |review| Command::StartReview { review }).await
}

/// Judge it.
#[utoipa::path(post, path = "/reviews/{id}/judge", tag = "reviews", request_body = JudgeWish, responses((status = 200, body = ReviewView)))]
async fn judge(
    State(api): State<Api>,
    Person(caller): Person,
    Path(review): Path<String>,
    wish: Wished<JudgeWish>,
) -> Result<Done<ReviewView>, ApiError> {
    api.viewer(&caller).review(id("review", &review)?).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let key = wish.idempotency(&caller.person, 0);
    let said = wish.value;
    let answers = Answers {
        classification: said.classification,
        invoked_correctly: said.invoked_correctly,
        too_wide: said.too_wide,
        approvals_timely: said.approvals_timely,
        prevention: said.prevention,
        note: said.note,
        empty_activity_explained: said.empty_activity_explained,
    };
    act(api, caller, &review, actor, key, |review| Command::JudgeReview { review, answers }).await
}

/// Put it off, once.
#[utoipa::path(post, path = "/reviews/{id}/defer", tag = "reviews", request_body = DeferWish, responses((status = 200, body = ReviewView)))]
async fn defer(
    State(api): State<Api>,
    Person(caller): Person,
    Path(review): Path<String>,
    wish: Wished<DeferWish>,
) -> Result<Done<ReviewView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    let DeferWish { until, reason } = wish.value;
    act(api, caller, &review, actor, key, |review| Command::DeferReview { review, until, reason }).await
}

/// Add something to do.
#[utoipa::path(post, path = "/reviews/{id}/actions", tag = "reviews", request_body = ActionWish, responses((status = 200, body = ReviewView)))]
async fn add_action(
    State(api): State<Api>,
    Person(caller): Person,
    Path(review): Path<String>,
    wish: Wished<ActionWish>,
) -> Result<Done<ReviewView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    let ActionWish { what, owner, due_at } = wish.value;
    act(api, caller, &review, actor, key, |review| Command::AddAction { review, what, owner, due_at }).await
}

/// It is done.
#[utoipa::path(post, path = "/reviews/{id}/actions/{index}/done", tag = "reviews", responses((status = 200, body = ReviewView)))]
async fn complete_action(
    State(api): State<Api>,
    Person(caller): Person,
    Path((review, index)): Path<(String, u32)>,
    wish: Wished<Nothing>,
) -> Result<Done<ReviewView>, ApiError> {
    let (actor, key) = (caller.actor(), wish.idempotency(&caller.person, 0));
    act(api, caller, &review, actor, key, |review| Command::CompleteAction { review, action: index }).await
}

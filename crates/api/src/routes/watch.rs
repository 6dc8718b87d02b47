//! Live watching: an event when it begins, then piece by piece from the gateway. A slow watcher loses records, never the
//! session.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use halligan_client::types::{WatchBegun, Watched};
use halligan_core::command::Command;
use halligan_core::ids::SessionId;
use halligan_link::messages::{Request, Response};
use halligan_recording::transcript::write_transcript;
use halligan_recording::{ReadError, Record};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, Nothing, Wished, id};
use crate::caller::Person;
use crate::problem::{ApiError, chain};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(begin, next))
}

/// Begin to watch a live session.
#[utoipa::path(post, path = "/sessions/{id}/watch", tag = "sessions", responses((status = 200, body = WatchBegun)))]
async fn begin(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<WatchBegun>, ApiError> {
    let session: SessionId = id("session", &session)?;
    let seen = api.viewer(&caller).session(session).await?;
    if seen.session.ended_at.is_some() {
        return Err(ApiError::conflict("wrong_state", "the session has ended")
            .next(format!("replay it: `halligan sessions replay {session}`")));
    }
    let mut raw = [0u8; 16];
    getrandom::fill(&mut raw).map_err(halligan_control::ControlError::local("draw randomness"))?;
    let watch = hex::encode(raw);
    let command = Command::RecordPlayback { session, how: "live watch".to_owned() };
    let leaf = api.run(caller.actor(), command, wish.idempotency(&caller.person, 0)).await?.leaf;
    api.watches.begin(watch.clone(), caller.person, session, seen.session.gateway).ok_or_else(|| {
        ApiError::conflict("limit", "too many sessions are being watched").next("try again")
    })?;
    Ok(Done { body: WatchBegun { watch }, leaf })
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// What the beginning said.
    watch: String,
}

/// What happened since the last piece, as a transcript; waits some seconds if nothing has.
#[utoipa::path(get, path = "/sessions/{id}/watch", tag = "sessions", params(WatchQuery), responses((status = 200, body = Watched)))]
async fn next(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
    Asked(query): Asked<WatchQuery>,
) -> Result<Json<Watched>, ApiError> {
    let session: SessionId = id("session", &session)?;
    // Rights may have gone since it began.
    api.viewer(&caller).session(session).await?;
    let watch = api
        .watches
        .find(&query.watch, &caller.person, session)
        .ok_or_else(|| ApiError::not_found("this watch").next("begin it again"))?;
    let Some(gateway) = api.control.peer(&watch.gateway) else {
        return Err(ApiError::conflict(
            "blocked",
            format!("gateway {} cannot be reached now", watch.gateway),
        )
        .next("the session goes on and is recorded; try again"));
    };
    let answer = gateway.call(Request::WatchNext { session, after: watch.after }).await;
    match answer {
        Ok(Response::Watched { records, last, lost, ended }) => {
            api.watches.seen(&query.watch, last);
            let records: Vec<Bytes> = records.into_iter().map(|blob| Bytes::from(blob.0)).collect();
            Ok(Json(Watched { text: transcript(records)?, dropped: lost, ended }))
        }
        Ok(Response::Error { .. }) => Ok(Json(Watched { text: String::new(), dropped: 0, ended: true })),
        Ok(_) | Err(_) => Err(ApiError::conflict(
            "blocked",
            format!("gateway {} did not answer as it should", watch.gateway),
        )),
    }
}

fn transcript(records: Vec<Bytes>) -> Result<String, ApiError> {
    let mut decoded: Vec<Result<Record, ReadError>> = Vec::new();
    for mut bytes in records {
        match Record::decode(&mut bytes) {
            Ok(record) => decoded.push(Ok(record)),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a gateway sent a record that cannot be read")
            }
        }
    }
    let mut out = Vec::new();
    write_transcript(decoded, &mut out)
        .map_err(|error| halligan_control::ControlError::said("write a transcript", chain(&error)))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

//! Recordings: as they are stored, or in the clear where their class permits. Each playback is an event before a byte goes out.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use halligan_client::types::ReplayForm;
use halligan_control::people::sign_in::Caller;
use halligan_core::command::Command;
use halligan_core::ids::SessionId;
use halligan_core::session::RecordingState;
use halligan_recording::asciicast::{self, ExportError};
use halligan_recording::header::Preamble;
use halligan_recording::json_lines::write_json_lines;
use halligan_recording::transcript::write_transcript;
use halligan_recording::{Class, RecordingReader};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Asked, id};
use crate::caller::Person;
use crate::problem::{ApiError, chain};

/// Bytes in one piece of a download.
const PIECE: usize = 64 * 1024;
/// Pieces between disk and network.
const PIECES: usize = 8;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(download)).routes(routes!(replay))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ReplayQuery {
    /// How it is written out: `records`, `asciicast`, `transcript`.
    #[param(inline)]
    form: ReplayForm,
}

/// A recording that the caller may have: where it lies, and how it may be read.
async fn authorised(api: &Api, caller: &Caller, session: SessionId) -> Result<(PathBuf, Class), ApiError> {
    let seen = api.viewer(caller).session(session).await?;
    let recording = seen.session.recording;
    match recording.state {
        RecordingState::Stored => {}
        RecordingState::Running | RecordingState::Finished => {
            return Err(ApiError::conflict("wrong_state", "the recording is still at its gateway")
                .next(format!("watch the session: `halligan sessions watch {session}`")));
        }
        RecordingState::Lost => return Err(ApiError::conflict("wrong_state", "the recording is lost")),
    }
    let path = api.control.recordings().path(recording.id);
    let header = path.clone();
    let class = blocking(move || {
        let mut file = BufReader::new(File::open(&header).map_err(|error| error.to_string())?);
        Preamble::read(&mut file).map(|found| found.header.class).map_err(|error| chain(&error))
    })
    .await?;
    Ok((path, class))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |why: String| ApiError::from(halligan_control::ControlError::said("read a recording", why));
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?.map_err(failed)
}

async fn played(api: &Api, caller: &Caller, session: SessionId, how: &str) -> Result<(), ApiError> {
    let command = Command::RecordPlayback { session, how: how.to_owned() };
    api.run(caller.actor(), command, None).await.map(drop)
}

/// The recording as it is stored: encrypted, for the auditor's machine.
#[utoipa::path(get, path = "/sessions/{id}/recording", tag = "sessions", responses((status = 200, content_type = "application/octet-stream")))]
async fn download(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
) -> Result<Response, ApiError> {
    let session = id("session", &session)?;
    let (path, _) = authorised(&api, &caller, session).await?;
    played(&api, &caller, session, "download").await?;
    let name = format!("attachment; filename=\"{session}.hrec\"");
    let mut response = stream("application/octet-stream", move |sink| {
        let mut file = File::open(path)?;
        let mut buffer = vec![0u8; PIECE];
        loop {
            let count = file.read(&mut buffer)?;
            match buffer.get(..count) {
                Some(piece) if !piece.is_empty() => sink.write_all(piece)?,
                _ => return Ok(()),
            }
        }
    });
    if let Ok(value) = HeaderValue::try_from(name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The recording in the clear, for class `readable`.
#[utoipa::path(get, path = "/sessions/{id}/replay", tag = "sessions", params(ReplayQuery), responses((status = 200, content_type = "text/plain")))]
async fn replay(
    State(api): State<Api>,
    Person(caller): Person,
    Path(session): Path<String>,
    Asked(query): Asked<ReplayQuery>,
) -> Result<Response, ApiError> {
    let session = id("session", &session)?;
    let (path, class) = authorised(&api, &caller, session).await?;
    if class == Class::Sealed {
        return Err(ApiError::conflict(
            "sealed",
            "this recording is sealed: only the auditors' own keys open it, on their machine",
        )
        .next(format!("download it with `halligan sessions export {session}`")));
    }
    let (how, kind) = match query.form {
        ReplayForm::Records => ("replay", "application/x-ndjson"),
        ReplayForm::Asciicast => ("export as asciicast", "application/x-asciicast"),
        ReplayForm::Transcript => ("transcript", "text/plain; charset=utf-8"),
    };
    played(&api, &caller, session, how).await?;
    let control = api.control.clone();
    Ok(stream(kind, move |sink| {
        let said = |error: &dyn std::error::Error| io::Error::other(chain(error));
        let mut reader =
            RecordingReader::open_as(&path, &control.keys().playback).map_err(|error| said(&error))?;
        let exported = match query.form {
            ReplayForm::Records => write_json_lines(&mut reader, sink),
            ReplayForm::Asciicast => {
                let header = reader.header().clone();
                let options = asciicast::Options {
                    version: asciicast::Version::V2,
                    channel: None,
                    title: Some(session.to_string()),
                };
                asciicast::export(&header, &mut reader, &options, sink)
            }
            ReplayForm::Transcript => write_transcript(&mut reader, sink),
        };
        exported.map_err(|error: ExportError| said(&error))
    }))
}

/// Where a blocking writer puts its pieces; the network takes them as it can.
struct Sink {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::Error::other("nobody reads any more"))
    }
}

/// An answer that a blocking writer makes. An error cuts the answer off, so that half of a recording never looks whole.
fn stream(kind: &'static str, work: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static) -> Response {
    let (pieces, taken) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink { pieces: pieces.clone(), buffer: Vec::new() };
        if let Err(error) = work(&mut sink).and_then(|()| sink.flush()) {
            tracing::warn!(%error, "a recording could not be given out whole");
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let stream =
        futures::stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
    let mut response = Body::from_stream(stream).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

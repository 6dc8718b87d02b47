//! Evidence: an incident as one file, and whether the store still holds what the ledger says.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use halligan_control::ControlError;
use halligan_control::Order;
use halligan_control::evidence::{check_store, export};
use halligan_core::catalog::OfficeName;
use halligan_core::ids::IncidentId;
use halligan_core::incident::Incident;
use serde::Serialize;
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::id;
use crate::caller::Person;
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(bundle)).routes(routes!(check))
}

/// What the store says otherwise than the ledger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Differences {
    /// None means that everything is as the ledger's events make it.
    faults: Vec<Difference>,
}

/// One thing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Difference {
    /// Where.
    place: String,
    /// What is wrong.
    say: String,
}

/// One file that proves the incident offline (`halligan verify`). Taking it out is an event of the incident.
#[utoipa::path(get, path = "/incidents/{id}/evidence", tag = "evidence",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
async fn bundle(
    State(api): State<Api>,
    Person(caller): Person,
    Path(which): Path<String>,
) -> Result<Response, ApiError> {
    let incident = find(&api, &caller, &which).await?;
    let folder = api.control.options().folder.join("exports");
    let named = tempfile::Builder::new()
        .prefix("bundle-")
        .tempdir_in(made(&folder)?)
        .map_err(|error| ApiError::from(ControlError::local("make a folder for the bundle")(error)))?;
    let path = named.path().join("bundle");
    let summary = export(&api.control, &caller.actor(), incident, &path, &[]).await?;
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(|error| ApiError::from(ControlError::local("read the bundle")(error)))?;
    // An open file outlives its name: nothing is left on the disk, whatever becomes of the transfer.
    drop(named);
    Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, summary.bytes)
        .header(CONTENT_DISPOSITION, format!("attachment; filename=\"INC-{}.halligan\"", summary.number))
        .body(Body::from_stream(ReaderStream::new(file)))
        .map_err(|error| ControlError::local("answer with the bundle")(error).into())
}

fn made(folder: &std::path::Path) -> Result<&std::path::Path, ApiError> {
    std::fs::create_dir_all(folder)
        .map_err(|error| ApiError::from(ControlError::local("make a folder for bundles")(error)))?;
    Ok(folder)
}

/// The incident by id or as `INC-7`, if the caller may see it.
async fn find(
    api: &Api,
    caller: &halligan_control::people::sign_in::Caller,
    which: &str,
) -> Result<IncidentId, ApiError> {
    let unknown = || {
        ApiError::not_found(format_args!(
            "incident {}",
            which.chars().take(40).collect::<String>().escape_default()
        ))
    };
    let store = api.control.store();
    let document = match which.strip_prefix("INC-").or_else(|| which.strip_prefix("inc-")) {
        Some(number) => store
            .by_index("incident", "number", number, None, 1, Order::Ascending)
            .await
            .map_err(ControlError::from)?
            .pop(),
        None => {
            let incident: IncidentId = id("incident", which)?;
            let key =
                halligan_control::documents::key_of(&halligan_core::command::DocumentRef::Incident(incident));
            store.get(&key).await.map_err(ControlError::from)?
        }
    };
    let document = document.ok_or_else(unknown)?;
    let incident: Incident = halligan_control::documents::parse(&document.key, &document.body)?;
    let officer = api.viewer(caller).holds(&[
        OfficeName::Auditor,
        OfficeName::SecurityOfficer,
        OfficeName::IncidentLead,
    ]);
    if officer { Ok(incident.id) } else { Err(unknown()) }
}

/// Replays the whole ledger and compares every document: an edit by SQL shows.
#[utoipa::path(post, path = "/ledger/check", tag = "evidence", responses((status = 200, body = Differences)))]
async fn check(State(api): State<Api>, Person(caller): Person) -> Result<Json<Differences>, ApiError> {
    let officers = [OfficeName::Auditor, OfficeName::SecurityOfficer, OfficeName::CloudAdministrator];
    if !api.viewer(&caller).holds(&officers) {
        return Err(ApiError::not_allowed(
            "to check the ledger takes the office of auditor, security-officer or cloud-administrator",
        ));
    }
    let faults = check_store(&api.control).await?;
    let faults = faults.into_iter().map(|fault| Difference { place: fault.place, say: fault.say }).collect();
    Ok(Json(Differences { faults }))
}

//! How this installation is, for those who look after it; and whether alerts arrive.

use axum::Json;
use axum::extract::State;
use halligan_client::types::{AlertTest, AlertTested, NodeAnswer, NodeStatus, StatusView};
use halligan_control::people::sign_in::Caller;
use halligan_core::catalog::OfficeName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::nodes::{KEEPERS, word};
use crate::body::Wished;
use crate::caller::{Person, Reader};
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(test_alerts))
}

fn must_hold(api: &Api, caller: &Caller, offices: &[OfficeName]) -> Result<(), ApiError> {
    if api.viewer(caller).holds(offices) {
        return Ok(());
    }
    Err(ApiError::not_allowed("that takes the office of somebody who looks after Halligan"))
}

/// What waits and since when, how the nodes and their clocks are, whether alerts can leave.
#[utoipa::path(get, path = "/status", tag = "health", responses((status = 200, body = StatusView)))]
async fn status(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<StatusView>, ApiError> {
    must_hold(&api, &caller, &KEEPERS)?;
    let found = api.control.status().await?;
    let nodes = found.nodes.into_iter().map(|node| NodeStatus {
        name: node.record.name,
        role: word(node.record.role).to_owned(),
        site: node.record.site,
        connected: node.connected,
        last_contact: node.last_contact,
        answer: node.answer.map(|said| NodeAnswer {
            version: said.version,
            clock_offset_micros: said.clock_offset,
            sessions: said.sessions,
            leases: said.leases,
            recordings_to_send: said.spooled,
            disk_free: said.disk_free,
            warnings: said.warnings,
        }),
    });
    Ok(Json(StatusView {
        outbox: found.outbox,
        outbox_age: found.outbox_age,
        unsigned_leaves: found.unsigned,
        unsigned_age: found.unsigned_age,
        disk_free: found.disk_free,
        clock_is_bad: found.clock_is_bad,
        alerts_unrouted: found.alerts_unrouted,
        alert_problems: found.alert_problems,
        nodes: nodes.collect(),
    }))
}

/// Send a test alert over one route, or over all, and say what each receiver did.
#[utoipa::path(post, path = "/alerts/test", tag = "health", request_body = AlertTest, responses((status = 200, body = Vec<AlertTested>)))]
async fn test_alerts(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<AlertTest>,
) -> Result<Json<Vec<AlertTested>>, ApiError> {
    let offices = [OfficeName::CloudAdministrator, OfficeName::SecurityOfficer, OfficeName::PlatformOwner];
    must_hold(&api, &caller, &offices)?;
    let routes: Vec<String> = match wish.value.route {
        Some(route) => vec![route],
        None => {
            let head = api.control.in_force();
            head.head.catalog.routes.keys().map(ToString::to_string).collect()
        }
    };
    let sink = api.control.alert_sink();
    let mut tested = Vec::new();
    for route in routes {
        let done = match &sink {
            Some(sink) => sink.test(&route, caller.person.as_str()).await,
            None => Err("no alerts leave this server".to_owned()),
        };
        match done {
            Ok(done) => tested.extend(done.into_iter().map(|one| AlertTested {
                route: route.clone(),
                to: Some(one.to),
                error: one.error,
            })),
            Err(say) => tested.push(AlertTested { route, to: None, error: Some(say) }),
        }
    }
    Ok(Json(tested))
}

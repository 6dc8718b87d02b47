//! Nodes: listed, let in, expelled.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use halligan_client::types::{GatewayView, JoinTokenMade, JoinTokenWish, Listener, NodeView, Totp};
use halligan_core::catalog::OfficeName;
use halligan_link::{PeerInfo, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::{Wished, id};
use crate::caller::{Person, Reader};
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(gateways))
        .routes(routes!(list))
        .routes(routes!(join_token))
        .routes(routes!(expel))
}

/// Who may see how nodes are.
pub const KEEPERS: [OfficeName; 5] = [
    OfficeName::CloudAdministrator,
    OfficeName::SecurityOfficer,
    OfficeName::PlatformOwner,
    OfficeName::IncidentLead,
    OfficeName::Auditor,
];

/// A role's word.
pub const fn word(role: Role) -> &'static str {
    match role {
        Role::Control => "control",
        Role::Gateway => "gateway",
        Role::Connector => "connector",
    }
}

/// Gateways, with where clients come in and the keys that they pin: keep them, and the way in is known when this server
/// cannot be asked.
#[utoipa::path(get, path = "/gateways", tag = "nodes", responses((status = 200, body = Vec<GatewayView>)))]
async fn gateways(
    State(api): State<Api>,
    Reader(_caller): Reader,
) -> Result<Json<Vec<GatewayView>>, ApiError> {
    let listener = |(protocol, at): (String, halligan_link::messages::ClientListener)| {
        (protocol, Listener { address: at.address, host_keys: at.host_keys })
    };
    let found = api.control.gateways().await?.into_iter().map(|(record, connected)| GatewayView {
        name: record.name,
        site: record.site,
        connected,
        listeners: record.listeners.into_iter().map(listener).collect(),
    });
    Ok(Json(found.collect()))
}

/// Nodes that joined.
#[utoipa::path(get, path = "/nodes", tag = "nodes", responses((status = 200, body = Vec<NodeView>)))]
async fn list(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<Vec<NodeView>>, ApiError> {
    if !api.viewer(&caller).holds(&KEEPERS) {
        return Err(ApiError::not_allowed("to see nodes takes the office of somebody who looks after them"));
    }
    let mut nodes = Vec::new();
    for record in api.control.node_records().await? {
        nodes.push(NodeView {
            connected: api.control.peer(&record.name).is_some(),
            mirrored: api.control.mirrored(&record.name)?,
            name: record.name,
            role: word(record.role).to_owned(),
            site: record.site,
            address: record.address,
            joined_at: record.joined_at,
            expelled: record.expelled,
            key_sha256: record.key_sha256,
            ledger_key: record.ledger_key,
        });
    }
    Ok(Json(nodes))
}

/// Make a token by which one node may join, once.
#[utoipa::path(post, path = "/nodes/join-tokens", tag = "nodes", request_body = JoinTokenWish, responses((status = 200, body = JoinTokenMade)))]
async fn join_token(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<JoinTokenWish>,
) -> Result<Json<JoinTokenMade>, ApiError> {
    let JoinTokenWish { name, role, site, address, lifetime, totp } = wish.value;
    let role = match role.as_str() {
        "gateway" => Role::Gateway,
        "connector" => Role::Connector,
        _ => return Err(ApiError::malformed("a node that joins is a `gateway` or a `connector`")),
    };
    let info = PeerInfo { name, role, site };
    let token = api.control.join_token_for(&caller, totp.trim(), info, address, lifetime).await?;
    Ok(Json(JoinTokenMade { token: token.text(), expires_at: token.expires }))
}

/// Take a node's right to speak away; its links die at once.
#[utoipa::path(delete, path = "/nodes/{name}", tag = "nodes", request_body = Totp, responses((status = 204)))]
async fn expel(
    State(api): State<Api>,
    Person(caller): Person,
    Path(name): Path<String>,
    wish: Wished<Totp>,
) -> Result<StatusCode, ApiError> {
    api.control.expel_for(&caller, wish.value.totp.trim(), &id("node", &name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

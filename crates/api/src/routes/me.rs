//! The caller: who they are, their keys, their ways in.

use axum::Json;
use axum::extract::State;
use halligan_client::types::{
    ClientCertificate, ClientCertificateWish, ConnectPassword, ConnectPasswordWish, LoginCertificate,
    LoginCertificateWish, Me, OneTimePassword, OneTimePasswordWish, SshKey, SshKeyRemoval, SshKeyWish,
};
use halligan_control::people::account::Account;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::body::Wished;
use crate::caller::{Person, Reader};
use crate::problem::ApiError;
use crate::views;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(add_ssh_key))
        .routes(routes!(remove_ssh_key))
        .routes(routes!(login_certificate))
        .routes(routes!(client_certificate))
        .routes(routes!(one_time_password))
        .routes(routes!(connect_password))
}

fn keys(account: Account) -> Vec<SshKey> {
    let one = |key: halligan_control::people::account::RegisteredKey| SshKey {
        openssh: key.openssh,
        label: key.label,
        added_at: key.added_at,
    };
    account.ssh_keys.into_iter().map(one).collect()
}

/// Who the caller is.
#[utoipa::path(get, path = "/me", tag = "people", responses((status = 200, body = Me)))]
async fn me(State(api): State<Api>, Reader(caller): Reader) -> Result<Json<Me>, ApiError> {
    let in_force = api.control.in_force();
    let catalog = &in_force.head.catalog;
    let account = api.control.account(&caller.person).await?.map(|(account, _)| account);
    let offices = catalog.offices.keys().copied().filter(|office| catalog.holds(&caller.person, *office));
    Ok(Json(Me {
        name: catalog.people.get(&caller.person).map(|found| found.name.clone()).unwrap_or_default(),
        offices: offices.collect(),
        password_set_at: account.as_ref().and_then(|found| found.password_set_at),
        totp_enrolled_at: account.as_ref().and_then(|found| found.totp_enrolled_at),
        ssh_keys: account.map(keys).unwrap_or_default(),
        sign_in: views::sign_in(caller.sign_in.clone(), Some(&caller)),
        single_administrator: api.control.single_administrator().await?,
        person: caller.person,
    }))
}

/// Register an SSH public key.
#[utoipa::path(post, path = "/ssh-keys", tag = "people", request_body = SshKeyWish, responses((status = 200, body = Vec<SshKey>)))]
async fn add_ssh_key(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<SshKeyWish>,
) -> Result<Json<Vec<SshKey>>, ApiError> {
    let SshKeyWish { openssh, label, totp } = wish.value;
    Ok(Json(keys(api.control.add_ssh_key(&caller, &openssh, &label, totp.trim()).await?)))
}

/// Take an SSH public key away.
#[utoipa::path(post, path = "/ssh-keys/remove", tag = "people", request_body = SshKeyRemoval, responses((status = 200, body = Vec<SshKey>)))]
async fn remove_ssh_key(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<SshKeyRemoval>,
) -> Result<Json<Vec<SshKey>>, ApiError> {
    Ok(Json(keys(api.control.remove_ssh_key(&caller, &wish.value.openssh).await?)))
}

/// A certificate by which gateways know the caller, for at most 8 h.
#[utoipa::path(post, path = "/login-certificate", tag = "people", request_body = LoginCertificateWish, responses((status = 200, body = LoginCertificate)))]
async fn login_certificate(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<LoginCertificateWish>,
) -> Result<Json<LoginCertificate>, ApiError> {
    let LoginCertificateWish { public_key, lifetime } = wish.value;
    let (certificate, valid_until) =
        api.control.login_certificate_for(&caller, &public_key, lifetime).await?;
    Ok(Json(LoginCertificate { certificate, valid_until }))
}

/// An X.509 certificate by which gateways know the caller in TLS, for at most 8 h. Databases' tools can show it.
#[utoipa::path(post, path = "/client-certificate", tag = "people", request_body = ClientCertificateWish, responses((status = 200, body = ClientCertificate)))]
async fn client_certificate(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<ClientCertificateWish>,
) -> Result<Json<ClientCertificate>, ApiError> {
    let ClientCertificateWish { public_key, lifetime } = wish.value;
    let (certificate, valid_until) =
        api.control.client_certificate_for(&caller, &public_key, lifetime).await?;
    Ok(Json(ClientCertificate { certificate, valid_until }))
}

/// A password for one login through a gateway, for two minutes. Needs an active grant.
#[utoipa::path(post, path = "/one-time-passwords", tag = "people", request_body = OneTimePasswordWish, responses((status = 200, body = OneTimePassword)))]
async fn one_time_password(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<OneTimePasswordWish>,
) -> Result<Json<OneTimePassword>, ApiError> {
    let made = api.control.one_time_password(&caller, &wish.value.entitlement).await?;
    Ok(Json(OneTimePassword { login: made.login, password: made.password, expires_at: made.expires_at }))
}

/// A password for connections of database tools through the gateways: good for new connections for ten minutes, from the
/// first address that uses it. Needs an active grant.
#[utoipa::path(post, path = "/connect-passwords", tag = "people", request_body = ConnectPasswordWish, responses((status = 200, body = ConnectPassword)))]
async fn connect_password(
    State(api): State<Api>,
    Person(caller): Person,
    wish: Wished<ConnectPasswordWish>,
) -> Result<Json<ConnectPassword>, ApiError> {
    let made = api.control.connect_password(&caller, &wish.value.entitlement).await?;
    Ok(Json(ConnectPassword {
        login: made.login,
        password: made.password,
        expires_at: made.expires_at,
        databases: made.databases,
        connections: made.connections,
        gateways: made.gateways,
    }))
}

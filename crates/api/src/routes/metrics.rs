//! Metrics as Prometheus reads them. Numbers only: no names of people, systems or incidents.

use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use halligan_control::ControlError;
use halligan_control::figures::Figures;
use halligan_control::people::sign_in::Scope;
use halligan_core::catalog::OfficeName;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::caller::bearer;
use crate::problem::ApiError;

/// Figures are counted at most this often.
const FRESH: Duration = Duration::from_secs(5);

/// The figures of the last count.
#[derive(Default)]
pub struct Cache(Mutex<Option<(Instant, Figures)>>);

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Whoever may read metrics: this machine, an API token made for it, or those who look after Halligan.
struct Scraper;

impl FromRequestParts<Api> for Scraper {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Some(caller) = bearer(api, parts).await? else {
            let here = parts
                .extensions
                .get::<ConnectInfo<SocketAddr>>()
                .is_some_and(|ConnectInfo(from)| from.ip().to_canonical().is_loopback());
            // A proxy on this machine speaks for others: what it forwards has to show a token.
            let forwarded = ["forwarded", "x-forwarded-for", "via", "authorization"];
            let alone = forwarded.iter().all(|name| !parts.headers.contains_key(*name));
            return if here && alone { Ok(Self) } else { Err(ApiError::signed_out()) };
        };
        let fits = match &caller.sign_in.scopes {
            Some(scopes) => scopes.contains(&Scope::Metrics),
            None => api.viewer(&caller).holds(&[
                OfficeName::CloudAdministrator,
                OfficeName::SecurityOfficer,
                OfficeName::PlatformOwner,
            ]),
        };
        if fits {
            Ok(Self)
        } else {
            Err(ApiError::not_allowed("that takes an API token with the scope `metrics`"))
        }
    }
}

/// Metrics, in the OpenMetrics text form.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(api): State<Api>, _: Scraper) -> Result<Response, ApiError> {
    let figures = figures(&api).await?;
    let mut registry = Registry::with_prefix("halligan");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let made = Gauge::<i64, AtomicI64>::default();
        made.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, made);
    };
    gauge("grants_in_force", "Grants that are active or being made so", figures.grants_in_force);
    gauge("grants_unsettled", "Grants that have ended without proof so far", figures.grants_unsettled);
    gauge("revocations_late", "Revocations that are late", figures.revocations_late);
    gauge("sessions_live", "Sessions that have not ended", figures.sessions_live);
    gauge("requests_pending", "Requests that wait for a decision", figures.requests_pending);
    gauge("incidents_open", "Incidents that are not closed", figures.incidents_open);
    gauge("reviews_open", "Reviews that are not judged", figures.reviews_open);
    gauge("outbox", "Effects and alerts that wait", figures.outbox);
    let age = u64::try_from(figures.outbox_age.as_seconds()).unwrap_or(0);
    gauge("outbox_age_seconds", "Age of the oldest effect or alert that waits", age);
    gauge("ledger_leaves", "Leaves of control's ledger", figures.ledger_size);
    gauge("ledger_unsigned_leaves", "Leaves that no checkpoint covers yet", figures.ledger_unsigned);
    let lag = u64::try_from(api.control.clock_lag().as_seconds()).unwrap_or(0);
    gauge("clock_lag_seconds", "How far the clock lags behind the ledger", lag);
    gauge("catalog_version", "Version of the catalog in force", api.control.in_force().head.version);
    for (name, count) in api.control.counts() {
        gauge(name, "Counted since this process started", count);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(ControlError::local("write metrics"))?;
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn figures(api: &Api) -> Result<Figures, ApiError> {
    let kept = api.metrics.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((at, figures)) = kept
        && at.elapsed() < FRESH
    {
        return Ok(figures);
    }
    let figures = api.control.figures().await?;
    *api.metrics.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), figures.clone()));
    Ok(figures)
}

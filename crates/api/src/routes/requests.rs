//! Requests: asked one by one or together, decided, escalated, bypassed, waited for.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use halligan_client::types::{
    BatchApproval, BypassWish, DecisionWish, EscalateWish, Filed, FiledItem, Page, RequestView, RequestWish,
    RequestsOf,
};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::{SeenRequest, Source};
use halligan_core::command::{Actor, Command, FileRequest};
use halligan_core::event::Event;
use halligan_core::grant::GrantState;
use halligan_core::ids::{BatchId, EntitlementName, FreshIds, IncidentId, RequestId};
use halligan_core::request::{Mode, RequestState, Verdict};
use halligan_core::time::Span;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::act::Done;
use crate::body::{Asked, Nothing, RequestsQuery, Wished, id, limited};
use crate::caller::{Asker, Person, Reader};
use crate::problem::ApiError;
use crate::views;

/// Entitlements in one batch.
const MOST_IN_BATCH: usize = 20;
/// A call waits at most this long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(file))
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(wait))
        .routes(routes!(approve))
        .routes(routes!(deny))
        .routes(routes!(take_back))
        .routes(routes!(withdraw))
        .routes(routes!(attest_severity))
        .routes(routes!(escalate))
        .routes(routes!(bypass))
        .routes(routes!(batch))
        .routes(routes!(approve_batch))
}

/// Ask for one or several entitlements. If all are refused, the first refusal is the answer.
#[utoipa::path(post, path = "/requests", tag = "requests", request_body = RequestWish, responses((status = 200, body = Filed)))]
async fn file(
    State(api): State<Api>,
    Asker(caller): Asker,
    wish: Wished<RequestWish>,
) -> Result<Done<Filed>, ApiError> {
    let asked = &wish.value;
    if asked.entitlements.is_empty() || asked.entitlements.len() > MOST_IN_BATCH {
        return Err(ApiError::malformed(format!("ask for 1 to {MOST_IN_BATCH} entitlements at one time")));
    }
    let actor = api.actor(&caller, &wish, asked.totp.as_deref()).await?;
    let mut incident = match &asked.incident {
        Some(text) => Some(api.incident_or_ghost(&caller, text).await?),
        None => None,
    };
    let batch = if asked.entitlements.len() > 1 { Some(fresh_batch(&api)?) } else { None };
    let mut filed = Filed { batch, items: Vec::new() };
    let mut leaf = None;
    let mut first_refusal = None;
    for (part, entitlement) in asked.entitlements.iter().enumerate() {
        let command = api.file_request(&caller, asked, entitlement, incident, batch).await?;
        let done = api.run(actor.clone(), command, wish.idempotency(&caller.person, part)).await;
        let done = done.map_err(|error| match &asked.incident {
            Some(text) if incident == Some(GHOST) => error.instead_of(GHOST, text),
            _ => error,
        });
        let (request, refused) = match done {
            Ok(outcome) => {
                leaf = leaf.or(outcome.leaf);
                let made = outcome.events.iter().find_map(|event| match event {
                    Event::RequestFiled { request } => Some((request.id, request.incident)),
                    _ => None,
                });
                // The first emergency request opens the incident; the others of the batch belong to it.
                incident = incident.or(made.and_then(|(_, incident)| incident));
                match made {
                    Some((id, _)) => (Some(views::request(api.viewer(&caller).request(id).await?)), None),
                    None => (None, None),
                }
            }
            Err(error) if asked.entitlements.len() == 1 => return Err(error),
            Err(error) => {
                let problem = error.problem();
                first_refusal.get_or_insert_with(|| problem.clone());
                (None, Some(problem))
            }
        };
        filed.items.push(FiledItem { entitlement: entitlement.clone(), request, refused });
    }
    if filed.items.iter().all(|item| item.request.is_none())
        && let Some(problem) = first_refusal
    {
        return Err(problem.into());
    }
    Ok(Done { body: filed, leaf })
}

/// No incident has this id.
const GHOST: IncidentId = IncidentId::from_bits(0);

fn fresh_batch(api: &Api) -> Result<BatchId, ApiError> {
    let mut seed = [0u8; 16];
    getrandom::fill(&mut seed).map_err(halligan_control::ControlError::local("draw randomness"))?;
    Ok(FreshIds::new(seed, api.control.now()).make())
}

impl Api {
    /// The incident that somebody names. One that does not exist is asked for all the same, as a ghost: whoever may not
    /// ask at all must not learn from the answer which incidents there are.
    async fn incident_or_ghost(&self, caller: &Caller, text: &str) -> Result<IncidentId, ApiError> {
        match self.viewer(caller).incident_named(text).await.map_err(ApiError::from) {
            Err(error) if error.code() == "not_found" => Ok(GHOST),
            other => other,
        }
    }

    async fn file_request(
        &self,
        caller: &Caller,
        asked: &RequestWish,
        entitlement: &EntitlementName,
        incident: Option<IncidentId>,
        batch: Option<BatchId>,
    ) -> Result<Command, ApiError> {
        let opens = asked.mode == Mode::Emergency && incident.is_none();
        let incident_number = if opens { self.control.next_incident_number().await? } else { 0 };
        Ok(Command::FileRequest(Box::new(FileRequest {
            beneficiary: asked.beneficiary.clone().unwrap_or_else(|| caller.person.clone()),
            entitlement: entitlement.clone(),
            mode: asked.mode,
            severity: asked.severity.clone(),
            severity_attested: false,
            scenario: asked.scenario.clone(),
            criteria_confirmed: asked.criteria_confirmed,
            incident,
            incident_number,
            reason: asked.reason.clone(),
            link: asked.link.clone(),
            why_not_lower: asked.why_not_lower.clone(),
            duration: asked.duration,
            batch,
        })))
    }

    /// Runs a command on a request that the caller may see, and shows it as it is then.
    async fn act_on_request(
        &self,
        caller: &Caller,
        id: RequestId,
        actor: Actor,
        command: Command,
        idempotency: Option<String>,
    ) -> Result<Done<RequestView>, ApiError> {
        let done = self.run(actor, command, idempotency).await;
        let leaf = done.map_err(|error| error.shown(id))?.leaf;
        Ok(Done { body: views::request(self.viewer(caller).request(id).await?), leaf })
    }
}

/// Requests, newest first.
#[utoipa::path(get, path = "/requests", tag = "requests", params(RequestsQuery), responses((status = 200, body = Page<RequestView>)))]
async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    Asked(query): Asked<RequestsQuery>,
) -> Result<Json<Page<RequestView>>, ApiError> {
    let viewer = api.viewer(&caller);
    let (after, limit) = (query.after.as_deref(), limited(query.limit));
    let pending = Source::Index("state", "pending");
    let part = match query.which {
        RequestsOf::Mine => viewer.requests_mine(after, limit).await?,
        RequestsOf::ToDecide => {
            viewer.part(pending, after, limit, |seen: &SeenRequest| seen.may_decide).await?
        }
        RequestsOf::Pending => viewer.part(pending, after, limit, |_| true).await?,
        RequestsOf::All => viewer.part(Source::All, after, limit, |_| true).await?,
    };
    Ok(Json(views::page(part, views::request)))
}

/// One request.
#[utoipa::path(get, path = "/requests/{id}", tag = "requests", responses((status = 200, body = RequestView)))]
async fn one(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(request): Path<String>,
) -> Result<Json<RequestView>, ApiError> {
    let request = id("request", &request)?;
    Ok(Json(views::request(api.viewer(&caller).request(request).await?)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// How long at most; 60 s if not said, and never longer.
    #[serde(rename = "for")]
    #[param(value_type = Option<String>)]
    longest: Option<Span>,
}

/// Wait until it is decided and, if approved, until its grant is active or could not be made so.
#[utoipa::path(get, path = "/requests/{id}/wait", tag = "requests", params(WaitQuery), responses((status = 200, body = RequestView)))]
async fn wait(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(request): Path<String>,
    Asked(query): Asked<WaitQuery>,
) -> Result<Json<RequestView>, ApiError> {
    let request: RequestId = id("request", &request)?;
    let longest = query.longest.map_or(LONGEST_WAIT, |span| span.to_std().min(LONGEST_WAIT));
    let until = tokio::time::Instant::now() + longest;
    let mut commits = api.control.store().subscribe();
    loop {
        let seen = api.viewer(&caller).request(request).await?;
        if settled(&seen) || tokio::time::Instant::now() >= until {
            return Ok(Json(views::request(seen)));
        }
        // Other nodes commit too, so it looks every second whatever this one does; never more than ten times a second.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = until.min(tokio::time::Instant::now() + Duration::from_secs(1));
        let _ = tokio::time::timeout_at(next, commits.changed()).await;
    }
}

fn settled(seen: &SeenRequest) -> bool {
    match seen.request.state {
        RequestState::Pending => false,
        RequestState::Approved => {
            !matches!(seen.grant_state, Some(GrantState::Scheduled | GrantState::Activating))
        }
        _ => true,
    }
}

async fn decide(
    api: Api,
    caller: Caller,
    request: &str,
    wish: Wished<DecisionWish>,
    verdict: Verdict,
) -> Result<Done<RequestView>, ApiError> {
    let request = id("request", request)?;
    api.viewer(&caller).request(request).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let DecisionWish { version, reason, .. } = wish.value;
    let command = Command::Decide { request, verdict, version, reason };
    api.act_on_request(&caller, request, actor, command, idempotency).await
}

/// Approve, having seen that version.
#[utoipa::path(post, path = "/requests/{id}/approve", tag = "requests", request_body = DecisionWish, responses((status = 200, body = RequestView)))]
async fn approve(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<DecisionWish>,
) -> Result<Done<RequestView>, ApiError> {
    decide(api, caller, &request, wish, Verdict::Approve).await
}

/// Deny, having seen that version.
#[utoipa::path(post, path = "/requests/{id}/deny", tag = "requests", request_body = DecisionWish, responses((status = 200, body = RequestView)))]
async fn deny(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<DecisionWish>,
) -> Result<Done<RequestView>, ApiError> {
    decide(api, caller, &request, wish, Verdict::Deny).await
}

async fn plain_act(
    api: Api,
    caller: Caller,
    request: &str,
    wish: Wished<Nothing>,
    command: impl FnOnce(RequestId) -> Command,
) -> Result<Done<RequestView>, ApiError> {
    let request = id("request", request)?;
    api.viewer(&caller).request(request).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    api.act_on_request(&caller, request, caller.actor(), command(request), idempotency).await
}

/// Take one's own approval back, until activation.
#[utoipa::path(post, path = "/requests/{id}/take-back", tag = "requests", responses((status = 200, body = RequestView)))]
async fn take_back(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<RequestView>, ApiError> {
    plain_act(api, caller, &request, wish, |request| Command::TakeBack { request }).await
}

/// Take one's own request back.
#[utoipa::path(post, path = "/requests/{id}/withdraw", tag = "requests", responses((status = 200, body = RequestView)))]
async fn withdraw(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<RequestView>, ApiError> {
    plain_act(api, caller, &request, wish, |request| Command::Withdraw { request }).await
}

/// Vouch for the severity of somebody else's request.
#[utoipa::path(post, path = "/requests/{id}/attest-severity", tag = "requests", responses((status = 200, body = RequestView)))]
async fn attest_severity(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<Nothing>,
) -> Result<Done<RequestView>, ApiError> {
    plain_act(api, caller, &request, wish, |request| Command::AttestSeverity { request }).await
}

/// Turn a request into a graver one.
#[utoipa::path(post, path = "/requests/{id}/escalate", tag = "requests", request_body = EscalateWish, responses((status = 200, body = RequestView)))]
async fn escalate(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<EscalateWish>,
) -> Result<Done<RequestView>, ApiError> {
    let request = id("request", &request)?;
    let seen = api.viewer(&caller).request(request).await?;
    let actor = api.actor(&caller, &wish, wish.value.totp.as_deref()).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let EscalateWish { severity, scenario, criteria_confirmed, incident, reason, .. } = wish.value;
    let incident = match incident {
        Some(text) => Some(api.viewer(&caller).incident_named(&text).await?),
        None => None,
    };
    let opens = incident.or(seen.request.incident).is_none();
    let number = if opens { api.control.next_incident_number().await? } else { 0 };
    let command =
        Command::Escalate { request, severity, scenario, criteria_confirmed, incident, number, reason };
    api.act_on_request(&caller, request, actor, command, idempotency).await
}

/// Go in without waiting for approval (rule 6).
#[utoipa::path(post, path = "/requests/{id}/bypass", tag = "requests", request_body = BypassWish, responses((status = 200, body = RequestView)))]
async fn bypass(
    State(api): State<Api>,
    Person(caller): Person,
    Path(request): Path<String>,
    wish: Wished<BypassWish>,
) -> Result<Done<RequestView>, ApiError> {
    let request = id("request", &request)?;
    api.viewer(&caller).request(request).await?;
    let actor = api.actor(&caller, &wish, Some(&wish.value.totp)).await?;
    let idempotency = wish.idempotency(&caller.person, 0);
    let BypassWish { reason, confirmation, .. } = wish.value;
    let command = Command::Bypass { request, reason, confirmation };
    api.act_on_request(&caller, request, actor, command, idempotency).await
}

/// The requests of a batch.
#[utoipa::path(get, path = "/batches/{id}", tag = "requests", responses((status = 200, body = Vec<RequestView>)))]
async fn batch(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(batch): Path<String>,
) -> Result<Json<Vec<RequestView>>, ApiError> {
    let seen = api.viewer(&caller).batch(id("batch", &batch)?).await?;
    Ok(Json(seen.into_iter().map(views::request).collect()))
}

/// Approve several requests of a batch by one code.
#[utoipa::path(post, path = "/batches/{id}/approve", tag = "requests", request_body = BatchApproval, responses((status = 200, body = Vec<FiledItem>)))]
async fn approve_batch(
    State(api): State<Api>,
    Person(caller): Person,
    Path(batch): Path<String>,
    wish: Wished<BatchApproval>,
) -> Result<Done<Vec<FiledItem>>, ApiError> {
    let seen = api.viewer(&caller).batch(id("batch", &batch)?).await?;
    let actor = api.actor(&caller, &wish, Some(&wish.value.totp)).await?;
    let mut items = Vec::new();
    let mut leaf = None;
    for (part, wanted) in wish.value.requests.iter().enumerate().take(MOST_IN_BATCH) {
        let Some(found) = seen.iter().find(|found| found.request.id == wanted.request) else {
            return Err(ApiError::not_found(format_args!("request {}", wanted.request)));
        };
        let command = Command::Decide {
            request: wanted.request,
            verdict: Verdict::Approve,
            version: wanted.version,
            reason: wish.value.reason.clone(),
        };
        let idempotency = wish.idempotency(&caller.person, part);
        let entitlement = found.request.entitlement.clone();
        let done = api.act_on_request(&caller, wanted.request, actor.clone(), command, idempotency).await;
        let (request, refused) = match done {
            Ok(done) => {
                leaf = leaf.or(done.leaf);
                (Some(done.body), None)
            }
            Err(error) => (None, Some(error.problem())),
        };
        items.push(FiledItem { entitlement, request, refused });
    }
    Ok(Done { body: items, leaf })
}

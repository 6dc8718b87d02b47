//! Performs what decisions ask for, from the outbox: at least once, until it is done. Every effect carries the grant's
//! fencing number, so a late repetition is refused where it lands.

use std::sync::Arc;
use std::time::Duration;

use halligan_core::command::{Actor, Command, DocumentRef};
use halligan_core::effect::{Alert, Effect};
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{GrantId, Name};
use halligan_core::time::{Span, Time};
use halligan_link::Peer;
use halligan_link::messages::{Request, Response, Role};
use halligan_session::control_plane::BoxFuture;
use halligan_store::{Claimed, Commit, OutboxRow};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::documents::{bytes, key_of, parse};
use crate::error::ControlError;
use crate::run::{Errand, TOPIC_ALERTS};
use crate::timers::chain;

/// Delivers alerts. `route` is a name of [`AlertSink::routes`].
pub trait AlertSink: Send + Sync + 'static {
    /// The routes that this alert takes.
    fn routes(&self, alert: &Alert) -> Vec<String>;
    /// Delivers over one route; `id` is the same for repetitions.
    fn deliver<'a>(
        &'a self,
        route: &'a str,
        id: &'a str,
        alert: &'a Dispatch,
    ) -> BoxFuture<'a, Result<(), String>>;
    /// What would keep alerts from leaving, as things stand.
    fn problems(&self) -> BoxFuture<'_, Vec<String>>;
    /// Sends a test over one route, at once and once; `by` is who asks for it.
    fn test<'a>(&'a self, route: &'a str, by: &'a str) -> BoxFuture<'a, Result<Vec<Tested>, String>>;
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// To whom it went.
    pub to: String,
    /// Why it did not arrive.
    pub error: Option<String>,
}

/// An alert on its way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// What people must hear.
    pub alert: Alert,
    /// When it happened.
    pub at: Time,
    /// The last checkpoint when it was sent out: whoever keeps it can prove the ledger later.
    pub checkpoint: Option<String>,
}

/// Topic of alerts on one route.
const TOPIC_DELIVERIES: &str = "deliveries";
const AT_ONCE: usize = 64;
const LEASE: i64 = 150 * 1_000_000;
const IDLE: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Delivery {
    route: String,
    alert: Alert,
    at: Time,
}

/// Why an errand was not done.
enum Undone {
    /// Try again after a while.
    Later(String),
    /// It can never be done, or does not matter any more.
    Never(String),
}

impl From<ControlError> for Undone {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(refusal) => Self::Never(refusal.say),
            other => Self::Later(chain(&other)),
        }
    }
}

/// Works the outbox off until stopped.
pub async fn run(control: Control, stop: CancellationToken) {
    let owner = control.options().name.to_string();
    // What it was at when it was killed would else wait until that lease has run out, a revocation among it.
    while let Err(error) = control.store().outbox_release(&owner).await {
        tracing::warn!(error = %chain(&error), "failed to take up what was under way");
        if stop.run_until_cancelled(tokio::time::sleep(IDLE)).await.is_none() {
            return;
        }
    }
    let mut commits = control.store().subscribe();
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let room = AT_ONCE.saturating_sub(running.len());
        let claimed = if room == 0 {
            Vec::new()
        } else {
            match control.store().outbox_claim(&owner, control.now().micros(), LEASE, room).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "failed to read the outbox");
                    Vec::new()
                }
            }
        };
        let idle = claimed.is_empty();
        for row in claimed {
            let control = control.clone();
            running.spawn(async move { work_off(&control, row).await });
        }
        if idle {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = commits.changed() => {}
                Some(_) = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
        } else if stop.is_cancelled() {
            break;
        }
    }
    while running.join_next().await.is_some() {}
}

async fn work_off(control: &Control, row: Claimed) {
    let result = match row.topic.as_str() {
        TOPIC_ALERTS => spread(control, &row).await,
        TOPIC_DELIVERIES => deliver(control, &row).await,
        _ => perform(control, &row).await,
    };
    let done = match result {
        Ok(()) => control.store().outbox_done(&row.id).await,
        Err(Undone::Never(why)) => {
            tracing::info!(errand = %row.id, why, "an errand is not needed any more");
            control.store().outbox_done(&row.id).await
        }
        Err(Undone::Later(why)) => {
            let wait = 250_000i64.saturating_mul(1 << row.attempts.min(8)).min(30_000_000);
            let level_up = row.attempts > 3;
            if level_up {
                tracing::warn!(errand = %row.id, attempts = row.attempts, why, "an errand is not done yet");
            }
            control.store().outbox_retry(&row.id, control.now().plus(Span::micros(wait)).micros(), &why).await
        }
    };
    if let Err(error) = done {
        tracing::warn!(errand = %row.id, error = %chain(&error), "failed to note what became of an errand");
    }
}

fn read<T: serde::de::DeserializeOwned>(row: &Claimed) -> Result<T, Undone> {
    serde_json::from_slice(&row.body).map_err(|error| Undone::Never(format!("it cannot be read: {error}")))
}

/// An alert becomes one delivery for each route, so that one broken route delays no other.
async fn spread(control: &Control, row: &Claimed) -> Result<(), Undone> {
    let errand: Errand = read(row)?;
    let Effect::Alert(alert) = errand.effect else { return Ok(()) };
    let sink = control.0.alerts.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Some(sink) = sink else { return Ok(()) };
    let mut outbox = Vec::new();
    let routes = sink.routes(&alert);
    if routes.is_empty() {
        // Said once, at the start and by `halligan doctor`, as what it is: something to be set up.
        control.count("alerts_unrouted");
    }
    for route in routes {
        let body = bytes(&Delivery { route: route.clone(), alert: alert.clone(), at: errand.at })?;
        outbox.push(OutboxRow {
            id: format!("{}/{route}", row.id),
            topic: TOPIC_DELIVERIES.to_owned(),
            body,
            not_before: errand.at.micros(),
        });
    }
    if !outbox.is_empty() {
        let commit = Commit { outbox, commit_time: control.now().micros(), ..Commit::default() };
        control.store().commit(commit).await.map_err(|error| Undone::Later(chain(&error)))?;
    }
    Ok(())
}

async fn deliver(control: &Control, row: &Claimed) -> Result<(), Undone> {
    let delivery: Delivery = read(row)?;
    let sink = control.0.alerts.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Some(sink) = sink else { return Ok(()) };
    let checkpoint = control.checkpoint().borrow().clone();
    let dispatch = Dispatch { alert: delivery.alert, at: delivery.at, checkpoint };
    let result = sink.deliver(&delivery.route, &row.id, &dispatch).await;
    control.count(if result.is_ok() { "alerts_delivered" } else { "alerts_failed" });
    result.map_err(Undone::Later)
}

/// A grant as it is stored now.
pub async fn grant(control: &Control, id: GrantId) -> Result<Option<Grant>, ControlError> {
    let key = key_of(&DocumentRef::Grant(id));
    control.store().get(&key).await?.map(|found| parse(&key, &found.body)).transpose()
}

async fn perform(control: &Control, row: &Claimed) -> Result<(), Undone> {
    let errand: Errand = read(row)?;
    match errand.effect {
        Effect::Activate { grant } => activate(control, grant).await,
        Effect::PushLease { grant } => push_lease(control, grant).await,
        Effect::RevokeLease { grant: id, fencing, reason } => {
            revoke_lease(control, id, fencing, &reason).await
        }
        Effect::Deactivate { grant, fencing } => deactivate(control, grant, fencing).await,
        Effect::Look { grant, fencing, .. } => look(control, grant, fencing).await,
        Effect::KillSession { session, gateway, reason } => {
            let peer = control
                .peer(&gateway)
                .ok_or_else(|| Undone::Later(format!("gateway {gateway} is not connected")))?;
            // An unknown session is a dead one.
            ask(&peer, Request::KillSession { session, reason }).await.map(drop)
        }
        Effect::ReleaseStatement { session, gateway, hold, allow, by, reason } => {
            let peer = control
                .peer(&gateway)
                .ok_or_else(|| Undone::Later(format!("gateway {gateway} is not connected")))?;
            let request = Request::ReleaseStatement { session, hold, allow, by: by.to_string(), reason };
            // One that does not wait any more has been settled.
            ask(&peer, request).await.map(drop)
        }
        Effect::ApplyChange { change } => Ok(control.finish_change(change).await?),
        Effect::Alert(_) => Ok(()),
    }
}

async fn ask(peer: &Peer, request: Request) -> Result<Response, Undone> {
    peer.call(request).await.map_err(|error| Undone::Later(chain(&error)))
}

/// The site of a grant's system, as the catalog has it now.
async fn site(control: &Control, grant: &Grant) -> Result<Name, Undone> {
    let in_force = control.in_force();
    match in_force.system(control.store(), &grant.entitlement.system).await? {
        Some((system, _)) => Ok(system.site),
        // Gone from the catalog: the connector that knows the grant has it in its own state.
        None => Ok(Name::main()),
    }
}

async fn connector(control: &Control, grant: &Grant) -> Result<Peer, Undone> {
    let site = site(control, grant).await?;
    control
        .peers(Role::Connector, &site)
        .into_iter()
        .next()
        .ok_or_else(|| Undone::Later(format!("no connector of site {site} is connected")))
}

async fn activate(control: &Control, id: GrantId) -> Result<(), Undone> {
    control.run(&Actor::Clock, Command::BeginActivation { grant: id }).await?;
    let Some(found) = grant(control, id).await? else { return Ok(()) };
    if found.state != GrantState::Activating {
        return Ok(());
    }
    let peer = connector(control, &found).await?;
    let actor = Actor::Node { name: peer.info().name.clone() };
    let deadline = control.now().plus(found.duration);
    let lease = match control.lease(&found, deadline).await {
        Ok(lease) => lease,
        Err(error) => {
            let reason = chain(&error);
            control
                .run(&actor, Command::ReportActivationFailed { grant: id, fencing: found.fencing, reason })
                .await?;
            return Ok(());
        }
    };
    let command = match ask(&peer, Request::Activate { lease }).await? {
        Response::Error { say } => {
            Command::ReportActivationFailed { grant: id, fencing: found.fencing, reason: say }
        }
        _ => Command::ReportActivated { grant: id, fencing: found.fencing },
    };
    control.run(&actor, command).await?;
    Ok(())
}

/// Gives the lease to every gateway of the site that is connected; the others get it when they connect. The connector gets it
/// too: it ends by itself what outlives the deadline that it knows.
async fn push_lease(control: &Control, id: GrantId) -> Result<(), Undone> {
    let Some(found) = grant(control, id).await? else { return Ok(()) };
    let Some(deadline) = found.deadline.filter(|_| found.state == GrantState::Active) else { return Ok(()) };
    let site = site(control, &found).await?;
    let gateways = control.peers(Role::Gateway, &site);
    if gateways.is_empty() {
        return Err(Undone::Later(format!("no gateway of site {site} is connected")));
    }
    let mut trouble = None;
    for peer in gateways {
        if let Err(undone) = give_lease(control, &peer, &found, deadline).await {
            trouble = Some(undone);
        }
    }
    // One that was not extended it knows from its activation. After the gateways: it asks the target, which may take its time.
    if !found.extended_by.is_empty()
        && let Err(undone) = tell_connector(control, &found, deadline).await
    {
        trouble = Some(undone);
    }
    trouble.map_or(Ok(()), Err)
}

async fn tell_connector(control: &Control, found: &Grant, deadline: Time) -> Result<(), Undone> {
    let peer = connector(control, found).await?;
    let lease = control.lease(found, deadline).await?;
    if let Response::Error { say } = ask(&peer, Request::Activate { lease }).await? {
        // It would say the same again. What it has lent ends at the deadline that it knew.
        tracing::warn!(grant = %found.id, say, "the connector did not take a grant's new deadline");
    }
    Ok(())
}

/// Notes that the gateway will hold the lease, then sends it: record before effect.
async fn give_lease(control: &Control, peer: &Peer, found: &Grant, deadline: Time) -> Result<(), Undone> {
    let gateway = peer.info().name.clone();
    let actor = Actor::Node { name: gateway.clone() };
    if found.gateways.get(&gateway) != Some(&false) {
        let held = Command::ReportLeaseHeld { grant: found.id, fencing: found.fencing, gateway };
        control.run(&actor, held).await?;
    }
    let lease = control.lease(found, deadline).await?;
    match ask(peer, Request::PutLease { lease }).await? {
        Response::Error { say } => Err(Undone::Later(say)),
        _ => Ok(()),
    }
}

impl Control {
    /// Gives a gateway that has just connected every lease of its site, and ends those that it should not hold.
    pub(crate) async fn catch_up(&self, peer: &Peer) -> Result<(), ControlError> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .by_index(
                    "grant",
                    "state",
                    "unsettled",
                    after.as_deref(),
                    200,
                    halligan_store::Order::Ascending,
                )
                .await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.id.clone());
            for document in &page {
                let found: Grant = parse(&document.key, &document.body)?;
                if found.state == GrantState::Active {
                    let of_site = matches!(site(self, &found).await, Ok(site) if site == peer.info().site);
                    if let (true, Some(deadline)) = (of_site, found.deadline)
                        && let Err(Undone::Later(why) | Undone::Never(why)) =
                            give_lease(self, peer, &found, deadline).await
                    {
                        tracing::warn!(gateway = %peer.info().name, grant = %found.id, why, "failed to give a lease");
                    }
                } else if found.gateways.get(&peer.info().name) == Some(&false) {
                    let request = Request::RevokeLease {
                        grant: found.id,
                        fencing: found.fencing,
                        reason: "the grant has ended".to_owned(),
                    };
                    if let Err(error) = peer.call(request).await {
                        tracing::warn!(gateway = %peer.info().name, grant = %found.id, error = %chain(&error), "failed to end a lease");
                    }
                }
            }
        }
    }
}

/// Tells every gateway that holds the lease. That nothing is left is known from the gateway's own ledger, which comes in
/// order: sessions before the end of their lease.
async fn revoke_lease(control: &Control, id: GrantId, fencing: u64, reason: &str) -> Result<(), Undone> {
    let Some(found) = grant(control, id).await? else { return Ok(()) };
    let mut absent = Vec::new();
    let mut calls = JoinSet::new();
    for gateway in found.gateways.iter().filter(|(_, gone)| !**gone).map(|(name, _)| name.clone()) {
        match control.peer(&gateway) {
            Some(peer) => {
                let request = Request::RevokeLease { grant: id, fencing, reason: reason.to_owned() };
                calls.spawn(async move {
                    match peer.call(request).await {
                        Ok(Response::Error { say }) => Err(say),
                        Ok(_) => Ok(()),
                        Err(error) => Err(chain(&error)),
                    }
                });
            }
            None => absent.push(gateway.to_string()),
        }
    }
    let mut trouble = None;
    while let Some(done) = calls.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(why)) => trouble = Some(why),
            Err(error) => trouble = Some(error.to_string()),
        }
    }
    if !absent.is_empty() {
        trouble = Some(format!("revocation not delivered to {}", absent.join(", ")));
    }
    trouble.map_or(Ok(()), |why| Err(Undone::Later(why)))
}

async fn deactivate(control: &Control, id: GrantId, fencing: u64) -> Result<(), Undone> {
    let Some(found) = grant(control, id).await? else { return Ok(()) };
    let peer = connector(control, &found).await?;
    match ask(&peer, Request::Deactivate { grant: id, fencing }).await? {
        Response::Deactivated { provable_at } => {
            let actor = Actor::Node { name: peer.info().name.clone() };
            control.run(&actor, Command::ReportDeactivated { grant: id, fencing, provable_at }).await?;
            Ok(())
        }
        Response::Error { say } => Err(Undone::Later(say)),
        other => Err(Undone::Later(format!("the connector answered {}", other.name()))),
    }
}

async fn look(control: &Control, id: GrantId, fencing: u64) -> Result<(), Undone> {
    let Some(found) = grant(control, id).await? else { return Ok(()) };
    if found.state.settled() || found.fencing != fencing {
        return Ok(());
    }
    let peer = connector(control, &found).await?;
    match ask(&peer, Request::Look { grant: id, fencing }).await? {
        Response::Evidence { evidence } => {
            let actor = Actor::Node { name: peer.info().name.clone() };
            control.run(&actor, Command::ReportLooked { grant: id, fencing, evidence }).await?;
            Ok(())
        }
        Response::Error { say } => Err(Undone::Later(say)),
        other => Err(Undone::Later(format!("the connector answered {}", other.name()))),
    }
}

/// For wiring that wants a sink without routes.
pub fn no_alerts() -> Arc<dyn AlertSink> {
    struct Nobody;
    impl AlertSink for Nobody {
        fn routes(&self, _: &Alert) -> Vec<String> {
            Vec::new()
        }
        fn deliver<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
            _: &'a Dispatch,
        ) -> BoxFuture<'a, Result<(), String>> {
            Box::pin(async { Ok(()) })
        }
        fn problems(&self) -> BoxFuture<'_, Vec<String>> {
            Box::pin(async { Vec::new() })
        }
        fn test<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Vec<Tested>, String>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }
    Arc::new(Nobody)
}

//! What is cleaned up unasked: roles with a name of ours whose grant has ended or whose time is over, found again after a
//! crash of the server or of this connector, and after a restore. A role of a living grant is never touched.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use halligan_connector::ConnectorError;
use halligan_core::ids::GrantId;
use halligan_session::NodeEvent;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connector::{PostgresConnector, Swept};
use crate::ending::end_role;
use crate::names::grant_of;
use crate::server::Address;

/// How often new servers are looked for.
const LOOK_FOR_SERVERS: Duration = Duration::from_secs(1);
/// Longest for one role.
const ONE_MOST: Duration = Duration::from_secs(40);

/// What shall become of a role.
enum Fate {
    /// Its grant lives, or nobody here knows it and its time is not over.
    Stays,
    /// Its grant lives and was extended, the role was not.
    Extended(i64),
    /// Its grant has ended, or its time is over.
    Ends(&'static str),
}

/// Ends with its task.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See [`halligan_connector::Connector::keep_watch`]. Never returns.
pub async fn keep_watch(connector: &PostgresConnector) {
    let mut tasks: HashMap<Address, Watching> = HashMap::new();
    loop {
        match connector.blocking(|inner| inner.known_servers()).await {
            Err(error) => {
                tracing::error!(error = error.sentence(), "the servers that are swept are not known")
            }
            Ok(known) => {
                tasks.retain(|at, _| known.contains(at));
                for at in known {
                    tasks.entry(at.clone()).or_insert_with(|| {
                        let connector = connector.clone();
                        Watching(tokio::spawn(async move { watch(&connector, &at).await }))
                    });
                }
            }
        }
        sleep(LOOK_FOR_SERVERS).await;
    }
}

async fn watch(connector: &PostgresConnector, at: &Address) {
    let inner = &connector.inner;
    let mut idle_since = Duration::ZERO;
    let mut failed = false;
    loop {
        let standing = inner.standing.lock().unwrap_or_else(PoisonError::into_inner).contains(at);
        let living =
            inner.living.lock().unwrap_or_else(PoisonError::into_inner).values().any(|one| one == at);
        if standing && !living && !idle_since.is_zero() {
            let held = inner.servers.hold(at).await;
            held.unwrap_or_else(
                |error| tracing::debug!(system = %at.system, error = error.sentence(), "no connection yet"),
            );
        }
        if living || idle_since.is_zero() {
            match sweep(connector, at, standing).await {
                Ok(()) => failed = false,
                Err(error) => {
                    if !failed {
                        tracing::warn!(system = %at.system, error = error.sentence(), "a server cannot be swept");
                    }
                    failed = true;
                }
            }
        }
        if living {
            idle_since = Duration::ZERO;
        } else if !failed {
            // Nothing lives there: its connection need not be kept, unless it must be there when the server is full.
            if !standing {
                inner.servers.let_go(at);
            }
            idle_since += inner.config.sweep;
            if idle_since >= inner.config.sweep_idle {
                idle_since = Duration::ZERO;
            }
        }
        sleep(inner.config.sweep).await;
    }
}

/// One pass over the roles of a server.
async fn sweep(connector: &PostgresConnector, at: &Address, standing: bool) -> Result<(), ConnectorError> {
    let inner = &connector.inner;
    let mut first = Ok(());
    if standing {
        first = connector.sweep_standing(at).await;
    }
    for role in inner.sweep(at).await? {
        let Some(grant) = grant_of(&role.login).filter(|_| role.ours) else { continue };
        let done = match fate(connector, grant, &role).await? {
            Fate::Stays => Ok(()),
            Fate::Extended(until) => {
                let sql = "SELECT halligan.session_until($1, to_timestamp($2::int8 / 1000000.0))::text";
                let what = "extend a session role";
                inner.servers.call::<bool>(at, what, sql, &[&role.login, &until]).await.map(|_| ())
            }
            Fate::Ends(why) => end(connector, at, grant, &role.login, why).await,
        };
        // One that does not end keeps no other.
        first = first.and(done);
    }
    // Last: a log may be long. What is not read now is read later.
    if let Err(error) = connector.read_logins(at).await {
        tracing::debug!(system = %at.system, error = error.sentence(), "the log of a server was not read");
    }
    first
}

async fn end(
    connector: &PostgresConnector,
    at: &Address,
    grant: GrantId,
    login: &str,
    why: &str,
) -> Result<(), ConnectorError> {
    let inner = &connector.inner;
    inner.forget_keys(grant);
    let ending = async {
        let busy = inner.busy(grant);
        let _held = busy.lock().await;
        end_role(&inner.servers, at, login).await
    };
    let Ok(ended) = timeout(ONE_MOST, ending).await else {
        return Err(ConnectorError::refused(format!("ending {login} at {} took too long", at.system)));
    };
    // Whoever deactivated the grant may have been first.
    if ended? {
        tracing::info!(%grant, login, system = %at.system, "a leftover session role was ended");
        let leaf = NodeEvent::DatabaseUserEnded {
            grant: Some(grant),
            system: at.system.clone(),
            user: login.to_owned(),
            reason: why.to_owned(),
        };
        connector.blocking(move |inner| inner.site.journal().write(leaf)).await?;
    }
    Ok(())
}

async fn fate(connector: &PostgresConnector, grant: GrantId, role: &Swept) -> Result<Fate, ConnectorError> {
    let overdue = role.overdue;
    connector
        .blocking(move |inner| {
            let state = inner.site.grants().grant(grant)?;
            if state.tombstone.is_some() {
                return Ok(Fate::Ends("its grant had ended"));
            }
            Ok(match inner.site.held_lease(&state)? {
                Some(lease) if lease.deadline <= inner.site.journal().now() => {
                    Fate::Ends("the deadline of its grant had passed")
                }
                Some(lease) if overdue => Fate::Extended(lease.deadline.micros()),
                Some(_) => Fate::Stays,
                None if overdue => Fate::Ends("its time was over, and its grant is not known here"),
                None => Fate::Stays,
            })
        })
        .await
}

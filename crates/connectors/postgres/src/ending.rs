//! How a session role ends: nobody logs in as it any more → its backends end → what it made goes to its group, in every
//! database concerned → it is dropped. Each step may be repeated; after a crash all of it is.
//!
//! A standing role stays: its backends end, and it is made again what the set-up made it.

use std::time::Duration;

use halligan_connector::ConnectorError;
use tokio::time::{Instant, sleep};

use crate::names::is_standing;
use crate::server::{Address, Servers};

/// Longest that backends are waited for.
const BACKENDS_MOST: Duration = Duration::from_secs(6);

/// Which backends of a role. By default all.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// Those that came with this name of an application.
    pub application: Option<String>,
    /// The one of this number.
    pub number: Option<i32>,
}

/// Ends one role, whatever of it there still is. Returns whether there was any.
pub async fn end_role(servers: &Servers, at: &Address, login: &str) -> Result<bool, ConnectorError> {
    let shut = "SELECT halligan.session_shut($1)::text";
    if !servers.call::<bool>(at, "shut a session role", shut, &[&login]).await? {
        return Ok(false);
    }
    terminate(servers, at, login, &Backends::default()).await?;
    stop_jobs(servers, at, login).await;
    for database in &concerned(servers, at, login).await? {
        let disown = "SELECT halligan.session_disown($1)::text";
        let what = format!("give what a session role made in {database} to its group");
        servers.call_in::<bool>(at, database, &what, disown, &[&login]).await?;
    }
    let drop = "SELECT halligan.session_drop($1)::text";
    servers.call::<bool>(at, "drop a session role", drop, &[&login]).await?;
    Ok(true)
}

/// Ends all backends of a standing role, and makes it what it was.
pub async fn end_standing(servers: &Servers, at: &Address, login: &str) -> Result<(), ConnectorError> {
    terminate(servers, at, login, &Backends::default()).await?;
    stop_jobs(servers, at, login).await;
    let reset = "SELECT halligan.prepared_reset($1)::text";
    let elsewhere = concerned(servers, at, login).await?.into_iter().filter(|one| *one != at.database);
    for database in elsewhere.chain([at.database.clone()]) {
        let what = format!("put a standing role right in {database}");
        servers.call_in::<bool>(at, &database, &what, reset, &[&login]).await?;
    }
    Ok(())
}

/// The databases where something depends on a role.
async fn concerned(servers: &Servers, at: &Address, login: &str) -> Result<Vec<String>, ConnectorError> {
    let databases = "SELECT to_json(halligan.session_databases($1))::text";
    servers.call(at, "look for what a role made", databases, &[&login]).await
}

/// The database of pg_cron, where the server has it.
pub async fn cron_database(servers: &Servers, at: &Address) -> Result<Option<String>, ConnectorError> {
    let sql = "SELECT to_json(halligan.cron_database())::text";
    let found: String = servers.call(at, "ask for pg_cron", sql, &[]).await?;
    Ok(Some(found).filter(|name| !name.is_empty()))
}

/// Jobs that would run as the role when nobody looks any more. What keeps them from being ended keeps nothing else from it:
/// the look names them.
async fn stop_jobs(servers: &Servers, at: &Address, login: &str) {
    let stopping = async {
        let Some(database) = cron_database(servers, at).await? else { return Ok(0) };
        let sql = "SELECT halligan.cron_stop($1)::text";
        servers.call_in::<i64>(at, &database, "end jobs of pg_cron", sql, &[&login]).await
    };
    match stopping.await {
        Ok(0) => {}
        Ok(ended) => {
            tracing::info!(login, ended, system = %at.system, "jobs of pg_cron were ended with their role");
        }
        Err(error) => {
            tracing::warn!(login, error = error.sentence(), "jobs of pg_cron were not looked for");
        }
    }
}

/// Terminates backends of a role until none is left: all, or those of one session.
pub async fn terminate(
    servers: &Servers,
    at: &Address,
    login: &str,
    which: &Backends,
) -> Result<(), ConnectorError> {
    let sql = if is_standing(login) {
        "SELECT halligan.prepared_terminate($1, $2, $3)::text"
    } else {
        "SELECT halligan.session_terminate($1, $2, $3)::text"
    };
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let left: i64 =
            servers.call(at, "terminate backends", sql, &[&login, &which.application, &which.number]).await?;
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > BACKENDS_MOST {
            return Err(ConnectorError::refused(format!(
                "{left} backends of {login} did not end within {} seconds",
                BACKENDS_MOST.as_secs()
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

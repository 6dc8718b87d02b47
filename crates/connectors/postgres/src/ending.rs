//! How a session role ends: nobody logs in as it any more → its backends end → what it made goes to its group, in every
//! database concerned → it is dropped. Each step may be repeated; after a crash all of it is.

use std::time::Duration;

use halligan_connector::ConnectorError;
use tokio::time::{Instant, sleep};

use crate::server::{Address, Servers};

/// Longest that backends are waited for.
const BACKENDS_MOST: Duration = Duration::from_secs(6);

/// Ends one role, whatever of it there still is.
pub async fn end_role(servers: &Servers, at: &Address, login: &str) -> Result<(), ConnectorError> {
    let shut = "SELECT halligan.session_shut($1)::text";
    if !servers.call::<bool>(at, "shut a session role", shut, &[&login]).await? {
        return Ok(());
    }
    terminate(servers, at, login, None).await?;
    let databases = "SELECT to_json(halligan.session_databases($1))::text";
    let what = "look for what a session role made";
    let concerned: Vec<String> = servers.call(at, what, databases, &[&login]).await?;
    for database in &concerned {
        let disown = "SELECT halligan.session_disown($1)::text";
        let what = format!("give what a session role made in {database} to its group");
        servers.call_in::<bool>(at, database, &what, disown, &[&login]).await?;
    }
    let drop = "SELECT halligan.session_drop($1)::text";
    servers.call::<bool>(at, "drop a session role", drop, &[&login]).await?;
    Ok(())
}

/// Terminates backends of a role until none is left: all, or those of one session.
pub async fn terminate(
    servers: &Servers,
    at: &Address,
    login: &str,
    application: Option<&str>,
) -> Result<(), ConnectorError> {
    let sql = "SELECT halligan.session_terminate($1, $2)::text";
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let left: i64 =
            servers.call(at, "terminate backends of a session role", sql, &[&login, &application]).await?;
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

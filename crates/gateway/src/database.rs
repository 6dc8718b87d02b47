//! The database user of a grant at this gateway: made by the site's connector, kept in memory while the lease stands, asked
//! for again when the server refuses it; and the end of a session's backends.

use std::sync::Arc;
use std::time::Duration;

use halligan_core::catalog::SystemKind;
use halligan_link::messages::Seed;
use halligan_link::{Request, Response};
use halligan_session::control_plane::Refusal;
use halligan_session::{DatabaseCertificate, DatabaseCredential, Secret};

use crate::live::{Live, with_sources};

/// How long the connector may take to end a session's backends before the gateway no longer waits for its word.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What the connector made. Wiped when dropped.
pub struct DatabaseUser {
    user: String,
    client_key: Seed,
    server_key: Seed,
}

impl DatabaseUser {
    fn credential(&self) -> DatabaseCredential {
        DatabaseCredential {
            user: self.user.clone(),
            client_key: Secret::new(*self.client_key.expose()),
            server_key: Secret::new(*self.server_key.expose()),
        }
    }
}

/// See [`halligan_session::Session::database_credential`].
pub async fn credential(live: &Live, renew: bool) -> Result<DatabaseCredential, Refusal> {
    let gone = |ended: halligan_session::Ended| Refusal::new(ended.reason.to_string());
    live.check().map_err(gone)?;
    let target = &live.lease().target;
    if target.kind != SystemKind::Postgres {
        return Err(Refusal::new(format!("{} is not a database.", target.system)));
    }
    let Some(connector) = live.engine().links.connector(&target.site) else {
        return Err(Refusal::new(format!(
            "No connector of site {} is linked to this gateway, so no database user can be made for {}.",
            target.site, target.system
        )));
    };
    // One asks for all: connections of a pool come together.
    let mut kept = tokio::select! {
        () = live.over() => return Err(gone(live.ended())),
        kept = live.held.database_user.lock() => kept,
    };
    live.used_database();
    if let (Some(known), false) = (kept.as_ref(), renew) {
        return Ok(known.credential());
    }
    *kept = None;
    let lease = (*live.held.signed()).clone();
    let answer = tokio::select! {
        () = live.over() => return Err(gone(live.ended())),
        answer = connector.ask(Request::IssueDatabaseUser { lease, session: live.id(), renew }) => answer,
    };
    // Nothing that arrives too late is handed out, or kept.
    live.check().map_err(gone)?;
    match answer {
        Ok(Response::DatabaseUser { user, client_key, server_key }) => {
            let made = DatabaseUser { user, client_key, server_key };
            let credential = made.credential();
            *kept = Some(made);
            Ok(credential)
        }
        Ok(other) => Err(Refusal::new(format!(
            "The connector answered `{}` instead of a database user.",
            other.name()
        ))),
        Err(error) => Err(Refusal::new(format!("The connector made no database user: {error}."))),
    }
}

/// See [`halligan_session::Session::database_certificate`]. One for each login: nothing of it is kept here.
pub async fn certificate(live: &Live, public_key: String) -> Result<DatabaseCertificate, Refusal> {
    let gone = |ended: halligan_session::Ended| Refusal::new(ended.reason.to_string());
    live.check().map_err(gone)?;
    let target = &live.lease().target;
    if target.kind != SystemKind::Postgres {
        return Err(Refusal::new(format!("{} is not a database.", target.system)));
    }
    let Some(connector) = live.engine().links.connector(&target.site) else {
        return Err(Refusal::new(format!(
            "No connector of site {} is linked to this gateway, so no certificate can be made for {}.",
            target.site, target.system
        )));
    };
    live.used_database();
    let lease = (*live.held.signed()).clone();
    let answer = tokio::select! {
        () = live.over() => return Err(gone(live.ended())),
        answer = connector.ask(Request::IssueDatabaseCertificate { lease, session: live.id(), public_key }) => answer,
    };
    // Nothing that arrives too late is handed out.
    live.check().map_err(gone)?;
    match answer {
        Ok(Response::DatabaseCertificate { user, certificate, serial, .. }) => {
            Ok(DatabaseCertificate { user, certificate, serial })
        }
        Ok(other) => Err(Refusal::new(format!(
            "The connector answered `{}` instead of a certificate for the database.",
            other.name()
        ))),
        Err(error) => Err(Refusal::new(format!("The connector made no certificate: {error}."))),
    }
}

/// The session is over: its backends at the server end now, also those whose gateway's word never arrived. Best effort; the
/// grant's end does it again.
pub fn end_backends(live: &Arc<Live>) {
    let lease = live.lease();
    let Some(connector) = live.engine().links.connector(&lease.target.site) else { return };
    let request =
        Request::EndDatabaseSession { grant: lease.grant, session: live.id(), backend: live.backend() };
    let session = live.id();
    live.engine().runtime.spawn(async move {
        match tokio::time::timeout(END_WITHIN, connector.ask(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%session, "the connector did not end a session's backends: {}", with_sources(&error));
            }
            Err(_) => tracing::warn!(%session, "the connector took too long to end a session's backends"),
        }
    });
}

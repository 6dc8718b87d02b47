//! What control asks of a gateway. Nobody else may.

use std::sync::Arc;
use std::time::Duration;

use halligan_core::ids::{GrantId, SessionId};
use halligan_link::messages::{PROTOCOL, Role};
use halligan_link::{Blob, Handler, Hello, PeerInfo, Request, Response};
use halligan_session::control_plane::BoxFuture;
use halligan_session::{CancelRequest, EndReason, ScramKeys, Secret};

use crate::connect_passwords::Put;
use crate::countdown::Reading;
use crate::engine::Engine;
use crate::holds::Release;
use crate::live::with_sources;
use crate::witness;

/// Live sessions in one answer.
const PAGE: usize = 200;
/// How long a watcher waits for something new.
const WATCH_WAIT: Duration = Duration::from_secs(5);

/// Answers links.
pub(crate) struct GatewayHandler {
    pub engine: Arc<Engine>,
}

impl Handler for GatewayHandler {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match (peer.role, request) {
                (_, Request::Hello(_)) => self.welcome(),
                (_, Request::Ping) => Response::Ok,
                (_, Request::NodeTime) => Response::NodeTime { time: self.engine.clock.wall() },
                (Role::Control, request) => {
                    self.engine.links.saw_control(self.engine.clock.boot());
                    self.for_control(request).await
                }
                (role, request) => Response::error(format!(
                    "a gateway takes `{}` from control only, not from a {}",
                    request.name(),
                    halligan_link::messages::role_word(role)
                )),
            }
        })
    }
}

impl GatewayHandler {
    async fn for_control(&self, request: Request) -> Response {
        let engine = &self.engine;
        match request {
            Request::Status => self.status(),
            Request::PutLease { lease } => match engine.take_lease(lease).await {
                Ok(()) => Response::Held,
                Err(error) => Response::error(with_sources(&error)),
            },
            Request::RevokeLease { grant, fencing, reason } => self.revoke(grant, fencing, reason).await,
            Request::KillSession { session, reason } => match engine.session(session) {
                Some(live) => {
                    live.cut(EndReason::Killed { why: reason });
                    live.finished().await;
                    Response::Ok
                }
                None => Response::error(format!("no session {session} is live here")),
            },
            Request::PutRoster { roster } => match engine.take_roster(roster).await {
                Ok(()) => Response::Ok,
                Err(refusal) => Response::error(refusal.say),
            },
            Request::PutOneTimePassword { person, entitlement, sha256, expires } => {
                let now = Reading { wall: engine.journal.now(), boot: engine.clock.boot() };
                match engine.one_time.put(person, entitlement, &sha256, expires, now) {
                    Ok(()) => Response::Ok,
                    Err(error) => Response::error(error.to_string()),
                }
            }
            Request::PutConnectPassword {
                person,
                entitlement,
                grant,
                stored_key,
                server_key,
                expires,
                client,
            } => {
                let now = Reading { wall: engine.journal.now(), boot: engine.clock.boot() };
                let keys = ScramKeys { stored_key: *stored_key.expose(), server_key: *server_key.expose() };
                let put = Put { person, entitlement, grant, keys, expires, client };
                match engine.connect_passwords.put(put, now) {
                    Ok(untold) => {
                        if let Some(used) = untold {
                            engine.tell_used(used);
                        }
                        Response::Ok
                    }
                    Err(error) => Response::error(error.to_string()),
                }
            }
            Request::CancelStatement { process, key, client, through } => {
                let key = Secret::new(key.0);
                engine.take_cancel(CancelRequest { process, key, client, through: Some(through) });
                Response::Ok
            }
            Request::ReleaseStatement { session, hold, allow, by, reason } => {
                let taken = engine
                    .session(session)
                    .is_some_and(|live| live.holds.release(hold, Release { allow, by, reason }));
                if taken {
                    Response::Ok
                } else {
                    Response::error(format!("no statement {hold} of session {session} waits here"))
                }
            }
            Request::Witness { checkpoint, old_size, proof } => {
                witness::answer(engine, checkpoint, old_size, proof).await
            }
            Request::ListSessions { grant, after } => self.list(grant, after),
            Request::WatchNext { session, after } => self.watch(session, after).await,
            other => Response::error(format!("a gateway does not know how to `{}`", other.name())),
        }
    }

    fn welcome(&self) -> Response {
        let engine = &self.engine;
        Response::Welcome {
            hello: Hello {
                protocol: PROTOCOL,
                version: engine.options.version.clone(),
                role: Role::Gateway,
                name: engine.options.name.clone(),
                ledger_size: engine.journal.size(),
                time: engine.journal.now(),
                roster: engine.roster().map_or(0, |roster| roster.roster().serial),
                ledger_key: engine.journal.key().to_string(),
                leases: Vec::new(),
                listeners: engine.listeners(),
            },
            acknowledged: 0,
        }
    }

    fn status(&self) -> Response {
        let status = self.engine.status();
        Response::Status {
            version: self.engine.options.version.clone(),
            boot: self.engine.boot.clone(),
            time: self.engine.clock.wall(),
            ledger_size: status.ledger_size,
            leases: status.leases as u64,
            sessions: status.sessions as u64,
            spooled: status.spooled,
            disk_free: status.disk_free,
            warnings: status.warnings,
        }
    }

    async fn revoke(&self, grant: GrantId, fencing: u64, reason: String) -> Response {
        let why = in_words(reason);
        match self.engine.end_grant(grant, Some(fencing), why).await {
            Ok(sessions_ended) => Response::Revoked { sessions_ended },
            Err(error) => Response::error(with_sources(&error)),
        }
    }

    fn list(&self, grant: Option<GrantId>, after: Option<SessionId>) -> Response {
        let mut found = self
            .engine
            .sessions()
            .into_iter()
            .filter(|live| grant.is_none_or(|grant| live.grant() == grant))
            .filter(|live| after.is_none_or(|after| live.id() > after))
            .filter(|live| !live.is_dead());
        let sessions = found.by_ref().take(PAGE).map(|live| live.listed()).collect();
        Response::Sessions { sessions, more: found.next().is_some() }
    }

    async fn watch(&self, session: SessionId, after: u64) -> Response {
        let Some(live) = self.engine.session(session) else {
            return Response::error(format!("no session {session} is live here"));
        };
        let until = tokio::time::Instant::now() + WATCH_WAIT;
        loop {
            let moved = live.watchers.moved();
            tokio::pin!(moved);
            // Registered before the look, so that nothing between is missed.
            moved.as_mut().enable();
            let ended = live.is_dead();
            if let Some(glance) = live.watchers.glance(after, self.engine.clock.boot()) {
                return Response::Watched {
                    records: glance.records.into_iter().map(Blob).collect(),
                    last: glance.last,
                    lost: glance.lost,
                    ended,
                };
            }
            let quiet = tokio::time::timeout_at(until, moved).await.is_err();
            if ended || quiet {
                return Response::Watched { records: Vec::new(), last: after, lost: 0, ended };
            }
        }
    }
}

/// Control's word for why a grant ended, or a sentence of its own.
fn in_words(reason: String) -> EndReason {
    match reason.as_str() {
        "expired" | "never_used" => EndReason::Expired,
        "given_back" => EndReason::GivenBack,
        "superseded" => EndReason::Superseded,
        "incident_mitigated" => EndReason::Revoked { why: "its incident was mitigated".to_owned() },
        "revoked" => EndReason::Revoked { why: String::new() },
        _ => EndReason::Revoked { why: reason },
    }
}

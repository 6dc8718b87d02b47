//! Logins at a server that no session of ours explains, read from its log where the set-up allows it (`log.sql`). From when the
//! first grant lives there; where the reading stands is kept in a file, so that nothing is missed over a restart.

use halligan_connector::{ConnectorError, read_json, write_json};
use halligan_core::ids::GrantId;
use halligan_session::NodeEvent;
use serde::{Deserialize, Serialize};

use crate::connector::{Inner, PostgresConnector};
use crate::names::{grant_of, is_standing};
use crate::network::Network;
use crate::server::Address;
use crate::slots::Slots;
use crate::state::{UnexplainedLogin, change_users, folder_of_servers, key_of};

/// Pieces of 1 MiB that are read in one pass. What is more waits for the next.
const PIECES_MOST: usize = 16;
/// Different logins that are kept of one grant.
const KEPT_MOST: usize = 64;

/// Whether the set-up has the function.
const MAY_READ: &str =
    "SELECT to_json(to_regprocedure('halligan.logins(text, bigint, text[])') IS NOT NULL)::text";

/// Where the reading of a server's log stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    file: String,
    place: i64,
}

#[derive(Debug, Deserialize)]
struct Read {
    file: String,
    place: i64,
    more: bool,
    lost: bool,
    logged: String,
    logins: Vec<Login>,
}

#[derive(Debug, Deserialize)]
struct Login {
    user: String,
    from: Option<String>,
    kind: String,
    application: Option<String>,
    times: u64,
}

impl PostgresConnector {
    /// Whether the set-up lets the log be read; an error if it does and it cannot be.
    pub(crate) async fn reads_log(&self, at: &Address) -> Result<bool, ConnectorError> {
        if !self.inner.servers.call::<bool>(at, "ask whether the log may be read", MAY_READ, &[]).await? {
            return Ok(false);
        }
        let end = "SELECT halligan.logins(NULL, 0, '{}')::text";
        let read: Read = self.inner.servers.call(at, "read logins from the log", end, &[]).await?;
        if logged(&read.logged) {
            Ok(true)
        } else {
            Err(ConnectorError::refused("it does not log logins (log_connections)"))
        }
    }

    /// Reads on, and writes what it found down for every grant that lives at this server; what came in as a role of one of
    /// these grants, for that one. True if it came to the log's end.
    pub(crate) async fn read_logins(&self, at: &Address) -> Result<bool, ConnectorError> {
        let inner = &self.inner;
        if !inner.servers.call::<bool>(at, "ask whether the log may be read", MAY_READ, &[]).await? {
            return Ok(true);
        }
        // Nobody reads on from the same place twice. Whoever came while we waited is read for, too.
        let one = inner.reading.of(key_of(at));
        let _held = one.lock().await;
        let living: Vec<GrantId> = {
            let living = inner.living.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            living.iter().filter(|(_, address)| *address == at).map(|(grant, _)| *grant).collect()
        };
        let of = at.clone();
        let mut place = self.blocking(move |inner| read_json::<Place>(&file(inner, &of))).await?;
        if living.is_empty() {
            if place.is_some() {
                let of = at.clone();
                self.blocking(move |inner| forget(inner, &of)).await?;
            }
            return Ok(true);
        }
        let grants = living.clone();
        let groups = self.blocking(move |inner| {
            let mut groups = Vec::new();
            for grant in grants {
                groups.extend(inner.lease_of(grant)?.map(|lease| lease.target.account));
            }
            groups.sort();
            groups.dedup();
            Ok(groups)
        });
        let groups = groups.await?;
        for _ in 0..PIECES_MOST {
            let sql = "SELECT halligan.logins($1, $2, $3)::text";
            let (from, start) =
                (place.as_ref().map(|held| held.file.clone()), place.as_ref().map_or(0, |held| held.place));
            let read: Read =
                inner.servers.call(at, "read logins from the log", sql, &[&from, &start, &groups]).await?;
            let next = Place { file: read.file.clone(), place: read.place };
            let more = read.more;
            let mut found: Vec<UnexplainedLogin> =
                read.logins.iter().filter_map(|login| unexplained(inner, login)).collect();
            if read.lost {
                found.push(untold(at, "a part of the server's log was gone before it was read"));
            }
            if from.is_none() && !logged(&read.logged) {
                found.push(untold(at, "the server does not log logins (log_connections)"));
            }
            let (of, all, system) = (at.clone(), living.clone(), at.system.clone());
            let changed = place.as_ref() != Some(&next);
            place = Some(next.clone());
            self.blocking(move |inner| {
                let whose = |user: &str| whose(inner, &of, user);
                let found: Vec<(Option<GrantId>, UnexplainedLogin)> = found
                    .into_iter()
                    .map(|one| Ok((whose(&one.user)?, one)))
                    .collect::<Result<_, ConnectorError>>()?;
                for grant in all.iter().copied() {
                    let its =
                        found.iter().filter(|(of, _)| of.is_none_or(|of| of == grant || !all.contains(&of)));
                    let its: Vec<UnexplainedLogin> = its.map(|(_, one)| one.clone()).collect();
                    note(inner, grant, &system, &its)?;
                }
                // What was found is on disk before it counts as read.
                if changed {
                    halligan_connector::private_folder(&folder_of_servers(&inner.site))?;
                    write_json(&file(inner, &of), &next)?;
                }
                Ok(())
            })
            .await?;
            if !more {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The grant that a role of sessions is of, where one is. Blocks.
fn whose(inner: &Inner, at: &Address, user: &str) -> Result<Option<GrantId>, ConnectorError> {
    if is_standing(user) {
        return Ok(Slots::read(&inner.site, at)?.held.get(user).map(|holder| holder.grant));
    }
    Ok(grant_of(user))
}

/// Up to PostgreSQL 17 on or off; from 18 on a list of what is logged.
fn logged(setting: &str) -> bool {
    setting == "on" || setting.split(',').any(|word| matches!(word.trim(), "authorization" | "all"))
}

pub(crate) fn untold(at: &Address, why: &str) -> UnexplainedLogin {
    UnexplainedLogin { user: "?".to_owned(), from: at.address.clone(), why: why.to_owned(), times: 1 }
}

/// Why no session explains a login; none if one does. The sessions of gateways come from gateways and carry their name.
fn unexplained(inner: &Inner, login: &Login) -> Option<UnexplainedLogin> {
    let from = login.from.clone().unwrap_or_else(|| "an address that the log does not tell".to_owned());
    let why = match login.kind.as_str() {
        // A try of our own, which looks whether a door is shut.
        "ours" if login.application.as_deref().is_some_and(|name| inner.servers.is_probe(name)) => {
            return None;
        }
        "ours" => {
            let known = login.from.as_deref().and_then(Network::parse);
            let gateway = known.is_some_and(|from| inner.gateways.iter().any(|one| one.covers(&from)));
            let named = login.application.as_deref().is_some_and(|name| {
                name.strip_prefix("halligan:")
                    .is_some_and(|id| id.parse::<halligan_core::ids::SessionId>().is_ok())
            });
            match (gateway || login.from.is_none(), named) {
                (true, true) => return None,
                (false, _) => "a role of sessions, not from a gateway",
                (true, false) => "a role of sessions, without a session's name",
            }
        }
        "superuser" => "a superuser's account",
        "privileged" => "an account that stands above groups",
        "member" => "an account that holds the group's rights",
        _ => "an account that may do much",
    };
    Some(UnexplainedLogin { user: login.user.clone(), from, why: why.to_owned(), times: login.times })
}

/// Adds what was found to one grant's; what is new is a leaf. Blocks.
fn note(
    inner: &Inner,
    grant: GrantId,
    system: &halligan_core::ids::Name,
    found: &[UnexplainedLogin],
) -> Result<(), ConnectorError> {
    if found.is_empty() || inner.site.grants().grant(grant)?.proven.is_some() {
        return Ok(());
    }
    change_users(&inner.site, grant, |known| {
        for one in found {
            let full = known.logins.len() >= KEPT_MOST;
            let same = known
                .logins
                .iter_mut()
                .find(|held| (&held.user, &held.from, &held.why) == (&one.user, &one.from, &one.why));
            match same {
                Some(held) => held.times = held.times.saturating_add(one.times),
                None if full => {}
                None => {
                    known.logins.push(one.clone());
                    inner.site.journal().write(NodeEvent::LoginUnexplained {
                        grant,
                        system: system.clone(),
                        user: one.user.clone(),
                        from: one.from.clone(),
                        why: one.why.clone(),
                        times: one.times,
                    })?;
                }
            }
        }
        Ok(())
    })
}

fn file(inner: &Inner, at: &Address) -> std::path::PathBuf {
    folder_of_servers(&inner.site).join(format!("log-{}.json", key_of(at)))
}

fn forget(inner: &Inner, at: &Address) -> Result<(), ConnectorError> {
    let path = file(inner, at);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ConnectorError::state(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

//! The proof that a grant's users are gone from a server, and that nothing of them is left.

use std::collections::BTreeMap;

use halligan_connector::ConnectorError;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Check, Evidence, Finding, SaidBy};
use halligan_session::Lease;
use serde::Deserialize;

use crate::connector::{PostgresConnector, address};
use crate::direct_path::direct_path;
use crate::names::grant_of;
use crate::server::Address;
use crate::state::{Standing, UserState, users};

/// What a check found.
#[derive(Debug)]
pub struct Found {
    pub finding: Finding,
    pub said_by: SaidBy,
    pub detail: String,
}

impl Found {
    pub fn unknown(said_by: SaidBy, detail: impl Into<String>) -> Self {
        Self { finding: Finding::Unknown, said_by, detail: detail.into() }
    }
    fn target(finding: Finding, detail: String) -> Self {
        Self { finding, said_by: SaidBy::Target, detail }
    }
}

/// What the server says of one role.
#[derive(Debug, Deserialize)]
struct Seen {
    primary: bool,
    system: String,
    timeline: Option<String>,
    position: Option<String>,
    role: bool,
    can_login: Option<bool>,
    backends: Vec<i64>,
    /// Other session roles of the same group.
    others: i64,
    owned: BTreeMap<String, i64>,
    slots: Vec<String>,
    prepared: Vec<String>,
    defaults: Vec<String>,
}

/// One role with what is known of it.
struct Looked {
    login: String,
    before: Option<Standing>,
    seen: Seen,
}

/// All roles of a grant.
struct AtServer {
    at: Address,
    roles: Vec<Looked>,
    /// What kept the last try to end them from being done, if anything did.
    trouble: Option<String>,
}

/// See [`halligan_connector::Connector::look`].
pub async fn look(
    connector: &PostgresConnector,
    grant: GrantId,
    fencing: u64,
) -> Result<Evidence, ConnectorError> {
    let (state, lease, known) = connector
        .blocking(move |inner| {
            let state = inner.site.begin_look(grant, fencing)?;
            let lease = inner.site.held_lease(&state)?;
            Ok((state, lease, users(inner.site.grants(), grant)?))
        })
        .await?;
    if let Some(proven) = state.proven {
        return Ok(proven);
    }
    let Some(lease) = lease else {
        let detail =
            "this connector was never told of the grant, so it never made a user for it, and makes none now";
        let check = Check {
            kind: CheckKind::Credential,
            finding: Finding::Proven,
            said_by: SaidBy::Connector,
            detail: detail.to_owned(),
        };
        return connector.blocking(move |inner| inner.site.conclude(grant, fencing, vec![check])).await;
    };
    let looked = look_at(connector, grant, &lease, known.users).await;
    let mut checks = Vec::new();
    for kind in &lease.proof.checks {
        let found = match kind {
            // The gateways' own leaves say so.
            CheckKind::GatewayConnections => continue,
            CheckKind::Processes | CheckKind::AuthorizedKeys => {
                Found::unknown(SaidBy::Connector, "that is asked of hosts; this is a PostgreSQL server")
            }
            _ => match &looked {
                Err(error) => Found::unknown(SaidBy::Target, error.sentence()),
                Ok(there) => judge(connector, *kind, there).await,
            },
        };
        checks.push(Check {
            kind: *kind,
            finding: found.finding,
            said_by: found.said_by,
            detail: found.detail,
        });
    }
    connector.blocking(move |inner| inner.site.conclude(grant, fencing, checks)).await
}

/// Ends what an end that came while the server was away left undone, then looks at every role of the grant.
async fn look_at(
    connector: &PostgresConnector,
    grant: GrantId,
    lease: &Lease,
    known: BTreeMap<String, UserState>,
) -> Result<AtServer, ConnectorError> {
    let at = address(lease).map_err(ConnectorError::refused)?;
    let ended = connector.end_grant(grant, lease).await;
    let inner = &connector.inner;
    let mut logins: BTreeMap<String, Option<Standing>> =
        known.into_iter().map(|(login, user)| (login, user.before)).collect();
    for one in inner.sweep(&at).await? {
        if grant_of(&one.login) == Some(grant) {
            logins.entry(one.login).or_insert(None);
        }
    }
    let mut roles = Vec::new();
    for (login, before) in logins {
        let sql = "SELECT halligan.look($1, $2)::text";
        let seen = inner.servers.call(&at, "look", sql, &[&login, &lease.target.account]).await?;
        roles.push(Looked { login, before, seen });
    }
    Ok(AtServer { at, roles, trouble: ended.err().map(|error| error.sentence()) })
}

async fn judge(connector: &PostgresConnector, kind: CheckKind, there: &AtServer) -> Found {
    if kind == CheckKind::DirectPath {
        return direct_path(&connector.inner, &there.at).await;
    }
    if there.roles.is_empty() {
        let detail = format!(
            "no user of this grant was ever made, and {} has no role of its name; none is made now",
            there.at.system
        );
        return Found::target(Finding::Proven, detail);
    }
    if let Some(standby) = there.roles.iter().find(|role| !role.seen.primary) {
        let detail = format!(
            "{} is a standby of system {}: only the primary can tell",
            there.at.address, standby.seen.system
        );
        return Found::unknown(SaidBy::Target, detail);
    }
    match kind {
        CheckKind::Credential => credential(there),
        CheckKind::Backends => backends(there),
        CheckKind::Leftovers => leftovers(there),
        _ => Found::unknown(SaidBy::Connector, "this connector cannot look for that"),
    }
}

fn names(roles: &[Looked]) -> String {
    roles.iter().map(|role| role.login.as_str()).collect::<Vec<_>>().join(", ")
}

/// Which server, which history of it, and how far.
fn place(there: &AtServer) -> String {
    let seen = there.roles.first().map(|role| &role.seen);
    let of = |text: Option<&String>| text.cloned().unwrap_or_else(|| "?".to_owned());
    format!(
        "on the primary at {}, system {}, timeline {}, position {}",
        there.at.address,
        seen.map_or("?", |seen| seen.system.as_str()),
        of(seen.and_then(|seen| seen.timeline.as_ref())),
        of(seen.and_then(|seen| seen.position.as_ref())),
    )
}

fn credential(there: &AtServer) -> Found {
    let left: Vec<&Looked> = there.roles.iter().filter(|role| role.seen.role).collect();
    if left.is_empty() {
        let detail = format!("pg_roles has no {} ({})", names(&there.roles), place(there));
        return Found::target(Finding::Proven, detail);
    }
    let open = left.iter().any(|role| role.seen.can_login != Some(false));
    let named: Vec<&str> = left.iter().map(|role| role.login.as_str()).collect();
    let why = there.trouble.as_deref().unwrap_or("it was not dropped");
    let state = if open { "and it can log in" } else { "though nobody can log in as it" };
    let detail = format!("the role {} is still there, {state}: {why} ({})", named.join(", "), place(there));
    Found::target(Finding::Failed, detail)
}

fn backends(there: &AtServer) -> Found {
    let left: Vec<String> =
        there.roles.iter().flat_map(|role| &role.seen.backends).map(ToString::to_string).collect();
    if left.is_empty() {
        let detail = format!("pg_stat_activity has no backend of {} ({})", names(&there.roles), place(there));
        return Found::target(Finding::Proven, detail);
    }
    Found::target(Finding::Failed, format!("backends are left: {} ({})", left.join(", "), place(there)))
}

fn leftovers(there: &AtServer) -> Found {
    let mut left = Vec::new();
    let mut shared = Vec::new();
    let mut untold = false;
    let mut others = 0;
    for role in &there.roles {
        left.extend(
            role.seen.owned.iter().map(|(database, count)| {
                format!("{count} objects or rights of {} in {database}", role.login)
            }),
        );
        others = others.max(role.seen.others);
        let Some(before) = &role.before else {
            untold = true;
            continue;
        };
        let seen = &role.seen;
        for (what, now, then) in [
            ("replication slot", &seen.slots, &before.slots),
            ("prepared transaction", &seen.prepared, &before.prepared),
            ("default privilege of the group", &seen.defaults, &before.defaults),
        ] {
            for one in now.iter().filter(|one| !then.contains(one)) {
                let say = format!("{what} {one}");
                if !shared.contains(&say) {
                    shared.push(say);
                }
            }
        }
    }
    let place = place(there);
    if !left.is_empty() {
        left.append(&mut shared);
        return Found::target(Finding::Failed, format!("left behind: {} ({place})", left.join("; ")));
    }
    if !shared.is_empty() {
        let listed = shared.join("; ");
        return if others == 0 {
            Found::target(Finding::Failed, format!("left behind: {listed} ({place})"))
        } else {
            let detail = format!(
                "there are now, and were not before: {listed}; {others} other sessions' roles of the group may have made them ({place})"
            );
            Found::unknown(SaidBy::Target, detail)
        };
    }
    if untold {
        let detail = format!("what stood there before is not known here any more ({place})");
        return Found::unknown(SaidBy::Target, detail);
    }
    let detail = format!(
        "nothing is owned by or granted to {}; no replication slot, prepared transaction or default privilege of the group that was not there before ({place})",
        names(&there.roles)
    );
    Found::target(Finding::Proven, detail)
}

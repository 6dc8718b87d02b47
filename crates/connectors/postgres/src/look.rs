//! The proof that a grant's users are gone from a server, and that nothing of them is left.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use halligan_connector::ConnectorError;
use halligan_core::catalog::{Activation, CheckKind};
use halligan_core::ids::GrantId;
use halligan_core::proof::{Check, Evidence, Finding, SaidBy};
use halligan_session::Lease;
use serde::Deserialize;

use crate::connector::{PostgresConnector, address};
use crate::direct_path::direct_path;
use crate::logins::untold;
use crate::names::{grant_of, is_standing};
use crate::server::Address;
use crate::slots::Slots;
use crate::standing_look;
use crate::state::{Certificates, Standing, UnexplainedLogin, Users, users};

/// What is said of a role that has gone on to another grant.
pub const PASSED_ON: &str =
    "was made again what it was, without backends, and given back before another grant took it";
/// A log that is longer than can be read in this time is named in the evidence.
const READ_MOST: Duration = Duration::from_secs(20);

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
    pub fn target(finding: Finding, detail: String) -> Self {
        Self { finding, said_by: SaidBy::Target, detail }
    }
}

/// What the server says of one role.
#[derive(Debug, Deserialize)]
pub struct Seen {
    pub primary: bool,
    system: String,
    timeline: Option<String>,
    position: Option<String>,
    pub role: bool,
    can_login: Option<bool>,
    backends: Vec<i64>,
    /// Other session roles of the same group.
    others: i64,
    owned: BTreeMap<String, i64>,
    slots: Vec<String>,
    prepared: Vec<String>,
    defaults: Vec<String>,
    #[serde(default)]
    subscriptions: Vec<String>,
    #[serde(default)]
    members: Vec<String>,
    /// What a standing role is not as it was made.
    #[serde(default)]
    pub dirt: Vec<String>,
    /// Whether a standing role has a password, where that can be seen.
    #[serde(default)]
    pub password: Option<bool>,
    /// The server's clock.
    #[serde(default)]
    pub micros: i64,
}

/// One role with what is known of it.
pub struct Looked {
    pub login: String,
    before: Option<Standing>,
    /// Those that opened it, if it is a standing role.
    pub certificates: Option<Certificates>,
    /// It is a standing role that another grant holds now. It was given back before that: made again what it was, without
    /// backends, its certificates over. What there is of it is the other's, and what is new in the databases may be theirs.
    pub passed_on: bool,
    pub seen: Seen,
}

/// All roles of a grant.
pub struct AtServer {
    pub at: Address,
    pub roles: Vec<Looked>,
    /// What kept the last try to end them from being done, if anything did.
    pub trouble: Option<String>,
    /// Whether they are standing roles.
    prepared: bool,
    /// What stands in the databases now that did not before, or what keeps it from being known.
    left_in: Vec<LeftIn>,
    /// Logins that no session explains.
    logins: Vec<UnexplainedLogin>,
}

/// What a database holds that it did not.
struct LeftIn {
    database: String,
    /// What there is now and was not before; or, where what was before is not known, all there is now.
    new: Result<Vec<String>, String>,
    before_known: bool,
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
    let looked = look_at(connector, grant, &lease, known).await;
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
                Ok(there) => judge(connector, grant, *kind, there).await,
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
    known: Users,
) -> Result<AtServer, ConnectorError> {
    let at = address(lease).map_err(ConnectorError::refused)?;
    let ended = connector.end_grant(grant, lease).await;
    let inner = &connector.inner;
    let mut logins: BTreeMap<String, (Option<Standing>, Option<Certificates>)> =
        known.users.into_iter().map(|(login, user)| (login, (user.before, user.certificates))).collect();
    for one in inner.sweep(&at).await? {
        if grant_of(&one.login) == Some(grant) {
            logins.entry(one.login).or_insert((None, None));
        }
    }
    // To the end of what the grant's users did; from then on others' logins are none of its business.
    let begun = Instant::now();
    let unread = loop {
        match connector.read_logins(&at).await {
            Ok(true) => break None,
            Ok(false) if begun.elapsed() < READ_MOST => {}
            Ok(false) => break Some("its log is longer than was read yet".to_owned()),
            Err(error) => break Some(format!("its log could not be read: {}", error.sentence())),
        }
    };
    if ended.is_ok() && unread.is_none() {
        inner.living.lock().unwrap_or_else(PoisonError::into_inner).remove(&grant);
    }
    let mut unexplained =
        connector.blocking(move |inner| Ok(users(inner.site.grants(), grant)?.logins)).await?;
    unexplained.extend(unread.map(|why| untold(&at, &why)));
    let names: Vec<String> = logins.keys().cloned().collect();
    let left_in = left_in(connector, lease, &at, &names, &known.before_in).await;
    let mut roles = Vec::new();
    for (login, (before, certificates)) in logins {
        let sql = "SELECT halligan.look($1, $2)::text";
        let seen = inner.servers.call(&at, "look", sql, &[&login, &lease.target.account]).await?;
        let mut passed_on = false;
        if is_standing(&login) {
            let (of, name) = (at.clone(), login.clone());
            let holder = connector
                .blocking(move |inner| Ok(Slots::read(&inner.site, &of)?.held.remove(&name)))
                .await?;
            passed_on = holder.is_some_and(|holder| holder.grant != grant);
        }
        roles.push(Looked { login, before, certificates, passed_on, seen });
    }
    let prepared = lease.postgres.activation == Activation::Prepared;
    let trouble = ended.err().map(|error| error.sentence());
    Ok(AtServer { at, roles, trouble, prepared, left_in, logins: unexplained })
}

async fn left_in(
    connector: &PostgresConnector,
    lease: &Lease,
    at: &Address,
    logins: &[String],
    before: &BTreeMap<String, Vec<String>>,
) -> Vec<LeftIn> {
    let now = connector.stands_in(lease, at, logins).await;
    let compared = now.into_iter().map(|(database, found)| {
        let then = before.get(&database);
        let new = found.map_err(|error| error.sentence()).map(|found| {
            let new = found.into_iter().filter(|one| then.is_none_or(|then| !then.contains(one)));
            new.collect()
        });
        LeftIn { new, before_known: then.is_some(), database }
    });
    compared.collect()
}

async fn judge(connector: &PostgresConnector, grant: GrantId, kind: CheckKind, there: &AtServer) -> Found {
    if kind == CheckKind::DirectPath {
        let path = match there.prepared {
            true => standing_look::direct_path(&connector.inner, &there.at).await,
            false => direct_path(&connector.inner, &there.at).await,
        };
        return with_logins(path, &there.logins);
    }
    if there.roles.is_empty() {
        let detail = format!(
            "no user of this grant was ever made, and {} has no role of its name; none is made now",
            there.at.system
        );
        return Found::target(Finding::Proven, detail);
    }
    // A standing role was made long before, and nothing can be changed at a standby.
    let made_here = there.roles.iter().filter(|role| role.certificates.is_none());
    if let Some(standby) = made_here.into_iter().find(|role| !role.seen.primary) {
        let detail = format!(
            "{} is a standby of system {}: only the primary can tell",
            there.at.address, standby.seen.system
        );
        return Found::unknown(SaidBy::Target, detail);
    }
    match kind {
        CheckKind::Credential if there.prepared => standing_look::credential(connector, grant, there).await,
        CheckKind::Credential => credential(there),
        CheckKind::Backends => backends(there),
        CheckKind::Leftovers => leftovers(there),
        _ => Found::unknown(SaidBy::Connector, "this connector cannot look for that"),
    }
}

fn names(roles: &[Looked]) -> String {
    roles.iter().map(|role| role.login.as_str()).collect::<Vec<_>>().join(", ")
}

/// Those that are still this grant's.
fn own_names(there: &AtServer) -> String {
    let own = there.roles.iter().filter(|role| !role.passed_on);
    let names: Vec<&str> = own.map(|role| role.login.as_str()).collect();
    if names.is_empty() { "any role of this grant's".to_owned() } else { names.join(", ") }
}

/// What is said of roles that have gone on to another grant; nothing where none has.
fn passed_on(there: &AtServer) -> String {
    let gone = there.roles.iter().filter(|role| role.passed_on);
    gone.map(|role| format!("; {} {PASSED_ON}", role.login)).collect()
}

/// Which server, which history of it, and how far.
pub fn place(there: &AtServer) -> String {
    let seen = there.roles.first().map(|role| &role.seen);
    let of = |text: Option<&String>| text.cloned().unwrap_or_else(|| "?".to_owned());
    if seen.is_some_and(|seen| !seen.primary) {
        let system = seen.map_or("?", |seen| seen.system.as_str());
        return format!("on the standby at {}, system {system}", there.at.address);
    }
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

/// Roles of sessions that came in otherwise are a way past the gateways. What other accounts did is told, and no fault of this
/// grant's.
fn with_logins(path: Found, logins: &[UnexplainedLogin]) -> Found {
    if logins.is_empty() {
        return path;
    }
    let listed: Vec<String> = logins
        .iter()
        .map(|one| format!("{} from {}, {} times ({})", one.user, one.from, one.times, one.why))
        .collect();
    let past = logins.iter().any(|one| one.why.starts_with("a role of sessions"));
    let finding = if past && path.finding == Finding::Proven { Finding::Failed } else { path.finding };
    let detail = format!(
        "{}; logins in the grant's time that no session explains: {}",
        path.detail,
        listed.join("; ")
    );
    Found { finding, detail, ..path }
}

fn backends(there: &AtServer) -> Found {
    let own: Vec<&Looked> = there.roles.iter().filter(|role| !role.passed_on).collect();
    let left: Vec<String> =
        own.iter().flat_map(|role| &role.seen.backends).map(ToString::to_string).collect();
    if left.is_empty() {
        let detail = format!(
            "pg_stat_activity has no backend of {}{} ({})",
            own_names(there),
            passed_on(there),
            place(there)
        );
        return Found::target(Finding::Proven, detail);
    }
    Found::target(Finding::Failed, format!("backends are left: {} ({})", left.join(", "), place(there)))
}

fn leftovers(there: &AtServer) -> Found {
    let mut left = Vec::new();
    let mut shared = Vec::new();
    let mut unseen = Vec::new();
    let mut untold = false;
    let mut others = 0;
    for role in &there.roles {
        if !role.passed_on {
            left.extend(role.seen.owned.iter().map(|(database, count)| {
                format!("{count} objects or rights of {} in {database}", role.login)
            }));
        }
        others = others.max(role.seen.others).max(i64::from(role.passed_on));
        let seen = &role.seen;
        let before = role.before.as_ref();
        for (what, now, then) in [
            ("replication slot", &seen.slots, before.map(|before| &before.slots)),
            ("prepared transaction", &seen.prepared, before.map(|before| &before.prepared)),
            ("default privilege of the group", &seen.defaults, before.map(|before| &before.defaults)),
            ("subscription", &seen.subscriptions, before.map(|before| &before.subscriptions)),
            // Not asked of servers that an older script set up.
            ("member", &seen.members, before.map(|before| before.members.as_ref().unwrap_or(&seen.members))),
        ] {
            for one in now.iter().filter(|one| then.is_none_or(|then| !then.contains(one))) {
                let say = format!("{what} {one}");
                untold |= then.is_none();
                if !shared.contains(&say) {
                    shared.push(say);
                }
            }
        }
    }
    for one in &there.left_in {
        match &one.new {
            Ok(new) => {
                untold |= !one.before_known && !new.is_empty();
                shared.extend(new.iter().map(|say| format!("{say} in {}", one.database)));
            }
            Err(why) => unseen.push(format!("{}: {why}", one.database)),
        }
    }
    let place = place(there);
    if !left.is_empty() {
        left.append(&mut shared);
        return Found::target(Finding::Failed, format!("left behind: {} ({place})", left.join("; ")));
    }
    if !shared.is_empty() {
        let listed = shared.join("; ");
        return if untold {
            let detail =
                format!("there are now, and whether they were before is not known: {listed} ({place})");
            Found::unknown(SaidBy::Target, detail)
        } else if others == 0 {
            Found::target(Finding::Failed, format!("left behind: {listed} ({place})"))
        } else {
            let detail = format!(
                "there are now, and were not before: {listed}; {others} other sessions' roles of the group may have made them ({place})"
            );
            Found::unknown(SaidBy::Target, detail)
        };
    }
    if !unseen.is_empty() {
        let detail = format!("what is left in a database cannot be seen: {} ({place})", unseen.join("; "));
        return Found::unknown(SaidBy::Target, detail);
    }
    let looked: Vec<&str> = there.left_in.iter().map(|one| one.database.as_str()).collect();
    let detail = format!(
        "nothing is owned by or granted to {}; no replication slot, prepared transaction, subscription, membership, default privilege, publication, event trigger, job, right given to others, or function with its group's rights, trigger, rule, view or policy that others run, that was not there before; looked in {}{} ({place})",
        own_names(there),
        looked.join(", "),
        passed_on(there)
    );
    Found::target(Finding::Proven, detail)
}

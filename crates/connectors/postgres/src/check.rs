//! `catalog check --live`: what the catalog says of a server, held against the server itself.

use halligan_connector::ConnectorError;
use halligan_core::catalog::{Activation, Entitlement, System};
use halligan_core::ids::Name;
use halligan_core::proof::Finding;
use halligan_core::time::Span;
use halligan_link::messages::{FindingLevel, TargetFinding};
use serde::Deserialize;

use crate::connector::PostgresConnector;
use crate::direct_path::direct_path;
use crate::hba::{Rules, without_certificate};
use crate::server::{Address, CertificateKnock};
use crate::standing::no_authority;
use crate::standing_look;

/// One thing that the server's functions found.
#[derive(Debug, Deserialize)]
struct Thing {
    kind: String,
    say: String,
}

/// Looks at a system, and at each role that the catalog gives there.
pub async fn check(
    connector: &PostgresConnector,
    system: &System,
    entitlements: &[(Name, Entitlement)],
) -> Result<Vec<TargetFinding>, ConnectorError> {
    let inner = &connector.inner;
    if system.site != inner.site.config().site {
        return Err(ConnectorError::refused(format!(
            "{} is a target of site {}, this connector serves {}",
            system.name,
            system.site,
            inner.site.config().site
        )));
    }
    let mut findings = Vec::new();
    let at = match Address::of(&system.name, &system.address, system.postgres.as_ref()) {
        Ok(at) => at,
        Err(why) => return Ok(vec![finding(None, FindingLevel::Error, why)]),
    };
    let server = "SELECT halligan.audit_server()::text";
    match inner.servers.call::<Vec<Thing>>(&at, "look at the accounts", server, &[]).await {
        Ok(things) => {
            findings.extend(things.into_iter().map(|thing| finding(None, FindingLevel::Warning, thing.say)))
        }
        Err(error) => return Ok(vec![finding(None, FindingLevel::Error, error.sentence())]),
    }
    findings.push(match connector.reads_log(&at).await {
        Ok(true) => {
            finding(None, FindingLevel::Info, "logins are read from the server's log".to_owned())
        }
        Ok(false) => {
            let say = "logins that no session explains are not looked for: the set-up was made without `--read-log`";
            finding(None, FindingLevel::Info, say.to_owned())
        }
        Err(why) => {
            let say = format!("the server's log cannot be read: {}", why.sentence());
            finding(None, FindingLevel::Warning, say)
        }
    });
    let path = direct_path(inner, &at).await;
    if path.finding == Finding::Proven {
        findings.push(finding(None, FindingLevel::Info, path.detail.clone()));
    }
    for (name, entitlement) in entitlements {
        let role = Some(name);
        if entitlement.postgres.activation == Activation::Prepared {
            let databases = system.postgres.as_ref().map(|target| entitlement.postgres.databases_of(target));
            findings.extend(standing(connector, &at, name, entitlement, databases.unwrap_or_default()).await);
        }
        match (&path.finding, &entitlement.postgres.direct_path_waiver) {
            (Finding::Proven, _) => {}
            (_, Some(waiver)) => {
                let say = format!("direct path open, waived because: {waiver} ({})", path.detail);
                findings.push(finding(role, FindingLevel::Warning, say));
            }
            (_, None) => findings.push(finding(role, FindingLevel::Error, path.detail.clone())),
        }
        if let Some(target) = &system.postgres {
            for database in entitlement.postgres.databases_of(target) {
                findings.extend(in_database(connector, &at, database, name, entitlement).await);
            }
        }
    }
    Ok(findings)
}

/// Whether an entitlement with `activation: prepared` would find what it needs. From now on a connection to the server is
/// kept.
async fn standing(
    connector: &PostgresConnector,
    at: &Address,
    name: &Name,
    entitlement: &Entitlement,
    databases: &[String],
) -> Vec<TargetFinding> {
    let error = |say: String| finding(Some(name), FindingLevel::Error, say);
    match standing_looked(connector, at, name, entitlement, databases).await {
        Ok(findings) => findings,
        Err(why) => vec![error(why.sentence())],
    }
}

async fn standing_looked(
    connector: &PostgresConnector,
    at: &Address,
    name: &Name,
    entitlement: &Entitlement,
    databases: &[String],
) -> Result<Vec<TargetFinding>, ConnectorError> {
    let inner = &connector.inner;
    let group = &entitlement.account;
    let mut findings = Vec::new();
    let mut say = |level, text: String| findings.push(finding(Some(name), level, text));
    if inner.config.authority.is_none() {
        return Err(no_authority());
    }
    let roles = inner.prepared_roles(at).await?;
    connector.note_standing(at, roles.clone()).await?;
    let of_group: Vec<_> =
        roles.iter().filter(|role| role.group.as_ref() == Some(group) && role.can_login).collect();
    for role in &of_group {
        for dirt in &role.dirt {
            say(FindingLevel::Error, format!("the standing role {}: {dirt}", role.login));
        }
    }
    let Some(first) = of_group.first() else {
        let text = format!(
            "{group} has no standing roles (`activation: prepared`): print the set-up with `--prepared {group}` and run it"
        );
        say(FindingLevel::Error, text);
        return Ok(findings);
    };
    say(FindingLevel::Info, format!("{group} has {} standing roles", of_group.len()));
    let server: Server =
        inner.servers.call(at, "look at settings", "SELECT halligan.prepared_server()::text", &[]).await?;
    if !server.client_ca {
        say(
            FindingLevel::Error,
            "ssl_ca_file is not set, so the server asks for no client certificate".to_owned(),
        );
    }
    if server.version >= 160_000 && server.reserved == 0 {
        let text = "reserved_connections is 0: nobody gets in when the server is full".to_owned();
        say(FindingLevel::Warning, text);
    }
    if server.version < 160_000 {
        let text = "before PostgreSQL 16 only superusers get into a full server: bound what applications take (CONNECTION LIMIT of their roles)";
        say(FindingLevel::Warning, text.to_owned());
    }
    let path = standing_look::direct_path(inner, at).await;
    if path.finding != Finding::Proven {
        say(FindingLevel::Error, path.detail);
    }
    let rules: Rules =
        inner.servers.call(at, "read the rules of pg_hba.conf", "SELECT halligan.hba()::text", &[]).await?;
    for database in databases {
        for gateway in without_certificate(&rules.rules, &inner.gateways, database) {
            let text = format!(
                "no line of pg_hba.conf lets standing roles into {database} from {gateway} by certificate (cert)"
            );
            say(FindingLevel::Error, text);
        }
    }
    let now = inner.site.journal().now();
    let (after, before) = (now.minus(Span::seconds(60)), now.plus(Span::seconds(30)));
    match standing_look::shown(connector, None, at, &first.login, after, before).await? {
        CertificateKnock::Taken(_) => {}
        CertificateKnock::NotTaken(why) | CertificateKnock::Unclear(why) => {
            let text = format!(
                "the server does not take certificates of this connector's authority ({why}): append it to ssl_ca_file"
            );
            say(FindingLevel::Error, text);
        }
    }
    Ok(findings)
}

/// What matters of a server that has standing roles.
#[derive(Debug, Deserialize)]
struct Server {
    version: i64,
    client_ca: bool,
    reserved: i64,
}

async fn in_database(
    connector: &PostgresConnector,
    at: &Address,
    database: &str,
    name: &Name,
    entitlement: &Entitlement,
) -> Vec<TargetFinding> {
    let sql = "SELECT halligan.audit_group($1)::text";
    let what = format!("look at the rights of {} in {database}", entitlement.account);
    let servers = &connector.inner.servers;
    let things = match servers.call_in::<Vec<Thing>>(at, database, &what, sql, &[&entitlement.account]).await
    {
        Ok(things) => things,
        Err(error) => return vec![finding(Some(name), FindingLevel::Error, error.sentence())],
    };
    let read_only = entitlement.postgres.read_only;
    let level = |kind: &str| match kind {
        "group" => Some(FindingLevel::Error),
        "write" if read_only => Some(FindingLevel::Error),
        "standing" => Some(FindingLevel::Warning),
        "notice" if read_only => Some(FindingLevel::Warning),
        _ => None,
    };
    let told = things.into_iter().filter_map(|thing| {
        let called = if read_only && thing.kind == "write" { "it is called read-only, but " } else { "" };
        let say = format!("{database}, {}: {called}{}", entitlement.account, thing.say);
        level(&thing.kind).map(|level| finding(Some(name), level, say))
    });
    told.collect()
}

fn finding(role: Option<&Name>, level: FindingLevel, say: String) -> TargetFinding {
    TargetFinding { role: role.cloned(), level, say }
}

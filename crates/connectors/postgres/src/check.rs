//! `catalog check --live`: what the catalog says of a server, held against the server itself.

use halligan_connector::ConnectorError;
use halligan_core::catalog::{Entitlement, System};
use halligan_core::ids::Name;
use halligan_core::proof::Finding;
use halligan_link::messages::{FindingLevel, TargetFinding};
use serde::Deserialize;

use crate::connector::PostgresConnector;
use crate::direct_path::direct_path;
use crate::server::Address;

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
    let path = direct_path(inner, &at).await;
    if path.finding == Finding::Proven {
        findings.push(finding(None, FindingLevel::Info, path.detail.clone()));
    }
    for (name, entitlement) in entitlements {
        let role = Some(name);
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

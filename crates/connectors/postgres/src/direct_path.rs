//! Whether somebody who gave a session role a password from inside could come in past the gateways.
//!
//! Two looks: the server's rules, read through the set-up's function, and a login from here that must be refused. The second
//! says nothing where this connector comes from an address of a gateway.

use halligan_connector::ConnectorError;
use halligan_core::proof::{Finding, SaidBy};
use serde::Deserialize;

use crate::connector::Inner;
use crate::hba::{Rules, Whose, open_ways};
use crate::look::Found;
use crate::network::Network;
use crate::server::{Address, Knock};

#[derive(Deserialize)]
struct Here {
    address: Option<String>,
}

/// Looks.
pub async fn direct_path(inner: &Inner, at: &Address) -> Found {
    match looked(inner, at).await {
        Ok(found) => found,
        Err(error) => Found::unknown(SaidBy::Target, error.sentence()),
    }
}

async fn looked(inner: &Inner, at: &Address) -> Result<Found, ConnectorError> {
    // The positive control: from here the server is reached and lets its own account in.
    let sql = "SELECT json_build_object('address', host(inet_client_addr()))::text";
    let here: Here = inner.servers.call(at, "ask where the connector comes from", sql, &[]).await?;
    let here = here.address.unwrap_or_default();
    let rules: Rules =
        inner.servers.call(at, "read the rules of pg_hba.conf", "SELECT halligan.hba()::text", &[]).await?;
    let open = open_ways(&rules.rules, &inner.gateways, Whose::Sessions);
    let as_gateway =
        Network::parse(&here).is_some_and(|here| inner.gateways.iter().any(|gateway| gateway.covers(&here)));
    let knock = inner.servers.knock(at).await;
    let read = format!("{} lines of pg_hba.conf, settings last read at {}", rules.rules.len(), rules.loaded);
    if !open.is_empty() {
        let detail = format!("the way past the gateways is open: {} ({read})", open.join("; "));
        return Ok(Found { finding: Finding::Failed, said_by: SaidBy::Target, detail });
    }
    let (finding, said_by, tried) = match knock {
        _ if as_gateway => (
            Finding::Proven,
            SaidBy::SelfReported,
            format!("no login was tried: this connector comes from {here}, which is an address of gateways"),
        ),
        Knock::Refused => (
            Finding::Proven,
            SaidBy::Target,
            format!(
                "a login as halligan_probe from {here} was refused, beside one as {} that was not",
                inner.config.login
            ),
        ),
        Knock::Open => (
            Finding::Failed,
            SaidBy::Target,
            format!(
                "a login as halligan_probe from {here} was asked for its password: the rules in the file are not those in force"
            ),
        ),
        Knock::Unclear(why) => (
            Finding::Unknown,
            SaidBy::Target,
            format!("a login as halligan_probe from {here} was answered unexpectedly: {why}"),
        ),
    };
    let detail = format!("{tried}; no rule lets session roles in from elsewhere than gateways ({read})");
    Ok(Found { finding, said_by, detail })
}

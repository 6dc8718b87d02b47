//! What is looked for where a grant used a standing role, which is expected to stay: that no certificate opens it any more,
//! and that it is what the set-up made it.

use halligan_connector::ConnectorError;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Finding, SaidBy};
use halligan_core::time::{Span, Time};
use halligan_session::NodeEvent;

use crate::connector::{Inner, PostgresConnector};
use crate::hba::{Rules, Whose, open_ways};
use crate::look::{AtServer, Found, Looked, PASSED_ON, place};
use crate::server::{Address, CertificateKnock};
use crate::standing::{no_authority, serial};

/// A certificate for a look is good for so long.
const PROBE: Span = Span::seconds(30);
/// One that is over ended so long ago; servers' clocks may be behind.
const OVER: Span = Span::seconds(90);

/// Whether the certificates of a grant still open its standing roles.
pub async fn credential(connector: &PostgresConnector, grant: GrantId, there: &AtServer) -> Found {
    let now = connector.inner.site.journal().now();
    let mut said = Vec::new();
    for role in &there.roles {
        let Some(certificates) = &role.certificates else { continue };
        let of = format!(
            "{} certificates of {}, the last of serial {}, ended at {}",
            certificates.count, role.login, certificates.last, certificates.until
        );
        if !role.seen.role {
            said.push(format!("{of}; the role itself is gone"));
            continue;
        }
        // By the slower of both clocks.
        let there_now = Time::from_micros(role.seen.micros);
        if now.min(there_now) <= certificates.until {
            let detail = format!(
                "{of}: that is not over yet at the server, whose clock says {there_now} ({})",
                place(there)
            );
            return Found::unknown(SaidBy::Connector, detail);
        }
        if let Some(wrong) = not_as_made(there, role) {
            return wrong;
        }
        let password = match role.seen.password {
            _ if role.passed_on => PASSED_ON,
            Some(_) => "it has no password",
            None => "whether it has a password cannot be seen, and pg_hba.conf asks for none",
        };
        match tried(connector, grant, &there.at, &role.login).await {
            Ok(Tried::Both(text)) => said.push(format!("{of}; {password}; {text}")),
            Ok(Tried::StillOpens(text)) => return Found::target(Finding::Failed, text),
            Ok(Tried::NoControl(text)) => return Found::unknown(SaidBy::Target, text),
            Err(error) => return Found::unknown(SaidBy::Target, error.sentence()),
        }
    }
    let detail =
        format!("standing roles stay, and nothing opens them: {} ({})", said.join("; "), place(there));
    Found::target(Finding::Proven, detail)
}

/// What a session left at its role.
fn not_as_made(there: &AtServer, role: &Looked) -> Option<Found> {
    if role.passed_on || role.seen.dirt.is_empty() {
        return None;
    }
    let why =
        there.trouble.as_deref().map(|why| format!("; it was not put right: {why}")).unwrap_or_default();
    let detail = format!(
        "the standing role {} is not as the set-up made it: {}{why} ({})",
        role.login,
        role.seen.dirt.join(", "),
        place(there)
    );
    Some(Found::target(Finding::Failed, detail))
}

enum Tried {
    /// One that is over was refused, and one that is not was taken.
    Both(String),
    StillOpens(String),
    NoControl(String),
}

/// Two certificates of our own for the role: one that is over must not be taken by TLS, one that is not must be. What
/// `pg_hba.conf` says to the second does not matter: most connectors do not come from a gateway.
async fn tried(
    connector: &PostgresConnector,
    grant: GrantId,
    at: &Address,
    login: &str,
) -> Result<Tried, ConnectorError> {
    let now = connector.inner.site.journal().now();
    let over =
        shown(connector, Some(grant), at, login, now.minus(OVER).minus(PROBE), now.minus(OVER)).await?;
    let fresh = shown(connector, Some(grant), at, login, now.minus(OVER), now.plus(PROBE)).await?;
    Ok(match (over, fresh) {
        (CertificateKnock::Taken(what), _) => Tried::StillOpens(format!(
            "a certificate of {login} that is over was taken by the server: {what}"
        )),
        (CertificateKnock::NotTaken(why), CertificateKnock::Taken(_)) => Tried::Both(format!(
            "one that is over was refused ({why}), beside one that is not, which TLS took"
        )),
        (CertificateKnock::NotTaken(_), CertificateKnock::NotTaken(why)) => Tried::NoControl(format!(
            "the server takes no certificate of this connector's authority at all ({why}), so its refusal proves nothing: ssl_ca_file must hold it"
        )),
        (CertificateKnock::Unclear(why), _) | (_, CertificateKnock::Unclear(why)) => {
            Tried::NoControl(format!("a login by certificate was answered unexpectedly: {why}"))
        }
    })
}

/// Makes a certificate of our own for a role and tries it, on record.
pub async fn shown(
    connector: &PostgresConnector,
    grant: Option<GrantId>,
    at: &Address,
    login: &str,
    after: Time,
    before: Time,
) -> Result<CertificateKnock, ConnectorError> {
    let (name, address) = (login.to_owned(), at.address.clone());
    let probe = connector.blocking(move |inner| {
        let authority = inner.config.authority.as_ref().ok_or_else(no_authority)?;
        let serial = serial()?;
        let (certificate, key, key_sha256) = authority.probe(&name, serial, after, before)?;
        inner.site.journal().write(NodeEvent::ProbeIssued {
            grant,
            target: address,
            serial,
            principal: name,
            key_sha256,
            valid_after: after,
            valid_before: before,
        })?;
        Ok((certificate, key))
    });
    let (certificate, key) = probe.await?;
    Ok(connector.inner.servers.knock_with(at, login, &certificate, &key).await)
}

/// Whether standing roles are let in by anything but a certificate from a gateway.
pub async fn direct_path(inner: &Inner, at: &Address) -> Found {
    let read = "SELECT halligan.hba()::text";
    let rules: Rules = match inner.servers.call(at, "read the rules of pg_hba.conf", read, &[]).await {
        Ok(rules) => rules,
        Err(error) => return Found::unknown(SaidBy::Target, error.sentence()),
    };
    let open = open_ways(&rules.rules, &inner.gateways, Whose::Standing);
    let read = format!("{} lines of pg_hba.conf, settings last read at {}", rules.rules.len(), rules.loaded);
    if open.is_empty() {
        let detail = format!(
            "standing roles are let in by client certificate, from gateways, and otherwise not at all ({read})"
        );
        return Found::target(Finding::Proven, detail);
    }
    let detail = format!("standing roles have another way in: {} ({read})", open.join("; "));
    Found::target(Finding::Failed, detail)
}

//! What fits the kind of a system, and what PostgreSQL needs: who vouches for the server, which databases, sane holds.

use halligan_core::catalog::{
    Activation, CheckKind, Entitlement, LONGEST_HOLD_IN_TRANSACTION, PostgresTarget, SshCapabilities,
    StatementRule, System, SystemKind,
};
use halligan_core::time::Span;

use super::system::unbase64;
use super::{At, Checker};
use crate::diagnostic::Severity;

/// Checks that mean nothing for a host.
const OF_DATABASES: [CheckKind; 3] = [CheckKind::Backends, CheckKind::Leftovers, CheckKind::DirectPath];
/// The gateway lets nothing wait longer.
const LONGEST_HOLD: Span = Span::hours(1);

impl Checker<'_> {
    /// The PostgreSQL part of a system.
    pub(super) fn postgres_target(&mut self, at: &At<'_>, system: &System) {
        if !system.host_keys.is_empty() {
            let say = "host keys are for hosts; a PostgreSQL server is known by `postgres.server_ca`";
            self.error("wrong-kind", &at.key("host_keys"), say);
        }
        let Some(target) = &system.postgres else {
            let help = "add `postgres: {databases: […], server_ca: \"-----BEGIN CERTIFICATE-----…\"}`";
            let say = "its databases, and who signed its certificate, are missing";
            return self.say(Severity::Error, "bad-target", at, say, Some(help));
        };
        let at = at.key("postgres");
        if target.databases.is_empty() {
            self.error("bad-target", &at.key("databases"), "it names no database");
        }
        for name in target.databases.iter().filter(|name| !database(name)) {
            let say = format!("`{}` is no name of a database", shown(name));
            self.error("bad-target", &at.key("databases"), say);
        }
        if let Err(why) = certificates(&target.server_ca) {
            let help = "the PEM text of who signed the server's certificate; nothing is trusted on first use";
            self.say(Severity::Error, "bad-target", &at.key("server_ca"), why, Some(help));
        }
    }

    /// A host has no PostgreSQL part.
    pub(super) fn no_postgres_target(&mut self, at: &At<'_>, system: &System) {
        if system.postgres.is_some() {
            self.error("wrong-kind", &at.key("postgres"), "this is for PostgreSQL servers, and it is a host");
        }
    }

    /// What of an entitlement does not fit the kind of its system.
    pub(super) fn entitlement_on(&mut self, at: &At<'_>, system: &System, entitlement: &Entitlement) {
        match system.kind {
            SystemKind::Ssh => self.on_a_host(at, entitlement),
            SystemKind::Postgres => self.on_a_database(at, system.postgres.as_ref(), entitlement),
        }
    }

    fn on_a_host(&mut self, at: &At<'_>, entitlement: &Entitlement) {
        if !entitlement.postgres.is_default() {
            self.error("wrong-kind", &at.key("postgres"), "this is for PostgreSQL servers, and it is a host");
        }
        for check in entitlement.proof.checks.iter().filter(|check| OF_DATABASES.contains(check)) {
            let say = format!("`{}` is a check of databases, and it is a host", word(check));
            self.error("wrong-kind", &at.key("proof/checks"), say);
        }
    }

    fn on_a_database(&mut self, at: &At<'_>, target: Option<&PostgresTarget>, entitlement: &Entitlement) {
        if entitlement.ssh != SshCapabilities::default() {
            self.error("wrong-kind", &at.key("ssh"), "this is for hosts, and it is a PostgreSQL server");
        }
        if !group_role(&entitlement.account) {
            let say = format!(
                "`{}` is no group role: small letters, digits and `_`, at most 63, the first no digit",
                shown(&entitlement.account)
            );
            self.error("bad-account", &at.key("account"), say);
        }
        let may = &entitlement.postgres;
        let here = at.key("postgres");
        if let Some(target) = target {
            for name in may.databases.iter().filter(|name| !target.databases.contains(name)) {
                let say = format!("the system has no database `{}`", shown(name));
                self.error("bad-database", &here.key("databases"), say);
            }
        }
        if may.connections == 0 {
            self.error("nothing-allowed", &here.key("connections"), "it allows no connection");
        }
        if may.replication {
            let say = "replication cannot be given out: a role that may replicate reads the whole server, past its group's \
                       rights, and past the line that keeps its direct way shut";
            let help = "for copies use `pg_dump`; run replicas and backups with an account of their own";
            self.say(Severity::Error, "replication", &here.key("replication"), say, Some(help));
        }
        if may.hold_limit == Span::ZERO || may.hold_limit > LONGEST_HOLD {
            let say = format!(
                "a held statement waits for {}; more than 0 and at most {LONGEST_HOLD}",
                may.hold_limit
            );
            self.error("bad-hold", &here.key("hold_limit"), say);
        }
        if may.hold_in_transaction.is_some_and(|span| span > LONGEST_HOLD_IN_TRANSACTION) {
            let say = format!(
                "a statement held inside a transaction keeps its locks: at most {LONGEST_HOLD_IN_TRANSACTION}"
            );
            self.error("bad-hold", &here.key("hold_in_transaction"), say);
        }
        if may.read_only && may.statements.write == StatementRule::Allow {
            let help = "set `statements: {write: deny, schema: deny, privilege: deny}`: people then get a sentence of ours";
            let say = "it reads only, and writing statements go to the server to be refused there";
            self.say(Severity::Warning, "read-only-writes", &here.key("statements"), say, Some(help));
        }
        if may.activation == Activation::Prepared
            && (may.direct_path_waiver.is_some()
                || !entitlement.proof.checks.contains(&CheckKind::DirectPath))
        {
            let say = "its roles stand at the server at all times (`activation: prepared`), and nobody looks whether they are \
                       let in by certificate only";
            let help = "take `direct_path_waiver` away and add `direct_path` to `proof.checks`";
            self.say(Severity::Error, "standing-role-open", &here.key("activation"), say, Some(help));
        }
        match &may.direct_path_waiver {
            Some(why) => {
                let say = format!("the way past the gateways may stay open: {}", shown(why));
                self.warn("direct-path-open", &here.key("direct_path_waiver"), say);
            }
            None if !entitlement.proof.checks.contains(&CheckKind::DirectPath) => {
                let say = "nobody looks whether the way past the gateways is shut";
                let help = "add `direct_path` to `proof.checks`";
                self.say(Severity::Warning, "direct-path-open", &at.key("proof/checks"), say, Some(help));
            }
            None => {}
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

fn word(check: &CheckKind) -> String {
    let name = serde_json::to_value(check).ok();
    name.as_ref().and_then(|name| name.as_str()).unwrap_or_default().to_owned()
}

/// PostgreSQL takes at most 63 bytes; what needs no quoting is all that anybody needs here.
fn database(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn group_role(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// At least one certificate, each the PEM form of something that is as long as it says (RFC 7468; X.690, 8.1.3).
fn certificates(pem: &str) -> Result<(), String> {
    let mut count = 0;
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let (body, after) = after
            .split_once("-----END CERTIFICATE-----")
            .ok_or_else(|| "a certificate does not end".to_owned())?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = unbase64(&body).ok_or_else(|| "a certificate is not base64".to_owned())?;
        let whole = matches!(der.as_slice(), [0x30, 0x82, high, low, contents @ ..]
            if contents.len() == usize::from(u16::from_be_bytes([*high, *low])));
        if !whole {
            return Err("a certificate is cut off, or is none".to_owned());
        }
        count += 1;
        rest = after;
    }
    if count == 0 { Err("who signed the server's certificate is missing".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_and_databases() {
        for good in ["readers", "_x", "orders_ops_2"] {
            assert!(group_role(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "2x", "Readers", "a-b", "a b", "a\"b", long.as_str()] {
            assert!(!group_role(bad), "{bad}");
        }
        assert!(database("orders-2.x") && !database("a b") && !database(&long));
    }

    #[test]
    fn certificates_are_whole() {
        const PEM: &str = include_str!("../../tests/authority.pem");
        assert_eq!(certificates(PEM), Ok(()));
        assert_eq!(certificates(&format!("{PEM}{PEM}")), Ok(()));
        let lines: Vec<&str> = PEM.lines().collect();
        let cut = [&lines[..2], &lines[3..]].concat().join("\n");
        for bad in ["", "x", cut.as_str(), PEM.trim_end().trim_end_matches('-'), &PEM.replace('M', "!")] {
            assert!(certificates(bad).is_err(), "{bad}");
        }
    }
}

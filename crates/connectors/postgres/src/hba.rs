//! What `pg_hba.conf` lets in: whether a session role, with a password that somebody gave it, gets past the gateways; and
//! whether a standing role gets in by anything but a certificate from a gateway.
//!
//! Read as PostgreSQL reads it: from the top, the first line that fits decides. Whatever cannot be told counts as open.

use serde::Deserialize;

use crate::network::Network;

/// A line, as `pg_hba_file_rules` shows it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rule {
    /// Its number.
    pub line: Option<i64>,
    /// `local`, `host`, `hostssl`, …
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub database: Option<Vec<String>>,
    #[serde(default)]
    pub user: Option<Vec<String>>,
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub netmask: Option<String>,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
}

/// All of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Rules {
    /// When the server last read its settings.
    pub loaded: String,
    /// The lines.
    pub rules: Vec<Rule>,
}

/// Whose ways in are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Roles that are made for a grant.
    Sessions,
    /// Roles that are opened by certificate.
    Standing,
}

impl Whose {
    const fn group(self) -> &'static str {
        match self {
            Self::Sessions => "+halligan_sessions",
            Self::Standing => "+halligan_prepared",
        }
    }
    const fn prefix(self) -> &'static str {
        match self {
            Self::Sessions => "halligan_grt_",
            Self::Standing => "halligan_prep_",
        }
    }
    const fn words(self) -> &'static str {
        match self {
            Self::Sessions => "session roles",
            Self::Standing => "standing roles",
        }
    }
    /// Whether a gateway may use this method.
    fn may_use(self, method: &str) -> bool {
        match self {
            Self::Sessions => method != "trust",
            Self::Standing => method == "cert",
        }
    }
    /// The group of the other kind: its lines are not about these.
    const fn other(self) -> &'static str {
        match self {
            Self::Sessions => "+halligan_prepared",
            Self::Standing => "+halligan_sessions",
        }
    }
}

/// Ways in.
const WAYS: [&str; 3] = ["local", "ssl", "plain"];

/// Sentences about each line that lets such a role in from elsewhere than `gateways`, or otherwise than it may; empty = the
/// way past them is shut.
pub fn open_ways(rules: &[Rule], gateways: &[Network], whose: Whose) -> Vec<String> {
    let mut open = Vec::new();
    if let Some(broken) = rules.iter().find(|rule| rule.error.is_some()) {
        let why = broken.error.as_deref().unwrap_or_default();
        open.push(format!(
            "line {} cannot be read ({why}), so the server may go by older lines",
            number(broken)
        ));
    }
    for way in WAYS {
        // IPv4 and IPv6 are shut one by one.
        let mut shut = (false, false);
        for rule in rules.iter().filter(|rule| rule.error.is_none() && fits_way(rule, way)) {
            if shut == (true, true) {
                break;
            }
            let method = rule.method.as_deref().unwrap_or_default();
            if method == "reject" {
                if rejects_all(rule, whose) && shuts(rule, way) {
                    let (v4, v6) = reach(rule);
                    shut = (shut.0 || v4, shut.1 || v6);
                }
                continue;
            }
            if !may_be_one(rule, whose) || (way == "local" && method == "peer") {
                continue;
            }
            let from_gateway = way != "local"
                && whose.may_use(method)
                && network(rule).is_some_and(|there| gateways.iter().any(|gateway| gateway.covers(&there)));
            let past_shut = network(rule).is_some_and(|there| if there.is_v4() { shut.0 } else { shut.1 });
            if from_gateway || past_shut {
                continue;
            }
            let from = match way {
                "local" => "the machine itself".to_owned(),
                _ => rule.address.clone().unwrap_or_else(|| "anywhere".to_owned()),
            };
            let words = whose.words();
            let say = format!("line {} lets {words} in from {from} by {method}", number(rule));
            if !open.contains(&say) {
                open.push(say);
            }
        }
    }
    open
}

fn number(rule: &Rule) -> String {
    rule.line.map_or_else(|| "?".to_owned(), |line| line.to_string())
}

fn fits_way(rule: &Rule, way: &str) -> bool {
    match rule.kind.as_deref().unwrap_or_default() {
        "local" => way == "local",
        "host" => way != "local",
        "hostssl" => way == "ssl",
        "hostnossl" => way == "plain",
        "hostnogssenc" => way != "local",
        // Encryption by GSSAPI is not TLS, and is as good as any way in.
        "hostgssenc" => way == "plain",
        _ => true,
    }
}

/// Whether a line that rejects shuts all of a way: without TLS there is one with GSSAPI and one without.
fn shuts(rule: &Rule, way: &str) -> bool {
    way != "plain" || !matches!(rule.kind.as_deref(), Some("hostnogssenc" | "hostgssenc"))
}

fn network(rule: &Rule) -> Option<Network> {
    let address = rule.address.as_deref()?;
    match &rule.netmask {
        Some(mask) => Network::masked(address, mask),
        None => Network::parse(address),
    }
}

/// Whether a line covers all addresses: of IPv4, of IPv6.
fn reach(rule: &Rule) -> (bool, bool) {
    if rule.kind.as_deref() == Some("local") || rule.address.as_deref() == Some("all") {
        return (true, true);
    }
    match network(rule) {
        Some(all) if all.is_all() => (all.is_v4(), !all.is_v4()),
        _ => (false, false),
    }
}

/// The gateways, of these, that no line lets standing roles into this database from by certificate, as the first that fits.
pub fn without_certificate<'a>(rules: &[Rule], gateways: &'a [Network], database: &str) -> Vec<&'a Network> {
    let fits = |rule: &&Rule, gateway: &Network| {
        let names = |list: &Option<Vec<String>>, words: &[&str]| {
            list.as_ref().is_some_and(|list| list.iter().any(|word| words.contains(&word.as_str())))
        };
        rule.error.is_none()
            && fits_way(rule, "ssl")
            && names(&rule.database, &["all", database])
            && names(&rule.user, &["all", Whose::Standing.group()])
            && (reach_of(rule, gateway) || network(rule).is_some_and(|there| there.covers(gateway)))
    };
    let first = |gateway: &&Network| rules.iter().find(|rule| fits(rule, gateway));
    gateways
        .iter()
        .filter(|gateway| first(gateway).is_none_or(|rule| rule.method.as_deref() != Some("cert")))
        .collect()
}

/// Whether a line covers all addresses of this one's family.
fn reach_of(rule: &Rule, gateway: &Network) -> bool {
    let (v4, v6) = reach(rule);
    if gateway.is_v4() { v4 } else { v6 }
}

/// Whether a `reject` line refuses every such role in every database.
fn rejects_all(rule: &Rule, whose: Whose) -> bool {
    let has = |list: &Option<Vec<String>>, words: &[&str]| {
        list.as_ref().is_some_and(|list| list.iter().any(|word| words.contains(&word.as_str())))
    };
    has(&rule.database, &["all"]) && has(&rule.user, &["all", whose.group()])
}

/// Whether a line may be about such a role. One that names a group other than ours may be: these roles are members of their
/// group.
fn may_be_one(rule: &Rule, whose: Whose) -> bool {
    let only_replication = rule
        .database
        .as_ref()
        .is_some_and(|list| !list.is_empty() && list.iter().all(|word| word == "replication"));
    let named = rule.user.as_ref().is_none_or(|list| {
        list.iter().any(|word| {
            word == "all"
                || (word.starts_with('+') && word != whose.other())
                || word.starts_with('/')
                || word.starts_with(whose.prefix())
        })
    });
    named && !only_replication
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: i64, text: &str) -> Rule {
        let words: Vec<&str> = text.split_whitespace().collect();
        let list = |text: &str| Some(text.split(',').map(str::to_owned).collect());
        let local = words[0] == "local";
        let (address, netmask) = match words[3].split_once('/') {
            _ if local => (None, None),
            Some((address, bits)) => {
                let bits: u32 = bits.parse().unwrap();
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                (Some(address.to_owned()), Some(std::net::Ipv4Addr::from(mask).to_string()))
            }
            None => (Some(words[3].to_owned()), None),
        };
        Rule {
            line: Some(line),
            kind: Some(words[0].to_owned()),
            database: list(words[1]),
            user: list(words[2]),
            address,
            netmask,
            method: Some(words[words.len() - 1].to_owned()),
            error: None,
        }
    }

    fn open(lines: &[&str]) -> Vec<String> {
        ways(lines, Whose::Sessions)
    }

    fn ways(lines: &[&str], whose: Whose) -> Vec<String> {
        let rules: Vec<Rule> = (1..).zip(lines).map(|(number, line)| rule(number, line)).collect();
        open_ways(&rules, &[Network::parse("192.0.2.7").unwrap()], whose)
    }

    #[test]
    fn standing_roles_get_in_by_certificate_from_gateways_and_not_otherwise() {
        let printed = [
            "hostssl orders +halligan_prepared 192.0.2.7/32 cert",
            "local all +halligan_prepared reject",
            "host all +halligan_prepared all reject",
            "hostssl orders +halligan_sessions 192.0.2.7/32 scram-sha-256",
            "local all +halligan_sessions reject",
            "host all +halligan_sessions all reject",
            "host all all 0.0.0.0/0 scram-sha-256",
        ];
        assert_eq!(ways(&printed, Whose::Standing), Vec::<String>::new());
        assert_eq!(ways(&printed, Whose::Sessions), Vec::<String>::new());
        let gateways = [Network::parse("192.0.2.7").unwrap(), Network::parse("192.0.2.8").unwrap()];
        let rules: Vec<Rule> = (1..).zip(printed).map(|(number, line)| rule(number, line)).collect();
        assert_eq!(without_certificate(&rules, &gateways, "orders"), [&gateways[1]]);
        assert_eq!(without_certificate(&rules, &gateways, "stock").len(), 2);
        for (lines, line) in [
            // A password, also from a gateway.
            (vec!["hostssl orders +halligan_prepared 192.0.2.7/32 scram-sha-256"], 1),
            (vec!["hostssl all all 0.0.0.0/0 cert"], 1),
            (vec!["host all all 192.0.2.7/32 scram-sha-256", "host all +halligan_prepared all reject"], 1),
            (vec!["host all +halligan_prepared 0.0.0.0/0 reject", "host all all all md5"], 2),
        ] {
            let found = ways(&lines, Whose::Standing);
            assert_eq!(found.len(), 1, "{lines:?}: {found:?}");
            assert!(found[0].starts_with(&format!("line {line} lets standing roles in")), "{found:?}");
        }
    }

    #[test]
    fn lines_for_one_encryption_are_as_wide_as_the_server_has_them() {
        let local = "local all +halligan_sessions reject";
        for (lines, found) in [
            // TLS is no GSSAPI: this one lets it in.
            (vec!["hostnossl all all all reject", "hostnogssenc all all 10.0.0.0/8 scram-sha-256"], 1),
            (vec!["hostnogssenc all all all reject", "host all +halligan_sessions all reject"], 0),
            // With GSSAPI somebody is still in behind it; and without, behind the other.
            (vec!["hostnogssenc all all all reject", "host all all 10.0.0.0/8 scram-sha-256"], 1),
            (vec!["hostgssenc all all all reject", "hostnossl all all 10.0.0.0/8 scram-sha-256"], 1),
            (vec!["hostnossl all all all reject", "hostssl all +halligan_sessions all reject"], 0),
        ] {
            let lines: Vec<&str> = std::iter::once(local)
                .chain(lines)
                .chain(["host all +halligan_sessions all reject"])
                .collect();
            assert_eq!(open(&lines).len(), found, "{lines:?}: {:?}", open(&lines));
        }
    }

    #[test]
    fn what_the_setup_prints_is_shut() {
        let printed = [
            "hostssl orders +halligan_sessions 192.0.2.7/32 scram-sha-256",
            "local all +halligan_sessions reject",
            "host all +halligan_sessions all reject",
            "hostssl orders halligan_connector 192.0.2.8/32 scram-sha-256",
            "local all all trust",
            "host all all 0.0.0.0/0 scram-sha-256",
        ];
        assert_eq!(open(&printed), Vec::<String>::new());
        let usual = [
            "local all all peer",
            "host replication all 0.0.0.0/0 scram-sha-256",
            "host all postgres all md5",
        ];
        assert_eq!(open(&usual), Vec::<String>::new());
    }

    #[test]
    fn whatever_lets_a_session_role_in_from_elsewhere_is_named() {
        for (lines, line) in [
            (vec!["host all all 0.0.0.0/0 scram-sha-256"], 1),
            // The order decides.
            (vec!["host all all 10.0.0.0/8 md5", "host all +halligan_sessions all reject"], 1),
            // Half shut.
            (vec!["host all +halligan_sessions 0.0.0.0/0 reject", "host all all all md5"], 2),
            (vec!["host orders +halligan_sessions all reject", "host all all 10.1.0.0/16 md5"], 2),
            (vec!["hostssl all +halligan_sessions all reject", "host all all 10.1.0.0/16 md5"], 2),
            (vec!["host all +others all reject", "host all +others 10.1.0.0/16 md5"], 2),
            (vec!["host all +orders_read 10.0.0.0/8 ldap"], 1),
            (vec!["host all all samenet scram-sha-256"], 1),
            (vec!["host all all db.example.org md5"], 1),
            (vec!["host all /^halli 10.0.0.0/8 md5"], 1),
            // A gateway needs no password there: neither does anybody who sits on it.
            (vec!["host all all 192.0.2.7/32 trust"], 1),
            (vec!["host all all 192.0.2.0/24 scram-sha-256"], 1),
            (vec!["host all +halligan_sessions all reject", "local all all md5"], 2),
        ] {
            let found = open(&lines);
            assert_eq!(found.len(), 1, "{lines:?}: {found:?}");
            assert!(found[0].starts_with(&format!("line {line} ")), "{lines:?}: {found:?}");
        }
        // IPv4 is shut by one line, IPv6 by none.
        let v4_only = ["host all +halligan_sessions 0.0.0.0/0 reject", "host all all 10.0.0.0/8 md5"];
        assert_eq!(open(&v4_only), Vec::<String>::new());
        let broken = Rule { error: Some("bad".to_owned()), ..Rule::default() };
        assert_eq!(open_ways(&[broken], &[], Whose::Sessions).len(), 1);
    }
}

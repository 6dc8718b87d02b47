//! What an administrator of a server runs once: the set-up script and the lines for `pg_hba.conf`.

use crate::names::standing_role;
use crate::network::Network;

/// What the script shall say.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Databases that sessions may open.
    pub databases: Vec<String>,
    /// The group roles that sessions may belong to: the accounts of the system's entitlements.
    pub groups: Vec<String>,
    /// The connector's own account.
    pub connector: String,
    /// Its SCRAM verifier; none = it has no password and logs in by client certificate.
    pub verifier: Option<String>,
    /// Networks of the site's gateways.
    pub gateways: Vec<String>,
    /// Networks of the connector.
    pub connectors: Vec<String>,
    /// How many standing roles each of these groups shall have, for entitlements with `activation: prepared`; most have none.
    pub prepared: Vec<(String, u8)>,
    /// Who signs the certificates that open them, PEM. Needed where there are any.
    pub client_authority: Option<String>,
    /// Whether the connector may look in the server's log for logins that no session explains.
    pub read_log: bool,
}

/// Most standing roles of one group.
const STANDING_MOST: u8 = 32;

/// Why no script can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetup {
    /// A name that the script does not take.
    #[error("`{0}` cannot be used as a name here: [A-Za-z0-9_.-], 1 to 63 characters")]
    Name(String),
    /// A group that is not the administrator's to give.
    #[error(
        "`{0}` cannot be the group of sessions: names with halligan_ are Halligan's own and with pg_ PostgreSQL's; make a \
         NOLOGIN role, as a member of it if need be"
    )]
    Group(String),
    /// Not a network.
    #[error("`{0}` is no network: write an address, or an address with its bits, as in 192.0.2.7/32")]
    Network(String),
    /// Not a verifier.
    #[error("that is no SCRAM-SHA-256 verifier")]
    Verifier,
    /// Standing roles that cannot be made.
    #[error("standing roles: {0}")]
    Standing(String),
    /// Something is missing.
    #[error("name at least one {0}")]
    Nothing(&'static str),
}

const SCRIPT: &str = include_str!("setup.sql");
const AUDIT: &str = include_str!("audit.sql");
const PREPARED: &str = include_str!("prepared.sql");
const LEFTOVERS: &str = include_str!("leftovers.sql");
const LOG: &str = include_str!("log.sql");
const NO_LOG: &str = "DROP FUNCTION IF EXISTS halligan.logins(text, bigint, text[]);\n";

impl Setup {
    /// The script. It holds no password. It is run as superuser in each of the databases, and may be run again.
    pub fn script(&self) -> Result<String, BadSetup> {
        self.check()?;
        let groups: Vec<String> = self.groups.iter().map(|name| format!("'{name}'")).collect();
        let verifier = match &self.verifier {
            Some(verifier) => format!("'{verifier}'"),
            None => "NULL".to_owned(),
        };
        let standing = self.standing_roles();
        let list = |names: Vec<&str>| {
            let names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
            format!("ARRAY[{}]::text[]", names.join(", "))
        };
        let logins = list(standing.iter().map(|(login, _)| login.as_str()).collect());
        let of = list(standing.iter().map(|(_, group)| *group).collect());
        let log_grant = if self.read_log { ", halligan.logins(text, bigint, text[])" } else { "" };
        // Nothing that is put in holds an `@` or a quote.
        Ok(SCRIPT
            .replace("@AUDIT@", AUDIT)
            .replace("@PREPARED@", PREPARED)
            .replace("@LEFTOVERS@", LEFTOVERS)
            .replace("@LOG@", if self.read_log { LOG } else { NO_LOG })
            .replace("@LOG_GRANT@", log_grant)
            .replace("@PREPARED_LOGINS@", &logins)
            .replace("@PREPARED_GROUPS@", &of)
            .replace("@GROUPS@", &format!("ARRAY[{}]::text[]", groups.join(", ")))
            .replace("@CONNECTOR@", &format!("'{}'", self.connector))
            .replace("@CONNECTOR_ID@", &format!("\"{}\"", self.connector))
            .replace("@VERIFIER@", &verifier))
    }

    /// The lines that stand before all others in `pg_hba.conf`: session roles come in from gateways and from nowhere
    /// else, whatever password they give themselves.
    pub fn hba(&self) -> Result<String, BadSetup> {
        self.check()?;
        let databases: Vec<String> = self.databases.iter().map(|name| format!("\"{name}\"")).collect();
        let databases = databases.join(",");
        let mut lines = vec![
            "# Halligan, before all other lines: people's sessions come in through its gateways and nowhere else."
                .to_owned(),
        ];
        if !self.prepared.is_empty() {
            for gateway in &self.gateways {
                lines.push(format!("hostssl {databases} +halligan_prepared {} cert", with_bits(gateway)));
            }
            lines.push("local   all +halligan_prepared reject".to_owned());
            lines.push("host    all +halligan_prepared all reject".to_owned());
        }
        for gateway in &self.gateways {
            lines
                .push(format!("hostssl {databases} +halligan_sessions {} scram-sha-256", with_bits(gateway)));
        }
        lines.push("local   all +halligan_sessions reject".to_owned());
        lines.push("host    all +halligan_sessions all reject".to_owned());
        let method = if self.verifier.is_some() { "scram-sha-256" } else { "cert" };
        for connector in &self.connectors {
            lines.push(format!(
                "hostssl {databases} \"{}\" {} {method}",
                self.connector,
                with_bits(connector)
            ));
        }
        lines.push(format!("local   all \"{}\" reject", self.connector));
        lines.push(format!("host    all \"{}\" all reject", self.connector));
        Ok(format!("{}\n", lines.join("\n")))
    }

    /// Each standing role with its group.
    fn standing_roles(&self) -> Vec<(String, &str)> {
        let roles = self.prepared.iter().flat_map(|(group, count)| {
            (1..=*count).map(move |number| (standing_role(number, group), group.as_str()))
        });
        roles.collect()
    }

    /// What to do with both, for the person who does it.
    pub fn explanation(&self) -> String {
        let login = match self.verifier {
            Some(_) => "by SCRAM with a random password that only the connector's vault holds",
            None => {
                "by client certificate (ssl_ca_file must name who signed it; its common name is the account)"
            }
        };
        let standing = match &self.client_authority {
            Some(authority) if !self.prepared.is_empty() => {
                let lines: String =
                    authority.trim().lines().map(|line| format!("--        {line}\n")).collect();
                format!(
                    "--   5. Standing roles are opened by certificates of this authority. Append it to the file that\n\
                     --      ssl_ca_file names (make one where there is none), then: SELECT pg_reload_conf();\n{lines}\
                     --      From PostgreSQL 16 on set reserved_connections (3, say): standing roles may use these seats when\n\
                     --      the server is full. It needs a restart.\n"
                )
            }
            _ => String::new(),
        };
        let log = if self.read_log {
            "-- Logins are read from the server's log: set log_connections and logging_collector, and let log_destination\n\
             -- have jsonlog (from 15 on) or csvlog.\n"
        } else {
            ""
        };
        format!(
            "-- What to do at the server, once, as its superuser:\n\
             --   1. Make the group roles, NOLOGIN, with the rights that sessions shall have: {}.\n\
             --   2. Run this script in each database: {}.\n\
             --   3. Put the lines at its end before all others in pg_hba.conf, then: SELECT pg_reload_conf();\n\
             --   4. halligan catalog check --live says what is still missing.\n\
             {standing}{log}\
             -- The account {} logs in {login}. It owns nothing and can call the functions of the\n\
             -- schema halligan, which make, end and look at roles of sessions, and take no other names and groups.\n",
            self.groups.join(", "),
            self.databases.join(", "),
            self.connector,
        )
    }

    fn check(&self) -> Result<(), BadSetup> {
        for (list, what) in [
            (&self.databases, "database"),
            (&self.groups, "group"),
            (&self.gateways, "gateway"),
            (&self.connectors, "connector"),
        ] {
            if list.is_empty() {
                return Err(BadSetup::Nothing(what));
            }
        }
        for (group, count) in &self.prepared {
            let wrong = |why: &str| {
                BadSetup::Standing(format!("{}: {why}", group.chars().take(80).collect::<String>()))
            };
            if !self.groups.contains(group) {
                return Err(wrong("it is not among the groups"));
            }
            if !(1..=STANDING_MOST).contains(count) {
                return Err(wrong(&format!("a group has 1 to {STANDING_MOST} of them")));
            }
            if self.prepared.iter().filter(|(other, _)| other == group).count() > 1 {
                return Err(wrong("it is named twice"));
            }
        }
        if !self.prepared.is_empty() && self.client_authority.is_none() {
            return Err(BadSetup::Standing("who signs their certificates is not known".to_owned()));
        }
        let names = self.databases.iter().chain(&self.groups).chain([&self.connector]);
        for name in names {
            let good = (1..=63).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
            if !good {
                return Err(BadSetup::Name(name.chars().take(80).collect()));
            }
        }
        let others = |name: &&String| name.starts_with("halligan_") || name.starts_with("pg_");
        if let Some(group) = self.groups.iter().find(others) {
            return Err(BadSetup::Group(group.clone()));
        }
        for network in self.gateways.iter().chain(&self.connectors) {
            if Network::parse(network).is_none() {
                return Err(BadSetup::Network(network.chars().take(80).collect()));
            }
        }
        let good = |verifier: &String| {
            verifier.starts_with("SCRAM-SHA-256$")
                && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-$:+/=".contains(&byte))
        };
        if self.verifier.as_ref().is_some_and(|verifier| !good(verifier)) {
            return Err(BadSetup::Verifier);
        }
        Ok(())
    }
}

/// `pg_hba.conf` wants the bits.
fn with_bits(network: &str) -> String {
    match (network.contains('/'), network.contains(':')) {
        (true, _) => network.to_owned(),
        (false, true) => format!("{network}/128"),
        (false, false) => format!("{network}/32"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            databases: vec!["orders".to_owned()],
            groups: vec!["orders_read".to_owned()],
            connector: "halligan_connector".to_owned(),
            verifier: None,
            gateways: vec!["192.0.2.7".to_owned()],
            connectors: vec!["192.0.2.8/32".to_owned()],
            prepared: vec![],
            client_authority: None,
            read_log: false,
        }
    }

    #[test]
    fn standing_roles_are_let_in_by_certificate_only_and_before_all_others() {
        let group = "a_group_of_a_name_that_is_as_long_as_names_of_groups_can_be_63b".to_owned();
        let setup = Setup {
            groups: vec!["orders_read".to_owned(), group.clone()],
            prepared: vec![("orders_read".to_owned(), 2), (group, 1)],
            client_authority: Some(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            ),
            read_log: true,
            ..setup()
        };
        let hba = setup.hba().unwrap();
        let (prepared, sessions) =
            (hba.find("+halligan_prepared all reject").unwrap(), hba.find("+halligan_sessions").unwrap());
        assert!(prepared < sessions, "{hba}");
        assert!(hba.contains("hostssl \"orders\" +halligan_prepared 192.0.2.7/32 cert\n"), "{hba}");
        let script = setup.script().unwrap();
        assert!(!script.contains('@'), "a place was not filled");
        assert!(script.contains(
            "ARRAY['halligan_prep_01_orders_read', 'halligan_prep_02_orders_read', 'halligan_prep_01_a_group"
        ));
        assert!(script.contains("FUNCTION halligan.logins(file text"));
        assert!(setup.explanation().contains("--        -----BEGIN CERTIFICATE-----\n--        AAAA"));
        for bad in [("other", 1), ("orders_read", 0), ("orders_read", 33)] {
            Setup { prepared: vec![(bad.0.to_owned(), bad.1)], ..setup.clone() }.script().unwrap_err();
        }
        Setup { client_authority: None, ..setup }.script().unwrap_err();
    }

    #[test]
    fn nothing_is_left_open_in_the_script() {
        let script = setup().script().unwrap();
        assert!(!script.contains('@'), "a place was not filled");
        assert!(script.contains("ARRAY['orders_read']::text[]") && script.contains("PASSWORD NULL"));
        let hba = setup().hba().unwrap();
        assert!(hba.contains("hostssl \"orders\" +halligan_sessions 192.0.2.7/32 scram-sha-256"), "{hba}");
        assert!(hba.contains("192.0.2.8/32 cert"), "{hba}");
    }

    #[test]
    fn names_that_would_become_sql_are_refused() {
        for bad in ["a'b", "a\"b", "", "a b", "$setup$", "@GROUPS@", "ä", &"x".repeat(64)] {
            let wrong = Setup { groups: vec![bad.to_owned()], ..setup() };
            assert_eq!(wrong.script(), Err(BadSetup::Name(bad.to_owned())));
            Setup { databases: vec![bad.to_owned()], ..setup() }.hba().unwrap_err();
        }
        Setup { gateways: vec!["all".to_owned()], ..setup() }.hba().unwrap_err();
        Setup { gateways: vec![], ..setup() }.script().unwrap_err();
        Setup { verifier: Some("SCRAM-SHA-256$'; DROP".to_owned()), ..setup() }.script().unwrap_err();
    }
}

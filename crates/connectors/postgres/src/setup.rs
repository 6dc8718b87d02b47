//! What an administrator of a server runs once: the set-up script and the lines for `pg_hba.conf`.

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
}

/// Why no script can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetup {
    /// A name that the script does not take.
    #[error("`{0}` cannot be used as a name here: [A-Za-z0-9_.-], 1 to 63 characters")]
    Name(String),
    /// Not a network.
    #[error("`{0}` is no network: write an address, or an address with its bits, as in 192.0.2.7/32")]
    Network(String),
    /// Not a verifier.
    #[error("that is no SCRAM-SHA-256 verifier")]
    Verifier,
    /// Something is missing.
    #[error("name at least one {0}")]
    Nothing(&'static str),
}

const SCRIPT: &str = include_str!("setup.sql");
const AUDIT: &str = include_str!("audit.sql");

impl Setup {
    /// The script. It holds no password. It is run as superuser in each of the databases, and may be run again.
    pub fn script(&self) -> Result<String, BadSetup> {
        self.check()?;
        let groups: Vec<String> = self.groups.iter().map(|name| format!("'{name}'")).collect();
        let verifier = match &self.verifier {
            Some(verifier) => format!("'{verifier}'"),
            None => "NULL".to_owned(),
        };
        // Nothing that is put in holds an `@` or a quote.
        Ok(SCRIPT
            .replace("@AUDIT@", AUDIT)
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

    /// What to do with both, for the person who does it.
    pub fn explanation(&self) -> String {
        let login = match self.verifier {
            Some(_) => "by SCRAM with a random password that only the connector's vault holds",
            None => {
                "by client certificate (ssl_ca_file must name who signed it; its common name is the account)"
            }
        };
        format!(
            "-- What to do at the server, once, as its superuser:\n\
             --   1. Make the group roles, NOLOGIN, with the rights that sessions shall have: {}.\n\
             --   2. Run this script in each database: {}.\n\
             --   3. Put the lines at its end before all others in pg_hba.conf, then: SELECT pg_reload_conf();\n\
             --   4. halligan catalog check --live says what is still missing.\n\
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
        }
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

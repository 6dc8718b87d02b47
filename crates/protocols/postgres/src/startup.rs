//! What a client asks for when it starts: an allow-list, because a startup packet can set anything.

use halligan_core::catalog::{PostgresCapabilities, PostgresTarget};

use crate::codec::Startup;

/// Settings that a client may bring. All of them are the session's own, and none changes who it is.
const ALLOWED: &[&str] = &[
    "client_encoding",
    "datestyle",
    "timezone",
    "search_path",
    "extra_float_digits",
    "intervalstyle",
    "bytea_output",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
    "default_transaction_isolation",
    "geqo",
    "jit",
];
/// Longest value, in bytes.
const VALUE_BYTES: usize = 4096;

/// What a client may have of what it asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) database: String,
    /// What the client calls itself: for the recording. Upstream it carries the session.
    pub(crate) application: Option<String>,
    pub(crate) settings: Vec<(String, String)>,
    /// `true`, `database`, …, if the entitlement lets it replicate.
    pub(crate) replication: Option<String>,
}

/// Something was asked for that is not let through.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotLet {
    #[error("the startup option \"{0}\" is not let through by this gateway")]
    Option(String),
    #[error("the startup option \"{0}\" would change whose rights you have, and is not let through")]
    Role(String),
    #[error("this entitlement allows no replication connections")]
    Replication,
    #[error("the value of the startup option \"{0}\" is not let through: it is too long, or no plain text")]
    Value(String),
    #[error("in the startup option \"options\" only `-c name=value` is let through")]
    Options,
    #[error("this entitlement does not lead to the database \"{asked}\"; it leads to: {}", may.join(", "))]
    Database { asked: String, may: Vec<String> },
    #[error("the catalog names no database of this system")]
    NoDatabase,
}

impl NotLet {
    /// SQLSTATE.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Database { .. } | Self::NoDatabase => "3D000",
            _ => "28000",
        }
    }
}

/// Sorts a startup packet. `login` is the login name: clients that name no database send it as one.
pub(crate) fn wanted(
    startup: &Startup,
    login: &str,
    may: &PostgresCapabilities,
    target: &PostgresTarget,
) -> Result<Wanted, NotLet> {
    let mut wanted = Wanted::default();
    let mut database = String::new();
    for (name, value) in &startup.parameters {
        let name = String::from_utf8_lossy(name).into_owned();
        let value = match std::str::from_utf8(value) {
            Ok(text) if text.len() <= VALUE_BYTES && !text.chars().any(char::is_control) => text.to_owned(),
            _ => return Err(NotLet::Value(shown(&name))),
        };
        match name.as_str() {
            "user" => {}
            "database" => database = value,
            "options" => {
                for (name, value) in options(&value)? {
                    wanted.set(&name, value, may)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => wanted.set(name, value, may)?,
        }
    }
    let databases = may.databases_of(target);
    let first = databases.first().ok_or(NotLet::NoDatabase)?;
    wanted.database = match database.as_str() {
        "" => first.clone(),
        asked if databases.iter().any(|known| known == asked) => asked.to_owned(),
        asked if asked == login => first.clone(),
        asked => {
            return Err(NotLet::Database { asked: shown(asked), may: databases.to_vec() });
        }
    };
    Ok(wanted)
}

impl Wanted {
    fn set(&mut self, name: &str, value: String, may: &PostgresCapabilities) -> Result<(), NotLet> {
        let folded = name.to_lowercase();
        match folded.as_str() {
            "application_name" => self.application = Some(value),
            "role" | "session_authorization" => return Err(NotLet::Role(folded)),
            "replication" => match value.to_lowercase().as_str() {
                "" | "0" | "false" | "off" | "no" => {}
                _ if may.replication => self.replication = Some(value),
                _ => return Err(NotLet::Replication),
            },
            allowed if ALLOWED.contains(&allowed) => self.settings.push((folded, value)),
            _ => return Err(NotLet::Option(shown(name))),
        }
        Ok(())
    }
}

/// Reads `options` as the server does: words at white space, a backslash takes the next character as it is.
fn options(text: &str) -> Result<Vec<(String, String)>, NotLet> {
    let (mut words, mut word, mut characters) = (Vec::new(), None::<String>, text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            white if white.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    let (mut found, mut words) = (Vec::new(), words.into_iter());
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().ok_or(NotLet::Options)?,
            (None, Some(setting)) => setting.to_owned(),
            _ => return Err(NotLet::Options),
        };
        let (name, value) = setting.split_once('=').ok_or(NotLet::Options)?;
        // The server reads a dash in a name as an underscore.
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn shown(text: &str) -> String {
    halligan_session::end_reason::printable(text, 63)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Version;

    fn asked(parameters: &[(&str, &str)]) -> Result<Wanted, NotLet> {
        with(parameters, &PostgresCapabilities::default())
    }

    fn with(parameters: &[(&str, &str)], may: &PostgresCapabilities) -> Result<Wanted, NotLet> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters = parameters.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        let startup = Startup { version: Version::V3_0, parameters };
        let target =
            PostgresTarget { databases: vec!["orders".into(), "stock".into()], ..PostgresTarget::default() };
        wanted(&startup, "read+db", may, &target)
    }

    #[test]
    fn what_clients_bring_is_let_through_and_nothing_else() {
        let all = asked(&[
            ("user", "read+db"),
            ("database", "stock"),
            ("DateStyle", "ISO"),
            ("application_name", "psql"),
            ("options", r"-c search_path=a\ b --extra-float-digits=3 -cTimeZone=UTC"),
            ("_pq_.x", "y"),
        ])
        .unwrap();
        assert_eq!((all.database.as_str(), all.application.as_deref()), ("stock", Some("psql")));
        let settings: Vec<String> =
            all.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(settings, ["datestyle=ISO", "search_path=a b", "extra_float_digits=3", "timezone=UTC"]);

        for (name, value) in [
            ("session_preload_libraries", "x"),
            ("role", "postgres"),
            ("Session_Authorization", "postgres"),
            ("options", "-c role=postgres"),
            ("options", "--session-authorization=postgres"),
            ("options", "-c log_statement=none"),
            ("options", "-c  local_preload_libraries=x"),
            ("options", "-F"),
            ("options", "-c"),
            ("replication", "database"),
            ("options", "-c replication=true"),
            ("database", "postgres"),
            ("search_path", "a\0b"),
            ("search_path", "a\nb"),
        ] {
            assert!(asked(&[(name, value)]).is_err(), "{name}={value}");
        }
        let may = PostgresCapabilities { replication: true, ..PostgresCapabilities::default() };
        assert_eq!(with(&[("replication", "database")], &may).unwrap().replication.unwrap(), "database");
    }

    #[test]
    fn a_client_that_names_no_database_gets_the_first() {
        assert_eq!(asked(&[]).unwrap().database, "orders");
        assert_eq!(asked(&[("database", "read+db")]).unwrap().database, "orders");
        let one = PostgresCapabilities { databases: vec!["stock".into()], ..PostgresCapabilities::default() };
        assert_eq!(with(&[], &one).unwrap().database, "stock");
        assert!(with(&[("database", "orders")], &one).is_err());
    }
}

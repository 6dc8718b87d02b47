//! What the catalog says of PostgreSQL: where a server is and how it proves itself, and what a session may do there.
//!
//! The lock is always the database role. Statement classes are labels and guard rails above it: a parser is never the lock.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// The longest that a statement may be held while a transaction is open: it keeps the transaction's locks.
pub const LONGEST_HOLD_IN_TRANSACTION: Span = Span::seconds(60);

/// How a PostgreSQL server is reached and recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresTarget {
    /// Databases of the server that sessions may open.
    pub databases: Vec<String>,
    /// PEM of who signed the server's certificate. There is no trust on first use.
    pub server_ca: String,
    /// Name in the server's certificate; none = the host of the system's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// What a session may do in a PostgreSQL server. The entitlement's account is the NOLOGIN group role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresCapabilities {
    /// Databases that it may open; empty = all that the system names.
    pub databases: Vec<String>,
    /// Sessions read only. The group role must enforce it; `catalog check --live` looks.
    pub read_only: bool,
    /// May it open replication connections?
    pub replication: bool,
    /// May it use the old function call messages, which name no statement?
    pub function_calls: bool,
    /// Most connections at one time.
    pub connections: u32,
    /// Are bound parameters kept with their statement?
    pub parameters: bool,
    /// Which rows of results are kept, within `recording.keep_content_bytes`.
    pub results: ResultsKept,
    /// What happens to statements by their class.
    pub statements: StatementRules,
    /// How long a held statement waits for a second person.
    pub hold_limit: Span,
    /// How long inside an open transaction, at most 60 seconds; none = not at all, it is refused with a sentence.
    pub hold_in_transaction: Option<Span>,
    /// How a grant comes to life at the server.
    pub activation: Activation,
    /// Why the direct way past the gateways may stay open; none = it must be shut.
    pub direct_path_waiver: Option<String>,
}

impl Default for PostgresCapabilities {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            read_only: false,
            replication: false,
            function_calls: false,
            connections: 10,
            parameters: true,
            results: ResultsKept::None,
            statements: StatementRules::default(),
            hold_limit: Span::minutes(10),
            hold_in_transaction: None,
            activation: Activation::Dynamic,
            direct_path_waiver: None,
        }
    }
}

impl PostgresCapabilities {
    /// Whether nothing but the defaults is said, so that documents of other kinds carry nothing of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The databases of this target that a session may open.
    pub fn databases_of<'a>(&'a self, target: &'a PostgresTarget) -> &'a [String] {
        if self.databases.is_empty() { &target.databases } else { &self.databases }
    }
}

/// Which rows of results are kept in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultsKept {
    /// None; they are counted.
    #[default]
    None,
    /// The first so many of each statement.
    First(u32),
    /// All, up to the bound of bytes.
    All,
}

/// Classes of statements, the gentlest first. What cannot be read is of the highest risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatementClass {
    /// Looks only.
    Read,
    /// Changes rows.
    Write,
    /// Changes tables, functions and the like.
    Schema,
    /// Changes who may do what, or how the server works.
    Privilege,
    /// Could not be read.
    Unknown,
}

impl StatementClass {
    /// All, the gentlest first.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Schema, Self::Privilege, Self::Unknown];

    /// Its word, as catalogs write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Schema => "schema",
            Self::Privilege => "privilege",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for StatementClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What happens to a statement. The order is how much a rule lets through: from deny to allow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StatementRule {
    /// It is refused.
    Deny,
    /// It waits until a second person allows that one statement.
    Hold,
    /// It goes on.
    #[default]
    Allow,
}

/// A rule for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatementRules {
    /// For statements that look only.
    pub read: StatementRule,
    /// For those that change rows.
    pub write: StatementRule,
    /// For those that change tables, functions and the like.
    pub schema: StatementRule,
    /// For those that change who may do what.
    pub privilege: StatementRule,
    /// For those that could not be read.
    pub unknown: StatementRule,
}

impl StatementRules {
    /// The rule for a class.
    pub const fn of(&self, class: StatementClass) -> StatementRule {
        match class {
            StatementClass::Read => self.read,
            StatementClass::Write => self.write,
            StatementClass::Schema => self.schema,
            StatementClass::Privilege => self.privilege,
            StatementClass::Unknown => self.unknown,
        }
    }

    /// Whether any class waits for a second person.
    pub fn hold_any(&self) -> bool {
        StatementClass::ALL.iter().any(|class| self.of(*class) == StatementRule::Hold)
    }
}

/// How a grant comes to life at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// A login role is made for each grant and gateway, and dropped at its end.
    #[default]
    Dynamic,
    /// Standing roles that only a short-lived certificate opens, for servers that take no writes when they are needed.
    Prepared,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_the_gravest_and_rules_answer_by_class() {
        assert_eq!(StatementClass::ALL.iter().max(), Some(&StatementClass::Unknown));
        let rules = StatementRules { schema: StatementRule::Hold, ..StatementRules::default() };
        assert_eq!(rules.of(StatementClass::Schema), StatementRule::Hold);
        assert_eq!(rules.of(StatementClass::Unknown), StatementRule::Allow);
        assert!(rules.hold_any() && !StatementRules::default().hold_any());
        assert!(StatementRule::Deny < StatementRule::Hold && StatementRule::Hold < StatementRule::Allow);
    }

    #[test]
    fn the_databases_of_the_target_are_those_of_an_entitlement_that_names_none() {
        let target = PostgresTarget { databases: vec!["a".into(), "b".into()], ..PostgresTarget::default() };
        let mut may = PostgresCapabilities::default();
        assert!(may.is_default());
        assert_eq!(may.databases_of(&target), ["a", "b"]);
        may.databases = vec!["b".into()];
        assert_eq!(may.databases_of(&target), ["b"]);
    }
}

//! What a statement changes, read off its words: found also inside queries and where nothing can be parsed.

use halligan_core::catalog::StatementClass;

use crate::lexer::{Token, TokenKind};

/// More are not listed.
pub const MAX_CHANGES: usize = 64;

/// One thing that a statement changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `insert`, `update`, `delete`, `merge`, `truncate`, `copy`, `create`, `alter`, `drop`, `comment`, `grant`,
    /// `revoke`, `lock`.
    pub verb: &'static str,
    /// `table`, `index`, `role`, …; empty where the verb says it.
    pub kind: String,
    /// Its name as it is written; empty if none was found.
    pub name: String,
}

impl Change {
    /// A statement with this change is at least of this class.
    pub(super) fn least_class(&self) -> StatementClass {
        match self.verb {
            "grant" | "revoke" => StatementClass::Privilege,
            "create" | "alter" | "drop" => match self.kind.as_str() {
                "role" | "user" | "group" | "policy" | "server" | "system" | "default" | "subscription" => {
                    StatementClass::Privilege
                }
                _ => StatementClass::Schema,
            },
            "comment" => StatementClass::Schema,
            _ => StatementClass::Write,
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.verb)?;
        for part in [&self.kind, &self.name].into_iter().filter(|part| !part.is_empty()) {
            write!(f, " {part}")?;
        }
        Ok(())
    }
}

/// Words between a verb and a name.
const FILLERS: &[&str] = &[
    "or",
    "replace",
    "unique",
    "temp",
    "temporary",
    "unlogged",
    "global",
    "local",
    "recursive",
    "materialized",
    "foreign",
    "event",
    "constraint",
    "trusted",
    "procedural",
    "if",
    "not",
    "exists",
    "only",
    "concurrently",
    "into",
    "from",
    "access",
    "method",
    "data",
    "wrapper",
    "large",
    "all",
    "privileges",
];
/// What can be created, altered or dropped.
const KINDS: &[&str] = &[
    "table",
    "index",
    "view",
    "sequence",
    "function",
    "procedure",
    "aggregate",
    "trigger",
    "schema",
    "database",
    "role",
    "user",
    "group",
    "type",
    "domain",
    "extension",
    "policy",
    "server",
    "publication",
    "subscription",
    "rule",
    "operator",
    "collation",
    "conversion",
    "tablespace",
    "system",
    "statistics",
    "language",
    "cast",
    "transform",
    "mapping",
    "object",
    "default",
    "routine",
    "search",
];

pub(super) fn find(statement: &[Token<'_>], changes: &mut Vec<Change>) {
    let selects = statement
        .iter()
        .find(|token| !token.is_mark("("))
        .is_some_and(|first| ["select", "with", "explain"].iter().any(|word| first.is(word)));
    for (place, token) in statement.iter().enumerate() {
        if token.kind != TokenKind::Word || changes.len() >= MAX_CHANGES {
            continue;
        }
        let before = place.checked_sub(1).and_then(|place| statement.get(place));
        let follows = |words: &[&str]| before.is_some_and(|before| words.iter().any(|word| before.is(word)));
        let after = statement.get(place + 1..).unwrap_or_default();
        // A name or a column may be called like a verb: only where a statement can begin.
        let begins = before.is_none_or(|before| {
            before.is_mark("(") || before.is_mark(")") || before.kind == TokenKind::Operator
        }) || follows(&[
            "analyze",
            "verbose",
            "explain",
            "as",
            "materialized",
            "begin",
            "then",
            "else",
            "atomic",
        ]);
        let next = |word| after.first().is_some_and(|token| token.is(word));
        let verb = match token.text.to_ascii_lowercase().as_str() {
            "insert" if next("into") => "insert",
            "delete" if next("from") => "delete",
            "merge" if next("into") => "merge",
            "update" if begins && !after.is_empty() => "update",
            "truncate" if begins => "truncate",
            "create" if begins => "create",
            "alter" if begins => "alter",
            "drop" if begins => "drop",
            "grant" if begins && before.is_none() => "grant",
            "revoke" if begins && before.is_none() => "revoke",
            "comment" if before.is_none() => "comment",
            "lock" if before.is_none() && !super::risks::locks_as_reads_do(statement) => "lock",
            "copy" if before.is_none() && copies_in(after) => "copy",
            // SELECT … INTO name makes a table.
            "into" if selects && !follows(&["insert", "merge"]) => "create",
            _ => continue,
        };
        changes.push(read(verb, after));
    }
}

/// COPY name … FROM (at no depth of brackets).
fn copies_in(after: &[Token<'_>]) -> bool {
    let mut depth = 0_usize;
    for token in after {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && token.is("from") => return true,
            _ if depth == 0 && token.is("to") => return false,
            _ => {}
        }
    }
    false
}

fn read(verb: &'static str, after: &[Token<'_>]) -> Change {
    let mut kind = String::new();
    let mut rest = after.iter().peekable();
    if matches!(verb, "grant" | "revoke" | "comment") {
        // The thing stands behind ON; a membership has none.
        while rest.next_if(|token| !token.is("on")).is_some() {}
        let _on = rest.next();
    }
    while let Some(token) = rest.peek().copied() {
        let word = token.text.to_ascii_lowercase();
        let is_kind = KINDS.contains(&word.as_str());
        if token.kind != TokenKind::Word || !(is_kind || FILLERS.contains(&word.as_str())) {
            break;
        }
        let _taken = rest.next();
        if is_kind && kind.is_empty() && !matches!(verb, "insert" | "update" | "delete" | "merge" | "copy") {
            kind = word;
        }
    }
    let mut name = String::new();
    while let Some(token) = rest.next_if(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted)) {
        match token.kind {
            TokenKind::Word => name.push_str(&token.text.to_ascii_lowercase()),
            _ => name.push_str(token.text),
        }
        if name.len() > 400 || rest.next_if(|token| token.is_mark(".")).is_none() {
            break;
        }
        name.push('.');
    }
    Change { verb, kind, name }
}

//! Whether a literal is a statement, so that nobody hides what they run behind a secret.

use crate::lexer::{TokenKind, tokens};

const VERBS: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "create",
    "alter",
    "drop",
    "grant",
    "revoke",
    "copy",
    "call",
    "do",
    "execute",
    "perform",
    "begin",
    "declare",
    "set",
    "reset",
    "lock",
    "vacuum",
    "analyze",
    "reindex",
    "cluster",
    "refresh",
    "table",
    "values",
    "with",
    "notify",
    "comment",
    "load",
    "security",
    "import",
    "reassign",
    "prepare",
    "discard",
    "explain",
    "return",
    "checkpoint",
];
const KINDS: &[&str] = &[
    "table",
    "index",
    "view",
    "materialized",
    "sequence",
    "function",
    "procedure",
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
    "system",
    "owned",
    "unique",
    "or",
    "temp",
    "unlogged",
    "event",
    "default",
    "operator",
    "aggregate",
    "foreign",
    "tablespace",
    "language",
];

/// How much a literal looks like statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    No,
    /// It has a verb of SQL and another word; so have some sentences.
    Perhaps,
    /// It has what only a statement has: `delete from`, `drop table`.
    Surely,
}

/// `text` is a literal's content.
pub fn code(text: &str, backslashes: bool) -> Code {
    let mut found = Code::No;
    let (mut count, mut verb) = (0_usize, false);
    // Behind these words the rest decides.
    let (mut select, mut update) = (false, false);
    let mut before = None;
    for token in tokens(text, backslashes) {
        count += 1;
        let is = |words: &[&str]| words.iter().any(|word| token.is(word));
        verb |= token.kind == TokenKind::Word && is(VERBS);
        if verb && count >= 2 {
            found = Code::Perhaps;
        }
        let surely = match before {
            Some("delete") => is(&["from"]),
            Some("insert" | "merge") => is(&["into"]),
            Some("drop" | "create" | "alter") => is(KINDS),
            Some("truncate" | "lock" | "reindex") => is(&["table", "index", "database", "schema"]),
            Some("refresh") => is(&["materialized"]),
            Some("reassign") => is(&["owned"]),
            Some("do" | "execute") => token.kind == TokenKind::Text,
            _ => false,
        };
        let surely = surely
            || (select && (is(&["from"]) || token.is_mark("(")))
            || (update && is(&["set"]))
            || (count <= 2
                && matches!(before, Some("truncate" | "call" | "copy" | "grant" | "revoke" | "perform")));
        if surely {
            return Code::Surely;
        }
        select |= is(&["select"]);
        update |= is(&["update"]);
        before = VERBS.iter().copied().find(|verb| token.is(verb));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_from_sentences() {
        for (text, expected) in [
            ("", Code::No),
            ("host=h password=x", Code::No),
            ("select", Code::No),
            ("correct horse do battery", Code::Perhaps),
            ("begin vacuum; end", Code::Perhaps),
            ("delete /* x */ from t", Code::Surely),
            ("update a.b set c = 1", Code::Surely),
            ("truncate orders", Code::Surely),
            ("BEGIN EXECUTE 'DROP TABLE orders'; END", Code::Surely),
            ("select f()", Code::Surely),
            ("alter role a password 'x'", Code::Surely),
        ] {
            assert_eq!(code(text, false), expected, "{text}");
        }
    }
}

//! Labels for statements: what class they are, what they change, what is risky about them.
//!
//! Labels only. They sort, search, alert and hold; they are never the lock, which is the database role. A parser
//! that is not PostgreSQL's own accepts what the server refuses and the other way round, and a function's name
//! does not say what it does. What cannot be parsed is `unknown`, which is of the highest risk.

mod changes;
mod risks;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use halligan_core::catalog::StatementClass;
use sqlparser::ast::{Lock, LockTableMode, ObjectType, Set, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};

pub use changes::Change;
pub use risks::Risk;

use crate::lexer::{Token, TokenKind, tokens};
use crate::mask::{Masked, mask_secrets};

/// A longer text is not parsed, but `unknown`.
const MAX_PARSED_BYTES: usize = 1024 * 1024;
/// More operators may not hang on one another: the parser's tree is as deep, and walked by recursion.
const MAX_CHAIN: usize = 400;
/// More brackets may not be in one another.
const MAX_BRACKETS: usize = 40;
/// How deep the parser may go.
const MAX_DEPTH: usize = 45;
/// What is parsed where we are; deeper ones have a stack of their own, of this many bytes.
const FEW_LINKS: usize = 60;
const FEW_BRACKETS: usize = 6;
const FEW_LEVELS: usize = 14;
const DEEP_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Shapes that are remembered, and the longest of them in bytes.
const MAX_SHAPES: usize = 2048;
const MAX_SHAPE_BYTES: usize = 4096;
/// Longest shape that is given out, in bytes.
const MAX_SHOWN_SHAPE_BYTES: usize = 64 * 1024;

/// What is said about a text with one statement or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The worst of its statements.
    pub class: StatementClass,
    /// The text with `?` for every literal, comments left out: what it is found by.
    pub shape: String,
    /// What it changes, as far as it can be seen.
    pub changes: Vec<Change>,
    /// What is risky about it, each once.
    pub risks: Vec<Risk>,
    /// How many statements it has.
    pub statements: usize,
}

/// How the server reads a backslash in a plain literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backslashes {
    /// As any other character (`standard_conforming_strings` is on).
    #[default]
    Standard,
    /// It hides a quote (`standard_conforming_strings` is off).
    Escapes,
    /// The setting may be changing: what is on its way to the server may be read either way.
    Unsure,
}

impl From<bool> for Backslashes {
    /// Whether they escape.
    fn from(escapes: bool) -> Self {
        if escapes { Self::Escapes } else { Self::Standard }
    }
}

/// Labels texts, and remembers the shapes it has seen.
#[derive(Debug, Default)]
pub struct Classifier {
    seen: HashMap<String, Arc<Label>>,
    backslashes: Backslashes,
    /// In the client's encoding a backslash may be half of a character.
    unsafe_encoding: bool,
}

impl Classifier {
    /// As the server tells it (ParameterStatus `standard_conforming_strings`), or [`Backslashes::Unsure`] from a text
    /// that [`touches_reading`] on, until the server is ready for the next.
    pub fn set_backslashes(&mut self, backslashes: impl Into<Backslashes>) {
        let backslashes = backslashes.into();
        if self.backslashes != backslashes {
            self.seen.clear();
        }
        self.backslashes = backslashes;
    }

    /// Whether a backslash is known to hide a quote in plain literals.
    pub fn backslashes(&self) -> bool {
        self.backslashes == Backslashes::Escapes
    }

    /// As the server tells it (ParameterStatus `client_encoding`). In one that is not [`safe_encoding`] every text is
    /// unknown, and all literals are masked.
    pub fn set_encoding(&mut self, name: &str) {
        self.unsafe_encoding = !safe_encoding(name);
    }

    /// The text with its secrets masked, as the server reads it.
    pub fn mask<'a>(&self, sql: &'a str) -> Masked<'a> {
        Masked { text: mask_secrets(sql, self.backslashes()), code_masked: false }
    }

    /// The label of a text.
    pub fn label(&mut self, sql: &str) -> Arc<Label> {
        let tokens: Vec<Token<'_>> = tokens(sql, self.backslashes()).collect();
        let shape = shape(&tokens);
        if let Some(known) = self.seen.get(&shape) {
            return Arc::clone(known);
        }
        let keep = shape.len() <= MAX_SHAPE_BYTES;
        let label = Arc::new(label(sql, &tokens, shape));
        if keep {
            if self.seen.len() >= MAX_SHAPES {
                self.seen.clear();
            }
            self.seen.insert(label.shape.clone(), Arc::clone(&label));
        }
        label
    }
}

/// Whether in a client's encoding every byte below 128 is a character of its own, so that quotes and backslashes are
/// what they look like. Names as PostgreSQL knows them (src/common/encnames.c); what is not listed is not safe.
pub fn safe_encoding(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    const SAFE: &[&str] = &[
        "utf8",
        "unicode",
        "sqlascii",
        "koi8",
        "koi8r",
        "koi8u",
        "euccn",
        "eucjp",
        "eucjis2004",
        "euckr",
        "euctw",
        "abc",
        "alt",
        "tcvn",
        "tcvn5712",
        "vscii",
        "iso88591",
        "iso88592",
        "iso88593",
        "iso88594",
        "iso88595",
        "iso88596",
        "iso88597",
        "iso88598",
        "iso88599",
        "iso885910",
        "iso885913",
        "iso885914",
        "iso885915",
        "iso885916",
        "win",
        "win866",
        "win874",
    ];
    let numbered = |prefix: &str, from: u32, to: u32| {
        let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
        number.is_some_and(|number| (from..=to).contains(&number))
    };
    SAFE.contains(&name.as_str())
        || numbered("latin", 1, 10)
        || numbered("win", 1250, 1258)
        || numbered("windows", 1250, 1258)
}

/// Whether a text may change how the server reads the next one. It errs towards yes.
pub fn touches_reading(sql: &str) -> bool {
    let text = sql.to_ascii_lowercase();
    [
        "conforming_strings",
        "backslash_quote",
        "escape_string_warning",
        "client_encoding",
        "names",
        "set_config",
    ]
    .iter()
    .any(|name| text.contains(name))
}

/// What a label is made of must stand in the shape: two texts of one shape have one label.
fn shape(tokens: &[Token<'_>]) -> String {
    let mut shape = String::new();
    let (mut before, mut sets) = (None, false);
    for token in tokens {
        if shape.len() > MAX_SHOWN_SHAPE_BYTES {
            shape.push('\u{2026}');
            break;
        }
        let tight = matches!(token.text, "," | ")" | ";" | "." | "]" | "[")
            || matches!(before, None | Some("(" | "." | "["))
            || (token.text == "("
                && before.is_some_and(|word| word.chars().all(|c| c.is_alphanumeric() || c == '_')));
        if !tight {
            shape.push(' ');
        }
        match token.kind {
            // Which setting it is decides what the statement is.
            TokenKind::Text if sets && matches!(before, Some("(" | "=")) => shape.push_str(token.text),
            TokenKind::Text | TokenKind::Number => shape.push('?'),
            TokenKind::Unended => shape.push_str("?\u{2026}"),
            TokenKind::Word => shape.push_str(&token.text.to_lowercase()),
            _ => shape.push_str(token.text),
        }
        sets |= risks::is_set_config(token);
        before = Some(token.text);
    }
    shape
}

fn label(sql: &str, tokens: &[Token<'_>], shape: String) -> Label {
    let mut label =
        Label { class: StatementClass::Read, shape, changes: Vec::new(), risks: Vec::new(), statements: 0 };
    for statement in tokens.split(|token| token.is_mark(";")).filter(|statement| !statement.is_empty()) {
        label.statements += 1;
        changes::find(statement, &mut label.changes);
        risks::find(statement, &mut label.risks);
    }
    label.changes.truncate(changes::MAX_CHANGES);
    label.class = read(sql, tokens).unwrap_or(StatementClass::Unknown);
    if label.class == StatementClass::Unknown {
        label.risks.push(Risk::NotParsed);
    }
    let by_risk = label.risks.iter().map(|risk| risk.least_class()).max();
    label.class = label.class.max(by_risk.unwrap_or(StatementClass::Read));
    // `WITH x AS (DELETE …) SELECT`, `EXPLAIN ANALYZE UPDATE`, and whatever else hides in a query.
    let by_change = label.changes.iter().map(Change::least_class).max();
    label.class = label.class.max(by_change.unwrap_or(StatementClass::Read));
    label
}

/// The worst class of a text's statements; `None` where it cannot be parsed.
fn read(sql: &str, tokens: &[Token<'_>]) -> Option<StatementClass> {
    let bad = |token: &Token<'_>| token.kind == TokenKind::Unended;
    if sql.len() > MAX_PARSED_BYTES || tokens.iter().any(bad) || !is_shallow(tokens, MAX_CHAIN, MAX_BRACKETS)
    {
        return None;
    }
    if is_shallow(tokens, FEW_LINKS, FEW_BRACKETS) {
        match parse(sql, FEW_LEVELS) {
            Err(ParserError::RecursionLimitExceeded) => {}
            parsed => return parsed.ok(),
        }
    }
    // Rare, and worth a thread: the parser goes deeper than a worker's stack.
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().name("deep statement".to_owned()).stack_size(DEEP_STACK_BYTES);
        deep.spawn_scoped(scope, || parse(sql, MAX_DEPTH)).ok()?.join().ok()?.ok()
    })
}

fn parse(sql: &str, levels: usize) -> Result<StatementClass, ParserError> {
    // A fault in the parser is no reason to end a session: the text is then one that cannot be parsed.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(levels);
        let statements = parser.try_with_sql(sql)?.parse_statements()?;
        let worst = statements.iter().map(|statement| class_of(statement, 0)).max();
        Ok(worst.unwrap_or(StatementClass::Read))
    }));
    parsed.unwrap_or_else(|_| Err(ParserError::ParserError("the parser failed".to_owned())))
}

/// Whether the parser's tree stays shallow. Operators in a row make a tree as deep as they are many; a comma
/// ends the row within its brackets.
fn is_shallow(tokens: &[Token<'_>], links: usize, brackets: usize) -> bool {
    const LINKS: &[&str] = &[
        "and",
        "or",
        "not",
        "is",
        "isnull",
        "notnull",
        "like",
        "ilike",
        "similar",
        "in",
        "between",
        "collate",
        "at",
        "operator",
        "union",
        "except",
        "intersect",
        "escape",
        "overlaps",
        "case",
        "join",
        "explain",
        "prepare",
    ];
    let (mut chains, mut chain, mut total) = (Vec::new(), 0_usize, 0_usize);
    for token in tokens {
        match (token.kind, token.text) {
            (TokenKind::Mark, "(" | "[") => {
                chains.push(chain);
                chain = usize::from(token.text == "[");
                total += chain;
            }
            (TokenKind::Mark, ")" | "]") => {
                total -= chain;
                chain = chains.pop().unwrap_or(0);
            }
            (TokenKind::Mark, "," | ";") => {
                total -= chain;
                chain = 0;
            }
            (TokenKind::Operator, _) | (TokenKind::Mark, ":") => {
                chain += 1;
                total += 1;
            }
            (TokenKind::Word, word) if LINKS.iter().any(|link| link.eq_ignore_ascii_case(word)) => {
                chain += 1;
                total += 1;
            }
            _ => {}
        }
        if total > links || chains.len() > brackets {
            return false;
        }
    }
    true
}

fn class_of(statement: &Statement, depth: u8) -> StatementClass {
    use Statement as S;
    use StatementClass as C;
    if depth > 8 {
        return C::Unknown;
    }
    match statement {
        // What hides in a query is found by its words: see `changes`, `risks`.
        S::Query(_) | S::ExplainTable { .. } | S::Declare { .. } | S::Fetch { .. } | S::Close { .. } => {
            C::Read
        }
        S::Explain { analyze: false, options: None, .. } => C::Read,
        S::Explain { statement, .. } => class_of(statement, depth + 1),
        S::Prepare { statement, .. } => class_of(statement, depth + 1),
        S::ShowVariable { .. }
        | S::ShowVariables { .. }
        | S::Reset(_)
        | S::Deallocate { .. }
        | S::Discard { .. } => C::Read,
        S::StartTransaction { .. } | S::Commit { .. } | S::Rollback { .. } => C::Read,
        S::Savepoint { .. } | S::ReleaseSavepoint { .. } | S::LISTEN { .. } | S::UNLISTEN { .. } => C::Read,
        S::Set(Set::SetRole { .. } | Set::SetSessionAuthorization(_)) => C::Privilege,
        S::Set(_) => C::Read,
        S::Insert(_) | S::Update(_) | S::Delete(_) | S::Merge(_) | S::Truncate(_) | S::NOTIFY { .. } => {
            C::Write
        }
        // What every SELECT takes; pg_dump takes it by name.
        S::Lock(Lock { lock_mode: Some(LockTableMode::AccessShare), .. }) => C::Read,
        S::Copy { to: true, .. } => C::Read,
        S::Copy { .. } | S::Call(_) | S::Analyze(_) | S::Vacuum(_) | S::Lock(_) => C::Write,
        S::CreateRole(_)
        | S::CreateUser(_)
        | S::AlterUser(_)
        | S::AlterRole { .. }
        | S::CreatePolicy(_)
        | S::AlterPolicy(_)
        | S::DropPolicy(_)
        | S::CreateServer(_)
        | S::Grant(_)
        | S::Revoke(_)
        | S::Deny(_)
        | S::Load { .. } => C::Privilege,
        S::Drop { object_type: ObjectType::Role | ObjectType::User, .. } => C::Privilege,
        S::CreateView(_)
        | S::CreateTable(_)
        | S::CreateIndex(_)
        | S::CreateOperator(_)
        | S::CreateOperatorFamily(_)
        | S::CreateOperatorClass(_)
        | S::CreateTextSearch(_)
        | S::CreateExtension(_)
        | S::CreateCollation(_)
        | S::CreateSchema { .. }
        | S::CreateDatabase { .. }
        | S::CreateFunction(_)
        | S::CreateTrigger(_)
        | S::CreateProcedure { .. }
        | S::CreateSequence { .. }
        | S::CreateDomain(_)
        | S::CreateType { .. }
        | S::AlterTable(_)
        | S::AlterSchema(_)
        | S::AlterIndex { .. }
        | S::AlterView { .. }
        | S::AlterFunction(_)
        | S::AlterType(_)
        | S::AlterCollation(_)
        | S::AlterOperator(_)
        | S::AlterOperatorFamily(_)
        | S::AlterOperatorClass(_)
        | S::AlterTextSearch(_)
        | S::Drop { .. }
        | S::DropFunction(_)
        | S::DropDomain(_)
        | S::DropProcedure { .. }
        | S::DropExtension(_)
        | S::DropOperator(_)
        | S::DropOperatorFamily(_)
        | S::DropOperatorClass(_)
        | S::DropTrigger(_)
        | S::Comment { .. } => C::Schema,
        // EXECUTE runs what was prepared under a name; other dialects' statements are none here.
        _ => C::Unknown,
    }
}

#[cfg(test)]
mod tests;

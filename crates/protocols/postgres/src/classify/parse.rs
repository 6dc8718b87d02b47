//! The class of a statement by what the parser makes of it.
//!
//! The parser's scanner is not PostgreSQL's. So it is not given the text but its tokens, written again in the plainest
//! form: no comments, no escapes, nothing in literals.

use std::panic::{AssertUnwindSafe, catch_unwind};

use halligan_core::catalog::StatementClass;
use sqlparser::ast::{Lock, LockTableMode, ObjectType, Set, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token as Parsed;

use crate::lexer::{Token, TokenKind};

/// More operators may not hang on one another: the parser's tree is as deep, and walked by recursion.
pub(super) const MAX_CHAIN: usize = 400;
/// More brackets may not be in one another.
pub(super) const MAX_BRACKETS: usize = 40;
/// How deep the parser may go.
const MAX_DEPTH: usize = 45;
/// What is parsed where we are; deeper ones have a stack of their own, of this many bytes.
const FEW_LINKS: usize = 60;
const FEW_BRACKETS: usize = 6;
const FEW_LEVELS: usize = 14;
const DEEP_STACK_BYTES: usize = 64 * 1024 * 1024;

/// The worst class of a text's statements; `None` where one cannot be parsed.
pub(super) fn class(tokens: &[Token<'_>]) -> Option<StatementClass> {
    if !is_shallow(tokens, MAX_CHAIN, MAX_BRACKETS) {
        return None;
    }
    // One by one: the parser has ideas of its own about where a statement ends (END, the data behind COPY).
    let statements: Vec<String> = statements(tokens).map(plain).collect();
    if is_shallow(tokens, FEW_LINKS, FEW_BRACKETS) {
        match parse(&statements, FEW_LEVELS) {
            Err(ParserError::RecursionLimitExceeded) => {}
            parsed => return parsed.ok(),
        }
    }
    // Rare, and worth a thread: the parser goes deeper than a worker's stack.
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().name("deep statement".to_owned()).stack_size(DEEP_STACK_BYTES);
        deep.spawn_scoped(scope, || parse(&statements, MAX_DEPTH)).ok()?.join().ok()?.ok()
    })
}

/// The statements of a text, without empty ones.
pub(super) fn statements<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    tokens.split(|token| token.is_mark(";")).filter(|statement| !statement.is_empty())
}

/// A statement in the plainest form.
fn plain(statement: &[Token<'_>]) -> String {
    let mut text = String::new();
    let mut before: Option<&Token<'_>> = None;
    for token in statement {
        if let Some(before) = before {
            let gap = before.at + before.text.len() != token.at;
            if gap || (before.kind != TokenKind::Mark && token.kind != TokenKind::Mark) {
                text.push(' ');
            }
        }
        text.push_str(match token.kind {
            TokenKind::Text => "'s'",
            TokenKind::Number => "1",
            _ => token.text,
        });
        before = Some(token);
    }
    text
}

fn parse(statements: &[String], levels: usize) -> Result<StatementClass, ParserError> {
    // A fault in the parser is no reason to end a session: the text is then one that cannot be parsed.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let mut worst = StatementClass::Read;
        for statement in statements {
            let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(levels);
            let mut parser = parser.try_with_sql(statement)?;
            worst = worst.max(class_of(&parser.parse_statement()?, 0));
            if parser.peek_token().token != Parsed::EOF {
                return Err(ParserError::ParserError("a statement goes on".to_owned()));
            }
        }
        Ok(worst)
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

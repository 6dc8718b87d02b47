//! How the server reads a text: what a backslash is, what a byte is, and which statements change that.

use crate::lexer::{Token, TokenKind, tokens};

/// How the server reads a backslash in a plain literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

/// Whether a token may mean something else to the server than it does here, or to the parser. A text with such a
/// token is unknown.
pub(super) fn is_doubtful(token: &Token<'_>, backslashes: Backslashes) -> bool {
    let text = token.text;
    let escaped = || text.contains('\\');
    match token.kind {
        TokenKind::Unended => true,
        // Its name is written in numbers.
        TokenKind::Quoted => token.is_unicode(),
        // A byte that is no UTF-8; a space that is a letter to the server.
        TokenKind::Word => escaped() || text.chars().any(char::is_whitespace),
        TokenKind::Operator => !text.starts_with(':') && !text.chars().all(crate::lexer::is_operator),
        TokenKind::Text if text.starts_with('$') => false,
        TokenKind::Text if text.starts_with(['\'', 'n', 'N']) => {
            backslashes != Backslashes::Standard && escaped()
        }
        // The encoding may be changing too.
        TokenKind::Text => {
            crate::mask::goes_on(text)
                || (backslashes == Backslashes::Unsure && escaped() && may_be_half(text))
        }
        TokenKind::Number | TokenKind::Parameter | TokenKind::Mark => false,
    }
}

/// Whether a backslash in a text could be the second half of a character, in some encoding.
pub(crate) fn may_be_half(text: &str) -> bool {
    text.contains('\\') && (!text.is_ascii() || text.contains("\\x"))
}

/// Whether in a client's encoding every byte below 128 is a character of its own, so that quotes and backslashes are
/// what they look like. Names as PostgreSQL knows them (src/common/encnames.c); what is not listed is not safe.
pub fn safe_encoding(name: &str) -> bool {
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
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let numbered = |prefix: &str, from: u32, to: u32| {
        let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
        number.is_some_and(|number| (from..=to).contains(&number))
    };
    SAFE.contains(&name.as_str())
        || numbered("latin", 1, 10)
        || numbered("win", 1250, 1258)
        || numbered("windows", 1250, 1258)
}

/// Whether a text may change how the server reads the next one. It errs towards yes: what is sent before the server
/// has answered such a text is read under [`Backslashes::Unsure`]. A function of the database's own that changes a
/// setting cannot be seen. `lower` is the text in lower case.
pub fn touches_reading(sql: &str, lower: &str) -> bool {
    const NAMES: &[&str] = &[
        "conforming_strings",
        "backslash_quote",
        "escape_string_warning",
        "client_encoding",
        "names",
        "set_config",
        "_to_xml",
        "u&",
    ];
    if sql.len() > super::MAX_READ_BYTES {
        return true;
    }
    NAMES.iter().any(|name| lower.contains(name))
        || (FIRST.iter().chain(&["execute"]).any(|word| lower.contains(word))
            && (changes_settings(sql, false) || (sql.contains('\\') && changes_settings(sql, true))))
}

/// Words that begin a statement which may.
const FIRST: &[&str] = &["do", "call", "reset", "discard", "commit", "end", "abort", "rollback"];

/// Runs code that is not in the text, or ends a transaction, which may take settings back.
fn changes_settings(sql: &str, backslashes: bool) -> bool {
    let mut begins = true;
    tokens(sql, backslashes).any(|token| {
        let first = std::mem::replace(&mut begins, token.is_mark(";"));
        token.is("execute") || (first && FIRST.iter().any(|word| token.is(word)))
    })
}

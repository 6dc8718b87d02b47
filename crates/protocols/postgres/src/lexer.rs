//! Tokens of an SQL text as PostgreSQL's own scanner cuts them (src/backend/parser/scan.l), for masking and labels.
//!
//! It works on text that cannot be parsed too, and never recurses: a hostile text costs its length, once.

use std::borrow::Cow;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or key word without quotes.
    Word,
    /// `"name"` or `U&"name"`.
    Quoted,
    /// A text literal in any of its forms, prefix and quotes included; also one that goes on in the next line.
    Text,
    Number,
    /// `$1`.
    Parameter,
    Operator,
    /// `( ) [ ] , ; .` and `:`, one each.
    Mark,
    /// Begun and not ended: quote, dollar quote.
    Unended,
}

/// A token and its place. White space and comments are no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Byte offset.
    pub at: usize,
}

impl Token<'_> {
    /// Compares a word without quotes, case aside.
    pub fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub fn is_mark(&self, mark: &str) -> bool {
        self.kind == TokenKind::Mark && self.text == mark
    }

    /// Compares a name, with or without quotes, case aside; the server looks settings up so, and for rules it is the
    /// safe side. `U&"…"` is not decoded: see [`Self::is_unicode`].
    pub fn is_named(&self, name: &str) -> bool {
        match self.kind {
            TokenKind::Word => self.text.eq_ignore_ascii_case(name),
            TokenKind::Quoted => self.name().eq_ignore_ascii_case(name),
            _ => false,
        }
    }

    /// A name without its quotes; a doubled quote stands for one.
    pub fn name(&self) -> Cow<'_, str> {
        let text =
            self.text.strip_prefix(['u', 'U']).and_then(|text| text.strip_prefix('&')).unwrap_or(self.text);
        match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inside) if inside.contains('"') => Cow::Owned(inside.replace("\"\"", "\"")),
            Some(inside) => Cow::Borrowed(inside),
            None => Cow::Borrowed(self.text),
        }
    }

    /// `U&"name"`, `U&'text'`.
    pub fn is_unicode(&self) -> bool {
        self.kind != TokenKind::Word && self.text.starts_with(['u', 'U'])
    }
}

/// All tokens of a text. `backslashes`: the server has `standard_conforming_strings` off, so a backslash hides a
/// quote in plain literals too.
pub fn tokens(text: &str, backslashes: bool) -> Tokens<'_> {
    Tokens { text, at: 0, backslashes }
}

/// Iterator of [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
    backslashes: bool,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let rest = self.text.get(self.at..)?;
        let first = rest.chars().next()?;
        let (kind, length) = self.token(rest, first);
        let text = rest.get(..length).unwrap_or(rest);
        let at = self.at;
        self.at += text.len();
        Some(Token { kind, text, at })
    }
}

fn is_name_start(c: char) -> bool {
    // A backslash is an error to the server; in a text of ours it begins a byte that is no UTF-8 (`\xe9`), which is a
    // letter to the server.
    c.is_ascii_alphabetic() || c == '_' || c == '\\' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || c == '$'
}

/// How many bytes of `rest` satisfy `is`.
fn span(rest: &str, is: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !is(c)).unwrap_or(rest.len())
}

impl Tokens<'_> {
    fn skip_blank(&mut self) {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let blank = span(rest, is_blank);
            let rest = rest.get(blank..).unwrap_or_default();
            let comment = if rest.starts_with("--") {
                rest.find(['\n', '\r']).unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                comment_end(rest)
            } else {
                0
            };
            self.at += blank + comment;
            if blank + comment == 0 {
                return;
            }
        }
    }

    fn token(&self, rest: &str, first: char) -> (TokenKind, usize) {
        use TokenKind as K;
        let after = |count: usize| rest.get(count..).unwrap_or_default();
        let quoted = |prefix: usize, kind, escapes| match quote_end(after(prefix), escapes, kind == K::Text) {
            Some(length) => (kind, prefix + length),
            None => (K::Unended, rest.len()),
        };
        let second = rest.as_bytes().get(1).copied();
        match first {
            '\'' => quoted(0, K::Text, self.backslashes),
            '"' => quoted(0, K::Quoted, false),
            'e' | 'E' if second == Some(b'\'') => quoted(1, K::Text, true),
            'b' | 'B' | 'x' | 'X' if second == Some(b'\'') => quoted(1, K::Text, false),
            'n' | 'N' if second == Some(b'\'') => quoted(1, K::Text, self.backslashes),
            'u' | 'U' if second == Some(b'&') && after(2).starts_with('\'') => quoted(2, K::Text, false),
            'u' | 'U' if second == Some(b'&') && after(2).starts_with('"') => quoted(2, K::Quoted, false),
            '$' if second.is_some_and(|c| c.is_ascii_digit()) => {
                (K::Parameter, 1 + span(after(1), |c| c.is_ascii_digit()))
            }
            '$' => match dollar_quote(rest) {
                Dollar::Ends(length) => (K::Text, length),
                Dollar::Unended => (K::Unended, rest.len()),
                Dollar::None => (K::Operator, 1),
            },
            c if is_name_start(c) => (K::Word, span(rest, is_name)),
            c if c.is_ascii_digit() => (K::Number, number(rest)),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => (K::Number, number(rest)),
            '(' | ')' | '[' | ']' | ',' | ';' | '.' => (K::Mark, 1),
            ':' if second == Some(b':') || second == Some(b'=') => (K::Operator, 2),
            ':' => (K::Mark, 1),
            c if is_operator(c) => (K::Operator, operator(rest)),
            c => (K::Operator, c.len_utf8()),
        }
    }
}

pub fn is_operator(c: char) -> bool {
    "~!@#^&|`?+-*/%<>=".contains(c)
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// An operator ends where a comment begins. Looks at no more than it takes.
fn operator(rest: &str) -> usize {
    let mut chars = rest.chars().peekable();
    let mut length = 0;
    while let Some(c) = chars.next() {
        let begins_comment = matches!((c, chars.peek()), ('-', Some('-')) | ('/', Some('*')));
        if !is_operator(c) || begins_comment {
            break;
        }
        length += 1;
    }
    length.max(1)
}

/// A number ends at the first letter that is none of its own: `1INTO` is two tokens to PostgreSQL 14. `1..2` is a
/// range of PL/pgSQL. Looks at no more than it takes.
fn number(rest: &str) -> usize {
    let from = |at: usize| rest.get(at..).unwrap_or_default();
    let digits = |at: usize| span(from(at), |c| c.is_ascii_digit() || c == '_');
    let base = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => span(from(2), |c| c.is_ascii_hexdigit() || c == '_'),
        [b'0', b'o' | b'O', ..] => span(from(2), |c| matches!(c, '0'..='7' | '_')),
        [b'0', b'b' | b'B', ..] => span(from(2), |c| matches!(c, '0' | '1' | '_')),
        _ => 0,
    };
    if base > 0 {
        return 2 + base;
    }
    let mut length = digits(0);
    if from(length).starts_with('.') && !from(length).starts_with("..") {
        length += 1;
        length += digits(length);
    }
    if from(length).starts_with(['e', 'E']) {
        let sign = usize::from(from(length + 1).starts_with(['+', '-']));
        let exponent = span(from(length + 1 + sign), |c| c.is_ascii_digit());
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length.max(1)
}

/// Length of a block comment; they nest. One that does not end takes the rest.
fn comment_end(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(tail) = rest.get(at..) {
        let Some(next) = tail.find(['/', '*']) else { break };
        let place = tail.get(next..).unwrap_or_default();
        if place.starts_with("/*") {
            depth += 1;
            at += next + 2;
        } else if place.starts_with("*/") {
            depth -= 1;
            at += next + 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += next + 1;
        }
    }
    rest.len()
}

/// Length of a quoted thing at the front of `rest`, quotes included. A doubled quote stands for one. A text goes on
/// behind a line's end, and is read there as it was before.
fn quote_end(rest: &str, escapes: bool, goes_on: bool) -> Option<usize> {
    let bytes = rest.as_bytes();
    let quote = *bytes.first()?;
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote => {
                at += 1;
                if bytes.get(at) == Some(&quote) {
                    at += 1;
                    continue;
                }
                match rest.get(at..).and_then(continuation).filter(|_| goes_on) {
                    Some(gap) => at += gap + 1,
                    None => return Some(at),
                }
            }
            _ => at += 1,
        }
    }
}

/// How far from the end of a piece of text its next piece begins, if it has one: there may only be blanks and `--`
/// comments between, with a line's end among them (scan.l: `quotecontinue`).
pub fn continuation(rest: &str) -> Option<usize> {
    let (mut at, mut lines) = (0, false);
    loop {
        let left = rest.get(at..)?;
        let blank = span(left, is_blank);
        lines |= left.get(..blank)?.contains(['\n', '\r']);
        at += blank;
        let left = rest.get(at..)?;
        if left.starts_with('\'') {
            return lines.then_some(at);
        }
        if !left.starts_with("--") {
            return None;
        }
        at += left.find(['\n', '\r'])?;
    }
}

enum Dollar {
    Ends(usize),
    Unended,
    None,
}

/// `$tag$ … $tag$`.
fn dollar_quote(rest: &str) -> Dollar {
    let inside = rest.get(1..).unwrap_or_default();
    let tag = span(inside, |c| is_name(c) && c != '$');
    if !inside.get(tag..).is_some_and(|more| more.starts_with('$'))
        || inside.starts_with(|c: char| c.is_ascii_digit())
    {
        return Dollar::None;
    }
    let mark = rest.get(..tag + 2).unwrap_or_default();
    match rest.get(mark.len()..).and_then(|body| body.find(mark)) {
        Some(end) => Dollar::Ends(mark.len() + end + mark.len()),
        None => Dollar::Unended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        tokens(text, false).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn literals_end_where_the_server_ends_them() {
        use TokenKind as K;
        for (text, expected) in [
            ("'a\\' x", vec![(K::Text, "'a\\'"), (K::Word, "x")]),
            ("E'a\\' x' y", vec![(K::Text, "E'a\\' x'"), (K::Word, "y")]),
            ("U&'d\\0061' \"q\"\"r\"", vec![(K::Text, "U&'d\\0061'"), (K::Quoted, "\"q\"\"r\"")]),
            ("$x$ ' $$ $x$ z", vec![(K::Text, "$x$ ' $$ $x$"), (K::Word, "z")]),
            ("$1$2", vec![(K::Parameter, "$1"), (K::Parameter, "$2")]),
            ("a$b$c", vec![(K::Word, "a$b$c")]),
            ("/* a /* b */ c */ d -- e\nf", vec![(K::Word, "d"), (K::Word, "f")]),
            ("E'a' -- it's\n \t'\\'' x", vec![(K::Text, "E'a' -- it's\n \t'\\''"), (K::Word, "x")]),
            ("'a'\n'\\' x", vec![(K::Text, "'a'\n'\\'"), (K::Word, "x")]),
            ("E'a' '\\' x", vec![(K::Text, "E'a'"), (K::Text, "'\\'"), (K::Word, "x")]),
            ("E'a' /* \n */ '\\' x", vec![(K::Text, "E'a'"), (K::Text, "'\\'"), (K::Word, "x")]),
            ("E'a'\n/* */'\\' x", vec![(K::Text, "E'a'"), (K::Text, "'\\'"), (K::Word, "x")]),
            ("\"a\"\n\"b\"", vec![(K::Quoted, "\"a\""), (K::Quoted, "\"b\"")]),
            ("$\\xe9$ ' $\\xe9$ x", vec![(K::Text, "$\\xe9$ ' $\\xe9$"), (K::Word, "x")]),
            ("1INTO", vec![(K::Number, "1"), (K::Word, "INTO")]),
            ("1end 1e5x", vec![(K::Number, "1"), (K::Word, "end"), (K::Number, "1e5"), (K::Word, "x")]),
            ("0x1Finto", vec![(K::Number, "0x1F"), (K::Word, "into")]),
            ("1..2", vec![(K::Number, "1"), (K::Mark, "."), (K::Number, ".2")]),
            ("1.5e-3+0xff", vec![(K::Number, "1.5e-3"), (K::Operator, "+"), (K::Number, "0xff")]),
            ("a*/* c */-- d\nb", vec![(K::Word, "a"), (K::Operator, "*"), (K::Word, "b")]),
            ("'never", vec![(K::Unended, "'never")]),
            ("$$never", vec![(K::Unended, "$$never")]),
            ("x::int", vec![(K::Word, "x"), (K::Operator, "::"), (K::Word, "int")]),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
        let old: Vec<_> = tokens("'a\\' x' y", true).map(|token| token.text).collect();
        assert_eq!(old, ["'a\\' x'", "y"]);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_tokens_that_lie_in_it_in_order(text in any::<String>(), noise in "['\"$\\\\eEuU&/*\\-a1.:; \n]{0,60}") {
            for text in [text, noise] {
                let mut end = 0;
                for token in tokens(&text, false) {
                    prop_assert!(token.at >= end && !token.text.is_empty());
                    prop_assert_eq!(text.get(token.at..token.at + token.text.len()), Some(token.text));
                    end = token.at + token.text.len();
                }
            }
        }
    }
}

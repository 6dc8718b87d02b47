//! Tokens of an SQL text as PostgreSQL's own scanner cuts them (src/backend/parser/scan.l), for masking and labels.
//!
//! It works on text that cannot be parsed too, and never recurses: a hostile text costs its length, once.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or key word without quotes.
    Word,
    /// `"name"` or `U&"name"`.
    Quoted,
    /// A text literal in any of its forms, prefix and quotes included.
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
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
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
            let blank = span(rest, |c| c.is_ascii_whitespace() || c == '\u{b}');
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
        let quoted = |prefix: usize, kind, escapes| match quote_end(after(prefix), escapes) {
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

fn is_operator(c: char) -> bool {
    "~!@#^&|`?+-*/%<>=".contains(c)
}

/// An operator ends where a comment begins.
fn operator(rest: &str) -> usize {
    let length = span(rest, is_operator);
    let text = rest.get(..length).unwrap_or_default();
    let comment = [text.find("--"), text.find("/*")].into_iter().flatten().min();
    comment.unwrap_or(length).max(1)
}

fn number(rest: &str) -> usize {
    let mut length = span(rest, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    // 1..2 is a range of PL/pgSQL; 1e-5 has a sign within.
    if let Some(dots) = rest.get(..length).and_then(|text| text.find("..")) {
        return dots.max(1);
    }
    let text = rest.get(..length).unwrap_or_default();
    let signed = rest.get(length..).is_some_and(|more| more.starts_with(['+', '-']));
    if signed && text.ends_with(['e', 'E']) && !text.starts_with("0x") && !text.starts_with("0X") {
        let more = rest.get(length + 1..).unwrap_or_default();
        let digits = span(more, |c| c.is_ascii_digit());
        if digits > 0 {
            length += 1 + digits;
        }
    }
    length
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

/// Length of a quoted thing at the front of `rest`, quotes included. A doubled quote stands for one.
fn quote_end(rest: &str, escapes: bool) -> Option<usize> {
    let bytes = rest.as_bytes();
    let quote = *bytes.first()?;
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote => {
                at += 1;
                if bytes.get(at) != Some(&quote) {
                    return Some(at);
                }
                at += 1;
            }
            _ => at += 1,
        }
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

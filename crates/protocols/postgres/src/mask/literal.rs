//! What a literal says, and writing it again.

use std::borrow::Cow;

use crate::lexer::continuation;

/// How a literal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `'…'`, `N'…'`.
    Plain,
    /// `E'…'`, and plain ones while a backslash escapes.
    Escapes,
    /// `U&'…'`; as if its escape character were the usual one.
    Unicode,
    /// `B'…'`, `X'…'`.
    Bits,
    /// `$tag$…$tag$`.
    Dollar,
}

/// A literal's form and its text without quotes and escapes.
#[derive(Debug, PartialEq, Eq)]
pub struct Content<'a> {
    pub form: Form,
    pub text: Cow<'a, str>,
    /// It is written in this many pieces, on several lines.
    pub pieces: usize,
}

/// Whether a literal with escapes of its own goes on in another line.
pub fn goes_on(literal: &str) -> bool {
    literal.contains(['\n', '\r']) && content(literal, false).pieces > 1
}

/// `backslashes` as in [`crate::lexer::tokens`]; a literal that does not end is taken as far as it goes.
pub fn content(literal: &str, backslashes: bool) -> Content<'_> {
    if let Some(mark) = dollar_mark(literal) {
        let inside = literal.get(mark.len()..).unwrap_or_default();
        let text = Cow::Borrowed(inside.strip_suffix(mark).unwrap_or(inside));
        return Content { form: Form::Dollar, text, pieces: 1 };
    }
    let form = match literal.as_bytes().first() {
        Some(b'e' | b'E') => Form::Escapes,
        Some(b'u' | b'U') => Form::Unicode,
        Some(b'b' | b'B' | b'x' | b'X') => Form::Bits,
        _ if backslashes => Form::Escapes,
        _ => Form::Plain,
    };
    let inside = literal.split_once('\'').map_or("", |(_, inside)| inside);
    let (text, pieces) = unquoted(inside, form);
    Content { form, text, pieces }
}

fn dollar_mark(literal: &str) -> Option<&str> {
    let end = literal.strip_prefix('$')?.find('$')?;
    literal.get(..end + 2)
}

fn unquoted(inside: &str, form: Form) -> (Cow<'_, str>, usize) {
    let escapes = matches!(form, Form::Escapes | Form::Unicode);
    let special = |c: char| c == '\'' || (escapes && c == '\\');
    // Most have nothing special but the quote at their end.
    match inside.find(special) {
        Some(at) if at + 1 == inside.len() && inside.ends_with('\'') => {
            return (Cow::Borrowed(inside.get(..at).unwrap_or_default()), 1);
        }
        None => return (Cow::Borrowed(inside), 1),
        Some(_) => {}
    }
    let (mut text, mut pieces, mut rest) = (String::with_capacity(inside.len()), 1, inside);
    while let Some(at) = rest.find(special) {
        text.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix("''") {
            text.push('\'');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\'') {
            let Some(next) = continuation(after) else { return (Cow::Owned(text), pieces) };
            pieces += 1;
            rest = after.get(next + 1..).unwrap_or_default();
        } else {
            let (c, length) = escape(rest, form);
            text.extend(c);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    text.push_str(rest);
    (Cow::Owned(text), pieces)
}

/// The character that an escape at the front of `rest` stands for, and the escape's length.
fn escape(rest: &str, form: Form) -> (Option<char>, usize) {
    let behind = rest.get(1..).unwrap_or_default();
    let Some(first) = behind.chars().next() else { return (None, rest.len()) };
    let number = |from: usize, most: usize, radix: u32| {
        let digits = behind.get(from..).unwrap_or_default();
        let count = digits.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let value = u32::from_str_radix(digits.get(..count).unwrap_or_default(), radix).ok();
        value.map(|value| {
            (Some(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)), 1 + from + count)
        })
    };
    let numbered = match (form, first) {
        (Form::Unicode, '+') => number(1, 6, 16),
        (Form::Unicode, _) => number(0, 4, 16),
        (_, '0'..='7') => number(0, 3, 8),
        (_, 'x') => number(1, 2, 16),
        (_, 'u') => number(1, 4, 16),
        (_, 'U') => number(1, 8, 16),
        _ => None,
    };
    let plain = match (form, first) {
        (Form::Escapes, 'n') => '\n',
        (Form::Escapes, 'r') => '\r',
        (Form::Escapes, 't') => '\t',
        (Form::Escapes, 'b') => '\u{8}',
        (Form::Escapes, 'f') => '\u{c}',
        (_, c) => c,
    };
    numbered.unwrap_or((Some(plain), 1 + first.len_utf8()))
}

/// A literal of the same form with another text.
pub fn rewritten(literal: &str, form: Form, text: &str) -> String {
    if let (Form::Dollar, Some(mark)) = (form, dollar_mark(literal)) {
        let ends = literal.len() >= 2 * mark.len() && literal.ends_with(mark);
        return format!("{mark}{text}{}", if ends { mark } else { "" });
    }
    let prefix = literal.split_once('\'').map_or("", |(prefix, _)| prefix);
    let text = match form {
        Form::Escapes | Form::Unicode => text.replace('\\', "\\\\").replace('\'', "''"),
        _ => text.replace('\'', "''"),
    };
    format!("{prefix}'{text}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_says_what_the_server_takes_it_for() {
        for (literal, backslashes, form, text, pieces) in [
            ("'it''s \\n'", false, Form::Plain, "it's \\n", 1),
            ("'it\\'s'", true, Form::Escapes, "it's", 1),
            ("n'a'", false, Form::Plain, "a", 1),
            ("E'r\\157le\\x41\\u0042\\n'''", false, Form::Escapes, "roleAB\n'", 1),
            ("U&'d\\0061t\\+000061'", false, Form::Unicode, "data", 1),
            ("x'1f'", false, Form::Bits, "1f", 1),
            ("$a$it's $$ \\n$a$", false, Form::Dollar, "it's $$ \\n", 1),
            ("E'a' -- it's\n '\\'b'", false, Form::Escapes, "a'b", 2),
            ("'never", false, Form::Plain, "never", 1),
            ("E'a\\", false, Form::Escapes, "a", 1),
        ] {
            let expected = Content { form, text: text.into(), pieces };
            assert_eq!(content(literal, backslashes), expected, "{literal}");
        }
        assert_eq!(rewritten("E'x'", Form::Escapes, "it's \\"), "E'it''s \\\\'");
        assert_eq!(rewritten("$a$x$a$", Form::Dollar, "it's"), "$a$it's$a$");
    }
}

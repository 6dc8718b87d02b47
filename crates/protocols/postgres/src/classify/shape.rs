//! The shape of a text: what it is found by, and what its label is remembered under.

use super::Backslashes;
use super::reading::is_doubtful;
use super::risks;
use crate::lexer::{Token, TokenKind};

/// Longest shape that is given out, in bytes.
pub(super) const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// What a label is made of must stand in the shape: two texts of one shape have one label.
pub(super) fn shape(tokens: &[Token<'_>], backslashes: Backslashes) -> String {
    let mut shape = Shape::default();
    let mut named = None;
    for (place, token) in tokens.iter().enumerate() {
        if let Some(setting) = risks::setting_of(tokens.get(place..).unwrap_or_default()) {
            named = Some(setting.at);
        }
        // Which setting it is decides what the statement is.
        let shown = named == Some(token.at);
        if !shape.push(token, shown, is_doubtful(token, backslashes)) {
            break;
        }
    }
    shape.text
}

/// The beginning of the shape of a text that is not looked into any further.
pub(super) fn beginning<'a>(tokens: impl Iterator<Item = Token<'a>>, limit: usize) -> String {
    let mut shape = Shape { limit, ..Shape::default() };
    for token in tokens {
        if !shape.push(&token, false, false) {
            break;
        }
    }
    shape.text
}

struct Shape<'a> {
    text: String,
    before: Option<&'a str>,
    limit: usize,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self { text: String::new(), before: None, limit: MAX_SHOWN_BYTES }
    }
}

impl<'a> Shape<'a> {
    /// False when it is full. `shown`: a literal that is no secret and decides what a statement is.
    fn push(&mut self, token: &Token<'a>, shown: bool, doubtful: bool) -> bool {
        let before = self.before.replace(token.text);
        let tight = matches!(token.text, "," | ")" | ";" | "." | "]" | "[")
            || matches!(before, None | Some("(" | "." | "["))
            || (token.text == "("
                && before.is_some_and(|word| word.chars().all(|c| c.is_alphanumeric() || c == '_')));
        if !tight {
            self.text.push(' ');
        }
        match token.kind {
            TokenKind::Text if shown => self.text.push_str(token.text),
            TokenKind::Text if doubtful => self.text.push_str("?!"),
            TokenKind::Text | TokenKind::Number => self.text.push('?'),
            TokenKind::Unended => self.text.push_str("?\u{2026}"),
            // The server folds no other letters; a label must not be lent to another word.
            TokenKind::Word => self.text.push_str(&token.text.to_ascii_lowercase()),
            // The operator, not a literal.
            TokenKind::Operator if token.text == "?" => self.text.push_str("\\?"),
            _ => self.text.push_str(token.text),
        }
        if self.text.len() <= self.limit {
            return true;
        }
        let mut end = self.limit;
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.truncate(end);
        self.text.push('\u{2026}');
        false
    }
}

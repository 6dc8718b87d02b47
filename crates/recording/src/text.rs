//! Text that came from outside: decoded piece by piece, and escaped so that no terminal or page obeys it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Turns a stream of bytes into text although its pieces end in the middle of characters. What is not
/// UTF-8 becomes U+FFFD.
#[derive(Debug, Default, Clone)]
pub struct Utf8Stream {
    /// The beginning of a character (at most three bytes).
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that is complete with this piece.
    pub fn push(&mut self, piece: &[u8]) -> String {
        let joined: Cow<'_, [u8]> = if self.pending.is_empty() {
            Cow::Borrowed(piece)
        } else {
            self.pending.extend_from_slice(piece);
            Cow::Owned(std::mem::take(&mut self.pending))
        };
        let mut text = String::with_capacity(joined.len());
        let mut chunks = joined.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let bad = chunk.invalid();
            if bad.is_empty() {
                continue;
            }
            let could_go_on =
                chunks.peek().is_none() && std::str::from_utf8(bad).is_err_and(|e| e.error_len().is_none());
            if could_go_on {
                self.pending = bad.to_vec();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What is left when no more comes.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() { "" } else { "\u{fffd}" }
    }
}

/// True for characters that steer a terminal or reorder a line: C0 and C1 controls, DEL, bidirectional and
/// other invisible format characters, line and paragraph separators.
pub fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One line that is safe to print: controls are shown as `\n`, `\t`, `\xHH` or `\u{…}`, backslashes stay.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    Cow::Owned(out)
}

/// Text for a record from a name or command that need not be UTF-8: bytes that are not become `\xHH`.
pub fn lossless(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

pub(crate) fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if !is_steering(c) => out.push(c),
        c if (c as u32) < 0x80 => {
            let _infallible = write!(out, "\\x{:02x}", c as u32);
        }
        c => {
            let _infallible = write!(out, "\\u{{{:x}}}", c as u32);
        }
    }
}

/// At most `limit` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Takes terminal control sequences (ECMA-48: CSI, OSC, DCS and kin) out of a text that comes in pieces.
#[derive(Debug, Default, Clone)]
pub(crate) struct PlainText {
    state: Sequence,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Sequence {
    #[default]
    Outside,
    Escape,
    Control,
    Text,
    TextEscape,
}

impl PlainText {
    /// The character, if a person would see it (or it is a line end or tab).
    pub(crate) fn push(&mut self, c: char) -> Option<char> {
        use Sequence as S;
        let (next, shown) = match (self.state, c) {
            (S::Outside, '\u{1b}') | (S::Control, '\u{1b}') => (S::Escape, None),
            (S::Outside, '\u{9b}') => (S::Control, None),
            (S::Outside, '\n' | '\r' | '\t') => (S::Outside, Some(c)),
            (S::Outside, c) => (S::Outside, (!is_steering(c)).then_some(c)),
            (S::Escape, '[') => (S::Control, None),
            (S::Escape, ']' | 'P' | 'X' | '^' | '_') => (S::Text, None),
            (S::Escape, ' '..='/') => (S::Escape, None),
            (S::Escape, _) => (S::Outside, None),
            (S::Control, '\u{40}'..='\u{7e}') => (S::Outside, None),
            // A line end never belongs to a sequence: a broken one must not hide what follows.
            (S::Control | S::Text | S::TextEscape, '\n' | '\r') => (S::Outside, Some(c)),
            (S::Control, _) => (S::Control, None),
            (S::Text, '\u{7}' | '\u{9c}') | (S::TextEscape, '\\') => (S::Outside, None),
            (S::Text, '\u{1b}') => (S::TextEscape, None),
            (S::Text | S::TextEscape, _) => (S::Text, None),
        };
        self.state = next;
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_give_the_same_text_as_the_whole(
            text in any::<Vec<u8>>(),
            words in "\\PC{0,40}",
            size in 1_usize..5,
        ) {
            for whole in [text.as_slice(), words.as_bytes()] {
                let mut stream = Utf8Stream::default();
                let mut joined: String = whole.chunks(size).map(|piece| stream.push(piece)).collect();
                joined.push_str(stream.finish());
                prop_assert_eq!(joined, String::from_utf8_lossy(whole));
            }
        }

        #[test]
        fn escaped_text_steers_nothing(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_steering));
        }
    }

    #[test]
    fn controls_are_shown_not_obeyed() {
        assert_eq!(escape("a\u{1b}[2J\u{9b}b\u{202e}c\r\n"), "a\\x1b[2J\\u{9b}b\\u{202e}c\\r\\n");
        assert_eq!(lossless(b"caf\xe9 \xc3\xa9"), "caf\\xe9 \u{e9}");
        assert_eq!(cut("h\u{e9}llo", 2), "h");
    }

    #[test]
    fn sequences_are_taken_out_and_cannot_swallow_the_next_line() {
        let plain = |text: &str| {
            let mut plain = PlainText::default();
            text.chars().filter_map(|c| plain.push(c)).collect::<String>()
        };
        assert_eq!(plain("\u{1b}[1;31merror\u{1b}[0m: \u{1b}]0;title\u{7}x\u{1b}(By"), "error: xy");
        assert_eq!(plain("\u{1b}]0;never ends\nrm -rf /"), "\nrm -rf /");
        assert_eq!(plain("\u{1b}P1;2q\u{1b}\\after"), "after");
    }
}

//! Making text that came from outside safe to show: log viewers are terminals (CVE-2025-64494 and its kin).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes everything that could steer a terminal or mislead a reader: C0 and C1 control characters, delete,
/// line and paragraph separators, and the invisible characters that reorder or hide text. The backslash is
/// doubled, so that an escaped text cannot be mistaken for one that looked so from the start.
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.chars().any(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        push_escaped(&mut escaped, char);
    }
    Cow::Owned(escaped)
}

/// As [`escape_controls`] for bytes that need not be UTF-8; other bytes come out as `\xNN`.
#[must_use]
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|char| push_escaped(&mut escaped, char));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

fn push_escaped(escaped: &mut String, char: char) {
    match char {
        '\\' => escaped.push_str("\\\\"),
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        char if needs_escape(char) => {
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(char));
        }
        char => escaped.push(char),
    }
}

fn needs_escape(char: char) -> bool {
    char == '\\'
        || char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_shown_and_plain_text_is_left_alone() {
        assert!(matches!(escape_controls("plain: żółć 猫"), Cow::Borrowed(_)));
        assert_eq!(escape_controls("a\x1b[2Jb\u{9b}c\x7f"), "a\\u{1b}[2Jb\\u{9b}c\\u{7f}");
        assert_eq!(escape_controls("one\r\ntwo\\n"), "one\\r\\ntwo\\\\n");
        assert_eq!(escape_controls("user\u{202e}txt.exe"), "user\\u{202e}txt.exe");
        assert_eq!(escape_bytes(b"ok\xff\x1b"), "ok\\xff\\u{1b}");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_remains(bytes: Vec<u8>) {
            let escaped = escape_bytes(&bytes);
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert!(!String::from_utf8_lossy(escape_controls(&String::from_utf8_lossy(&bytes)).as_bytes())
                .chars().any(char::is_control));
        }

        /// Two different texts never look the same.
        #[test]
        fn escaping_is_unambiguous(a in r"[\\n\n\x1bu{}1b]{0,6}", b in r"[\\n\n\x1bu{}1b]{0,6}") {
            prop_assert_eq!(a == b, escape_controls(&a) == escape_controls(&b));
        }
    }
}

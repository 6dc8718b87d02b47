//! Makes text that others wrote safe to show: no line breaks, no control characters, nothing that turns text around.

/// Characters that change how others look or that cannot be seen (Unicode UAX #9 controls, zero widths, separators).
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// One line of at most `longest` characters; what misleads is written as an escape.
pub fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::with_capacity(text.len().min(longest));
    for (place, c) in text.chars().flat_map(Shown::new).enumerate() {
        if place >= longest {
            line.pop();
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

/// Several lines; what misleads within a line is written as an escape.
pub fn lines(text: &str) -> String {
    text.lines().map(|line| one_line(line, 2_000)).collect::<Vec<_>>().join("\n")
}

enum Shown {
    Plain(Option<char>),
    Escaped(std::char::EscapeDefault),
}

impl Shown {
    fn new(c: char) -> Self {
        if misleads(c) { Self::Escaped(c.escape_default()) } else { Self::Plain(Some(c)) }
    }
}

impl Iterator for Shown {
    type Item = char;
    fn next(&mut self) -> Option<char> {
        match self {
            Self::Plain(c) => c.take(),
            Self::Escaped(escape) => escape.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_what_would_mislead() {
        assert_eq!(one_line("a\r\nBcc: x\u{202e}y", 80), "a\\r\\nBcc: x\\u{202e}y");
        assert_eq!(one_line("grüße ⚡", 80), "grüße ⚡");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(lines("a\nb\tc\n"), "a\nb\\tc");
    }

    proptest! {
        #[test]
        fn a_line_is_short_and_has_no_controls(text in any::<String>(), longest in 1usize..50) {
            let line = one_line(&text, longest);
            prop_assert!(line.chars().count() <= longest);
            prop_assert!(!line.chars().any(misleads));
        }
    }
}

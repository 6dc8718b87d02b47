//! What texts have in common that differ in their whole numbers alone: clients that write values into their texts say
//! the same over and over too.

/// Writes `sql` into `into` with 0 in place of each whole number. False if more stands in it than words, numbers,
/// comparisons and what parts them (literals, comments, parameters, casts): then nothing is said.
///
/// Two texts of one outline have the same tokens but for those numbers, of which only that they are there is read.
pub(super) fn outline(sql: &[u8], into: &mut Vec<u8>) -> bool {
    into.clear();
    let mut rest = sql;
    let mut before = b' ';
    while let Some((first, after)) = rest.split_first() {
        let digits = if is_word(before) || before == b'.' { 0 } else { digits(rest) };
        let (run, behind) = rest.split_at_checked(digits).unwrap_or((&[], rest));
        let next = behind.first().copied().unwrap_or(b' ');
        if !run.is_empty() && !is_word(next) && next != b'.' {
            into.push(b'0');
            (before, rest) = (b'0', behind);
            continue;
        }
        let begins_comment = *first == b'-' && after.first() == Some(&b'-');
        if !is_plain(*first) || begins_comment {
            return false;
        }
        into.push(*first);
        (before, rest) = (*first, after);
    }
    true
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_plain(byte: u8) -> bool {
    is_word(byte) || b" \t\r\n,.();=<>*+-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::{Token, TokenKind, tokens};
    use proptest::prelude::*;

    fn of(sql: &str) -> Option<String> {
        let mut into = b"of another text".to_vec();
        outline(sql.as_bytes(), &mut into).then(|| String::from_utf8(into).unwrap())
    }

    #[test]
    fn whole_numbers_are_left_out_and_nothing_else() {
        for (sql, expected) in [
            ("SELECT abalance FROM a WHERE aid = 4711;", "SELECT abalance FROM a WHERE aid = 0;"),
            ("select f(1,22),-3 from t1 limit 10", "select f(0,0),-0 from t1 limit 0"),
            ("1.5 .5 5. 1..2 t.5 1e5 0x1F 12_000 7", "1.5 .5 5. 1..2 t.5 1e5 0x1F 12_000 0"),
            ("", ""),
        ] {
            assert_eq!(of(sql).as_deref(), Some(expected), "{sql}");
        }
        for sql in ["'1'", "\"a\" = 1", "1::int", "$1", "1 -- 2", "1 /* 2 */", "a ? 1", "\u{e9} = 1", "\\1"] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn a_text_and_its_outline_have_the_same_tokens_but_for_whole_numbers(
            sql in "(select|t1|[0-9]{1,3}|[0-9a-fx._e]{1,5}|[ ,();=<>*+\\-\n]){0,20}",
        ) {
            let Some(outline) = of(&sql) else { return Ok(()) };
            let seen = |token: Token<'_>| match token.kind {
                TokenKind::Number if token.text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    (token.kind, "0".to_owned())
                }
                kind => (kind, token.text.to_owned()),
            };
            for backslashes in [false, true] {
                let of_text: Vec<_> = tokens(&sql, backslashes).map(seen).collect();
                let of_outline: Vec<_> = tokens(&outline, backslashes).map(seen).collect();
                prop_assert_eq!(&of_text, &of_outline);
            }
        }
    }
}

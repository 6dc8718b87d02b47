//! What may go into the search index: commands, statement shapes, file paths and labels. Never output,
//! input, rows, parameters or content.

use crate::record::{Record, RecordKind};
use crate::text::{cut, escape};

/// Longest entry, in bytes.
pub const MAX_TERMS_BYTES: usize = 4096;

/// The index entry for a record, on one line, or `None` if it has none.
pub fn index_terms(record: &Record) -> Option<String> {
    use RecordKind as K;
    let terms = match &record.kind {
        K::Command { text, .. } => escape(text).into_owned(),
        K::Statement { text, .. } | K::StatementBegin { text, .. } => statement_shape(text),
        K::TransferBegin { path, direction, .. } | K::TransferEnd { path, direction, .. } => {
            format!("{} {}", direction.word(), escape(path))
        }
        K::FileOp { op, path, path2, .. } => match path2 {
            Some(path2) => format!("{} {} {}", escape(op), escape(path), escape(path2)),
            None => format!("{} {}", escape(op), escape(path)),
        },
        K::ChannelOpen { kind, .. } => escape(kind).into_owned(),
        K::Note { text } => escape(text).into_owned(),
        K::SessionStart { .. }
        | K::Output { .. }
        | K::Stderr { .. }
        | K::Input { .. }
        | K::Resize { .. }
        | K::ChannelEnd { .. }
        | K::Bulk { .. }
        | K::Content { .. }
        | K::Rows { .. }
        | K::Result { .. }
        | K::Gap { .. }
        | K::End { .. }
        | K::StatementEnd { .. }
        // The server's words can hold values of rows.
        | K::Notice { .. }
        | K::Unknown { .. } => return None,
    };
    Some(cut(&terms, MAX_TERMS_BYTES).to_owned())
}

/// A statement with every literal and comment taken out: `select * from t where id = ?`.
///
/// Dialects disagree where a literal ends. Where that is in doubt (a backslash inside quotes, a literal or
/// comment that does not end) the rest is dropped: losing words is better than indexing a secret. Text in
/// double quotes counts as a literal, as MySQL has it.
pub fn statement_shape(text: &str) -> String {
    let mut shape = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_before = shape.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let after = match c {
            '\'' | '"' => {
                shape.push('?');
                after_quoted(rest, c)
            }
            '$' => {
                let after = after_dollar(rest);
                shape.push('?');
                after
            }
            '-' if rest.starts_with("--") => line_end(rest),
            '#' => line_end(rest),
            '/' if rest.starts_with("/*") => rest.find("*/").and_then(|end| rest.get(end + 2..)),
            c if c.is_ascii_digit() && !word_before => {
                shape.push('?');
                Some(rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '.' || c == '_'))
            }
            c if c.is_whitespace() || crate::text::is_steering(c) => {
                if !shape.is_empty() && !shape.ends_with(' ') {
                    shape.push(' ');
                }
                rest.get(c.len_utf8()..)
            }
            c => {
                shape.push(c);
                rest.get(c.len_utf8()..)
            }
        };
        if shape.len() > MAX_TERMS_BYTES {
            break;
        }
        match after {
            Some(after) => rest = after,
            None => {
                shape.push('\u{2026}');
                break;
            }
        }
    }
    shape.trim_end().to_owned()
}

/// What follows a quoted literal at the front of `rest`; `None` where its end is in doubt.
fn after_quoted(rest: &str, quote: char) -> Option<&str> {
    let mut inside = rest.get(1..)?;
    loop {
        let at = inside.find([quote, '\\'])?;
        if inside.get(at..)?.starts_with('\\') {
            return None;
        }
        inside = inside.get(at + 1..)?;
        match inside.strip_prefix(quote) {
            Some(more) => inside = more,
            None => return Some(inside),
        }
    }
}

/// What follows a parameter (`$1`) or a dollar-quoted literal (`$tag$…$tag$`).
fn after_dollar(rest: &str) -> Option<&str> {
    let body = rest.get(1..)?;
    let tag_end = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
    let after_tag = body.get(tag_end..)?;
    match after_tag.strip_prefix('$') {
        Some(inside) => {
            let tag = rest.get(..tag_end + 2)?;
            inside.get(inside.find(tag)? + tag.len()..)
        }
        None => Some(after_tag),
    }
}

fn line_end(rest: &str) -> Option<&str> {
    Some(rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::record::{Direction, Outcome};
    use proptest::prelude::*;

    #[test]
    fn shapes_keep_the_words_and_drop_the_values() {
        for (statement, shape) in [
            ("SELECT * FROM orders WHERE id = 42", "SELECT * FROM orders WHERE id = ?"),
            ("select 'it''s',  $1, 1.5e3 from t2 -- secret\n;", "select ?, ?, ? from t2 ;"),
            ("update u set pw = $x$s3cret$x$ where a=\"s3cret\"", "update u set pw = ? where a=?"),
            ("select /* s3cret */ 1", "select ?"),
            ("select 'a\\' or s3cret", "select ?\u{2026}"),
            ("select 's3cret", "select ?\u{2026}"),
            ("set password = $s3cret$ never ends", "set password = ?\u{2026}"),
            ("select `col` # s3cret", "select `col`"),
            ("select E'\\x41' , 's3cret'", "select E?\u{2026}"),
            ("insert into t values (0xDEADBEEF, -7)", "insert into t values (?, -?)"),
        ] {
            assert_eq!(statement_shape(statement), shape);
        }
    }

    proptest! {
        #[test]
        fn a_quoted_secret_never_reaches_the_shape(before in "[a-z =,()]{0,20}", noise in any::<String>()) {
            let quoted = format!("{before} '{}zqsecretqz", noise.replace('\'', "''"));
            for statement in [format!("{quoted}' and x"), quoted] {
                let shape = statement_shape(&statement);
                prop_assert!(!shape.contains("zqsecretqz"), "{} gave {}", statement, shape);
            }
        }
    }

    #[test]
    fn only_commands_shapes_paths_and_labels_are_indexed() {
        let terms = |kind| index_terms(&Record::new(0, kind));
        let secret = "s3cret";
        let bytes = bytes::Bytes::from_static(b"s3cret");
        for kind in [
            RecordKind::Output { channel: 1, bytes: bytes.clone() },
            RecordKind::Stderr { channel: 1, bytes: bytes.clone() },
            RecordKind::Input { channel: 1, bytes: bytes.clone() },
            RecordKind::Rows { channel: 1, rows: 1, bytes: bytes.clone() },
            RecordKind::Result {
                channel: 1,
                number: 1,
                rows: 1,
                columns: format!("[{secret:?}]"),
                values: format!("[[{secret:?}]]"),
            },
            RecordKind::Content { channel: 1, direction: Direction::Upload, bytes },
            RecordKind::SessionStart { metadata: secret.into() },
            RecordKind::Notice {
                channel: 1,
                severity: "NOTICE".into(),
                code: "00000".into(),
                text: secret.into(),
            },
            RecordKind::StatementEnd {
                channel: 1,
                number: 1,
                outcome: Outcome::Failed { reason: secret.into() },
                tag: String::new(),
                rows: None,
                duration_micros: 1,
            },
        ] {
            assert_eq!(terms(kind), None);
        }
        let statement = RecordKind::Statement {
            channel: 1,
            text: "select * from users where name = $1".into(),
            parameters: Some(secret.into()),
            outcome: Outcome::Failed { reason: secret.into() },
            rows: None,
            duration_micros: 1,
        };
        assert_eq!(terms(statement).unwrap(), "select * from users where name = ?");
        let begun = RecordKind::StatementBegin {
            channel: 1,
            number: 1,
            class: "write".into(),
            role: "operate".into(),
            database: "orders".into(),
            text: "delete from users where name = 's3cret'".into(),
            parameters: Some(secret.into()),
        };
        assert_eq!(terms(begun).unwrap(), "delete from users where name = ?");
        let moved = RecordKind::FileOp {
            channel: 1,
            op: "rename".into(),
            path: "/a\u{1b}[2J".into(),
            path2: Some("/b".into()),
            outcome: Outcome::Done,
        };
        assert_eq!(terms(moved).unwrap(), "rename /a\\x1b[2J /b");
        let sent = RecordKind::TransferEnd {
            channel: 1,
            path: "/tmp/x".into(),
            direction: Direction::Download,
            bytes: 3,
            sha256: Hash::of(b"abc"),
            outcome: Outcome::Done,
        };
        assert_eq!(terms(sent).unwrap(), "download /tmp/x");
    }
}

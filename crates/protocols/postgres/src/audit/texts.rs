//! What is read off a text: once for each that is new, since most clients say the same over and over.

use std::collections::VecDeque;
use std::sync::Arc;

use halligan_core::catalog::StatementClass;
use halligan_recording::text::lossless;

use super::names::MAX_NAME_BYTES;
use super::outline::outline;
use crate::classify::{Classifier, Label, Reading, Risk, touches_reading};
use crate::lexer::{Token, TokenKind, tokens};

/// Texts that are longer are not read for the names in them.
const MAX_READ_BYTES: usize = 256 * 1024;
/// Texts that are remembered, as many outlines, and the longest of them in bytes.
const MAX_TEXTS: usize = 16;
const MAX_TEXT_BYTES: usize = 1024;

/// What a text says, as far as that can be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// Secrets in it are masked.
    pub text: Arc<str>,
    pub label: Arc<Label>,
    /// Parameters that are not shown, from 1.
    pub secret: Vec<usize>,
    /// A part of what it says is not shown, or could be read in two ways.
    pub hides_part: bool,
    pub by_name: ByName,
    /// It may change how texts are read.
    pub touches_reading: bool,
    /// It makes or closes cursors, which are portals by another name.
    pub moves_cursors: bool,
}

impl Said {
    /// Of a text that nobody has seen.
    pub fn unknown(text: String) -> Self {
        let label = Label {
            class: StatementClass::Unknown,
            shape: String::new(),
            changes: Vec::new(),
            risks: vec![Risk::NotParsed],
            statements: 1,
        };
        Self {
            text: text.into(),
            label: Arc::new(label),
            secret: Vec::new(),
            hides_part: true,
            by_name: ByName::Nothing,
            touches_reading: false,
            moves_cursors: false,
        }
    }

    fn of(sql: &[u8], classifier: &mut Classifier) -> Self {
        let is_text = std::str::from_utf8(sql).is_ok();
        let sql = lossless(sql);
        let lower = sql.to_ascii_lowercase();
        let backslashes = classifier.backslashes();
        let label = classifier.label(&sql);
        let is_code = label.class == StatementClass::Unknown;
        let masked = classifier.mask(&sql);
        Self {
            hides_part: masked.code_masked || !is_text || classifier.is_ambiguous(&sql),
            text: masked.text.into(),
            secret: classifier.secret_parameters(&sql),
            by_name: by_name(&sql, &lower, backslashes, is_code),
            touches_reading: touches_reading(&sql, &lower),
            moves_cursors: moves_cursors(&sql, &lower, backslashes),
            label,
        }
    }
}

impl Said {
    /// The same of another text, of the same outline.
    fn of_like(&self, text: &str) -> Self {
        let Self { label, secret, hides_part, by_name, touches_reading, moves_cursors, .. } = self;
        Self {
            text: text.into(),
            label: Arc::clone(label),
            secret: secret.clone(),
            hides_part: *hides_part,
            by_name: by_name.clone(),
            touches_reading: *touches_reading,
            moves_cursors: *moves_cursors,
        }
    }
}

/// The texts of late.
#[derive(Debug, Default)]
pub struct Texts {
    whole: Remembered,
    /// What is said of these holds for all texts of the same outline, but for the text itself.
    outlines: Remembered,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Remembered(VecDeque<Known>);

#[derive(Debug)]
struct Known {
    sql: Box<[u8]>,
    /// The same bytes are another text where they are read otherwise.
    reading: Reading,
    said: Arc<Said>,
}

impl Remembered {
    fn find(&self, sql: &[u8], reading: Reading) -> Option<&Arc<Said>> {
        let known = self.0.iter().find(|known| *known.sql == *sql && known.reading == reading)?;
        Some(&known.said)
    }

    fn keep(&mut self, sql: &[u8], reading: Reading, said: &Arc<Said>) {
        self.0.truncate(MAX_TEXTS - 1);
        self.0.push_front(Known { sql: sql.into(), reading, said: Arc::clone(said) });
    }
}

impl Texts {
    pub fn read(&mut self, sql: &[u8], classifier: &mut Classifier) -> Arc<Said> {
        let reading = classifier.reading();
        if let Some(said) = self.whole.find(sql, reading) {
            return Arc::clone(said);
        }
        let short = sql.len() <= MAX_TEXT_BYTES;
        let outlined = short && outline(sql, &mut self.scratch);
        if outlined
            && let Some(said) = self.outlines.find(&self.scratch, reading)
            && let Ok(text) = std::str::from_utf8(sql)
        {
            return Arc::new(said.of_like(text));
        }
        let said = Arc::new(Said::of(sql, classifier));
        // What has secrets in it is not kept: only its record, in which they are masked, is.
        if short && said.text.as_bytes() == sql {
            match outlined {
                true => self.outlines.keep(&self.scratch, reading, &said),
                false => self.whole.keep(sql, reading, &said),
            }
        }
        said
    }
}

/// A name as the server knows it: folded to lower case, unless quoted. None where that depends on the server.
pub fn folded(token: &Token<'_>) -> Option<String> {
    let name = match token.kind {
        TokenKind::Quoted => {
            let inside = token.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?;
            inside.replace("\"\"", "\"")
        }
        TokenKind::Word => token.text.to_ascii_lowercase(),
        _ => return None,
    };
    (name.len() <= MAX_NAME_BYTES && name.is_ascii()).then_some(name)
}

/// What a text does to the names of prepared statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ByName {
    #[default]
    Nothing,
    /// `PREPARE name …`, and nothing else.
    Prepares(String),
    /// More than can be said.
    Anything,
}

/// The first words of its statements.
fn verbs<'a>(text: &'a str, backslashes: bool) -> impl Iterator<Item = Token<'a>> {
    let mut begins = true;
    tokens(text, backslashes).filter(move |token| {
        let is_end = token.is_mark(";");
        std::mem::replace(&mut begins, is_end) && !is_end
    })
}

/// Whether it makes or closes cursors, as far as that stands in it.
fn moves_cursors(text: &str, lower: &str, backslashes: bool) -> bool {
    let words = ["declare", "close"];
    words.iter().any(|word| lower.contains(word))
        && (text.len() > MAX_READ_BYTES
            || verbs(text, backslashes).any(|verb| words.iter().any(|word| verb.is(word))))
}

/// Reads it off a text. `lower` is the text in lower case; `is_code`: what it does does not stand in it as statements.
fn by_name(text: &str, lower: &str, backslashes: bool, is_code: bool) -> ByName {
    const WORDS: [&str; 2] = ["prepare", "deallocate"];
    if !WORDS.iter().any(|word| lower.contains(word)) {
        return ByName::Nothing;
    }
    if is_code || text.len() > MAX_READ_BYTES {
        return ByName::Anything;
    }
    let statements = verbs(text, backslashes).take(2).count();
    if !verbs(text, backslashes).any(|verb| WORDS.iter().any(|word| verb.is(word))) {
        return ByName::Nothing;
    }
    if statements > 1 {
        return ByName::Anything;
    }
    let mut tokens = tokens(text, backslashes);
    match (tokens.next(), tokens.next()) {
        (Some(verb), Some(name)) if verb.is("prepare") && !name.is("transaction") => {
            folded(&name).map_or(ByName::Anything, ByName::Prepares)
        }
        // What a DEALLOCATE alone names is not found any more, whatever is remembered.
        _ => ByName::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Backslashes;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_read_again_where_it_may_be_read_otherwise() {
        let (mut texts, mut classifier) = (Texts::default(), Classifier::default());
        let sql = br"SELECT 'a\', ' || DROP TABLE x --'";
        let standard = texts.read(sql, &mut classifier);
        assert!(Arc::ptr_eq(&standard, &texts.read(sql, &mut classifier)));
        classifier.set_backslashes(true);
        let escapes = texts.read(sql, &mut classifier);
        assert!(!Arc::ptr_eq(&standard, &escapes));
        classifier.set_encoding("sjis");
        assert_eq!(texts.read(sql, &mut classifier).label.class, StatementClass::Unknown);
        classifier.set_encoding("utf8");
        assert!(Arc::ptr_eq(&escapes, &texts.read(sql, &mut classifier)));
    }

    #[test]
    fn a_text_that_is_other_characters_to_the_server_is_not_shown_as_whole() {
        let (mut texts, mut classifier) = (Texts::default(), Classifier::default());
        let cafe = "DROP TABLE \"caf\u{e9}\"".as_bytes();
        let mut hides = |classifier: &mut Classifier, sql| texts.read(sql, classifier).hides_part;
        assert!(!hides(&mut classifier, cafe));
        assert!(hides(&mut classifier, b"DROP TABLE \"caf\xe9\""));
        for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
            classifier.set_encoding(encoding);
            assert!(
                hides(&mut classifier, cafe) && !hides(&mut classifier, b"DROP TABLE cafe"),
                "{encoding}"
            );
        }
        classifier.set_encoding("UTF8");
        assert!(!hides(&mut classifier, cafe));
        classifier.set_backslashes(Backslashes::Unsure);
        assert!(hides(&mut classifier, cafe), "what changes how texts are read may change the encoding");
        assert!(Said::unknown("-- whose name a client chose".into()).hides_part);
    }

    #[test]
    fn texts_that_differ_in_whole_numbers_are_read_once() {
        let (mut texts, mut classifier) = (Texts::default(), Classifier::default());
        let first = texts.read(b"DELETE FROM orders WHERE id = 1", &mut classifier);
        let second = texts.read(b"DELETE FROM orders WHERE id = 22", &mut classifier);
        assert!(Arc::ptr_eq(&first.label, &second.label));
        assert_eq!(&*second.text, "DELETE FROM orders WHERE id = 22");
        assert_eq!((texts.outlines.0.len(), texts.whole.0.len()), (1, 0));
        classifier.set_encoding("sjis");
        let unread = texts.read(b"DELETE FROM orders WHERE id = 3", &mut classifier);
        assert_eq!(unread.label.class, StatementClass::Unknown);
    }

    proptest! {
        /// What is remembered of another text is what this one says.
        #[test]
        fn what_is_remembered_is_what_would_be_read(
            words in proptest::collection::vec(
                "select|delete from t|set|standard_conforming_strings|=|to|off|prepare a as|execute a|deallocate|declare c|close c|copy t from stdin|begin|;|,|\\(|\\)|limit|#|#|#|1\\.5|in|set_config|drop table|grant|--|\\$1|'x'|password",
                0..12,
            ),
            numbers in proptest::collection::vec((any::<u32>(), any::<u32>()), 12),
            backslashes in prop_oneof![
                Just(Backslashes::Standard), Just(Backslashes::Escapes), Just(Backslashes::Unsure)
            ],
            encoding in prop_oneof![Just("utf8"), Just("latin1"), Just("sjis")],
        ) {
            let text = |which: fn(&(u32, u32)) -> u32| {
                let words = words.iter().zip(&numbers);
                let words = words.map(|(word, both)| word.replace('#', &which(both).to_string()));
                words.collect::<Vec<_>>().join(" ")
            };
            let (one, other) = (text(|both| both.0), text(|both| both.1));
            let mut classifier = Classifier::default();
            classifier.set_backslashes(backslashes);
            classifier.set_encoding(encoding);
            let mut texts = Texts::default();
            texts.read(one.as_bytes(), &mut classifier);
            let remembered = texts.read(other.as_bytes(), &mut classifier);
            let mut fresh = Classifier::default();
            fresh.set_backslashes(backslashes);
            fresh.set_encoding(encoding);
            prop_assert_eq!(&*remembered, &Said::of(other.as_bytes(), &mut fresh), "{}", other);
        }
    }

    #[test]
    fn few_and_short_ones_are_remembered() {
        let (mut texts, mut classifier) = (Texts::default(), Classifier::default());
        for number in 0..100 {
            texts.read(format!("SELECT '{number}'").as_bytes(), &mut classifier);
            texts.read(format!("SELECT c{number}").as_bytes(), &mut classifier);
        }
        texts.read(format!("SELECT '{}'", "x".repeat(2 * MAX_TEXT_BYTES)).as_bytes(), &mut classifier);
        for remembered in [&texts.whole, &texts.outlines] {
            assert_eq!(remembered.0.len(), MAX_TEXTS);
            assert!(remembered.0.iter().all(|known| known.sql.len() < 20));
        }
        for sql in ["SELECT '99'", "SELECT '9'", "SELECT c99", "SELECT c9"] {
            assert_eq!(&*texts.read(sql.as_bytes(), &mut classifier).text, sql);
        }
    }

    #[test]
    fn secrets_are_not_remembered() {
        let (mut texts, mut classifier) = (Texts::default(), Classifier::default());
        let said = texts.read(b"ALTER ROLE app PASSWORD 'zqsecretqz'", &mut classifier);
        assert!(said.text.contains("***"), "{}", said.text);
        assert!(texts.whole.0.is_empty() && texts.outlines.0.is_empty());
    }
}

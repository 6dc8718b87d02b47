//! Labels for statements: what class they are, what they change, what is risky about them.
//!
//! Labels only. They sort, search, alert and hold; they are never the lock, which is the database role. A parser
//! that is not PostgreSQL's own accepts what the server refuses and the other way round, and a function's name
//! does not say what it does. What cannot be parsed is `unknown`, which is of the highest risk.

mod changes;
mod parse;
mod reading;
mod risks;
mod shape;

use std::collections::HashMap;
use std::sync::Arc;

use halligan_core::catalog::StatementClass;

pub use changes::Change;
pub(crate) use reading::may_be_half;
pub use reading::{Backslashes, safe_encoding, touches_reading};
pub use risks::Risk;

use crate::lexer::{Token, tokens};
use crate::mask::{self, Masked};

/// A longer text is not looked into: it is `unknown`, and all of its literals are masked.
pub(crate) const MAX_READ_BYTES: usize = 256 * 1024;
/// Shapes that are remembered, and the longest of them in bytes.
const MAX_SHAPES: usize = 2048;
const MAX_SHAPE_BYTES: usize = 4096;
/// Shape of a text whose quotes may not be what they look like.
const UNREADABLE: &str = "(not read: its encoding is not safe)";

/// What is said about a text with one statement or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The worst of its statements.
    pub class: StatementClass,
    /// The text with `?` for every literal, comments left out: what it is found by.
    pub shape: String,
    /// What it changes, as far as it can be seen.
    pub changes: Vec<Change>,
    /// What is risky about it, each once.
    pub risks: Vec<Risk>,
    /// How many statements it has.
    pub statements: usize,
}

/// What it depends on what a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    backslashes: Backslashes,
    unsafe_encoding: bool,
    other_encoding: bool,
}

/// Labels texts, and remembers the shapes it has seen.
#[derive(Debug, Default)]
pub struct Classifier {
    /// By how backslashes were read.
    seen: HashMap<Backslashes, HashMap<String, Arc<Label>>>,
    backslashes: Backslashes,
    /// In the client's encoding a backslash may be half of a character.
    unsafe_encoding: bool,
    /// It is not UTF-8.
    other_encoding: bool,
}

impl Classifier {
    /// As the server tells it (ParameterStatus `standard_conforming_strings`), or [`Backslashes::Unsure`] from a text
    /// that [`touches_reading`] on, until the server is ready for the next.
    pub fn set_backslashes(&mut self, backslashes: impl Into<Backslashes>) {
        self.backslashes = backslashes.into();
    }

    /// Whether a backslash is known to hide a quote in plain literals.
    pub fn backslashes(&self) -> bool {
        self.backslashes == Backslashes::Escapes
    }

    /// As the server tells it (ParameterStatus `client_encoding`). In one that is not [`safe_encoding`] every text is
    /// unknown, and all literals are masked.
    pub fn set_encoding(&mut self, name: &str) {
        self.unsafe_encoding = !safe_encoding(name);
        self.other_encoding = !["utf8", "unicode"].iter().any(|utf8| name.eq_ignore_ascii_case(utf8));
    }

    /// Whether what is no ASCII may be other characters to the server than it is here.
    pub fn is_ambiguous(&self, text: &str) -> bool {
        !text.is_ascii() && (self.other_encoding || self.backslashes == Backslashes::Unsure)
    }

    /// How texts are read now.
    pub fn reading(&self) -> Reading {
        let Self { backslashes, unsafe_encoding, other_encoding, .. } = *self;
        Reading { backslashes, unsafe_encoding, other_encoding }
    }

    /// The text with its secrets masked, under every way in which the server may read it.
    pub fn mask<'a>(&self, sql: &'a str) -> Masked<'a> {
        if self.unsafe_encoding || (self.backslashes == Backslashes::Unsure && may_be_half(sql)) {
            return mask::mask_unreadable(sql);
        }
        mask::mask(sql, self.backslashes)
    }

    /// The numbers (from 1) of parameters that may stand where a secret would, under every way in which the server may
    /// read the text.
    pub fn secret_parameters(&self, sql: &str) -> Vec<usize> {
        if self.unsafe_encoding {
            return mask::all_parameters(sql);
        }
        if !sql.contains('$') {
            return Vec::new();
        }
        let mut found = mask::secret_parameters(sql, self.backslashes());
        if self.backslashes == Backslashes::Unsure {
            found.extend(mask::secret_parameters(sql, true));
        }
        found
    }

    /// The label of a text.
    pub fn label(&mut self, sql: &str) -> Arc<Label> {
        if self.unsafe_encoding {
            return Arc::new(unread(UNREADABLE.to_owned()));
        }
        if sql.len() > MAX_READ_BYTES {
            return Arc::new(unread(shape::beginning(tokens(sql, self.backslashes()), MAX_SHAPE_BYTES)));
        }
        let tokens: Vec<Token<'_>> = tokens(sql, self.backslashes()).collect();
        let shape = shape::shape(&tokens, self.backslashes);
        let seen = self.seen.entry(self.backslashes).or_default();
        if let Some(known) = seen.get(&shape) {
            return Arc::clone(known);
        }
        let keep = shape.len() <= MAX_SHAPE_BYTES;
        let label = Arc::new(label(&tokens, shape, self.backslashes));
        if keep {
            if seen.len() >= MAX_SHAPES {
                seen.clear();
            }
            seen.insert(label.shape.clone(), Arc::clone(&label));
        }
        label
    }
}

/// The label of a text that is not looked into.
fn unread(shape: String) -> Label {
    Label {
        class: StatementClass::Unknown,
        shape,
        changes: Vec::new(),
        risks: vec![Risk::NotParsed],
        statements: 0,
    }
}

fn label(tokens: &[Token<'_>], shape: String, backslashes: Backslashes) -> Label {
    let mut label = Label { class: StatementClass::Read, risks: Vec::new(), ..unread(shape) };
    for statement in parse::statements(tokens) {
        label.statements += 1;
        changes::find(statement, &mut label.changes);
        risks::find(statement, &mut label.risks);
    }
    label.changes.truncate(changes::MAX_CHANGES);
    let doubtful = tokens.iter().any(|token| reading::is_doubtful(token, backslashes));
    let parsed = if doubtful { None } else { parse::class(tokens) };
    label.class = parsed.unwrap_or(StatementClass::Unknown);
    if doubtful {
        // Whatever it seems to run, it may be something else.
        label.risks.retain(|risk| *risk != Risk::RunsPrepared);
    }
    if label.class == StatementClass::Unknown {
        label.risks.push(Risk::NotParsed);
    }
    let by_risk = label.risks.iter().map(|risk| risk.least_class()).max();
    label.class = label.class.max(by_risk.unwrap_or(StatementClass::Read));
    // `WITH x AS (DELETE …) SELECT`, `EXPLAIN ANALYZE UPDATE`, and whatever else hides in a query.
    let by_change = label.changes.iter().map(Change::least_class).max();
    label.class = label.class.max(by_change.unwrap_or(StatementClass::Read));
    label
}

#[cfg(test)]
mod tests;

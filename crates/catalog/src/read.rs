//! One text becomes a part of a catalog, or a list of what is wrong with it. Nothing here opens files.

use std::sync::Arc;

use halligan_core::catalog::System;
use serde_saphyr::{Budget, Error, Options};

use crate::diagnostic::{Diagnostic, Place};
use crate::file::CatalogFile;
use crate::places::{Positions, positions};
use crate::suggest::nearest;

/// Largest YAML or JSON file, in bytes. More systems than fit are written as JSON Lines.
pub const MOST_FILE_BYTES: u64 = 16 << 20;
/// Longest line of a JSON Lines file, in bytes.
pub const MOST_LINE_BYTES: usize = 1 << 20;
/// Errors that are told of one file.
pub(crate) const MOST_ERRORS: usize = 100;

/// One document of a file, with the places of its keys.
#[derive(Debug)]
pub(crate) struct Document {
    pub part: CatalogFile,
    pub positions: Positions,
    pub line: u32,
}

/// All documents of one YAML or JSON text.
pub(crate) fn documents(file: &Arc<str>, text: &str) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let whole = Place { file: Arc::clone(file), line: 0, column: 0 };
    if text.len() as u64 > MOST_FILE_BYTES {
        let mut found = whole.error(
            "too-large",
            file.to_string(),
            format!("it has {} bytes, and {MOST_FILE_BYTES} are the most", text.len()),
        );
        found.help = Some("write systems as JSON Lines, in files named systems*.jsonl".to_owned());
        return Err(vec![found]);
    }
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for (line, chunk) in chunks(text) {
        let says_something = chunk.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && line != "---" && line != "..."
        });
        if !says_something {
            continue;
        }
        match serde_saphyr::from_str_with_options::<CatalogFile>(chunk, options()) {
            Ok(part) => documents.push(Document { part, positions: positions(chunk, line), line }),
            Err(error) => errors.push(diagnose(file, line, chunk, &error)),
        }
        if errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// Documents begin at lines of `---`; YAML permits such a line nowhere else (YAML 1.2.2, 9.1.2, c-forbidden).
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let mut chunks = Vec::new();
    let (mut begin, mut begin_line, mut at, mut number) = (0, 1, 0, 1);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty());
        if marker && at > 0 {
            chunks.push((begin_line, text.get(begin..at).unwrap_or_default()));
            (begin, begin_line) = (at, number);
        }
        at += line.len();
        number += 1;
    }
    chunks.push((begin_line, text.get(begin..).unwrap_or_default()));
    chunks
}

/// Limits against texts that grow when they are read (anchors and aliases), nest too deeply or never end.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_reader_input_bytes = Some(MOST_FILE_BYTES as usize);
    budget.max_depth = 32;
    budget.flow_nesting_limit = 32;
    budget.max_events = 6_000_000;
    budget.max_nodes = 3_000_000;
    budget.max_total_scalar_bytes = MOST_FILE_BYTES as usize;
    budget.max_aliases = 1_000;
    budget.max_anchors = 200;
    budget.max_merge_keys = 1_000;
    budget.max_documents = 1;
    budget.max_inclusion_depth = 0;
    budget.max_recorded_anchor_events = 100_000;
    budget.max_recorded_anchor_bytes = 1 << 20;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = 100_000;
    options.alias_limits.max_replay_stack_depth = 8;
    options.alias_limits.max_alias_expansions_per_anchor = 500;
    options.emit_comments = false;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.reject_tagged_field_names = true;
    options.with_snippet = false;
    options
}

fn diagnose(file: &Arc<str>, first_line: u32, chunk: &str, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let mut place = Place { file: Arc::clone(file), line: 0, column: 0 };
    if let Some(location) = error.location().filter(|location| location.line() > 0) {
        place.line = first_line.saturating_add(u32::try_from(location.line()).unwrap_or(u32::MAX)) - 1;
        place.column = u32::try_from(location.column()).unwrap_or(u32::MAX);
    }
    // The text parsed as YAML up to there, so the path of the faulty key is known more often than not.
    let positions = positions(chunk, first_line);
    let path = path_at(&positions, place.line, place.column);
    let entry = path.as_deref().map_or_else(
        || file.to_string(),
        |path| {
            // Systems stand in a list; people know them by name.
            let number = path.strip_prefix("systems/").and_then(|rest| rest.split('/').next());
            let name =
                number.and_then(|number| positions.get(&format!("systems/{number}/name"))).and_then(|at| {
                    let line = chunk.lines().nth((at.0 - first_line) as usize)?;
                    let rest = line.chars().skip(at.1 as usize - 1).collect::<String>();
                    let name = rest.strip_prefix("name")?.trim_start().strip_prefix(':')?.trim_start();
                    let name: String = name
                        .chars()
                        .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                        .collect();
                    Some(format!("system:{name}"))
                });
            name.unwrap_or_else(|| entry_of(path))
        },
    );
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let mut found =
                place.error("unknown-key", entry, format!("there is no key `{}` here", field.escape_debug()));
            found.help = Some(advice(field, expected.iter().copied()));
            found
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let mut found = place.error(
                "unknown-value",
                entry,
                format!("`{}` is not possible here", variant.escape_debug()),
            );
            found.help = Some(advice(variant, expected.iter().copied()));
            found
        }
        Error::SerdeMissingField { field, .. } => {
            place.error("missing-key", entry, format!("the key `{field}` is missing"))
        }
        Error::DuplicateMappingKey { key, .. } => place.error(
            "duplicate",
            entry,
            format!("`{}` stands here twice", key.as_deref().unwrap_or("the same key").escape_debug()),
        ),
        other => {
            let say: String = other.render().chars().take(400).collect();
            let code = if say.contains("budget") || say.contains("limit") { "too-large" } else { "syntax" };
            place.error(code, entry, strip_position(&say))
        }
    }
}

/// Saphyr repeats the position in its text.
fn strip_position(say: &str) -> String {
    let say = say.strip_prefix("error: ").unwrap_or(say);
    let say = match say.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((position, rest)) if position.chars().all(|c| c.is_ascii_digit() || " column,".contains(c)) => {
            rest
        }
        _ => say,
    };
    match say.rfind(" at line ") {
        Some(at) => say.get(..at).unwrap_or(say).to_owned(),
        None => say.to_owned(),
    }
}

fn advice<'a>(given: &str, expected: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(given, expected.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let words: Vec<String> = expected.map(|word| format!("`{word}`")).collect();
            format!("possible are {}", words.join(", "))
        }
    }
}

/// The deepest path that begins at or right before this position.
fn path_at(positions: &Positions, line: u32, column: u32) -> Option<String> {
    positions
        .iter()
        .filter(|(_, at)| **at <= (line, column))
        .max_by_key(|(path, at)| (**at, path.len()))
        .map(|(path, _)| path.clone())
}

/// `policies/two-people/rules/0` is about `policy:two-people`.
fn entry_of(path: &str) -> String {
    let mut parts = path.split('/');
    let (kind, name) = (parts.next().unwrap_or_default(), parts.next());
    match (singular(kind), name) {
        (Some(kind), Some(name)) => format!("{kind}:{name}"),
        _ => path.split('/').take(2).collect::<Vec<_>>().join(":"),
    }
}

pub(crate) fn singular(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "severities" => "severity",
        "sensitivities" => "sensitivity",
        "people" => "person",
        "groups" => "group",
        "offices" => "office",
        "chart" => "act",
        "schedules" => "schedule",
        "policies" => "policy",
        "scenarios" => "scenario",
        "routes" => "route",
        "profiles" => "profile",
        "waivers" => "waiver",
        "systems" => "system",
        _ => return None,
    })
}

/// One line of a JSON Lines file.
pub(crate) fn system_line(place: &Place, line: &str) -> Result<System, Box<Diagnostic>> {
    serde_json::from_str::<System>(line).map_err(|error| {
        let place = Place { column: error.column() as u32, ..place.clone() };
        let say = error.to_string();
        let say = say.rfind(" at line ").and_then(|at| say.get(..at)).unwrap_or(&say);
        let entry = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|value| Some(format!("system:{}", value.get("name")?.as_str()?.escape_debug())))
            .unwrap_or_else(|| "system".to_owned());
        let mut ticked = say.split('`').skip(1).step_by(2);
        let word = ticked.next().unwrap_or_default();
        let (code, text, help) = if say.starts_with("unknown field") {
            let help = advice(word, ticked.clone());
            ("unknown-key", format!("there is no key `{word}` here"), Some(help))
        } else if say.starts_with("unknown variant") {
            let help = advice(word, ticked.clone());
            ("unknown-value", format!("`{word}` is not possible here"), Some(help))
        } else if say.starts_with("missing field") {
            ("missing-key", format!("the key `{word}` is missing"), None)
        } else if say.starts_with("duplicate field") {
            ("duplicate", format!("`{word}` stands here twice"), None)
        } else {
            ("syntax", say.chars().take(400).collect(), None)
        };
        let mut found = place.error(code, entry, text);
        found.help = help;
        Box::new(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Diagnostic {
        documents(&Arc::from("x.yaml"), text).unwrap_err().remove(0)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_what_was_meant() {
        let found = first("# one\npeople:\n  anna:\n    name: Anna\n    emial: a@example.org\n");
        assert_eq!(
            (found.line, found.column, found.code.as_ref(), found.entry.as_str()),
            (5, 5, "unknown-key", "person:anna")
        );
        assert_eq!(found.help.as_deref(), Some("did you mean `email`?"));
        let found = first("organisation: X\n---\npoeple: {}\n");
        assert_eq!((found.line, found.column), (3, 1));
        assert_eq!(found.help.as_deref(), Some("did you mean `people`?"));
        let found = first("chart:\n  aprove: {accountable: auditor}\n");
        assert_eq!((found.line, found.code.as_ref()), (2, "unknown-value"));
        assert_eq!(found.help.as_deref(), Some("did you mean `approve`?"));
        let found = first("since: {}\n");
        assert_eq!(found.code, "unknown-key", "what apply writes is not written by hand");
    }

    #[test]
    fn every_document_tells_its_own_error() {
        let text = "pepole: {}\n---\ngroups: {a: {}}\n---\ngrups: {}\n";
        let found = documents(&Arc::from("x.yaml"), text).unwrap_err();
        assert_eq!(found.iter().map(|one| one.line).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn faults_have_places() {
        for (text, code, line) in [
            ("people:\n  anna: {name: Anna}\n  anna: {name: Other}\n", "duplicate", 3),
            ("policies:\n  p:\n    rules:\n      - steps:\n          - name: x\n", "missing-key", 5),
            ("people:\n  Anna: {}\n", "syntax", 2),
            ("settings:\n  activate_within: soon\n", "syntax", 2),
            ("people: [\n", "syntax", 1),
            ("people:\n  anna: !secret {}\n", "syntax", 2),
            ("settings: {closed_unproven_allowed: yes}\n", "syntax", 1),
        ] {
            let found = first(text);
            assert_eq!((found.code.as_ref(), found.line), (code, line), "{text:?} {found}");
        }
    }

    #[test]
    fn texts_that_grow_are_refused() {
        let mut text =
            String::from("organisation: x\nwaivers:\n  - &a0 {finding: f, entry: e, by: b, reason: r}\n");
        text.push_str("severities:\n  s0: &s0 {meaning: m, examples: [");
        text.push_str(&"x,".repeat(400));
        text.push_str("]}\n");
        for index in 1..600 {
            text.push_str(&format!("  s{index}: *s0\n"));
        }
        assert_eq!(first(&text).code, "too-large");
        let long = format!("organisation: {}", "x".repeat(MOST_FILE_BYTES as usize));
        assert_eq!(first(&long).code, "too-large");
    }

    #[test]
    fn a_line_of_json_is_diagnosed_too() {
        let place = Place { file: Arc::from("systems.jsonl"), line: 7, column: 1 };
        let found = system_line(&place, r#"{"name":"a","kind":"ssh","adress":"x:1"}"#).unwrap_err();
        assert_eq!((found.code.as_ref(), found.line, found.entry.as_str()), ("unknown-key", 7, "system:a"));
        assert_eq!(found.help.as_deref(), Some("did you mean `address`?"));
        assert!(system_line(&place, r#"{"name":"a","kind":"ssh","address":"x:1"}"#).is_ok());
        assert_eq!(system_line(&place, "{").unwrap_err().code, "syntax");
        assert_eq!(system_line(&place, r#"{"name":"a"}"#).unwrap_err().code, "missing-key");
    }
}

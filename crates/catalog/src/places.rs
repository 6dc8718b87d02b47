//! Where each key of a document stands. A second, cheap pass over the same text: the types stay free of positions.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser};

/// Line and column, both from 1.
pub(crate) type Position = (u32, u32);

/// Positions by path: keys and indexes joined by `/`, such as `policies/two-people/rules/0`.
pub(crate) type Positions = HashMap<String, Position>;

enum Level {
    /// In a mapping; the key that was read last, or none if a key comes next.
    Map { key: Option<usize> },
    /// In a sequence; the index of the next item.
    List { next: usize },
}

/// The positions of one document that is known to parse. `first_line` is the line of its beginning in the file, from 1.
pub(crate) fn positions(text: &str, first_line: u32) -> Positions {
    let mut found = Positions::new();
    let mut levels: Vec<Level> = Vec::new();
    let mut path = String::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let at = (
            first_line.saturating_add(span.start.line() as u32).saturating_sub(1),
            span.start.col() as u32 + 1,
        );
        match event {
            Event::MappingStart(..) => {
                enter(&mut levels, &mut path, &mut found, at, None);
                levels.push(Level::Map { key: None });
            }
            Event::SequenceStart(..) => {
                enter(&mut levels, &mut path, &mut found, at, None);
                levels.push(Level::List { next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                leave(&mut levels, &mut path);
            }
            Event::Scalar(..) | Event::Alias(..) => {
                let key = if let Event::Scalar(value, ..) = &event { Some(value.as_ref()) } else { None };
                let value = enter(&mut levels, &mut path, &mut found, at, key);
                if value {
                    leave(&mut levels, &mut path);
                }
            }
            _ => {}
        }
    }
    found
}

/// A node begins: lengthens the path if it is an item or a key. True if the node is a value, whose end leaves its path.
fn enter(
    levels: &mut [Level],
    path: &mut String,
    found: &mut Positions,
    at: Position,
    key: Option<&str>,
) -> bool {
    match levels.last_mut() {
        None => true,
        Some(Level::List { next }) => {
            push(path, &next.to_string());
            *next += 1;
            found.entry(path.clone()).or_insert(at);
            true
        }
        Some(Level::Map { key: held @ None }) => {
            *held = Some(path.len());
            push(path, key.unwrap_or("?"));
            found.entry(path.clone()).or_insert(at);
            false
        }
        Some(Level::Map { key: Some(_) }) => true,
    }
}

/// A value ended: back to the path of its container.
fn leave(levels: &mut [Level], path: &mut String) {
    match levels.last_mut() {
        Some(Level::Map { key }) => {
            if let Some(length) = key.take() {
                path.truncate(length);
            }
        }
        Some(Level::List { .. }) => path.truncate(path.rfind('/').unwrap_or(0)),
        None => {}
    }
}

fn push(path: &mut String, part: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_item_has_its_place() {
        let text = "a:\n  b: 1\n  c:\n    - x\n    - y: {z: 2}\n      w: 3\nd: [p, q]\n";
        let found = positions(text, 11);
        for (path, at) in [
            ("a", (11, 1)),
            ("a/b", (12, 3)),
            ("a/c", (13, 3)),
            ("a/c/0", (14, 7)),
            ("a/c/1", (15, 7)),
            ("a/c/1/y", (15, 7)),
            ("a/c/1/y/z", (15, 11)),
            ("a/c/1/w", (16, 7)),
            ("d", (17, 1)),
            ("d/1", (17, 8)),
        ] {
            assert_eq!(found.get(path), Some(&at), "{path}");
        }
        assert_eq!(found.len(), 11);
    }
}
